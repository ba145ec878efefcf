"""What the tables and the header show of a Snapshot. Nothing here fetches or decides.

In:  a Snapshot or one row of it.  Out: text with styles.
"""

from __future__ import annotations

import time

from qcore.events.table import TaskSeen
from qctl import theme
from qctl.dashboard.snapshot import EventRow, FailureRow, QueueRow, Snapshot, WorkerRow
from qctl.dashboard.table import Field, Part
from qctl.output.secrets import hide
from qctl.output.text import age, cut_middle

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

QUEUE_FIELDS = (
    Field("QUEUE", 14, 0, grows=True),
    Field("READY", 8, 0, right=True),
    Field("IN FLIGHT", 9, 0, right=True),
    Field("DELAYED", 8, 1, right=True),
    Field("IN/S", 7, 3, right=True),
    Field("OUT/S", 7, 2, right=True),
    Field("EMPTY IN", 8, 4, right=True),
    Field("WORKERS", 7, 1, right=True),
    Field("", 8, 0),
)

FAILURE_FIELDS = (
    Field("COUNT", 6, 0, right=True),
    Field("TASK", 16, 0, grows=True),
    Field("EXCEPTION", 16, 0, grows=True),
    Field("LAST", 7, 0, right=True),
    Field("FIRST", 7, 3, right=True),
    Field("QUEUE", 10, 2),
    Field("MESSAGE", 14, 1, grows=True),
)

EVENT_FIELDS = (
    Field("TIME", 12, 0),
    Field("TYPE", 16, 0),
    Field("WORKER", 14, 1, middle=True),
    Field("TASK", 12, 0, grows=True),
    Field("WHAT", 14, 2, grows=True),
)

FACT_FIELDS = (Field("FACT", 22, 0), Field("VALUE", 30, 0, grows=True))

NO_QUEUES = "the broker knows of no queue yet\nsend a task: qctl call NAME"
NO_FAILURES = "no failed task is kept\n(or this broker keeps none; see `qctl failed ls`)"
NO_EVENTS = "no event has come\npress e to turn task events on (qctl control enable_events)"
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

    def queue(self, row: QueueRow) -> list[Part]:
        mark = ("=" if self.plain else "‖") + " paused"
        out = row.out_per_s or 0.0
        waiting = row.ready and not row.consumers
        return [
            Part(row.name),
            Part(f"{row.ready:,}", theme.FAILED.colour if waiting else ""),
            Part("-" if row.in_flight is None else f"{row.in_flight:,}"),
            Part("-" if row.delayed is None else f"{row.delayed:,}"),
            Part("-" if row.in_per_s is None else f"{row.in_per_s:.0f}"),
            Part("-" if row.out_per_s is None else f"{row.out_per_s:.0f}"),
            Part(age(row.ready / out) if row.ready and out > 0.5 else "-"),
            Part(str(row.consumers), theme.FAILED.colour if waiting else ""),
            Part(mark if row.paused else "", f"reverse {theme.RETRYING.colour}" if row.paused else ""),
        ]

    def failure(self, row: FailureRow) -> list[Part]:
        now = time.time()
        return [
            Part(f"{row.count:,}", theme.FAILED.colour),
            Part(row.name),
            Part(row.exc_type or "?"),
            Part(age(max(now - row.last_at, 0.0))),
            Part(age(max(now - row.first_at, 0.0))),
            Part(row.queue),
            Part(row.sample.exc_message if row.sample is not None else ""),
        ]

    def event(self, row: EventRow) -> list[Part]:
        event = row.event
        kind = str(event["type"])
        colour = theme.FAILED.colour if kind == "task-failed" else ""
        rest = {
            k: v for k, v in event.items() if k in ("name", "args", "result", "exception", "runtime", "queue")
        }
        return [
            Part(_clock(event["timestamp"])),
            Part(kind, colour),
            Part(str(event["hostname"])),
            Part(str(event.get("uuid") or "")),
            Part(" ".join(f"{k}={hide(v, k)}" for k, v in rest.items() if v is not None)),
        ]

    def fact(self, row: tuple[str, str]) -> list[Part]:
        return [Part(row[0]), Part(row[1])]

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
        right = f"workers {snapshot.up}/{len(snapshot.workers)}  {clock}"
        if width >= 100:  # what is narrower shows where and who, not how fast
            right = f"{snapshot.done_per_s:.0f} done/s  {right}"
        if width >= 72:
            right = f"{snapshot.events_per_s:.0f} ev/s  {right}"
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

    def rule(self, snapshot: Snapshot, view: str, shown: int, pattern: str, width: int) -> str:
        """The line above the main table: which view it is, and what it holds."""
        name = "tasks" if view == "overview" else view
        text = f"{name} {shown:,}"
        if name == "tasks":
            states: dict[str, int] = {}
            for task in snapshot.tasks:
                states[task.state] = states.get(task.state, 0) + 1
            text = f"tasks {len(snapshot.tasks):,}"
            parts = [
                f"{theme.look(s).word} {n}" for s, n in states.items() if s in ("STARTED", "FAILURE", "RETRY")
            ]
            if pattern:
                text += f"  /{pattern}/ {shown:,}"
            text += "".join(f"  {part}" for part in parts)
        elif pattern:
            text += f"  /{pattern}/"
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


def _clock(epoch_s: float) -> str:
    """Hours to milliseconds, in local time."""
    return f"{time.strftime('%H:%M:%S', time.localtime(epoch_s))}.{int(epoch_s % 1 * 1000):03d}"


def _took(row: TaskSeen) -> str:
    if row.runtime is not None and row.is_ready:
        if row.runtime < 0.001:
            return "<1ms"
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
