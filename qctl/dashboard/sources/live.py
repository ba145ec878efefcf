"""The live source: threads that receive events, query the workers, poll the broker, search, and read the
schedule while its screen is open. What only they need is imported in them, after the first picture.

In:  an app, or how to make it.  Out: Snapshots, made when take() is called. Replies of the fleet decide which
workers are online; events fill the time between them. Each thread reconnects to an unreachable broker.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from qcore.errors import mask_url
from qcore.events.store.table import READY, STATES
from qcore.wire.event import Event
from qctl.dashboard.sources.base import Source, in_order
from qctl.dashboard.state.event_log import EventLog
from qctl.dashboard.state.schedules import ScheduleBoard, ScheduleLook
from qctl.dashboard.state.search import Wanted
from qctl.dashboard.state.snapshot import FailureRow, QueueRow, Snapshot
from qctl.dashboard.state.workers import Fleet

if TYPE_CHECKING:
    from qcore.app.app import App
    from qcore.brokers.contract.records import Member
    from qcore.control.client import Answers
    from qctl.dashboard.sources.schedule_poll import SchedulePoll
    from qctl.dashboard.state.failures import Heard

ASK_EVERY_S = 2.0
#: workers queried per second at most: a large fleet has a longer interval
ASKED_PER_S = 100
ASK_TIMEOUT_S = 1.0
QUESTIONS = ("active", "reserved", "scheduled", "active_queues")
#: at most this number of results is looked up per interval, for tasks without an end event
MOST_LOOKED_UP = 500
#: failures of which it is remembered that their results were read
MOST_NAMELESS = 50_000
RETRY_S = (0.5, 1.0, 2.0)
#: intervals without a reply after which the broker counts as hanging
STALE_INTERVALS = 4


class LaterApp(NamedTuple):
    """An app that the source makes when it starts, after the first picture: its import is costly."""

    broker_url: str
    make: Callable[[], App]


class LiveSource(Source):
    """The state of a live fleet; start(), then take() for each redraw, then stop()."""

    def __init__(self, app: App | LaterApp, max_tasks: int = 10_000, max_bytes: int | None = None) -> None:
        self.speaks, self._later = True, app if isinstance(app, LaterApp) else None
        if not isinstance(app, LaterApp):
            self.app = app
        self.listening = threading.Event()  # set while the subscription to events is open
        self.memory = EventLog(max_tasks, max_bytes)
        self.memory.has_broker, self.memory.listening = True, False
        self._lock = self.memory.lock
        self._fleet = Fleet()
        self._stopped = threading.Event()
        self._ask_now, self._look_now = threading.Event(), threading.Event()
        self._trouble: dict[str, str] = {}  # by thread name, its current error
        self._back_at: float | None = None  # epoch seconds: when the last trouble ended
        self._tries = 0
        self._next_try = 0.0
        self._queues: tuple[QueueRow, ...] = ()
        self._looked = False
        self._queried = self._looked_after = False  # the workers; the broker after these
        self._heard: list[Heard] = []
        self._heard_as_of: tuple[int, int] | None = None
        self._nameless: set[str] = set()  # failures whose results were read for their names
        self._failures: tuple[FailureRow, ...] = ()
        self._broker_facts: dict[str, str] = {}
        self._broker_numbers: dict[str, float | None] = {}
        self._round_trip_s: float | None = None
        self._schedules = ScheduleBoard()
        self._schedule_look: ScheduleLook | None = None
        self._schedule_changed = threading.Event()  # another look, or the schedule was changed here
        self._schedule_soon = False
        self._threads = [
            threading.Thread(target=self._keep_doing, args=(name, work), name=name, daemon=True)
            for name, work in (
                ("events", self._listen),
                ("ask", self._ask_forever),
                ("look", self._look_forever),
                ("schedule", self._read_schedule_forever),
            )
        ]

    def start(self) -> None:
        if self._later is not None:
            self.app, self._later = self._later.make(), None
        self.memory.finder.start()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        if self._later is not None:  # its app could not be made
            return
        self._stopped.set()
        self.ask_soon()
        self.memory.finder.stop()
        for thread in self._threads:
            thread.join(ASK_TIMEOUT_S * 2)

    def ask_soon(self) -> None:
        """Query the fleet and poll the broker without waiting for the next interval."""
        self._ask_now.set()
        self._look_now.set()
        self._schedule_soon = True
        self._schedule_changed.set()

    def look_at_schedule(self, look: ScheduleLook | None) -> None:
        if look != self._schedule_look:
            self._schedule_look = look
            self._schedule_changed.set()

    def fold(self, batch: list[Event]) -> None:
        """Fold events."""
        self.memory.fold(batch)

    def take(self, wanted: Wanted | None = None) -> Snapshot:
        """The current snapshot, with the selected tasks (default: all, newest first)."""
        now = time.time()
        with self._lock:
            memory, fleet = self.memory, self._fleet
            events_per_s, done_per_s = memory.rates(now)
            trouble = self._trouble.get("ask") or self._trouble.get("events") or self._trouble.get("look", "")
            if not trouble and fleet.asked and now - fleet.as_of > STALE_INTERVALS * self.interval_s:
                trouble = f"no answer for {now - fleet.as_of:.0f} s"
            tasks, found = memory.tasks(wanted or Wanted())
            return Snapshot(
                at=now,
                as_of=fleet.as_of,
                broker=mask_url(self._later.broker_url if self._later else self.app.broker_url()),
                connected=not trouble and fleet.asked,
                trouble=trouble,
                tries=self._tries,
                next_try_s=max(0.0, self._next_try - now) if trouble else 0.0,
                workers=fleet.rows(memory.state.workers, now),
                tasks=tasks,
                searched=None if found is None or found.complete else found.looked_at,
                remembered=len(memory.state.table),
                counts=memory.counts,
                events=memory.state.events,
                events_per_s=events_per_s,
                done_per_s=done_per_s,
                lag_s=memory.lag_s,
                missed=memory.missed,
                forgotten=memory.state.forgotten,
                asked=fleet.asked,
                looked=self._looked,
                queues=self._queues,
                failures=self._failures,
                log=memory.log(),
                round_trip_s=self._round_trip_s,
                broker_facts=in_order({**self._broker_facts, **memory.facts()}),
                broker_numbers=self._broker_numbers,
                charts=memory.charts.copy(),
                schedules=replace(self._schedules, trouble=self._trouble.get("schedule", "")),
                back_at=self._back_at,
            )

    @property
    def is_complete(self) -> bool:
        return self._looked_after

    @property
    def interval_s(self) -> float:
        """Seconds between two queries of the fleet."""
        return max(ASK_EVERY_S, len(self._fleet) / ASKED_PER_S)

    # --- threads

    def _keep_doing(self, name: str, work: Any) -> None:
        """Repeat `work` until stop(); an error is shown and followed by a pause, never raised."""
        failed = 0
        while not self._stopped.is_set():
            try:
                work()
                failed = 0
            except Exception as exc:  # the dashboard must survive any error of the broker
                pause = RETRY_S[min(failed, len(RETRY_S) - 1)]
                with self._lock:
                    failed = failed + 1 if name in self._trouble else 1
                    # The header shows the address; this line needs only the reason.
                    reason = getattr(exc, "reason", "") or str(exc) or type(exc).__name__
                    self._trouble[name] = mask_url(str(reason))
                    self._tries += name == "ask"
                    if name == "look":
                        self.memory.published_per_s = None
                    self._next_try = time.time() + pause
                self._stopped.wait(pause)

    def _listen(self) -> None:
        from qcore.brokers.registry import open_broker
        from qcore.events.receiver import listen

        # A separate connection: waiting for events must not delay queries.
        broker = open_broker(self.app.broker_url(), self.app.broker_options())
        try:
            with listen(
                broker, exchange=self.app.conf.event_exchange, serializer=self.app.conf.event_serializer
            ) as batches:
                self.memory.listening = True
                self.listening.set()
                for batch in batches:
                    if self._trouble:
                        self._recovered("events")
                    if self._stopped.is_set():
                        return
                    self.fold(batch)
        finally:
            self.listening.clear()
            self.memory.listening = False
            broker.close()

    def _ask_forever(self) -> None:
        while not self._stopped.is_set():
            control, asked_at = self.app.control, time.time()
            stats = control.ask("stats", timeout_s=ASK_TIMEOUT_S)
            members = control.known()
            answers: dict[str, Answers] = {}
            if not self._fleet.asked:
                self.learn(stats, members, answers, asked_at)  # show the workers before the other queries
            if stats.replies:
                answers = {name: control.ask(name, timeout_s=ASK_TIMEOUT_S) for name in QUESTIONS}
            self.learn(stats, members, answers, asked_at)
            self._recovered("ask")
            if not self._queried:
                self._queried = True
                self._look_now.set()  # the first poll of the broker did not know who consumes what
            self._ask_now.wait(self.interval_s)
            self._ask_now.clear()

    def learn(
        self, stats: Answers, members: list[Member], answers: Mapping[str, Answers], asked_at: float
    ) -> None:
        """Fold the replies of one round; look up results of tasks without an end event."""
        with self._lock:
            lost = self._fleet.learn(self.memory.state, stats, members, answers, asked_at)
        if not lost or not self.app.results.keeps:
            return
        some = lost[:MOST_LOOKED_UP]
        found = self.app.results.get(some)
        with self._lock:
            table = self.memory.state.table
            for task_id, meta in zip(some, found, strict=True):
                task = table.get(task_id)
                if meta is not None and meta.status in READY and task is not None and task.state == "ENDED":
                    table.settle(task_id, STATES.index(meta.status))

    def _look_forever(self) -> None:
        from qctl.dashboard.sources.broker_poll import BrokerPoll
        from qctl.dashboard.state.failures import merged

        looker = BrokerPoll(self.app)
        while not self._stopped.is_set():
            queried = self._queried
            with self._lock:
                fleet, table = self._fleet, self.memory.state.table
                done = self.memory.ended_by_queue(fleet.queues_of)
                consumers, taken, going_on = fleet.consumers(), fleet.taken, fleet.celery_consumers
            queues = looker.queues(consumers, done, taken, going_on)
            failures = merged(table, self._heard_failures(), looker.failures(), fleet.is_ours)
            facts = looker.broker()
            with self._lock:
                self._queues, self._failures, self._broker_facts = queues, failures, facts
                self._round_trip_s, self._looked = looker.round_trip_s, True
                self._broker_numbers = looker.numbers
                self._looked_after = queried
                self.memory.published_per_s = looker.published_per_s
            self._recovered("look")
            self._look_now.wait(ASK_EVERY_S)
            self._look_now.clear()

    def _heard_failures(self) -> list[Heard]:
        """What heard_failures() finds; reading up to 50,000 tracebacks anew is for new failures."""
        from qctl.dashboard.state.failures import heard_failures

        state = self.memory.state
        key = state.counts.get("task-failed", 0), state.table.generation
        if key != self._heard_as_of:
            self._heard = self._named(heard_failures(state.table))
            self._heard_as_of = key
        return self._heard

    def _named(self, heard: list[Heard]) -> list[Heard]:
        """The failures, those without a name with that of their result, which names the task with
        result_extended."""
        unnamed = [one.task_id for one in heard if not one.name and one.task_id not in self._nameless]
        some = unnamed[:MOST_LOOKED_UP]
        if not some or not self.app.results.keeps:
            return heard
        if len(self._nameless) > MOST_NAMELESS:
            self._nameless.clear()
        self._nameless.update(some)
        names = {m.task_id: m.name for m in self.app.results.get(some) if m is not None and m.name}
        with self._lock:
            for task_id, name in names.items():
                self.memory.state.table.name(task_id, name)
        return [one._replace(name=names.get(one.task_id, one.name)) for one in heard]

    def _read_schedule_forever(self) -> None:
        poll: SchedulePoll | None = None  # imported when the screen is opened, since it is costly
        read_at = 0.0
        while not self._stopped.is_set():
            look = self._schedule_look
            if look is None:
                self._schedule_changed.wait()
            else:
                if poll is None:
                    from qctl.dashboard.sources.schedule_poll import SchedulePoll

                    poll = SchedulePoll(self.app, self._state_of)
                if self._schedule_soon or time.monotonic() >= read_at:
                    self._schedule_soon = False
                    read_at = time.monotonic() + ASK_EVERY_S
                    poll.read(look)
                board = poll.board(look)
                with self._lock:
                    self._schedules = board
                self._recovered("schedule")
                self._schedule_changed.wait(max(0.0, read_at - time.monotonic()))
            self._schedule_changed.clear()

    def _state_of(self, task_id: str) -> str | None:
        """The state of a task by its events; None: unknown."""
        with self._lock:
            task = self.memory.state.table.get(task_id)
        return None if task is None else task.state

    def _recovered(self, name: str) -> None:
        with self._lock:
            if self._trouble.pop(name, None) is not None and not self._trouble:
                self._tries, self._back_at = 0, time.time()
