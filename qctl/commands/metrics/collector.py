"""Metrics of a fleet in Prometheus' text format.

In:  the broker, the workers' replies, events.  Out: lines of text.  Format: text exposition 0.0.4.
Labels are bounded: a limited number of task names and queues, then "(others)"; workers are counted, not
named, so that workers that come and go leave no series behind.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from qcore.base.histogram import Histogram
from qcore.brokers.contract.administration import Depth
from qcore.errors import BrokerError, Unsupported
from qcore.events.receiver import listen
from qcore.events.state import State
from qcore.wire.event import finite_number
from qctl.commands.metrics.schedule import ScheduleMetrics
from qctl.fleet.queue_rates import counts_of

if TYPE_CHECKING:
    from qcore.app.app import App
    from qcore.control.client import Answers
    from qcore.wire.event import Event

MOST_NAMES, MOST_QUEUES = 25, 100
REMEMBERED = 50_000
OTHERS = "(others)"
ASK_S = 1.0
#: events that end an attempt, and the state they report
ENDS = {
    "task-succeeded": "succeeded",
    "task-failed": "failed",
    "task-retried": "retrying",
    "task-revoked": "revoked",
    "task-rejected": "rejected",
}


class Collector:
    """Counts events from start() on; text() queries the rest on each call."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._state = State(REMEMBERED)
        self._ended: Counter[tuple[str, str]] = Counter()
        self._ran: dict[str, Histogram] = {}
        self._waited: dict[str, Histogram] = {}
        self._missed = 0
        self._schedule = ScheduleMetrics(app)
        self._taken: Counter[str] = Counter()
        self._claim_counts: dict[str, dict[str, int]] = {}  # by worker, its claim counts at the last query
        self._stop = threading.Event()
        self.listening = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="events", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(2.0)

    def _listen(self) -> None:
        from qcore.brokers.registry import open_broker

        while not self._stop.is_set():
            broker = open_broker(self._app.broker_url(), self._app.broker_options())
            try:
                with listen(
                    broker, exchange=self._app.conf.event_exchange, serializer=self._app.conf.event_serializer
                ) as batches:
                    self.listening.set()
                    for batch in batches:
                        self.fold(batch)
                        if self._stop.is_set():
                            return
            except BrokerError:
                self._stop.wait(1.0)
            finally:
                self.listening.clear()
                broker.close()

    def fold(self, batch: Iterable[Event]) -> None:
        """Count these events."""
        with self._lock:
            for event in batch:
                self._state.event(event, time.time())
                kind = event["type"]
                word = ENDS.get(kind)
                if word is None and kind != "task-started":
                    continue
                task = self._state.table.get(str(event.get("uuid")))
                name = self._name(task.name if task else "")
                if word is not None:
                    self._ended[name, word] += 1
                elif task is not None and (since := task.sent or task.received) is not None:
                    self._waited.setdefault(name, Histogram()).add(event["timestamp"] - since)
                runtime = finite_number(event.get("runtime"))
                if kind == "task-succeeded" and runtime is not None:
                    self._ran.setdefault(name, Histogram()).add(runtime)

    def _name(self, name: str) -> str:
        known = {n for n, _ in self._ended} | self._waited.keys()
        return name if name in known or len(known) < MOST_NAMES else OTHERS

    # --- out

    def text(self) -> str:
        """All current metrics. An unreachable broker is a metric too."""
        lines: list[str] = []
        try:
            lines += self._broker_lines()
            up = 1
        except BrokerError:
            up = 0
        if up:
            for family in self._schedule.families():
                lines += _metric(*family)
        lines += _metric("qcore_broker_up", "gauge", "whether the broker can be reached", [({}, up)])
        with self._lock:
            lines += self._event_lines()
        return "\n".join(lines) + "\n"

    def _broker_lines(self) -> Iterator[str]:
        app = self._app
        broker = app.broker
        started = time.monotonic()
        answers = app.control.ask("active_queues", timeout_s=ASK_S)
        took_s = time.monotonic() - started
        taken = Counter(
            str(q.get("name"))
            for reply in answers.replies.values()
            if isinstance(reply, list)
            for q in reply
            if isinstance(q, dict)
        )
        workers = [({"state": "online"}, len(answers.replies)), ({"state": "silent"}, len(answers.silent))]
        yield from _metric("qcore_workers", "gauge", "workers by state: online or silent", workers)
        yield from _metric(
            "qcore_bus_seconds", "gauge", "time until every worker had answered", [({}, round(took_s, 6))]
        )
        every = sorted({*broker.administration.queues(), *taken})
        counted = dict(zip(every, broker.administration.depths(every), strict=True))
        # The queues with the largest backlog get their own series; the rest is summed.
        queues = sorted(sorted(every, key=lambda q: -counted[q].ready)[:MOST_QUEUES])
        depths = {queue: counted[queue] for queue in queues}
        if rest := [counted[queue] for queue in every if queue not in depths]:
            depths[OTHERS] = _sum(rest)
        samples: list[tuple[dict[str, str], float]] = []
        for queue, depth in depths.items():
            for state, number in (
                ("ready", depth.ready),
                ("delayed", depth.delayed),
                ("in_flight", depth.in_flight),
            ):
                if number is not None:
                    samples.append(({"queue": queue, "state": state}, number))
        yield from _metric(
            "qcore_queue_messages", "gauge", "messages by state: ready, delayed, in flight", samples
        )
        now = time.time()
        ages = [
            ({"queue": queue}, round(max(now - depth.oldest_at, 0.0), 3))
            for queue, depth in depths.items()
            if depth.oldest_at is not None
        ]
        what = "age of the oldest ready message, if the broker reports it"
        yield from _metric("qcore_queue_oldest_seconds", "gauge", what, ages)
        # Without an answer of each worker, 0 may be wrong: then the queue has no sample.
        told = not answers.silent and (answers.heard or 0) <= answers.count
        consumers = [({"queue": queue}, taken[queue]) for queue in queues if taken[queue] or told]
        yield from _metric("qcore_queue_consumers", "gauge", "workers that consume the queue", consumers)
        yield from self._taken_lines(answers, set(queues))
        paused = set(broker.administration.paused())
        flags = [({"queue": queue}, int(queue in paused)) for queue in queues]
        yield from _metric("qcore_queue_paused", "gauge", "1: the queue is paused", flags)
        try:
            kept = broker.failed_tasks.counts().kept
            yield from _metric("qcore_failed_tasks", "gauge", "failed tasks that are stored", [({}, kept)])
        except Unsupported:
            pass

    def _taken_lines(self, answers: Answers, queues: set[str]) -> Iterator[str]:
        """Messages that workers of qcore claimed, including workers that left after the first query."""
        with self._lock:
            last, self._claim_counts = self._claim_counts, {}
            for node, member in answers.members.items():
                who = str(member.info.get("instance") or node)
                before = last.get(who, {})
                counts = counts_of(answers, node)
                now = before if counts is None else {queue: count for queue, (count, _) in counts.items()}
                for queue, count in now.items():
                    self._taken[queue] += max(0, count - before.get(queue, 0))
                self._claim_counts[who] = now
            counted: Counter[str] = Counter()
            for queue, count in self._taken.items():
                counted[queue if queue in queues else OTHERS] += count
        samples = [({"queue": queue}, count) for queue, count in sorted(counted.items())]
        what = "messages that qcore workers claimed, from their heartbeats"
        yield from _metric("qcore_queue_taken_total", "counter", what, samples)

    def _event_lines(self) -> Iterator[str]:
        state = self._state
        ended = [({"name": n, "state": s}, number) for (n, s), number in sorted(self._ended.items())]
        yield from _metric("qcore_tasks_total", "counter", "tasks that ended, from events", ended)
        yield from _histograms("qcore_task_runtime_seconds", "run time of tasks", self._ran)
        yield from _histograms(
            "qcore_task_wait_seconds", "time from sent or received to started", self._waited
        )
        yield from _metric("qcore_events_total", "counter", "events heard", [({}, state.events)])
        what = "1: events are received; 0: not now, so what is counted from events stands still"
        yield from _metric("qcore_events_connected", "gauge", what, [({}, int(self.listening.is_set()))])
        # Workers that left are dropped with their count of missed events; a counter must not decrease.
        self._missed = max(self._missed, sum(worker.missed for worker in state.workers.values()))
        what = "events that were lost"
        yield from _metric("qcore_events_missed_total", "counter", what, [({}, self._missed)])


