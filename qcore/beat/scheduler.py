"""The scheduler: it publishes each instant of each entry once, whoever else does the same.

In:  the entries of a store, and those that the project declares.  Out: messages.
Schedulers do not know each other. Each computes the same instants, and the store lets one of them take an
instant, in the step that publishes its message; so a scheduler that dies leaves nothing behind. The time is
that of the store's clock, which is asked every LOOK_S, together with the revision of the entries.
Before this: app/schedule_entries.py, planner.py.  After this: brokers/X/schedules.py.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import socket
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from qcore.app import sending
from qcore.app.schedule_entries import Declared, declared, zone_of
from qcore.app.schedules import message_of
from qcore.beat.planner import NEVER, SECOND_US, Instants, Plan, is_due, plan
from qcore.brokers.contract.schedules import Firing, ScheduleStore, StoredEntry, state_after
from qcore.errors import BrokerError, Malformed, QcoreError, ResultsNotKept, Unroutable, Unsupported
from qcore.schedules.instants import instants
from qcore.signals import after_task_publish, before_task_publish, published
from qcore.wire import schedule as wire
from qcore.wire.schedule import EntryState, HistoryRecord, ScheduleEntry

log = logging.getLogger("qcore.beat")

#: seconds between two looks at the clock and the revision of the store
LOOK_S = 0.5
#: entries of one request to the store
AT_ONCE = 100
ANNOUNCE_S = 3.0
#: messages of the outbox in one step; what waits there for so many seconds, its scheduler has left
OUTBOX_AT_ONCE, ORPHANED_S = 1000, 5.0
AWAY_S = (0.1, 2.0)  # between attempts while the broker is away: first, most
STEP_US = SECOND_US  # a change of the clock that is logged


class Live:
    """An entry in this process, kept as it is stored: that needs a third of the memory of its fields."""

    __slots__ = ("code", "instants", "name", "raw", "revision", "state", "wake_us")

    def __init__(self, found: StoredEntry) -> None:
        self.name, self.revision, self.state = found.name, found.revision, found.state
        self.raw = found.declared, found.edited
        self.instants: Instants | None = None
        self.code: Declared | None = None
        self.wake_us = 0

    def entry(self) -> ScheduleEntry:
        """Raises Malformed."""
        return wire.decode(*self.raw)


class Due(NamedTuple):
    """An entry whose instants are decided now."""

    live: Live
    entry: ScheduleEntry
    plan: Plan
    firing: Firing


class Scheduler:
    """One scheduler. run() returns after stop(), which any thread or signal handler may call."""

    def __init__(
        self,
        app: Any,
        node: str = "",
        store: ScheduleStore | None = None,
        max_interval_s: float | None = None,
    ) -> None:
        """node: its name, by default beat@host:pid; max_interval_s: the longest time between two looks.
        Raises ConfigError for entries of the project that are wrong."""
        self.app = app
        self.node = node or f"beat@{socket.gethostname()}:{os.getpid()}"
        self.store = store or app.schedules.store
        self._look_s = min(LOOK_S, max_interval_s or LOOK_S)
        self._live: dict[str, Live] = {}
        self._heap: list[tuple[int, int, Live]] = []
        self._number = itertools.count()  # of two that wake at once the earlier one is first
        entries = declared(app)
        self._undeclared: dict[str, bytes] | None = {n: wire.encode(one.entry) for n, one in entries.items()}
        #: entries whose schedule or arguments are code
        self._code = {n: one for n, one in entries.items() if one.entry.spec["kind"] == "code"}
        self._stopped = threading.Event()
        self.max_interval, self.last_tick = self._look_s, time.monotonic()
        self.ready = threading.Event()  # the entries of the project are declared, and all are read
        self._revision = -1
        self._offset_us: int | None = None  # of the store's clock to this process's monotonic one
        self._next_look = self._next_announcement = 0.0
        self._away_s = 0.0
        self._said: set[tuple[str, int]] = set()  # entries whose fault is logged, with their revision
        self._unsent: set[bytes] = set()  # messages of the outbox that this scheduler has to publish
        self._waiting: dict[str, float] = {}  # items of the outbox, and since when they were seen there
        self.sent = 0

    # --- life

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        """Publish until stop(). Can be called again after it has raised."""
        self._next_look, self._revision = 0.0, -1  # read all entries
        self._live.clear()
        self._heap.clear()
        self._waiting.clear()
        while not self._stopped.is_set():
            self.last_tick = time.monotonic()
            try:
                if self._undeclared is not None:
                    self._declare(self._undeclared)
                    self._undeclared = None
                wait_s = self._turn()
                self.ready.set()
                if self._away_s:
                    log.warning("%s: the broker is back", self.node)
                self._away_s = 0.0
            except BrokerError as exc:
                if not self._away_s:
                    log.error("%s: %s; the schedule waits for it", self.node, exc)
                wait_s = self._away_s = min(max(self._away_s * 2, AWAY_S[0]), AWAY_S[1])
                self._next_look = 0.0
                self._waiting.clear()
            self._stopped.wait(wait_s)
        try:
            self.store.retire(self.node)
        except BrokerError as exc:
            log.debug("%s: %s", self.node, exc)

    def _declare(self, raws: dict[str, bytes]) -> None:
        changed = self.store.declare(self.app.main or "", raws)
        gone = sorted(set(changed) - raws.keys())
        if gone:
            # Two projects that have one name would delete each other's entries: that must not go unseen.
            names = ", ".join(gone[:10]) + (", …" if len(gone) > 10 else "")
            source = self.app.main or ""
            log.warning(
                "'%s' does not declare these schedule entries any more, so they are deleted: %s",
                source,
                names,
            )
        if len(changed) > len(gone):
            log.info("%s: %d entries of the project are new or changed", self.node, len(changed) - len(gone))

    def _turn(self) -> float:
        """One look. Returns the seconds until the next one."""
        now = time.monotonic()
        if now >= self._next_look:
            self._look()
            self._next_look = now + self._look_s
            if now >= self._next_announcement:
                self.store.announce(self.node, self._facts(), ANNOUNCE_S * 4)
                self._next_announcement = now + ANNOUNCE_S
            if self.store.uses_outbox:
                self._publish_outbox()
        self._publish_due()
        if self._unsent:
            self._publish_outbox()
        wait_s = self._next_look - time.monotonic()
        if self._heap:
            wait_s = min(wait_s, (self._heap[0][0] - self._now_us()) / SECOND_US)
        return max(wait_s, 0.0)

    def _facts(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "app": self.app.main or "",
            "entries": len(self._live),
            "sent": self.sent,
            # Seconds by which the clock of this host is ahead of the store's.
            "clock": round(time.time() - self._now_us() / SECOND_US, 3),
        }

    def _now_us(self) -> int:
        assert self._offset_us is not None
        return time.monotonic_ns() // 1000 + self._offset_us

    # --- entries

    def _look(self) -> None:
        """Read the store's clock, and the entries that changed."""
        before = time.monotonic_ns()
        now_s, revision = self.store.clock()
        offset_us = round(now_s * SECOND_US) - (before + time.monotonic_ns()) // 2000
        if self._offset_us is not None and abs(offset_us - self._offset_us) > STEP_US:
            step_s = (offset_us - self._offset_us) / SECOND_US
            log.warning("%s: the clock moved by %+.1f s; the schedule is planned again", self.node, step_s)
            for live in self._live.values():
                self._wake(live, 0)
        self._offset_us = offset_us
        if revision < self._revision:  # another file, or an emptied server
            log.warning("%s: the entries of the store are others than before", self.node)
            self._live.clear()
            self._revision = -1
        if revision != self._revision:
            for found in self.store.entries(max(self._revision, 0)):
                self._take(found)
            self._revision = revision

    def _take(self, found: StoredEntry) -> None:
        """An entry that is new, changed or deleted."""
        self._live.pop(found.name, None)
        if found.is_deleted:
            return
        try:
            live = Live(found)
            entry = live.entry()
            if entry.spec.get("kind") == "code":
                live.code = self._code.get(found.name)
                if live.code is None:
                    self._say(
                        live,
                        "has a schedule that only the code of its project can compute, "
                        "which this scheduler has not loaded",
                    )
                    return
            else:
                zone = zone_of(entry.timezone or self.app.conf.timezone)
                live.instants = instants(entry.spec, zone, entry.dst)
        except (Malformed, QcoreError) as exc:
            log.error("the schedule entry '%s' is not published: %s", found.name, exc)
            return
        self._live[found.name] = live
        self._wake(live, 0)

    def _say(self, live: Live, what: str) -> None:
        """Log once for each revision of an entry."""
        key = live.name, live.revision
        if key not in self._said:
            self._said.add(key)
            log.warning("the schedule entry '%s' %s", live.name, what)

    def _wake(self, live: Live, wake_us: int) -> None:
        """Look at this entry at that time."""
        live.wake_us = wake_us
        if wake_us < NEVER:
            heapq.heappush(self._heap, (wake_us, next(self._number), live))

    # --- publishing

    def _publish_due(self) -> None:
        while self._heap and not self._stopped.is_set() and time.monotonic() < self._next_look:
            now_us, found = self._now_us(), list[Live]()
            while self._heap and self._heap[0][0] <= now_us and len(found) < AT_ONCE:
                wake_us, _, live = heapq.heappop(self._heap)
                if self._live.get(live.name) is live and live.wake_us == wake_us:
                    found.append(live)
            if not found:
                return
            try:
                self._decide(found, now_us)
            except BaseException:
                for live in found:
                    self._wake(live, 0)
                raise

    def _decide(self, found: Sequence[Live], now_us: int) -> None:
        if before_task_publish.receivers:
            # They are to hear of messages that this scheduler publishes, not of those that others have.
            for live, one in zip(found, self.store.named([live.name for live in found]), strict=True):
                live.state = live.state if one is None else one.state
        entries = [live.entry() for live in found]
        running = self._running(found, entries, now_us)
        chosen = []
        for live, entry in zip(found, entries, strict=True):
            made = self._plan(live, entry, now_us, live.name in running)
            if made.cursor_us is None:
                self._wake(live, made.wake_us)
            else:
                chosen.append(Due(live, entry, made, self._firing(live, entry, made, now_us)))
        if not chosen:
            return
        for due, answer in zip(chosen, self._fire([due.firing for due in chosen]), strict=True):
            if answer is None:
                self._took(due, now_us)
                self._wake(due.live, due.plan.wake_us)
            elif answer.cursor_us:
                due.live.state = answer  # another scheduler took it
                self._wake(due.live, 0)
            else:  # it was deleted, as the next look will tell
                self._live.pop(due.live.name, None)

    def _fire(self, firings: list[Firing]) -> list[EntryState | None]:
        try:
            return self.store.fire(firings)
        except (Unroutable, Unsupported) as exc:
            if len(firings) > 1:  # one of them; the others are published
                return [answer for one in firings for answer in self._fire([one])]
            (lost,) = firings
            log.error("the schedule entry '%s' cannot be sent: %s", lost.name, exc)
            count = lost.missed + lost.runs
            return self.store.fire(
                [msgspec.structs.replace(lost, messages=(), records=(), runs=0, missed=count, task_id="")]
            )

    def _plan(self, live: Live, entry: ScheduleEntry, now_us: int, is_running: bool) -> Plan:
        if live.code is None:
            assert live.instants is not None
            return plan(entry, live.instants, live.state, now_us, is_running)
        return self._plan_code(live, entry, live.code.schedule, now_us)

    def _plan_code(self, live: Live, entry: ScheduleEntry, schedule: Any, now_us: int) -> Plan:
        """As Celery does it: the schedule says whether it is due, and when to ask again."""
        if not entry.enabled:
            return Plan(NEVER)
        if not live.state.cursor_us:
            return Plan(0, now_us)
        last_run_at = datetime.fromtimestamp(live.state.cursor_us / SECOND_US, UTC)
        try:
            due, after_s = schedule.is_due(schedule.maybe_make_aware(last_run_at))
        except Exception:
            log.exception("is_due() of the schedule entry '%s' raised", live.name)
            return Plan(now_us + 60 * SECOND_US)
        wake_us = now_us + round(max(float(after_s or 0), 0.0) * SECOND_US)
        return Plan(wake_us, now_us, (now_us,)) if due else Plan(wake_us)

    def _running(self, found: Sequence[Live], entries: Sequence[ScheduleEntry], now_us: int) -> set[str]:
        """The entries that must not run twice at a time and whose last run has not ended."""
        asked = {
            live.state.last_task_id: live
            for live, entry in zip(found, entries, strict=True)
            if entry.overlap != "run"
            and live.state.last_task_id
            and live.instants is not None
            and is_due(entry, live.instants, live.state, now_us)
        }
        if not asked:
            return set()
        try:
            metas = self.app.results.get(list(asked))
        except ResultsNotKept as exc:
            for live in asked.values():
                self._say(live, f"cannot know whether its last run has ended: {exc}")
            return set()
        kept_us = round((self.app.conf.seconds("result_expires") or 0) * SECOND_US) or NEVER
        return {
            live.name
            for live, meta in zip(asked.values(), metas, strict=True)
            if (meta is None or not meta.is_ready) and now_us - live.state.last_sent_us < kept_us
        }

    def _firing(self, live: Live, entry: ScheduleEntry, made: Plan, now_us: int) -> Firing:
        records, messages, task_id = [], [], ""
        if made.missed:
            records.append(
                HistoryRecord(made.cursor_us or 0, "missed", now_us, by=self.node, count=made.missed)
            )
        if made.overlapped:
            records.append(
                HistoryRecord(made.cursor_us or 0, "overlapped", now_us, by=self.node, count=made.overlapped)
            )
        refused = 0
        for instant_us in made.instants:
            try:
                task_id, sent = message_of(self.app, entry, instant_us, live.code)
            except Exception:
                # What the project's code raises, too: an entry that cannot be sent must not stop the others.
                log.exception("the schedule entry '%s' cannot be sent", entry.name)
                refused += 1
                continue
            messages += sent
            records.append(HistoryRecord(instant_us, "sent", now_us, task_id, self.node))
        return Firing(
            entry.name,
            live.state.cursor_us,
            made.cursor_us or 0,
            tuple(messages),
            tuple(records),
            runs=len(made.instants) - refused,
            missed=made.missed + refused,
            overlapped=made.overlapped,
            task_id=task_id,
            instant_us=made.instants[-1] if task_id else 0,
            by=self.node,
        )

    def _took(self, due: Due, now_us: int) -> None:
        """This scheduler decided these instants."""
        live, firing = due.live, due.firing
        live.state = state_after(live.state, firing, now_us)
        if firing.missed:
            log.warning("the schedule entry '%s': missed %d instants", firing.name, firing.missed)
        if firing.overlapped:
            log.info("the schedule entry '%s': its last run goes on", firing.name)
        if firing.messages:
            self.sent += firing.runs
            log.info("sent %s[%s] for the schedule entry '%s'", due.entry.task, firing.task_id, firing.name)
            if self.store.uses_outbox:
                self._unsent.update(one.raw for one in firing.messages)
            else:
                self._tell(firing.messages)

    def _tell(self, messages: Sequence[Any]) -> None:
        if after_task_publish.receivers:
            published(messages)
        if self.app.conf.task_send_sent_event:
            for one in messages:
                sending.publish_sent_event(self.app, one)

    def _publish_outbox(self) -> None:
        """Publish on the other broker what this scheduler took, and what one took that has ended.
        The message of a scheduler that ends between the two steps may be published twice, with one id."""
        now, waiting = time.monotonic(), self.store.outbox(OUTBOX_AT_ONCE)
        self._waiting = {item.id: self._waiting.get(item.id, now) for item in waiting}
        chosen = [item for item in waiting if item.message.raw in self._unsent]
        left = [item for item in waiting if now - self._waiting[item.id] > ORPHANED_S]
        if left and self._is_first():
            chosen += [item for item in left if item not in chosen]
        if chosen:
            messages = [item.message for item in chosen]
            self.app.broker.publish(messages)
            self.store.sent([item.id for item in chosen])
            self._tell(messages)
        self._unsent.clear()

    def _is_first(self) -> bool:
        """Of the running schedulers one takes over what another one has left."""
        return self.node == min((one.node for one in self.store.schedulers() if one.alive), default=self.node)
