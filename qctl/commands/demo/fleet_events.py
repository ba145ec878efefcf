"""Simulate a fleet: events of N workers, R per second.

In:  number of workers, events per second.  Out: steps, each one message of one worker with its numbered
events in the format of real workers; and what each worker runs and holds meanwhile.  After this:
fleet_publisher.py publishes them.

Each task is received, started and ended; a few fail, are retried or are revoked. The second worker is ten
times slower than the others, and the last one is silent for half a minute of every two.
"""

from __future__ import annotations

import random
import uuid
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from qcore.version import __version__
from qcore.wire.event import Event
from qctl.commands.demo import fleet_incident

#: task name, queue, weight, failure rate
KINDS = (
    ("shop.charge", "payments", 3, 0.03),
    ("shop.receipt", "mail", 3, 0.01),
    ("shop.resize", "images", 2, 0.02),
    ("shop.index", "default", 5, 0.002),
    ("shop.sync", "default", 4, 0.0),
    ("shop.report", "reports", 1, 0.05),
)
ERRORS = (
    ("TimeoutError('the bank did not answer in 30 s')", "bank.py", "ask"),
    ("ConnectionRefusedError(111, 'Connection refused')", "mailer.py", "connect"),
    ("KeyError('invoice')", "invoice.py", "lines_of"),
)
SLOTS, AHEAD = 4, 1  # running, and reserved
RETRIED, REVOKED = 0.01, 0.003
MESSAGES_PER_S = 1000  # limit without heartbeats; real workers batch events too
TURN_S = 0.2  # seconds between two messages of a worker, if MESSAGES_PER_S allows
SILENT_AFTER_S, SILENT_S, SILENT_EVERY_S = 20.0, 30.0, 120.0
SOFTWARE = {"sw_ident": "py-qcore", "sw_ver": __version__, "sw_sys": "Linux"}


class FleetStep(NamedTuple):
    """One message of one worker."""

    at: float  # time to publish it
    node: str
    events: list[Event]
    is_beat: bool  # a worker event, which is not batched


class Job(NamedTuple):
    """A task that a worker holds or runs."""

    task_id: str
    name: str
    queue: str
    fails: float
    args: str
    kwargs: str
    tries: int
    at: float  # received, or started


class Worker:
    """The state of one simulated worker."""

    def __init__(self, number: int) -> None:
        self.node, self.pid = f"w{number:03}@demo", 20_000 + number
        self.held: deque[Job] = deque()
        self.running: deque[Job] = deque()
        self.total: Counter[str] = Counter()
        self.seq = 0
        self.quota = 0.0
        self.share = 1.0
        self.beat_at = 0.0
        self.silent = False
        self.deploys = 0
        self.started_at: float | None = None  # epoch seconds of its restart; None: it was not restarted


