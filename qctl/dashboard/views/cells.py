"""Cells of the tables, and the header, from a Snapshot. Nothing here fetches or decides.

In:  a Snapshot or one row of it.  Out: text with styles.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from math import inf, isfinite
from operator import add
from typing import Any, NamedTuple

from qcore.events.store.table import TaskSeen
from qctl.dashboard.state.rings import RANGES, Series
from qctl.dashboard.state.series import Charts, bar, spark_of
from qctl.dashboard.state.snapshot import EventRow, FailureRow, QueueRow, Snapshot, WorkerRow
from qctl.dashboard.themes import THEMES, Palette
from qctl.dashboard.views.alerts import figure, outlook
from qctl.dashboard.views.columns import CALL, TREND
from qctl.dashboard.widgets.fields import Part
from qctl.output import state_styles
from qctl.output.secrets import hide
from qctl.output.text import age, cut, cut_middle, shown
from qctl.output.text import width as cells

#: what an event tells besides its task, in this order
EVENT_WHAT = ("args", "kwargs", "result", "exception", "runtime", "queue")

#: cells from which a column names the workers that it counts
LEAST_NAME = 12
#: cells kept for the broker's address before rates are shown next to it
LEAST_ADDRESS = 20


class TabLabel(NamedTuple):
    """The tab of a fleet in the header; state: down, alert, or empty."""

    text: str
    is_seen: bool
    state: str = ""


class Where(NamedTuple):
    """The fleet on the screen: the context's name, its colour, and warnings (PROD, RO)."""

    context: str = ""
    colour: str = ""
    warnings: tuple[str, ...] = ()
    tabs: tuple[TabLabel, ...] = ()  # of all fleets, if there are several


