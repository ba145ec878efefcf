"""The state of a fleet as programs for Celery read it: `app.events.State`, with its workers and tasks.

In:  event mappings.  Out: Worker and Task objects (observed.py) by name and id, in the order of their events.
Before this: receiver.py.  state.py is the one of the dashboard, for a million tasks.
Source: the public members and rules of celery/events/state.py of Celery 5.7.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any
from weakref import WeakSet, ref

from qcore.events.observed import Bounded, Task, Worker
from qcore.tasks.states import READY_STATES

Pairs = Iterator[tuple[str, Any]]


class _Sets(dict[str, "WeakSet[Task]"]):
    """Sets of tasks by a key; called, the (uuid, task) of one key, the latest first."""

    def __init__(self, ordered: Callable[..., Pairs]) -> None:
        super().__init__()
        self._ordered = ordered

    def __missing__(self, key: str) -> WeakSet[Task]:
        self[key] = WeakSet()
        return self[key]

    def __call__(self, key: str, limit: int | None = None, reverse: bool = True) -> Pairs:
        return self._ordered(key, limit, reverse)


class State:
    """Apply events with event(); callback(state, event) is called before each, on_node_join(worker) and
    on_node_leave(worker) when workers come and go. Safe for threads."""

    Worker = Worker
    Task = Task
    event_count = 0
    task_count = 0
    heap_multiplier = 4

    def __init__(
        self,
        callback: Callable[[Any, dict[str, Any]], Any] | None = None,
        workers: Any = None,
        tasks: Any = None,
        taskheap: list[Any] | None = None,
        max_workers_in_memory: int = 5000,
        max_tasks_in_memory: int = 10000,
        on_node_join: Callable[[Any], Any] | None = None,
        on_node_leave: Callable[[Any], Any] | None = None,
        tasks_by_type: dict[str, Iterable[str]] | None = None,
        tasks_by_worker: dict[str, Iterable[str]] | None = None,
    ) -> None:
        self.event_callback = callback
        self.workers = Bounded(max_workers_in_memory) if workers is None else workers
        self.tasks = Bounded(max_tasks_in_memory) if tasks is None else tasks
        self.max_workers_in_memory, self.max_tasks_in_memory = max_workers_in_memory, max_tasks_in_memory
        self.on_node_join, self.on_node_leave = on_node_join, on_node_leave
        #: group of an event (`task`) -> a function that takes its events instead: (subject, event)
        self.handlers: dict[str, Callable[[str, dict[str, Any]], Any]] = {}
        self._mutex = threading.RLock()
        self._heap: list[tuple[Any, ...]] = [] if taskheap is None else taskheap
        self._names: set[str] = set()
        self._orphans: Bounded = Bounded(max_tasks_in_memory)  # parent's uuid -> its children
        self.rebuild_taskheap()
        self.tasks_by_type, self.tasks_by_worker = _Sets(self._of_type), _Sets(self._of_worker)
        for given, sets in ((tasks_by_type, self.tasks_by_type), (tasks_by_worker, self.tasks_by_worker)):
            for key, uuids in (given or {}).items():
                sets[key].update(self.tasks[uuid] for uuid in uuids if uuid in self.tasks)

    def event(self, event: dict[str, Any]) -> Any:
        """Apply one event. Returns ((worker or task, whether it is new), subject) for those of workers and
        tasks."""
        with self._mutex:
            self.event_count += 1
            if self.event_callback is not None:
                self.event_callback(self, event)
            group, _, subject = event["type"].partition("-")
            if group in self.handlers:
                return self.handlers[group](subject, event), subject
            if group == "worker":
                return self._of_a_worker(subject, event)
            return self._of_a_task(subject, event) if group == "task" else None

    def task_event(self, type_: str, fields: dict[str, Any]) -> Any:
        """Apply an event of a task: (task, whether it is new)."""
        return self.event({**fields, "type": f"task-{type_}"})[0]

    def worker_event(self, type_: str, fields: dict[str, Any]) -> Any:
        """Apply an event of a worker: (worker, whether it is new)."""
        return self.event({**fields, "type": f"worker-{type_}"})[0]

    def _of_a_worker(self, subject: str, event: dict[str, Any]) -> Any:
        hostname, received = event.get("hostname"), event.get("local_received")
        if hostname is None or "timestamp" not in event or "local_received" not in event:
            return None
        leaves, worker = subject == "offline", self.workers.get(hostname)
        is_new = worker is None and not leaves
        if worker is None:
            worker = self.Worker(hostname)
            if not leaves:
                self.workers[hostname] = worker
        worker.event(subject, event["timestamp"], received, event)
        if self.on_node_join is not None and (is_new or subject == "online"):
            self.on_node_join(worker)
        if self.on_node_leave is not None and leaves:
            self.on_node_leave(worker)
            self.workers.pop(hostname, None)
        return (worker, is_new), subject

    def _of_a_task(self, subject: str, event: dict[str, Any]) -> Any:
        uuid, hostname, stamp = event["uuid"], event["hostname"], event["timestamp"]
        received, clock = event["local_received"], event["clock"]
        task = self.tasks.get(uuid)
        is_new = task is None
        if task is None:
            task = self.tasks[uuid] = self.Task(uuid, cluster_state=self)
        if subject == "sent":  # of a client, which is no worker
            task.client = origin = hostname
        else:
            worker = self.workers.get(hostname)
            if worker is None:
                worker = self.workers[hostname] = self.Worker(hostname)
            task.worker, origin = worker, worker.id
            if received:
                worker.event(None, received, stamp)
        if len(self._heap) >= self.max_tasks_in_memory * self.heap_multiplier:
            self._heap.pop(0)
        bisect.insort(self._heap, (clock, stamp, origin, ref(task)), key=_order)
        self.task_count += subject == "received"
        task.event(subject, stamp, received, event)
        if task.name is not None:
            self._names.add(task.name)
            if is_new:
                self.tasks_by_type[task.name].add(task)
                self.tasks_by_worker[hostname].add(task)
        if task.parent_id:
            if task.parent_id in self.tasks:
                self.tasks[task.parent_id].children.add(task)
            else:
                self._orphans.setdefault(task.parent_id, WeakSet()).add(task)
        task.children.update(self._orphans.pop(uuid, ()))
        return (task, is_new), subject

    # --- reading

    def freeze_while(
        self, fun: Callable[..., Any], *args: Any, clear_after: bool = False, **kwargs: Any
    ) -> Any:
        """Call a function while no event is applied; then forget all, with clear_after."""
        with self._mutex:
            try:
                return fun(*args, **kwargs)
            finally:
                if clear_after:
                    self.clear()

    def get_or_create_worker(self, hostname: str, **kwargs: Any) -> tuple[Any, bool]:
        """(worker, whether it is new); the keywords are attributes of it."""
        if hostname not in self.workers:
            worker = self.workers[hostname] = self.Worker(hostname, **kwargs)
            return worker, True
        self.workers[hostname].update(kwargs)
        return self.workers[hostname], False

    def get_or_create_task(self, uuid: str) -> tuple[Any, bool]:
        """(task, whether it is new)."""
        if uuid not in self.tasks:
            task = self.tasks[uuid] = self.Task(uuid, cluster_state=self)
            return task, True
        return self.tasks[uuid], False

    def itertasks(self, limit: int | None = None) -> Pairs:
        """(uuid, task), in the order in which they were seen first."""
        yield from islice(self.tasks.items(), limit or None)

    def tasks_by_time(self, limit: int | None = None, reverse: bool = True) -> Pairs:
        """(uuid, task) by the logical time of their events, the latest first; limit: of so many events."""
        seen = set()
        for *_, task_of in islice(reversed(self._heap) if reverse else iter(self._heap), 0, limit):
            task = task_of()
            if task is not None and task.uuid not in seen:
                seen.add(task.uuid)
                yield task.uuid, task

    tasks_by_timestamp = tasks_by_time

    def _of_type(self, name: str, limit: int | None = None, reverse: bool = True) -> Pairs:
        found = ((uuid, task) for uuid, task in self.tasks_by_time(reverse=reverse) if task.name == name)
        return islice(found, limit)

    def _of_worker(self, hostname: str, limit: int | None = None, reverse: bool = True) -> Pairs:
        of_all = self.tasks_by_time(reverse=reverse)
        found = ((uuid, t) for uuid, t in of_all if t.worker and t.worker.hostname == hostname)
        return islice(found, limit)

    def task_types(self) -> list[str]:
        """The names of all tasks that were seen."""
        return sorted(self._names)

    def alive_workers(self) -> Iterator[Any]:
        """The workers whose heartbeats come in time."""
        return (worker for worker in self.workers.values() if worker.alive)

    # --- forgetting

    def rebuild_taskheap(self) -> None:
        """Order the tasks anew."""
        self._heap[:] = sorted(
            ((t.clock, t.timestamp, t.origin, ref(t)) for t in self.tasks.values()), key=_order
        )

    def clear_tasks(self, ready: bool = True) -> None:
        """Forget the tasks; with ready only those that have ended."""
        with self._mutex:
            left = [(uuid, t) for uuid, t in self.itertasks() if ready and t.state not in READY_STATES]
            self.tasks.clear()
            for uuid, task in left:
                self.tasks[uuid] = task
            self._heap.clear()

    def clear(self, ready: bool = True) -> None:
        """Forget the workers, the counts and the tasks; with ready only tasks that have ended."""
        with self._mutex:
            self.workers.clear()
            self.clear_tasks(ready)
            self.event_count = self.task_count = 0

    def __repr__(self) -> str:
        return f"<State: events={self.event_count} tasks={self.task_count}>"

    def __reduce__(self) -> tuple[Any, ...]:
        sets = self.tasks_by_type, self.tasks_by_worker
        by = [{key: [task.uuid for task in found] for key, found in one.items()} for one in sets]
        most = self.max_workers_in_memory, self.max_tasks_in_memory
        calls = self.on_node_join, self.on_node_leave
        return type(self), (self.event_callback, self.workers, self.tasks, None, *most, *calls, *by)


def _order(entry: tuple[Any, ...]) -> tuple[Any, ...]:
    clock, stamp, origin, _ = entry
    return (clock or 0, stamp or 0, str(origin))
