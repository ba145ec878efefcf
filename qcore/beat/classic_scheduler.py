"""The base of scheduler classes of projects and packages, as Celery's `celery.beat.Scheduler`.

In:  entries, from `beat_schedule` or from wherever a subclass keeps them.  Out: published tasks.
One process runs it: nothing here keeps two of them from publishing the same run. The entries are in a heap by
the time of their next look; tick() publishes at most one and says how long to wait.
Before this: classic.py (Service calls tick()).  After this: Task.apply_async(), or App.send_task().
"""

from __future__ import annotations

import copy
import heapq
import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC
from functools import cached_property
from typing import Any

from qcore.app.schedule_entries import default_entries
from qcore.base.times import new_id
from qcore.beat.classic_entry import (
    ScheduleEntry,
    SchedulingError,
    _evaluate_entry_args,
    _evaluate_entry_kwargs,
    event_t,
)
from qcore.errors import BrokerBusy, BrokerDown, BrokerFull, ConfigError, Unsupported
from qcore.wire.schedule import BEAT_HEADER

log = logging.getLogger("qcore.beat")

DEFAULT_MAX_INTERVAL = 300
#: the priority of all entries in the heap
_PRIORITY = 5
#: pauses between two attempts to publish while the broker is away, seconds
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0


class BeatStopped(SystemExit):
    """stop() was called while a task waited for the broker."""