class CellFormatter:
    """Formats cells in a theme's colours, in Unicode or, with plain, in ASCII without colours.

    `now` (epoch seconds) is the reference for ages; the screen sets it to the time of the snapshot, and
    `store_now` to the same time by the clock of the schedule's store.
    """

    def __init__(self, plain: bool = False, palette: Palette | None = None) -> None:
        self.plain, self.palette = plain, palette or THEMES["default-dark"]
        self.now = self.store_now = time.time()
        self.charts: Charts | None = None
        self.seconds = RANGES[0].seconds  # that histories show
        #: the width of each column of the list, by its name
        self.room: Mapping[str, int] = {}
        self._workers: Sequence[WorkerRow] = ()
        self._task_of: Callable[[str], TaskSeen | None] = _none
        self._takers: dict[str, list[WorkerRow]] | None = None

    def look(self, picture: Snapshot, seconds: int) -> None:
        """Draw rows of this picture from now on, and histories of so many seconds."""
        self.now, self.charts, self.seconds = picture.at, picture.charts, seconds
        self.store_now = picture.at + picture.schedules.ahead_s
        self._workers, self._takers = picture.workers, None
        self._task_of = getattr(picture.tasks, "of", _none)

    def takers(self, queue: str) -> list[WorkerRow]:
        """The workers that take from a queue, or did until they fell silent."""
        if self._takers is None:
            self._takers = {}
            for worker in self._workers:
                for name in worker.queues if worker.state != "gone" else ():
                    self._takers.setdefault(name, []).append(worker)
        return self._takers.get(queue, [])

    def style(self, word: str) -> str:
        """The style for a state's word, or for 'failed' and the like to mark what needs attention."""
        return "" if self.plain else self.palette.style(word)

    def state(self, state: str) -> Part:
        """Glyph, word and colour of a state. Healthy states are not coloured."""
        look = state_styles.look(state)
        glyph = look.ascii if self.plain else look.glyph
        well = state in ("online", "SUCCESS")
        return Part(f"{glyph} {look.word}", "" if well else self.style(look.word))

    def worker(self, row: WorkerRow) -> list[Part]:
        slots = "-" if row.slots is None else str(row.slots)
        seen = "" if row.exact else "~"
        running = "-" if row.running is None else f"{seen}{row.running}"
        return [
            Part(row.node),
            self.state("draining" if row.draining and row.state == "online" else row.state),
            Part(f"{running}/{slots}"),
            Part(bar(row.running, row.slots, self.plain), self.thin("running")),
            self.trend(self.charts.workers.get(row.node) if self.charts else None, "running", 1.0),
            Part("-" if row.done is None else f"{seen}{row.done}"),
            Part("-" if row.per_s is None else f"{row.per_s:,.1f}"),
            Part(f"{row.failed:,}" if row.failed else "", self.style("failed")),
            Part(_number(row.held)),
            Part("-" if row.load is None else f"{row.load:.2f}"),
            Part("-" if row.memory is None else f"{row.memory / 2**20:.0f}M"),
            Part("now" if not row.age_s else age(row.age_s)),
            Part("-" if row.uptime_s is None else age(row.uptime_s)),
            Part(row.clock, self.style("failed")),
            Part(str(row.missed) if row.missed else "", self.style("failed")),
            Part(",".join(row.queues) or "-"),
            Part(row.software or "-"),
        ]

    def task(self, row: TaskSeen) -> list[Part]:
        is_bad = bool(row.exception) and row.state == "FAILURE"
        return [
            self.state(row.state),
            Part(row.name or "?"),
            Part(row.uuid[:8]),
            Part(since(row)),
            Part(_waited(row)),
            Part(row.worker or "-"),
            Part(_took(row, self.now)),
            Part(str(row.retries) if row.retries else ""),
            Part(row.queue or "-"),
            Part(self.call(row, self.room.get(CALL, 40)), self.style("failed") if is_bad else ""),
        ]

    def call(self, row: TaskSeen, room: int) -> str:
        """The arguments of a task and its result or error in so many cells; what is too long of both gets
        half of them."""
        given, ended = shown(arguments(row)), shown(row.exception or row.result)
        if not ended:
            return given
        arrow = " -> " if self.plain else " → "
        left = max(room - cells(given) - len(arrow), (room - len(arrow)) // 2)
        ended = cut(ended, left)
        return f"{cut(given, room - len(arrow) - cells(ended))}{arrow}{ended}"

    def queue(self, row: QueueRow) -> list[Part]:
        (word, look), seen = outlook(row), "~" if row.seen else ""
        alarm = self.style("failed") if row.ready and row.consumers == 0 else ""
        return [
            Part(row.name),
            Part(figure(row.ready), alarm),
            self.trend(self.charts.queues.get(row.name) if self.charts else None, look or "in"),
            Part(self._in_flight(row)),
            Part("-" if row.delayed is None else f"{row.delayed:,}"),
            Part("-" if row.oldest_s is None else age(row.oldest_s)),
            Part(rate(row.in_per_s, seen)),
            Part(rate(row.out_per_s, seen)),
            self.paused(True) if row.paused else Part(word, self.style(look)),
            Part(self._consumers(row), alarm),
        ]

    def _in_flight(self, row: QueueRow) -> str:
        """How many messages are in flight, and how many slots the workers that take from the queue have: few
        of many are in use where others keep them busy."""
        slots = sum(w.slots or 0 for w in self.takers(row.name) if w.state == "online")
        return f"{figure(row.in_flight)}/{slots:,}" if slots else figure(row.in_flight)

    def _consumers(self, row: QueueRow) -> str:
        """How many workers take from the queue, and which; their slots in use and rates where they fit."""
        number, room = figure(row.consumers), self.room.get("WORKERS", 0)
        found = self.takers(row.name) if row.consumers is not None and room >= LEAST_NAME else []
        if not found:
            return number
        names = [worker.node.partition("@")[0] for worker in found]
        slots = [f" {w.running}/{w.slots}" if w.running is not None and w.slots else "" for w in found]
        rates = ["" if w.per_s is None else f" {rate(w.per_s)}/s" for w in found]
        busy = [
            name + (used if w.state == "online" else f" {w.state}")
            for name, used, w in zip(names, slots, found, strict=True)
        ]
        texts = [f"{number} {', '.join(words)}".strip() for words in (map(add, busy, rates), busy)]
        return next((text for text in texts if cells(text) <= room), texts[-1])

    def paused(self, paused: bool) -> Part:
        if not paused:
            return Part("")
        return Part(("=" if self.plain else "‖") + " paused", f"reverse {self.style('paused')}".strip())

    @property
    def highlight(self) -> str:
        """The background of the row under the cursor; empty: it is reversed."""
        return "" if self.plain or self.palette.ansi else f"bold on {self.palette.heat[0]}"

    def thin(self, word: str) -> str:
        """The colour of a state's style, for lines."""
        return self.style(word).replace("bold ", "")

    def trend(self, series: Series | None, word: str, top: float | None = None) -> Part:
        """The history of a row; dots where it is unknown."""
        cells = self.room.get("TREND", TREND)
        text = spark_of(series, self.now, self.seconds, cells, self.plain, top)
        return Part(text, self.thin(word) if series is not None else self.style("faint"))

    def failure(self, row: FailureRow) -> list[Part]:
        group = self.charts.group(row.name, row.exc_type) if self.charts else None
        return [
            Part(f"{'' if row.exact else '~'}{row.count:,}", self.style("failed")),
            self.trend(group.per_s if group else None, "failed"),
            Part(row.name),
            Part(row.exc_type or "?"),
            Part(age(max(self.now - row.last_at, 0.0))),
            Part(age(max(self.now - row.first_at, 0.0))),
            Part(row.queue),
            Part(where(group.workers if group else {})),
            Part(_message(row.sample)),
        ]

    def event(self, row: EventRow) -> list[Part]:
        event = row.event
        kind = str(event["type"])
        uuid = str(event.get("uuid") or "")
        is_told = event.get("name") and "args" in event
        task = self._task_of(uuid) if uuid and not is_told else None
        rest = {k: v for k, v in event.items() if k in EVENT_WHAT}
        if task is not None:  # what the task's other events said
            said = {"queue": task.queue or None, "args": task.args or None, "kwargs": task.kwargs or None}
            rest |= {k: v for k, v in said.items() if k not in rest}
        return [
            Part(_clock(event["timestamp"])),
            Part(kind, self.style("failed") if kind == "task-failed" else ""),
            Part(str(event["hostname"])),
            Part(uuid[:8]),
            Part(str(event.get("name") or (task.name if task is not None else ""))),
            Part(" ".join(f"{k}={hide(v, k)}" for k, v in rest.items() if v is not None)),
        ]

    def fact(self, row: tuple[str, str]) -> list[Part]:
        return [Part(row[0]), Part(row[1])]

    def header(self, snapshot: Snapshot, where: Where, width: int, frozen: int | None) -> list[Part]:
        """The top line for a terminal of this width: context, broker, connection, and the rates that fit."""
        glyph = ("+" if self.plain else "●") if snapshot.connected else ("x" if self.plain else "○")
        if snapshot.tape:
            link = Part(snapshot.tape, self.style("retrying"))
        elif snapshot.connected:
            trip = "" if snapshot.round_trip_s is None else f" {snapshot.round_trip_s * 1000:.1f}ms"
            link = Part(f"{glyph}{trip or ' connected'}", self.style("online"))
        elif not snapshot.asked and not snapshot.trouble:
            link = Part(f"{glyph} connecting", self.style("retrying"))
        else:
            link = Part(f"{glyph} reconnecting, try {snapshot.tries}", self.style("failed"))
        clock = time.strftime("%H:%M:%S", time.localtime(snapshot.at))
        lost = f"lost {snapshot.missed:,}" if snapshot.missed else ""
        is_known = snapshot.asked or snapshot.expected
        tail = [f"up {snapshot.up}/{snapshot.expected}" if is_known else "up -", clock]
        if frozen is not None:
            tail = [f"FROZEN, {frozen:,} behind", clock]
        left = [Part("qctl", "bold")]
        if where.tabs:
            left += self._tabs(where.tabs, width)
        elif where.context:
            left.append(Part(where.context, self.style(where.colour) if where.colour else "bold"))
        left += [Part(word, f"bold reverse {self.style('failed')}".strip()) for word in where.warnings]
        taken = sum(len(p.text) + 2 for p in (*left, link)) + sum(len(t) + 2 for t in (*tail, lost))
        rates = []
        for text in (
            f"{_rate(snapshot.events_per_s, '~')} ev/s",
            f"{_rate(snapshot.done_per_s, '~')} done/s",
            f"lag {snapshot.lag_s:.1f}s",
        ):
            if taken + len(text) + 2 + LEAST_ADDRESS > width:
                break
            taken += len(text) + 2
            rates.append(text)
        address = Part(cut_middle(snapshot.broker, max(width - taken - 2, 8)))
        parts = [one for p in (*left, address, link) for one in (p, Part("  "))]
        after = "  ".join([*rates, *tail])
        used = sum(cells(p.text) for p in parts)
        parts.append(Part(lost.rjust(max(width - used - len(after) - 2, 0)), self.style("failed")))
        parts.append(Part("  " + after, self.style("retrying") if frozen is not None else ""))
        return parts

    def _tabs(self, tabs: Sequence[TabLabel], width: int) -> list[Part]:
        """The tabs of all fleets; if they do not fit, that of the seen one and its number."""
        signs = {"down": "x" if self.plain else "✗", "alert": "!" if self.plain else "▲"}
        texts = [f"{tab.text} {signs[tab.state]}" if tab.state else tab.text for tab in tabs]
        if sum(cells(text) + 2 for text in texts) > width // 2:
            number = next(n for n, tab in enumerate(tabs) if tab.is_seen)
            marks = "".join(sign for state, sign in signs.items() if any(t.state == state for t in tabs))
            return [Part(f"[{tabs[number].text}]", "bold"), Part(f"{number + 1}/{len(tabs)}{marks}", "")]
        return [
            Part(f"[{text}]", "bold")
            if tab.is_seen
            else Part(text, self.style({"down": "failed", "alert": "paused"}.get(tab.state, "faint")))
            for tab, text in zip(tabs, texts, strict=True)
        ]

    def rule(
        self, snapshot: Snapshot, view: str, shown: int, pattern: str, width: int, title: str = ""
    ) -> str:
        """The line above the main table: the view's name, and what it shows; or the view's own title."""
        text = f"{view} {shown:,}"
        if view == "tasks":
            text = f"tasks {snapshot.remembered:,}"
            if snapshot.forgotten:
                text += f" (+{snapshot.forgotten:,} forgotten)"
            if pattern:
                text += f"  /{pattern}/ {shown:,}"
            if snapshot.searched is not None:
                text += f" in {snapshot.searched:,} so far"
            text += "".join(
                f"  {state_styles.look(s).word} {snapshot.counts[s]:,}"
                for s in ("STARTED", "FAILURE", "RETRY")
                if s in snapshot.counts
            )
        elif title:
            text = title
        elif view == "overview":
            text = "overview"
        elif pattern:
            text += f"  /{pattern}/"
        if snapshot.trouble and snapshot.tape:
            text = snapshot.trouble
        elif snapshot.trouble:
            good = (
                time.strftime("as of %H:%M:%S", time.localtime(snapshot.as_of))
                if snapshot.asked
                else "no answer yet"
            )
            text = f"{good}, reconnecting, try {snapshot.tries}, next in {snapshot.next_try_s:.0f} s: "
            text += snapshot.trouble
        line = "-" if self.plain else "─"
        return f"{line * 2} {text} {line * width}"[:width]


def _none(uuid: str) -> None:
    """No task is known."""


def rate(value: float | None, mark: str = "") -> str:
    """A number per second; small ones have a decimal."""
    if value is None:
        return "-"
    return f"{mark}{value:,.0f}" if value >= 10 or value == 0 else f"{mark}{value:.1f}"


def where(workers: Mapping[str, int]) -> str:
    """The worker that most failures happened at, and its share; or at how many they happened."""
    if not workers:
        return "-"
    node, most = max(workers.items(), key=lambda item: item[1])
    if most * 2 < sum(workers.values()):
        return f"{len(workers)} workers"
    return f"{node.partition('@')[0]} {most / sum(workers.values()):.0%}"


def _message(sample: Any) -> str:
    return str(getattr(sample, "exc_message", "") or getattr(sample, "exception", ""))


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _rate(value: float | None, mark: str = "") -> str:
    """Per second: small rates with a digit, so that a little is not shown as nothing."""
    if value is None:
        return "-"
    return f"{mark}{value:,.1f}" if 0.05 <= value < 0.95 else f"{mark}{value:,.0f}"


def _empties(row: QueueRow) -> str:
    """When the queue is empty at the current rates."""
    left = row.empty_in_s
    return "-" if not row.ready or left is None else "grows" if left == inf else age(left)


def _clock(epoch_s: float) -> str:
    """Local time from hours to milliseconds."""
    return f"{time.strftime('%H:%M:%S', time.localtime(epoch_s))}.{int(epoch_s % 1 * 1000):03d}"


def _took_ms(seconds: float) -> str:
    return "<1ms" if seconds < 0.001 else f"{seconds * 1000:.0f}ms"


def _took(row: TaskSeen, now: float) -> str:
    if row.runtime is not None and isfinite(row.runtime) and row.is_ready:
        return _took_ms(row.runtime) if row.runtime < 1 else age(row.runtime)
    began = row.started or row.received
    if began is not None and not row.is_ready and row.state in ("STARTED", "RECEIVED"):
        return age(now - began)
    if row.ended is not None and row.started is not None:
        return age(row.ended - row.started)
    return "-"


def since(row: TaskSeen) -> str:
    """When it began, else when it was received or sent: local time."""
    at = row.started or row.received or row.sent
    return "-" if at is None else time.strftime("%H:%M:%S", time.localtime(at))


def _waited(row: TaskSeen) -> str:
    """From the time it was sent until it began."""
    if row.sent is None or row.started is None:
        return "-"
    return age(row.started - row.sent) if row.started - row.sent >= 1 else _took_ms(row.started - row.sent)


def arguments(row: TaskSeen) -> str:
    kwargs = row.kwargs if row.kwargs not in ("{}", "") else ""
    return f"{row.args} {kwargs}".strip()
