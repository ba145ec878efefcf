"""What happened when: the fleet's history, for the charts, in fixed memory.

In:  ended tasks as they are folded; a Snapshot's queues and workers, several times per second; the time.
Out: series by the second (totals), by 15 s (queues, task types, failures, workers) and by 2 minutes;
percentiles of run and waiting time; the changes that may explain a break in a line.
What nobody was there to see is unknown (None), never zero.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from qcore.events.store.columns import BITS, MASK
from qctl.dashboard.state.latency import LEAST, Durations, HeatMap, percentile
from qctl.dashboard.state.rings import COARSE, MIDDLE, Series

if TYPE_CHECKING:
    from qcore.events.store.table import TaskTable
    from qcore.wire.event import Event

SLOW = (MIDDLE, COARSE)
#: longest time between two samples that is a mean; a longer one is a gap
LONGEST_MEAN_S = 5.0
MOST_TYPES, MOST_GROUPS, MOST_QUEUES, MOST_WORKERS, MOST_CHANGES = 500, 500, 500, 2_000, 200
#: failures of a group whose time, worker and id are kept
MOST_LATEST = 50
#: a worker's uptime that is shorter than before by more than this means that it was restarted, seconds
RESTART_S = 2.0
#: a longer run time is no run time
LONGEST_S = 1e7


class QueueNow(Protocol):
    """What is sampled of a queue."""

    @property
    def name(self) -> str: ...
    @property
    def ready(self) -> int | None: ...
    @property
    def in_per_s(self) -> float | None: ...
    @property
    def paused(self) -> bool: ...


class WorkerNow(Protocol):
    """What is sampled of a worker."""

    @property
    def node(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def running(self) -> int | None: ...
    @property
    def slots(self) -> int | None: ...
    @property
    def uptime_s(self) -> float | None: ...


class FleetNow(Protocol):
    """What is sampled of a Snapshot."""

    @property
    def at(self) -> float: ...
    @property
    def asked(self) -> bool: ...
    @property
    def trouble(self) -> str: ...
    @property
    def is_settling(self) -> bool: ...
    @property
    def queues(self) -> Sequence[QueueNow]: ...
    @property
    def workers(self) -> Sequence[WorkerNow]: ...
    @property
    def broker_numbers(self) -> Mapping[str, float | None]: ...


class Change(NamedTuple):
    """Something that people or machines changed, as far as it was seen here."""

    at: float  # epoch seconds
    words: str
    word: str = ""  # the state whose style it has


class TypeHistory:
    """One task name: rates, slots kept busy, durations."""

    __slots__ = ("_before", "busy", "busy_s", "done", "ended", "failed", "failed_per_s", "run", "wait")

    def __init__(self) -> None:
        self.ended = self.failed = 0
        self.busy_s = 0.0
        self.done, self.failed_per_s, self.busy = Series(SLOW), Series(SLOW), Series(SLOW)
        self.run, self.wait = Durations(), Durations()
        self._before = (0, 0, 0.0)

    def sample(self, at: float, seconds: float | None) -> None:
        """Put what was counted since the last sample; seconds: over which time, None: nobody knows."""
        ended, failed, busy_s = self._before
        if seconds:
            self.done.put(at, (self.ended - ended) / seconds)
            self.failed_per_s.put(at, (self.failed - failed) / seconds)
            self.busy.put(at, (self.busy_s - busy_s) / seconds)
        self._before = (self.ended, self.failed, self.busy_s)

    def put_before(self, older: TypeHistory) -> None:
        """Take the rates of a time before from another history."""
        self.done.put_before(older.done)
        self.failed_per_s.put_before(older.failed_per_s)
        self.busy.put_before(older.busy)

    def copy(self) -> TypeHistory:
        made = TypeHistory()
        made.ended, made.failed, made.busy_s, made._before = (
            self.ended,
            self.failed,
            self.busy_s,
            self._before,
        )
        made.done, made.failed_per_s, made.busy = (
            self.done.copy(),
            self.failed_per_s.copy(),
            self.busy.copy(),
        )
        made.run, made.wait = self.run.copy(), self.wait.copy()
        return made


class GroupHistory:
    """One kind of failure: how often, at which workers, and the latest: (epoch seconds, worker, task id)."""

    __slots__ = ("_before", "count", "latest", "per_s", "workers")

    def __init__(self) -> None:
        self.count, self._before = 0, 0
        self.per_s = Series(SLOW)
        self.workers: Counter[str] = Counter()
        self.latest: deque[tuple[float, str, str]] = deque(maxlen=MOST_LATEST)

    def sample(self, at: float, seconds: float | None) -> None:
        if seconds:
            self.per_s.put(at, (self.count - self._before) / seconds)
        self._before = self.count

    def copy(self) -> GroupHistory:
        made = GroupHistory()
        made.count, made._before = self.count, self._before
        made.per_s, made.workers, made.latest = self.per_s.copy(), self.workers.copy(), self.latest.copy()
        return made


class Charts:
    """The history of a fleet."""

    NAMES = ("published", "in", "done", "failed", "wait", "ready", "busy", "slots", "unknown")

    def __init__(self) -> None:
        self.series = {name: Series() for name in self.NAMES}
        self.types: dict[str, TypeHistory] = {}
        self.groups: dict[tuple[str, str], GroupHistory] = {}
        self.queues: dict[str, Series] = {}  # messages that are ready
        self.workers: dict[str, Series] = {}  # the share of slots in use
        self.broker: dict[str, Series] = {}  # BrokerFacts.numbers
        self.run, self.wait, self.heat = Durations(), Durations(), HeatMap()
        self.changes: deque[Change] = deque(maxlen=MOST_CHANGES)
        self.began: float | None = None  # epoch seconds of the first sample
        self.is_deaf = False  # whether events or replies do not arrive at present
        self._totals = [0, 0, 0]  # received, done, failed
        self._waits = Durations()  # of the current second
        self._second: int | None = None
        self._sampled: tuple[int, int, int] = (0, 0, 0)
        self._slot: int | None = None  # of 15 s
        self._seen: dict[str, tuple[str, float | None, int | None]] = {}  # worker: state, uptime, slots
        self._paused: dict[str, bool] = {}
        self._looked: int | None = None  # second of the last look
        self._published: tuple[float | None, ...] = ()  # per second, by the broker; empty: it is not asked

    # --- in

    def fold(self, batch: Sequence[Event], table: TaskTable, at: float) -> None:
        """Count the tasks of a batch, which the table has folded; at: the local clock, epoch seconds."""
        self._advance(at)
        totals = self._totals
        for event in batch:
            kind = event["type"]
            if kind == "task-received":
                totals[0] += 1
            elif kind == "task-succeeded" or kind == "task-failed":
                uuid = event.get("uuid")
                row = table.row(uuid) if isinstance(uuid, str) else None
                if row is None:
                    continue
                chunk, i = table.chunks[row >> BITS], row & MASK
                failed = kind == "task-failed"
                run_s: float | None = chunk.runtimes[i]
                sent, began, ended = chunk.sent[i], chunk.started[i], chunk.ended[i]
                if not run_s:
                    run_s = max(ended - began, 0.0) if began and ended else None
                elif not 0 <= run_s < LONGEST_S:
                    run_s = None
                # The wait of a retry or of a task with a countdown is not time in a queue.
                waited = max(began - sent, 0.0) if sent and began and not chunk.retries[i] else None
                more = chunk.more.get(i)
                if more is not None and more.eta:
                    waited = None
                self.ended(
                    at,
                    table.names.words[chunk.names[i]],
                    table.workers.words[chunk.workers[i]],
                    run_s,
                    waited,
                    kind_of(more.exception) if failed and more is not None else "?" if failed else "",
                    task_id=chunk.ids[i],
                )

    def ended(
        self,
        at: float,
        name: str,
        worker: str,
        run_s: float | None,
        wait_s: float | None,
        failure: str = "",
        count: int = 1,
        task_id: str = "",
    ) -> None:
        """Count a task that ended, or `count` alike; failure: the class of its exception."""
        self._totals[1] += count
        if failure:
            self._totals[2] += count
            self._failed(at, name, worker, failure, count, task_id)
        known = self.types.get(name)
        if known is None and name and len(self.types) < MOST_TYPES:
            known = self.types[name] = TypeHistory()
        for value, histograms in (
            (run_s, (self.run, self.heat, known.run if known is not None else None)),
            (wait_s, (self._waits, self.wait, known.wait if known is not None else None)),
        ):
            if value is not None:
                for histogram in histograms:
                    if histogram is not None:
                        histogram.add(at, value, count)
        if known is not None:
            known.ended += count
            known.failed += count if failure else 0
            known.busy_s += (run_s or 0.0) * count

    def _failed(self, at: float, name: str, worker: str, failure: str, count: int, task_id: str) -> None:
        group = self.groups.get((name, failure))
        if group is None:
            if len(self.groups) >= MOST_GROUPS:
                return
            group = self._new_group((name, failure), at)
        group.count += count
        group.workers[worker] += count
        if task_id:
            group.latest.append((at, worker, task_id))

    def _new_group(self, key: tuple[str, str], at: float) -> GroupHistory:
        """A kind of failure that did not occur before as long as somebody listened."""
        group = self.groups[key] = GroupHistory()
        done, step = self.series["done"], MIDDLE[0]
        for number, value in enumerate(done.columns(at - step, step, MIDDLE[1] - 1)):
            if value is not None:
                group.per_s.put((int(at // step) - MIDDLE[1] + 1 + number) * step, 0.0)
        return group

    def listens(self, events_arrive: bool, published_per_s: float | None, by_broker: bool) -> None:
        """What is known besides events: whether they arrive, and what is published by the broker's counts."""
        self.is_deaf = self.is_deaf or not events_arrive
        self._published = (published_per_s,) if by_broker else ()

    def sample(self, now: float) -> None:
        """Let the time pass; call it several times per second."""
        self._advance(now)

    def _advance(self, now: float) -> None:
        """Put the counts into the slots that have ended since the last call."""
        second = int(now)
        if self._second is None:
            self._second, self._slot = second, second // MIDDLE[0]
            self.began = now if self.began is None else self.began
            self._sampled = self._count()
            return
        passed = second - self._second
        if not passed:
            return
        totals = self._count()
        is_gap = passed > LONGEST_MEAN_S or passed < 0 or self.is_deaf
        if not is_gap:
            values = [(new - old) / passed for new, old in zip(totals, self._sampled, strict=True)]
            wait = percentile(self._waits.within(0, now), 0.95) if self._waits.total else None
            for at in range(self._second, second):
                for name, value in zip(("in", "done", "failed"), values, strict=True):
                    self.series[name].put(at, value)
                self.series["wait"].put(at, wait)
        if self._waits.total:
            self._waits = Durations()
        slot = second // MIDDLE[0]
        if self._slot is not None and slot != self._slot:
            seconds = None if is_gap or slot - self._slot != 1 else float(MIDDLE[0])
            for kind in self.types.values():
                kind.sample(self._slot * MIDDLE[0], seconds)
            for group in self.groups.values():
                group.sample(self._slot * MIDDLE[0], seconds)
            self._slot = slot
        self._second, self._sampled = second, totals

    def _count(self) -> tuple[int, int, int]:
        received, done, failed = self._totals
        return received, done, failed

    def look(self, picture: FleetNow) -> None:
        """Sample the queues and workers of a snapshot, once per second, and note what has changed."""
        self.is_deaf = bool(picture.trouble)
        if not picture.asked or picture.trouble or int(picture.at) == self._looked:
            return
        at = picture.at
        self._looked = int(at)
        arrivals = [q.in_per_s for q in picture.queues if q.in_per_s is not None]
        published = self._published[0] if self._published else sum(arrivals) if arrivals else None
        self.series["published"].put(at, published)
        self.series["ready"].put(at, sum(q.ready or 0 for q in picture.queues) if picture.queues else None)
        for name, value in picture.broker_numbers.items():
            self.broker.setdefault(name, Series(SLOW)).put(at, value)
        for queue in picture.queues[:MOST_QUEUES]:
            self._look_at_queue(queue, at)
        busy = slots = unknown = 0
        for worker in picture.workers[:MOST_WORKERS]:
            self._look_at_worker(worker, at, picture.is_settling)
            if worker.slots and worker.state == "online":
                busy, slots = busy + (worker.running or 0), slots + worker.slots
            elif worker.state == "silent":
                unknown += worker.slots or worker.running or 0
        self.series["busy"].put(at, busy if slots else None)
        self.series["slots"].put(at, slots or None)
        self.series["unknown"].put(at, unknown)

    def _look_at_queue(self, queue: QueueNow, at: float) -> None:
        series = self.queues.get(queue.name)
        if series is None:
            series = self.queues[queue.name] = Series(SLOW)
        series.put(at, queue.ready)
        before = self._paused.get(queue.name)
        if before is not None and before != queue.paused:
            verb = "paused" if queue.paused else "resumed"
            self.note(at, f"queue {queue.name} {verb}", "paused" if queue.paused else "")
        self._paused[queue.name] = queue.paused

    def _look_at_worker(self, worker: WorkerNow, at: float, is_settling: bool) -> None:
        series = self.workers.get(worker.node)
        if series is None:
            series = self.workers[worker.node] = Series(SLOW, shares=True)
        is_known = worker.state == "online" and worker.slots and worker.running is not None
        series.put(at, (worker.running or 0) / (worker.slots or 1) if is_known else None)
        state, uptime_s, slots = worker.state, worker.uptime_s, worker.slots
        before = self._seen.get(worker.node)
        if before is not None:
            old_state, old_uptime_s, old_slots = before
            if is_settling and state == "silent":
                state = old_state
            if old_state != state:
                words = {"online": "online again", "silent": "silent"}.get(state, "gone")
                self.note(at, f"worker {worker.node} {words}", state)
            if uptime_s is not None and old_uptime_s is not None and uptime_s < old_uptime_s - RESTART_S:
                self.note(at, f"worker {worker.node} restarted")
            if slots is not None and old_slots is not None and slots != old_slots:
                self.note(at, f"worker {worker.node} pool {old_slots} → {slots}")
            uptime_s = old_uptime_s if uptime_s is None else uptime_s
            slots = old_slots if slots is None else slots
        self._seen[worker.node] = (state, uptime_s, slots)

    def note(self, at: float, words: str, word: str = "") -> None:
        """Add a change."""
        self.changes.append(Change(at, words, word))

    def put_before(self, older: Charts, now: float) -> None:
        """Take the time before from other charts, which end at a slot of the coarsest step where these begin;
        these have all of the task types."""
        for name, series in self.series.items():
            series.put_before(older.series[name])
        nothing = TypeHistory()
        nothing.done = nothing.failed_per_s = nothing.busy = quiet = older.series["done"].quiet()
        for name, one in list(self.types.items()):
            one.put_before(older.types.get(name, nothing))
        for key in older.groups.keys() - self.groups.keys():
            self._new_group(key, now)
        for key, group in list(self.groups.items()):
            group.per_s.put_before(older.groups[key].per_s if key in older.groups else quiet)
        for queue, series in older.queues.items():
            self.queues.setdefault(queue, Series(SLOW)).put_before(series)
        self.run.put_before(older.run)
        self.wait.put_before(older.wait)
        self.heat.put_before(older.heat)

    # --- out

    def copy(self) -> Charts:
        """For a picture: totals that later samples do not change. The rest is shared: what is drawn of it is
        the slots that have ended."""
        made = Charts()
        made.began = self.began
        made.series = {name: series.copy() for name, series in self.series.items()}
        made.types, made.groups, made.queues = self.types, self.groups, self.queues
        made.workers, made.broker = self.workers, self.broker
        made.run, made.wait, made.heat, made.changes = self.run, self.wait, self.heat, self.changes
        return made

    def frozen(self) -> Charts:
        """For a frozen screen: a copy of everything."""
        made = self.copy()
        made.types = {name: one.copy() for name, one in list(self.types.items())}
        made.groups = {key: one.copy() for key, one in list(self.groups.items())}
        made.queues = {name: one.copy() for name, one in list(self.queues.items())}
        made.workers = {name: one.copy() for name, one in list(self.workers.items())}
        made.broker = {name: one.copy() for name, one in list(self.broker.items())}
        made.run, made.wait, made.heat = self.run.copy(), self.wait.copy(), self.heat.copy()
        made.changes = deque(self.changes, MOST_CHANGES)
        return made

    def group(self, name: str, exc_type: str) -> GroupHistory | None:
        """The history of a kind of failure; its class with or without its module."""
        return self.groups.get((name, exc_type.rpartition(".")[2]))


