"""What events add up to: the workers that are alive and the tasks that were seen, bounded.

In:  event mappings, in any order.  Out: `workers` and `tasks`, with Celery's state names.
Before this: receiver.py.  After this: a monitor draws it.  A late event never turns a state back:
states have Celery's precedence, and a retried or redelivered task starts again with `task-received`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from qcore.wire.event import Event

DEFAULT_MAX_TASKS = 10_000
MAX_WORKERS = 5_000
TEXT_LIMIT = 1024
#: heartbeats that may be missed before a worker counts as silent
MISSED_BEATS = 3
DEFAULT_FREQ_S = 2.0

#: which state a task event leads to
STATE_OF = {
    "task-sent": "PENDING",
    "task-received": "RECEIVED",
    "task-started": "STARTED",
    "task-succeeded": "SUCCESS",
    "task-failed": "FAILURE",
    "task-rejected": "REJECTED",
    "task-revoked": "REVOKED",
    "task-retried": "RETRY",
}

#: Celery's order: a state never gives way to one that stands later in this list
PRECEDENCE = ("SUCCESS", "FAILURE", "REVOKED", "STARTED", "RECEIVED", "REJECTED", "RETRY", "PENDING")
_RANK = {state: rank for rank, state in enumerate(PRECEDENCE)}
READY = frozenset(("SUCCESS", "FAILURE", "REVOKED"))

_TEXTS = ("args", "kwargs", "result", "exception", "traceback", "eta", "expires", "queue", "routing_key")
_IDS = ("root_id", "parent_id")


class TaskSeen(msgspec.Struct):
    """One task as its events tell it. Times are epoch seconds, None: no such event was seen."""

    uuid: str
    name: str = ""
    state: str = "PENDING"
    worker: str = ""
    sent: float | None = None
    received: float | None = None
    started: float | None = None
    ended: float | None = None
    runtime: float | None = None
    retries: int = 0
    args: str = ""
    kwargs: str = ""
    result: str = ""
    exception: str = ""
    traceback: str = ""
    eta: str = ""
    expires: str = ""
    queue: str = ""
    routing_key: str = ""
    root_id: str = ""
    parent_id: str = ""
    updated: float = 0.0

    @property
    def is_ready(self) -> bool:
        return self.state in READY


class WorkerSeen(msgspec.Struct):
    """One worker as its events tell it."""

    node: str
    seen: float = 0.0  # our clock, when its last event arrived
    freq: float = DEFAULT_FREQ_S
    online: bool = True  # False after worker-offline
    active: int = 0
    processed: int = 0
    loadavg: tuple[float, ...] = ()
    pid: int = 0
    software: str = ""
    last_seq: int = 0
    missed: int = 0  # events of this worker that never arrived, by their numbers

    def is_alive(self, now: float) -> bool:
        """Whether a sign of life came within the last few heartbeats."""
        return self.online and now - self.seen <= max(self.freq * MISSED_BEATS, 2.0)


class State:
    """Fold events; at most max_tasks tasks are remembered, finished ones are forgotten first.

    on_event, when given, is called with each event after it was folded. Not thread-safe: one thread
    folds, and readers of another thread take `list(state.tasks.values())` under their own lock.
    """

    def __init__(
        self, max_tasks: int = DEFAULT_MAX_TASKS, on_event: Callable[[Event], None] | None = None
    ) -> None:
        self.max_tasks, self.on_event = max_tasks, on_event
        self.tasks: dict[str, TaskSeen] = {}
        self.workers: dict[str, WorkerSeen] = {}
        self.events = 0
        self.forgotten = 0
        self.counts: dict[str, int] = {}  # events by type, since the start

    def event(self, event: Event, now: float | None = None) -> None:
        """Fold one event. now is our clock, for deciding later who is silent; its own time if None."""
        kind = event["type"]
        self.events += 1
        self.counts[kind] = self.counts.get(kind, 0) + 1 if len(self.counts) < 200 else 1
        group = kind.partition("-")[0]
        if group == "task" and isinstance(event.get("uuid"), str):
            self._task(kind, event)
        if group == "worker" or (group == "task" and kind != "task-sent"):
            self._worker(kind, event, event["timestamp"] if now is None else now)
        if self.on_event is not None:
            self.on_event(event)

    def newest(self, limit: int | None = None) -> Iterator[TaskSeen]:
        """Tasks, the one that was seen first last."""
        for number, task in enumerate(reversed(self.tasks.values())):
            if limit is not None and number >= limit:
                return
            yield task

    # --- tasks

    def _task(self, kind: str, event: Event) -> None:
        uuid = event["uuid"]
        task = self.tasks.get(uuid)
        if task is None:
            task = self.tasks[uuid] = TaskSeen(uuid)
            self._forget()
        state = STATE_OF.get(kind)
        _copy_facts(task, event)
        stamp = float(event["timestamp"])
        task.updated = max(task.updated, stamp)
        if state is None:
            return
        _note_time(task, kind, stamp)
        if kind != "task-sent":
            task.worker = sys.intern(event["hostname"])
        if self._is_news(task, state, event):
            task.state = state

    def _is_news(self, task: TaskSeen, state: str, event: Event) -> bool:
        """Whether `state` replaces the task's present one."""
        if task.state == "RETRY" and state in ("RECEIVED", "STARTED"):
            return True  # the next attempt
        if state == "RETRY":
            return task.state not in READY
        return _RANK[state] <= _RANK.get(task.state, len(_RANK))

    def _forget(self) -> None:
        """Keep the number of tasks bounded: the oldest finished one goes, else the oldest."""
        if len(self.tasks) <= self.max_tasks:
            return
        self.forgotten += 1
        oldest = None
        for number, (uuid, task) in enumerate(self.tasks.items()):
            oldest = oldest or uuid
            if task.is_ready:
                oldest = uuid
                break
            if number >= 64:  # look no further: this happens for each new task
                break
        if oldest is not None:
            del self.tasks[oldest]

    # --- workers

    def _worker(self, kind: str, event: Event, now: float) -> None:
        node = event["hostname"]
        worker = self.workers.get(node)
        if worker is None:
            if len(self.workers) >= MAX_WORKERS:
                self._drop_worker()
            worker = self.workers[node] = WorkerSeen(sys.intern(node))
        worker.seen = max(worker.seen, now)
        if kind != "worker-offline":
            worker.online = True
        else:
            worker.online = False
        _count_missed(worker, kind, event)
        for field in ("active", "processed", "pid"):
            value = event.get(field)
            if isinstance(value, int) and not (field == "active" and kind.startswith("task")):
                setattr(worker, field, value)
        freq, load = event.get("freq"), event.get("loadavg")
        if isinstance(freq, int | float) and 0 < freq < 3600:
            worker.freq = float(freq)
        if isinstance(load, list | tuple):
            worker.loadavg = tuple(float(x) for x in load[:3] if isinstance(x, int | float))
        if isinstance(event.get("sw_ident"), str):
            worker.software = sys.intern(f"{event['sw_ident']} {event.get('sw_ver', '')}".strip()[:80])

    def _drop_worker(self) -> None:
        del self.workers[min(self.workers.values(), key=lambda w: w.seen).node]


