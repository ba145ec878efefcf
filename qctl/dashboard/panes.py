"""What the tables and the header show of a Snapshot. Nothing here fetches or decides.

In:  a Snapshot or one row of it.  Out: text with styles.
"""

from __future__ import annotations

import time

from qcore.events.table import TaskSeen
from qctl import theme
from qctl.dashboard.snapshot import Snapshot, WorkerRow
from qctl.dashboard.table import Field, Part
from qctl.output.secrets import hide
from qctl.output.text import age, cut_middle, stamp
from qctl.output.writer import to_json

WORKER_FIELDS = (
    Field("WORKER", 14, 0, grows=True, middle=True),
    Field("STATE", 8, 0),
    Field("RUN", 7, 0, right=True),
    Field("DONE", 8, 0, right=True),
    Field("HELD", 5, 3, right=True),
    Field("LOAD", 5, 4, right=True),
    Field("SEEN", 6, 2, right=True),
    Field("QUEUES", 12, 1, grows=True),
    Field("SOFTWARE", 16, 5),
)

TASK_FIELDS = (
    Field("STATE", 10, 0),
    Field("NAME", 16, 0, grows=True),
    Field("ID", 8, 0),
    Field("WORKER", 12, 2, middle=True),
    Field("TIME", 7, 0, right=True),
    Field("TRY", 3, 4, right=True),
    Field("ARGUMENTS", 12, 1, grows=True),
    Field("RESULT", 14, 3, grows=True),
)

NO_WORKERS = "no worker is online\nstart one: qctl -A proj worker -E"
NO_TASKS = (
    "no task has been seen yet\n"
    "workers send task events when started with -E; press e to turn them on\n"
    "(qctl control enable_events)"
)


class Panes:
    """Cells in Unicode or, with plain, in ASCII."""

    def __init__(self, plain: bool = False) -> None:
        self.plain = plain

    def state(self, state: str) -> Part:
        """Glyph, word and colour of a state. Healthy workers are not coloured."""
        look = theme.look(state)
        glyph = look.ascii if self.plain else look.glyph
        colour = "" if state == "online" else look.colour
        return Part(f"{glyph} {look.word}", f"{'bold ' if look.bold else ''}{colour}".strip())

    def worker(self, row: WorkerRow) -> list[Part]:
        slots = "-" if row.slots is None else str(row.slots)
        running = "-" if row.running is None else str(row.running)
        return [
            Part(row.node),
            self.state(row.state),
            Part(f"{running}/{slots}"),
            Part(_number(row.done)),
            Part(_number(row.held)),
            Part("-" if row.load is None else f"{row.load:.2f}"),
            Part("now" if not row.age_s else age(row.age_s)),
            Part(",".join(row.queues) or "-"),
            Part(row.software or "-"),
        ]

    def task(self, row: TaskSeen) -> list[Part]:
        outcome = row.exception or row.result
        return [
            self.state(row.state),
            Part(row.name or "?"),
            Part(row.uuid[:8]),
            Part(row.worker or "-"),
            Part(_took(row)),
            Part(str(row.retries) if row.retries else ""),
            Part(_arguments(row)),
            Part(outcome, theme.FAILED.colour if row.exception and row.state == "FAILURE" else ""),
        ]

    def header(self, snapshot: Snapshot, width: int, frozen: int | None) -> list[Part]:
        """The one line on top, for a terminal of this width."""
        glyph = ("+" if self.plain else "●") if snapshot.connected else ("x" if self.plain else "○")
        if snapshot.connected:
            link = Part(f"{glyph} connected", theme.ONLINE.colour)
        elif not snapshot.asked and not snapshot.trouble:
            link = Part(f"{glyph} connecting", theme.RETRYING.colour)
        else:
            link = Part(f"{glyph} reconnecting, try {snapshot.tries}", f"bold {theme.FAILED.colour}")
        clock = time.strftime("%H:%M:%S", time.localtime(snapshot.at))
        rates = f"{snapshot.events_per_s:.0f} ev/s  {snapshot.done_per_s:.0f} done/s  "
        right = f"workers {snapshot.up}/{len(snapshot.workers)}  {clock}"
        if width >= 72:  # what is narrower shows who is there, not how fast they are
            right = rates + right
        if frozen is not None:
            right = f"FROZEN, {frozen} behind  {clock}"
        room = width - len("qctl  ") - len(link.text) - 2 - len(right) - 3
        address = cut_middle(snapshot.broker, max(room, 10))
        space = max(1, width - len("qctl  ") - len(address) - 2 - len(link.text) - len(right) - 1)
        return [
            Part("qctl  ", "bold"),
            Part(f"{address}  "),
            link,
            Part(" " * space + right, f"bold {theme.RETRYING.colour}" if frozen is not None else ""),
        ]

    def rule(self, snapshot: Snapshot, shown: int, pattern: str, width: int) -> str:
        """The line between the tables: what the lower one holds."""
        states: dict[str, int] = {}
        for task in snapshot.tasks:
            states[task.state] = states.get(task.state, 0) + 1
        parts = [
            f"{theme.look(s).word} {n}" for s, n in states.items() if s in ("STARTED", "FAILURE", "RETRY")
        ]
        text = f"tasks {len(snapshot.tasks)}"
        if pattern:
            text += f"  /{pattern}/ {shown}"
        if parts:
            text += "  " + "  ".join(parts)
        if snapshot.trouble:
            good = (
                time.strftime("as of %H:%M:%S", time.localtime(snapshot.as_of))
                if snapshot.asked
                else "no answer"
            )
            text = f"{good}: {snapshot.trouble}"
        line = "-" if self.plain else "─"
        return f"{line * 2} {text} {line * width}"[:width]


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _took(row: TaskSeen) -> str:
    if row.runtime is not None and row.is_ready:
        return f"{row.runtime * 1000:.0f}ms" if row.runtime < 1 else age(row.runtime)
    began = row.started or row.received
    if began is not None and not row.is_ready and row.state in ("STARTED", "RECEIVED"):
        return age(time.time() - began)
    if row.ended is not None and row.started is not None:
        return age(row.ended - row.started)
    return "-"


