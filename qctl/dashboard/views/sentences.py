"""The dashboard as sentences, for screen readers and braille displays.

In:  a Snapshot.  Out: sentences by subject, each with what must change before it is said again. No frame,
block or braille character is in any of them. Before this: accessible.py prints them.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from qctl.dashboard.state.snapshot import QueueRow, Snapshot, WorkerRow
from qctl.dashboard.views.alerts import alerts
from qctl.output.text import shown

#: a trend is measured over this time, seconds
TREND_S = 60.0
#: what a list says at most
MOST = 20
_WORDS = {"●": "", "✓": "done", "✗": "failed", "→": "to", "…": "...", "▲": "", "│": "|", "─": "-", "━": "-"}


class Sentence(NamedTuple):
    """What is said about a subject; it is said again when `news` has changed."""

    subject: str
    text: str
    news: Any


def speakable(text: str) -> str:
    """The text without characters that draw: those of U+2500 to U+28FF, and signs that have a word."""
    return "".join(_WORDS.get(c, "" if "\u2500" <= c <= "\u28ff" else c) for c in text)


class Trend:
    """Whether a number rises or falls, how fast, and since when."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque()
        self.word, self.per_s, self.since = "", 0.0, 0.0

    def look(self, at: float, value: float) -> None:
        """Add a value."""
        seen = self._seen
        seen.append((at, value))
        while len(seen) > 2 and seen[1][0] <= at - TREND_S:
            seen.popleft()
        first_at, first = seen[0]
        if at - first_at < 2.0:
            return
        self.per_s = (value - first) / (at - first_at)
        least = max(value, first, 1.0) * 0.001
        word = "rising" if self.per_s > least else "falling" if self.per_s < -least else "steady"
        if word != self.word:
            self.word, self.since = word, first_at if not self.word else at

    def __str__(self) -> str:
        if self.word in ("", "steady"):
            return self.word
        return f"{self.word} {number(abs(self.per_s))} a second since {clock(self.since)}"