def _copy_facts(task: TaskSeen, event: Event) -> None:
    """Fields that an event brings; one that is absent leaves what is known."""
    name = event.get("name")
    if isinstance(name, str) and name:
        task.name = sys.intern(name[:255])
    for field in _TEXTS:
        value = event.get(field)
        if value is not None:
            setattr(task, field, value[:TEXT_LIMIT] if isinstance(value, str) else str(value)[:TEXT_LIMIT])
    for field in _IDS:
        value = event.get(field)
        if isinstance(value, str):
            setattr(task, field, task.uuid if value == task.uuid else value[:255])
    runtime, retries = event.get("runtime"), event.get("retries")
    if isinstance(runtime, int | float):
        task.runtime = float(runtime)
    if isinstance(retries, int):
        task.retries = retries


def _note_time(task: TaskSeen, kind: str, stamp: float) -> None:
    if kind == "task-sent":
        task.sent = stamp
    elif kind == "task-received":
        task.received = stamp
    elif kind == "task-started":
        task.started = stamp
    elif STATE_OF[kind] in READY or kind == "task-rejected":
        task.ended = stamp


def _count_missed(worker: WorkerSeen, kind: str, event: Any) -> None:
    """Our workers number their events, so that a gap can be seen."""
    seq = event.get("seq")
    if not isinstance(seq, int) or isinstance(seq, bool):
        return
    if kind == "worker-online" or seq <= 1:
        worker.last_seq = seq
        return
    if worker.last_seq and seq > worker.last_seq + 1:
        worker.missed += seq - worker.last_seq - 1
    worker.last_seq = max(worker.last_seq, seq)