class Scheduler:
    """Publishes the entries of `schedule`, a mapping of names to Entry objects.

    A subclass overrides setup_schedule(), `schedule`, sync() and what else it needs. lazy: do not read the
    entries; others: options of subclasses, such as schedule_filename.
    """

    Entry: Any = ScheduleEntry
    #: longest time between two looks at the entries, seconds
    max_interval: Any = DEFAULT_MAX_INTERVAL
    #: sync() is called after so many seconds, or after so many tasks
    sync_every: Any = 3 * 60
    sync_every_tasks: Any = None
    logger = log
    _last_sync: float | None = None
    _tasks_since_sync = 0

    def __init__(
        self,
        app: Any,
        schedule: Any = None,
        max_interval: float | None = None,
        Producer: Any = None,
        lazy: bool = False,
        sync_every_tasks: int | None = None,
        **others: Any,
    ) -> None:
        self.app = app
        self.data = {} if schedule is None else schedule() if callable(schedule) else schedule
        self.max_interval = max_interval or app.conf.beat_max_loop_interval or self.max_interval
        self._own_producer, self.Producer = Producer is not None, Producer or self._kombus_producer
        self._heap: list[Any] | None = None
        self.old_schedulers: Any = None
        self.sync_every_tasks = app.conf.beat_sync_every if sync_every_tasks is None else sync_every_tasks
        #: set by Service.stop(): a task that waits for the broker gives up
        self.stopping = threading.Event()
        if not lazy:
            self.setup_schedule()

    # --- the entries

    def get_schedule(self) -> Any:
        return self.data

    def set_schedule(self, schedule: Any) -> None:
        self.data = schedule

    schedule: Any = property(lambda self: self.get_schedule(), lambda self, value: self.set_schedule(value))

    def setup_schedule(self) -> None:
        """Read the entries, at the start."""
        self.install_default_entries(self.data)
        self.merge_inplace(self.app.conf.beat_schedule or {})

    def install_default_entries(self, data: Any) -> None:
        """Add the daily celery.backend_cleanup, unless the results expire by themselves."""
        found = default_entries(self.app)
        self.update_from_dict({name: fields for name, fields in found.items() if name not in data})

    def _new_entry(self, name: str, fields: Any) -> Any:
        try:
            return self.Entry(**dict(fields, name=name, app=self.app))
        except TypeError as exc:
            raise ConfigError(f"the entry '{name}' of the schedule cannot be made: {exc}") from exc

    def _maybe_entry(self, name: str, entry: Any) -> Any:
        """An Entry, with this app, of what may be a mapping of its fields."""
        if not isinstance(entry, self.Entry):
            return self._new_entry(name, entry)
        entry.app = self.app
        return entry

    def update_from_dict(self, dict_: Mapping[str, Any]) -> None:
        """Add entries, or replace those of these names."""
        self.schedule.update({name: self._maybe_entry(name, entry) for name, entry in dict_.items()})

    def merge_inplace(self, b: Mapping[str, Any]) -> None:
        """Make the entries those of `b`; one that exists keeps its state."""
        schedule = self.schedule
        for name in [name for name in schedule if name not in b]:
            schedule.pop(name, None)
        for name, fields in b.items():
            made = self._new_entry(name, fields)
            known = schedule.get(name)
            if known:
                known.update(made)
            else:
                schedule[name] = made

    def add(self, **kwargs: Any) -> Any:
        """Add an entry of these fields. Returns it."""
        entry = self.Entry(app=self.app, **kwargs)
        self.schedule[entry.name] = entry
        return entry

    def schedules_equal(self, old_schedules: Any, new_schedules: Any) -> bool:
        """Whether the entries are the same, whatever their state; else the heap is built again."""
        if old_schedules is None or new_schedules is None:
            return old_schedules is new_schedules
        if old_schedules.keys() != new_schedules.keys():
            return False
        return all(new_schedules.get(name) == entry for name, entry in old_schedules.items())

    # --- when

    def adjust(self, n: Any, drift: float = -0.010) -> Any:
        """A positive pause, a little shortened: a process wakes up late rather than early."""
        return n + drift if n and n > 0 else n

    def is_due(self, entry: Any) -> Any:
        return entry.is_due()

    def _look(self, entry: Any, ask: Callable[[], Any]) -> Any:
        """What is_due() returns; an entry that cannot tell stops no other one and is asked again later."""
        try:
            return ask()
        except Exception:
            log.exception(
                "the next run of '%s' cannot be computed; it is tried again in %.0f s",
                entry.name,
                self.max_interval,
            )
            return False, self.max_interval

    def _when(self, entry: Any, next_time_to_run: Any) -> float:
        """The epoch seconds of a moment so many seconds from now, by the entry's clock."""
        now = entry.default_now()
        aware = now if now.utcoffset() is not None else now.replace(tzinfo=UTC)
        return float(aware.timestamp() + (self.adjust(next_time_to_run) or 0))

    def populate_heap(
        self, event_t: Any = event_t, heapify: Callable[[list[Any]], None] = heapq.heapify
    ) -> None:
        """Build the heap of all entries."""
        heap = []
        for entry in self.schedule.values():
            is_due, pause_s = self._look(entry, entry.is_due)
            heap.append(event_t(self._when(entry, 0 if is_due else pause_s), _PRIORITY, entry))
        self._heap = heap
        heapify(heap)

    def tick(
        self,
        event_t: Any = event_t,
        min: Callable[..., Any] = min,
        heappop: Callable[..., Any] = heapq.heappop,
        heappush: Callable[..., Any] = heapq.heappush,
    ) -> Any:
        """Publish the first entry of the heap, if it is due. Returns the seconds until the next tick."""
        if self._heap is None or not self.schedules_equal(self.old_schedulers, self.schedule):
            self.old_schedulers = copy.copy(self.schedule)
            self.populate_heap()
        heap = self._heap
        if not heap:
            return self.max_interval
        event = heap[0]
        entry = event[2]
        early_s = event[0] - self._when(entry, 0)
        if early_s > 0:
            return min(early_s, self.max_interval)
        is_due, pause_s = self._look(entry, lambda: self.is_due(entry))
        if not heap or heap[0] is not event:
            return 0  # is_due() of a subclass has changed the heap: look again
        heappop(heap)
        if is_due:
            following = self._publish(entry)
            heappush(heap, event_t(self._when(following, pause_s), event[1], following))
            return 0
        pause_s = pause_s if isinstance(pause_s, int | float) else self.max_interval
        heappush(heap, event_t(self._when(entry, pause_s), event[1], entry))
        # Another entry may have come to the top, and may be due.
        return min(self.adjust(pause_s), self.max_interval) if heap[0][2] is entry else 0

    # --- publish

    def _publish(self, entry: Any) -> Any:
        """Publish a due entry. Returns the one that follows it."""
        following = self.reserve(entry)
        try:
            self.apply_entry(entry, producer=self.producer)
        except (KeyboardInterrupt, SystemExit):
            known = self.schedule.get(entry.name)
            if known is not None and known.total_run_count == following.total_run_count:
                self.schedule[entry.name] = entry  # it has not run: it is due at the next start
            raise
        return following

    def reserve(self, entry: Any) -> Any:
        """Count a run of an entry. Returns the entry that follows it."""
        following = self.schedule[entry.name] = next(entry)
        return following

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Publish an entry; an error is logged."""
        log.info("sending the due task %s (%s)", entry.name, entry.task)
        try:
            result = self.apply_async(entry, producer=producer, advance=False)
        except Exception as exc:
            log.error("%s", exc, exc_info=exc)
        else:
            log.debug("%s sent; id: %s", entry.task, getattr(result, "id", None))

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        """Publish an entry, advance: after reserve(). Returns the result. While the broker is away it waits.
        Raises SchedulingError, and BeatStopped."""
        # First the state: an entry that cannot be published must not be tried again and again.
        entry = self.reserve(entry) if advance else entry
        task = self.app.tasks.get(entry.task)
        is_ours = producer is None or (not self._own_producer and producer is self.__dict__.get("producer"))
        try:
            args, given = _evaluate_entry_args(entry.args), _evaluate_entry_kwargs(entry.kwargs)
            options = {"task_id": new_id(), **entry.options, "producer": None if is_ours else producer}
            options["headers"] = {**(options.get("headers") or {}), BEAT_HEADER: True}
            if is_ours:
                options.setdefault("retry", False)  # _patiently() does it, and can be stopped
            if task:
                return self._patiently(lambda: task.apply_async(args, given, **options))
            return self._patiently(lambda: self.send_task(entry.task, args, given, **options))
        except Exception as exc:
            raise SchedulingError(f"cannot publish the scheduled task {entry.name}: {exc}") from exc
        finally:
            self._tasks_since_sync += 1
            if self.should_sync():
                self._do_sync()

    def send_task(self, *args: Any, **kwargs: Any) -> Any:
        """Publish a task that the app does not have."""
        return self.app.send_task(*args, **kwargs)

    def _patiently(self, publish: Callable[[], Any]) -> Any:
        """Call publish() until the broker takes it; the log has one line when it is away and one when it is
        back."""
        pause_s = _FIRST_PAUSE_S
        is_away = False
        while True:
            try:
                found = publish()
            except (BrokerDown, BrokerBusy, BrokerFull) as exc:
                if not is_away:
                    log.error("%s; the tasks that are due wait for it", exc)
                is_away = True
            else:
                if is_away:
                    log.warning("the broker is back; the tasks that were due are sent")
                return found
            if self.stopping.wait(pause_s):
                raise BeatStopped
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    # --- kombu's connection, for subclasses that publish over it

    @cached_property
    def connection(self) -> Any:
        return self.app.connection_for_write()

    @cached_property
    def producer(self) -> Any:
        """A producer of kombu; None for a broker that kombu does not reach. A task that gets this one is
        published over the app's own connections, unless the class of the producer was given."""
        if self._own_producer:
            return self.Producer(self._ensure_connected(), auto_declare=False)
        if not hasattr(self.app, "connection_for_write"):
            return None  # an App, which has nothing of kombu
        try:
            return self.Producer(self.connection, auto_declare=False)
        except Unsupported as exc:
            log.debug("the scheduler gets no producer: %s", exc)
            return None

    def _kombus_producer(self, *args: Any, **options: Any) -> Any:
        return self.app.amqp.Producer(*args, **options)

    def _ensure_connected(self) -> Any:
        """The connection, when it is established. Raises OperationalError after the setting
        broker_connection_max_retries."""

        def tell(exc: Exception, interval: float) -> None:
            log.error("cannot reach the broker: %s; trying again in %s s", exc, interval)

        return self.connection.ensure_connection(tell, self.app.conf.broker_connection_max_retries)

    # --- keep

    def should_sync(self) -> Any:
        """Whether it is time for sync()."""
        if self._last_sync is None or time.monotonic() - self._last_sync > self.sync_every:
            return True
        return self.sync_every_tasks and self._tasks_since_sync >= self.sync_every_tasks

    def _do_sync(self) -> None:
        try:
            log.debug("saving the state of the entries")
            self.sync()
        finally:
            self._last_sync, self._tasks_since_sync = time.monotonic(), 0

    def sync(self) -> None:
        """Save the state of the entries; for subclasses that keep it."""

    def close(self) -> None:
        """sync(), and close the connection. The scheduler may go on: it opens another one."""
        try:
            self.sync()
        finally:
            self.__dict__.pop("producer", None)
            connection = self.__dict__.pop("connection", None)
            if connection is not None:
                connection.release()

    @property
    def info(self) -> str:
        """Words about the scheduler for people."""
        return ""