def _sum(depths: Sequence[Depth]) -> Depth:
    """The sum over several queues; None for a number that is unknown for one of them."""

    def total(numbers: list[int | None]) -> int | None:
        known = [n for n in numbers if n is not None]
        return sum(known) if len(known) == len(numbers) else None

    oldest = [d.oldest_at for d in depths if d.oldest_at is not None]
    return Depth(
        sum(d.ready for d in depths),
        total([d.delayed for d in depths]),
        total([d.in_flight for d in depths]),
        min(oldest, default=None),
    )


def _metric(
    name: str, kind: str, what: str, samples: Iterable[tuple[dict[str, str], float]]
) -> Iterator[str]:
    yield f"# HELP {name} {what}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        yield (
            f"{name}{_labels(labels)} {value:g}"
            if isinstance(value, float)
            else f"{name}{_labels(labels)} {value}"
        )


def _histograms(name: str, what: str, found: dict[str, Histogram]) -> Iterator[str]:
    yield f"# HELP {name} {what}"
    yield f"# TYPE {name} histogram"
    for task, histogram in sorted(found.items()):
        for bound, number in histogram.cumulated():
            end = "+Inf" if bound == float("inf") else f"{bound:g}"
            yield f"{name}_bucket{_labels({'name': task, 'le': end})} {number}"
        yield f"{name}_sum{_labels({'name': task})} {histogram.sum_s:g}"
        yield f"{name}_count{_labels({'name': task})} {histogram.count}"


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    quoted = (
        '{}="{}"'.format(k, v.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n"))
        for k, v in labels.items()
    )
    return "{" + ",".join(quoted) + "}"