def kind_of(exception: str) -> str:
    """The class of an exception that an event shows as `Kind(...)`, without its module."""
    return exception.partition("(")[0][:80].rpartition(".")[2] or "?"


def quantiles(counts: Sequence[int]) -> tuple[float, float, float] | None:
    """p50, p95 and p99, seconds; None: there are too few values."""
    found = [percentile(counts, share) for share in (0.5, 0.95, 0.99)]
    if sum(counts) < LEAST or found[0] is None or found[1] is None or found[2] is None:
        return None
    return found[0], found[1], found[2]


BLOCKS, PLAIN_BLOCKS = "▁▂▃▄▅▆▇█", "_.-=+*%#"
UNKNOWN, PLAIN_UNKNOWN = "·", "?"


def sparkline(values: Sequence[float | None], plain: bool = False, top: float | None = None) -> str:
    """One character per value, newest at the right. The scale ends at the higher of the top and twice
    the median, so that a steady line lies at half its height; unknown values are `·`."""
    blocks, unknown = (PLAIN_BLOCKS, PLAIN_UNKNOWN) if plain else (BLOCKS, UNKNOWN)
    known = sorted(v for v in values if v is not None)
    if not known:
        return unknown * len(values)
    high = max(known[-1], 2 * known[len(known) // 2]) if top is None else top
    steps = len(blocks) - 1
    return "".join(
        unknown
        if v is None
        else blocks[0]
        if v <= 0 or high <= 0
        else blocks[min(max(round(v / high * steps), 1), steps)]
        for v in values
    )


def bar(part: int | None, whole: int | None, plain: bool = False, width: int = 8) -> str:
    """A bar for the used part of a whole; empty if one is unknown."""
    if part is None or not whole:
        return ""
    full = min(round(part / whole * width) or min(part, 1), width)
    return ("#" if plain else "█") * full + ("." if plain else "░") * (width - full)


def spark_of(
    series: Series | None, at: float, seconds: int, width: int, plain: bool = False, top: float | None = None
) -> str:
    """A sparkline of `seconds` that ends with the last slot that has ended; unknown without a series. Where
    there are fewer slots than cells, a slot has several of them."""
    step = max(-(-seconds // width // MIDDLE[0]) * MIDDLE[0], MIDDLE[0])
    count = min(-(-seconds // step), width)
    values = [None] * count if series is None else series.columns(at - MIDDLE[0], step, count)
    line = sparkline(values, plain, top)
    return line if count == width else "".join(line[cell * count // width] for cell in range(width))