def _arguments(row: TaskSeen) -> str:
    kwargs = row.kwargs if row.kwargs not in ("{}", "") else ""
    return f"{row.args} {kwargs}".strip()


def task_details(row: TaskSeen) -> list[tuple[str, str]]:
    """Everything known of a task, in the order of its life."""
    facts = [
        ("id", row.uuid),
        ("name", row.name or "?"),
        ("state", f"{theme.look(row.state).glyph} {theme.look(row.state).word} ({row.state})"),
        ("worker", row.worker),
        ("queue", row.queue),
        ("arguments", row.args),
        ("keywords", row.kwargs),
        ("sent", _time(row.sent)),
        ("received", _since(row.received, row.sent)),
        ("started", _since(row.started, row.received)),
        ("ended", _since(row.ended, row.started)),
        ("runtime", "" if row.runtime is None else f"{row.runtime:.3f} s"),
        ("retries", str(row.retries) if row.retries else ""),
        ("eta", row.eta),
        ("expires", row.expires),
        ("parent", row.parent_id),
        ("root", row.root_id if row.root_id != row.uuid else ""),
        ("result", row.result),
        ("exception", row.exception),
        ("traceback", row.traceback),
        ("", ""),
        ("command", f"qctl result {row.uuid}"),
    ]
    return [(k, v) for k, v in facts if v or not k]


def worker_details(row: WorkerRow) -> list[tuple[str, str]]:
    """Everything known of a worker."""
    facts = [
        ("worker", row.node),
        ("state", f"{theme.look(row.state).glyph} {theme.look(row.state).word}"),
        ("last seen", "now" if not row.age_s else f"{age(row.age_s)} ago"),
        ("software", row.software),
        ("process", _number(row.pid)),
        ("running", f"{_number(row.running)} of {_number(row.slots)} slots"),
        ("done", _number(row.done)),
        ("queues", ", ".join(row.queues)),
        ("lost events", str(row.missed) if row.missed else ""),
    ]
    flat = _flat(hide({k: v for k, v in row.stats.items() if k not in ("running", "queues")}))
    command = [("", ""), ("command", f"qctl inspect stats -d {row.node}")]
    return [(k, v) for k, v in facts if v] + [("", ""), *flat, *command]


def _flat(value: dict[str, object], head: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, inner in sorted(value.items()):
        if isinstance(inner, dict) and inner:
            rows += _flat(inner, f"{head}{key}.")
        else:
            rows.append((f"{head}{key}", inner if isinstance(inner, str) else to_json(inner)))
    return rows


def _time(epoch_s: float | None) -> str:
    return "" if epoch_s is None else stamp(epoch_s)


def _since(epoch_s: float | None, before: float | None) -> str:
    if epoch_s is None:
        return ""
    return f"{stamp(epoch_s)}" + (f"  (+{epoch_s - before:.3f} s)" if before is not None else "")