class Fleet:
    """Workers and their tasks; the same seed gives the same events."""

    def __init__(
        self,
        workers: int = 20,
        rate: float = 200.0,
        seed: int = 1,
        since: float = 0.0,
        has_incident: bool = False,
    ) -> None:
        """rate: events per second of all workers together, with heartbeats; since: epoch seconds;
        has_incident: a deploy breaks a task for a while (fleet_incident.py)."""
        self.has_incident = has_incident
        self.workers = [Worker(n) for n in range(workers)]
        self.by_node = {w.node: w for w in self.workers}
        self.rate, self.since = rate, since
        self.events = 0
        #: ended tasks by the event type that reports the end
        self.ended: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._kinds = [kind for kind in KINDS for _ in range(kind[2])]
        self._head = uuid.UUID(int=self._chance.getrandbits(128), version=4).hex[:20]
        self._number = 0
        if workers > 2:
            self.workers[1].share = 0.1
        spread = workers / sum(w.share for w in self.workers)
        for worker in self.workers:
            worker.share *= spread

    def turns(self, seconds: float = float("inf")) -> Iterator[FleetStep]:
        """The steps of `seconds` simulated seconds, generated as fast as they are consumed."""
        count = len(self.workers)
        step = max(TURN_S, count / MESSAGES_PER_S) / count
        beat_s = 2.0 if count <= 100 else 5.0
        number = 0
        while True:
            worker = self.workers[number % count]
            at = self.since + number * step
            if at >= self.since + seconds:
                return
            number += 1
            worker.silent = count > 2 and worker is self.workers[-1] and self._is_silent(at - self.since)
            worker.quota += self.rate * step * count * worker.share / count
            if worker.silent:
                worker.quota = 0.0
                continue
            if self.has_incident and worker in self.workers[: fleet_incident.RESTARTED]:
                yield from self._restart(worker, at)
            if at >= worker.beat_at:
                kind = "worker-heartbeat" if worker.beat_at else "worker-online"
                worker.beat_at = at + beat_s
                worker.quota -= 1
                yield FleetStep(at, worker.node, [self._beat(worker, kind, at, beat_s)], True)
            if worker.quota >= 1:
                yield FleetStep(at, worker.node, self._live(worker, at), False)

    def finish(self, at: float) -> Iterator[FleetStep]:
        """Let all tasks succeed and start no new ones: the end of a test."""
        for worker in self.workers:
            events: list[Event] = []
            while worker.running or worker.held:
                if worker.held and len(worker.running) < SLOTS:
                    self._start(worker, at, events)
                else:
                    self._succeed(worker, worker.running.popleft(), at, events)
            for begin in range(0, len(events), 48):
                yield FleetStep(at, worker.node, events[begin : begin + 48], False)

    def _restart(self, worker: Worker, at: float) -> Iterator[FleetStep]:
        """Let a deploy restart the worker, if it is due; what it runs goes on."""
        number = fleet_incident.deploys(at - self.since)
        if number == worker.deploys:
            return
        worker.deploys, worker.started_at = number, at
        worker.pid += 100
        yield FleetStep(at, worker.node, [self._beat(worker, "worker-online", at, 2.0)], True)

    def _is_silent(self, age_s: float) -> bool:
        return SILENT_AFTER_S <= age_s % SILENT_EVERY_S < SILENT_AFTER_S + SILENT_S

    def _beat(self, worker: Worker, kind: str, at: float, freq: float) -> Event:
        return self._said(
            worker, kind, at, freq=freq, active=len(worker.running), processed=sum(worker.total.values()),
            loadavg=[0.8, 0.7, 0.6], **SOFTWARE,
        )  # fmt: skip

    def _said(self, worker: Worker, kind: str, at: float, **more: Any) -> Event:
        worker.seq += 1
        self.events += 1
        return {
            "type": kind, "timestamp": at, **more, "seq": worker.seq, "clock": self.events,
            "hostname": worker.node, "utcoffset": 0, "pid": worker.pid,
        }  # fmt: skip

    def _live(self, worker: Worker, at: float) -> list[Event]:
        """The events that are due for the worker by its quota."""
        events: list[Event] = []
        while len(events) < worker.quota:
            if len(worker.running) >= SLOTS:
                self._end(worker, worker.running.popleft(), at, events)
            elif len(worker.held) > AHEAD:
                self._start(worker, at, events)
            else:
                self._receive(worker, self._new_job(at), at, events)
        worker.quota -= len(events)
        return events

    def _new_job(self, at: float) -> Job:
        chance = self._chance.random()
        name, queue, _, fails = self._kinds[int(chance * len(self._kinds))]
        self._number += 1
        # People see the first eight digits, so those differ between ids.
        first, head = self._number * 0x9E3779B1 % 2**32, self._head
        task_id = f"{first:08x}-{head[8:12]}-{head[12:16]}-{head[16:20]}-{self._number:012x}"
        kwargs = f"{{'client_id': {int(chance * 5000)}, 'note': 'for the evening'}}"
        return Job(task_id, name, queue, fails, f"({self._number},)", kwargs, 0, at)

    def _receive(self, worker: Worker, job: Job, at: float, events: list[Event]) -> None:
        worker.held.append(job)
        events.append(
            self._said(
                worker, "task-received", at, uuid=job.task_id, name=job.name, args=job.args,
                kwargs=job.kwargs, retries=job.tries, queue=job.queue, root_id=job.task_id,
                parent_id=None, eta=None, expires=None,
            )
        )  # fmt: skip

    def _start(self, worker: Worker, at: float, events: list[Event]) -> None:
        job = worker.held.popleft()._replace(at=at)
        worker.running.append(job)
        events.append(self._said(worker, "task-started", at, uuid=job.task_id))

    def _end(self, worker: Worker, job: Job, at: float, events: list[Event]) -> None:
        chance = self._chance.random()
        is_broken = (
            self.has_incident
            and job.name == fleet_incident.TASK
            and fleet_incident.is_broken(at - self.since)
        )
        if chance < (fleet_incident.FAILS if is_broken else job.fails):
            error, file, function = ERRORS[fleet_incident.ERROR if is_broken else self._number % len(ERRORS)]
            self._ended(worker, job, "task-failed")
            about = {"exception": error, "traceback": _traceback(job.name, file, function, error)}
            events.append(self._said(worker, "task-failed", at, uuid=job.task_id, **about))
        elif chance > 1 - RETRIED and job.tries < 3:
            error, file, function = ERRORS[0]
            about = {"exception": error, "traceback": _traceback(job.name, file, function, error)}
            events.append(self._said(worker, "task-retried", at, uuid=job.task_id, **about))
            self._receive(worker, job._replace(tries=job.tries + 1, at=at), at, events)
        elif chance > 1 - RETRIED - REVOKED:
            self._ended(worker, job, "task-revoked")
            how: dict[str, Any] = {"terminated": True, "signum": "15", "expired": False}
            events.append(self._said(worker, "task-revoked", at, uuid=job.task_id, **how))
        else:
            self._succeed(worker, job, at, events)

    def _succeed(self, worker: Worker, job: Job, at: float, events: list[Event]) -> None:
        self._ended(worker, job, "task-succeeded")
        runtime = round(max(at - job.at, 0.001), 6)
        events.append(
            self._said(worker, "task-succeeded", at, uuid=job.task_id, result="'done'", runtime=runtime)
        )

    def _ended(self, worker: Worker, job: Job, kind: str) -> None:
        worker.total[job.name] += 1
        self.ended[kind] += 1


def _traceback(name: str, file: str, function: str, error: str) -> str:
    short = name.rpartition(".")[2]
    kind, _, words = error.partition("(")
    return (
        "Traceback (most recent call last):\n"
        f'  File "/srv/shop/tasks.py", line 41, in {short}\n    return {function}(order)\n'
        f'  File "/srv/shop/{file}", line 118, in {function}\n    raise {error}\n'
        f"{kind}: {words.rstrip(')')}\n"
    )