class Speaker:
    """Makes sentences of snapshots; keeps what a trend needs."""

    def __init__(self) -> None:
        self._trends: dict[str, Trend] = {}

    def sentences(self, picture: Snapshot) -> Iterator[Sentence]:
        """What there is to say, the most important first."""
        yield self._broker(picture)
        for alert in alerts(picture, picture.charts) if picture.asked else ():
            yield Sentence(f"alert {alert.word} {_subject(alert.text)}", f"alert: {alert.text}", alert.word)
        yield self.fleet(picture)
        yield self.tasks(picture)
        for queue in picture.queues:
            yield self.queue(queue, picture.at)
        for worker in picture.workers:
            yield self.worker(worker)
        for one in picture.failures[:MOST]:
            about = "" if one.exact else "at least "
            text = (
                f"{one.name or 'a task of unknown name'} failed {about}{times(one.count)} with {one.exc_type}"
            )
            text += f", last at {clock(one.last_at)}"
            yield Sentence(f"failure {one.name} {one.exc_type}", text, one.count)
        for change in list(picture.charts.changes)[-MOST:] if picture.charts is not None else ():
            yield Sentence(f"change {change.at} {change.words}", f"{clock(change.at)} {change.words}", 0)

    @staticmethod
    def _broker(picture: Snapshot) -> Sentence:
        if picture.trouble:
            return Sentence(
                "broker", f"broker {picture.broker} is unreachable: {picture.trouble}", picture.trouble
            )
        if picture.tape:
            return Sentence("broker", f"recording {picture.broker} at {clock(picture.at)}", 0)
        return Sentence(
            "broker", f"broker {picture.broker} {'answers' if picture.asked else 'is asked'}", picture.asked
        )

    @staticmethod
    def fleet(picture: Snapshot) -> Sentence:
        """How many workers are online and busy."""
        if not picture.asked:
            return Sentence("workers", "workers unknown, they were not asked yet", None)
        busy = sum(w.running or 0 for w in picture.workers if w.state == "online")
        slots = sum(w.slots or 0 for w in picture.workers if w.state == "online")
        text = f"workers {picture.up} of {picture.expected} online"
        text += f", {busy} of {slots} slots busy" if slots else ""
        return Sentence("workers", text, (picture.up, picture.expected, slots, slots and busy * 4 // slots))

    @staticmethod
    def tasks(picture: Snapshot) -> Sentence:
        """How many tasks end."""
        if picture.done_per_s is None:
            return Sentence("tasks", "tasks per second unknown", None)
        failed = picture.counts.get("FAILURE", 0)
        text = f"tasks about {number(picture.done_per_s)} done a second, {failed:,} failed of those seen"
        return Sentence("tasks", text, step(picture.done_per_s))

    def queue(self, row: QueueRow, at: float) -> Sentence:
        """A queue's backlog as a sentence instead of a chart."""
        trend = self._trends.setdefault(row.name, Trend())
        trend.look(at, row.ready)
        parts = [f"{row.name} backlog {row.ready:,}", str(trend)]
        parts.append("" if row.oldest_s is None or not row.ready else f"oldest {span(row.oldest_s)}")
        parts.append("paused" if row.paused else "")
        parts.append("no consumer" if row.consumers == 0 else "")
        if row.ready and row.empty_in_s is not None and not math.isinf(row.empty_in_s):
            parts.append(f"empty in {span(row.empty_in_s)}")
        news = (trend.word or "steady", row.paused, row.consumers == 0, step(row.ready))
        return Sentence(f"queue {row.name}", ", ".join(part for part in parts if part), news)

    @staticmethod
    def worker(row: WorkerRow) -> Sentence:
        """A worker's state."""
        text = f"worker {row.node} {'left' if row.left else row.state}"
        text += ", draining" if row.draining else ""
        running = "unknown" if row.running is None else str(row.running)
        text += f", {running} of {row.slots} slots busy" if row.slots else ""
        text += f", {row.failed:,} failed" if row.failed else ""
        text += f", silent for {span(row.age_s)}" if row.state == "silent" and row.age_s is not None else ""
        return Sentence(f"worker {row.node}", text, (row.state, row.left, row.draining, row.slots))

    def view(self, picture: Snapshot, name: str) -> Iterator[str]:
        """A view as lines."""
        lists: dict[str, list[str]] = {
            "queues": [self.queue(row, picture.at).text + _taken(row, picture) for row in picture.queues],
            "workers": [self.worker(row).text for row in picture.workers],
            "failures": [s.text for s in self.sentences(picture) if s.subject.startswith("failure ")],
            "tasks": [_task(picture.tasks[n]) for n in range(min(len(picture.tasks), MOST))],
            "events": [_event(picture.log[n].event) for n in range(min(len(picture.log), MOST))],
            "broker": [f"{key}: {value}" for key, value in picture.broker_facts],
            "types": _types(picture),
        }
        found = lists.get(name)
        if found is None:
            yield from (sentence.text for sentence in self.sentences(picture))
        elif not found:
            yield f"no {name} known" if picture.asked else f"{name} unknown, not asked yet"
        else:
            yield f"{name}, {len(found)} rows"
            yield from found


def _taken(row: QueueRow, picture: Snapshot) -> str:
    """How many messages of a queue are in flight, of the slots of the workers that take from it, and which of
    these are silent."""
    takers = [worker for worker in picture.workers if row.name in worker.queues]
    slots = sum(worker.slots or 0 for worker in takers if worker.state == "online")
    parts = [f"{row.in_flight:,} in flight of {slots:,} slots"] if slots and row.in_flight is not None else []
    parts += [f"{worker.node} silent" for worker in takers if worker.state == "silent"]
    return "".join(f", {part}" for part in parts)


def _task(task: Any) -> str:
    text = f"{task.name or 'unknown name'} {task.uuid} {task.state.lower()}"
    text += f" on {task.worker}" if task.worker else ""
    text += f", took {span(task.runtime)}" if task.runtime is not None else ""
    return text + (f", {task.exception}" if task.exception else "")


def _event(event: dict[str, Any]) -> str:
    words = (clock(event["timestamp"]), event["type"], event.get("hostname", ""), event.get("uuid", ""))
    return " ".join(map(str, words)).rstrip()


def _types(picture: Snapshot) -> list[str]:
    known = sorted((picture.charts.types if picture.charts is not None else {}).items())
    return [f"{name}, {one.ended:,} ended, {one.failed:,} failed" for name, one in known]


def _subject(text: str) -> str:
    """The words of an alert without its numbers, which change."""
    return "".join(c for c in text if not c.isdigit())


def step(value: float) -> int:
    """The same for numbers that differ by less than about a quarter."""
    return 0 if value < 0.05 else round(math.log(value) * 4) + 100


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}".removesuffix(".0")


def times(value: int) -> str:
    return "once" if value == 1 else f"{value:,} times"


def clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def span(seconds: float) -> str:
    """3 min 17 s."""
    if seconds < 10:
        return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
    for size, unit, below, small in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} {int(seconds % size // below)} {small}"
    return f"{seconds:.0f} s"


def printable(text: str) -> str:
    """One line that a terminal and a screen reader can take."""
    return shown(speakable(text))
