"""The main loop of a worker: claim deliveries, admit them, hand them to the pool, settle their outcomes.

In:  deliveries of a broker's Consumer.  Out: settlements.  One thread polls the broker's descriptors,
the pool's sockets and a wake-up pipe; a task passes through no other thread of the worker process.
Before this: brokers/X.  After this: pools/X, execution/run.py, and back to worker/settling/rules.py.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from qcore.base.crashpoints import crashpoint
from qcore.brokers.contract.consumer import Consumer
from qcore.brokers.contract.records import Delivery, Settle, Settlement
from qcore.errors import BrokerBusy, BrokerDown, BrokerError, BrokerFull, ColdShutdown
from qcore.pools.base import Pool
from qcore.results.base import ResultStore
from qcore.tasks.task import Task
from qcore.wire.outcome import Job, Outcome
from qcore.wire.task import TaskMessage
from qcore.worker.in_flight import InFlight
from qcore.worker.intake.admission import Admission
from qcore.worker.intake.redelivery import Deduplicator
from qcore.worker.outage import Outage
from qcore.worker.poller import Poller
from qcore.worker.run_checks import EVERY_S, RunChecks
from qcore.worker.services.autoscale import LOOK_S, Autoscaler
from qcore.worker.services.base import ShutdownStage
from qcore.worker.services.health_file import HealthFile
from qcore.worker.services.reporting import TaskReporter, report
from qcore.worker.services.throughput import QueueThroughput
from qcore.worker.settling.batching import AcknowledgementBatcher
from qcore.worker.settling.chords import Chords
from qcore.worker.settling.durable import ResultOutbox, settle_individually
from qcore.worker.settling.lost import LostRuns
from qcore.worker.settling.rules import SettlementRules

if TYPE_CHECKING:
    from qcore.app.app import App

log = logging.getLogger("qcore.worker")

#: seconds that a warm shutdown waits for an unavailable broker, to settle the last outcomes
LAST_WORD_S = 10.0


class Loop:
    """The worker's main loop. Only its own thread may call it, except call_soon(), look() and stop()."""

    def __init__(
        self,
        app: App,
        node: str,
        consumer: Consumer,
        pool: Pool,
        results: ResultStore,
        reporter: TaskReporter,
        rules: SettlementRules,
        chords: Chords,
        drain_timeout_s: float | None = None,
    ) -> None:
        self.app, self.node, self.consumer, self.pool, self.results = app, node, consumer, pool, results
        self.reporter, self.rules = reporter, rules
        self.durable = ResultOutbox(app, results, chords)
        self.drain_timeout_s = drain_timeout_s
        self.stage = ShutdownStage.RUNNING
        self.held: dict[int, InFlight] = {}
        self.admission = Admission(app.tasks, reporter, rules, frozenset(app.conf.accept_content))
        self.autoscaler: Autoscaler | None = None
        self.total: Counter[str] = Counter()
        self.was_cold = False  # the shutdown, so far
        self.returned = 0  # runs that a cold shutdown interrupted, and outcomes that it did not settle
        self.stale = 0  # settlements that the broker refused because the lease was lost
        self._tasks: dict[str, Task] = app.tasks
        self.repeats = Deduplicator(app, results, self._add, reporter)
        tracks = any(task.track_started for task in self._tasks.values())
        self._checks = RunChecks(node, self.held, pool, reporter, self.durable, rules.ttl_s, tracks)
        self._settlements: list[Settlement] = []
        self._lost, self._inline = LostRuns(app, node), results.in_broker
        self._requests: deque[Callable[[], None]] = deque()
        self._claim_requested = self._armed = True  # nothing to arm before the first claim
        self._next_claim = 0.0
        self._deadline: float | None = None
        give_up = None if app.conf.broker_connection_retry else partial(self.stop, ShutdownStage.WARM)
        self._outage = Outage(lost=self._checks.at_a_loss(app.conf), give_up=give_up)
        self._gather = AcknowledgementBatcher(consumer.gather_s)
        self._poller = Poller()
        self.pulse = HealthFile(node, pool.name == "solo")
        self.throughput = QueueThroughput()

    # --- from other threads and from signal handlers

    def call_soon(self, what: Callable[[], None]) -> None:
        """Run `what` in the loop's thread, in its next iteration."""
        self._requests.append(what)
        self._poller.pipe.ring()

    def lease_lost(self, exc: BrokerError | None = None) -> None:
        """Claim under the new lease in the next turn; exc: why it cannot be renewed. From any thread."""
        self.call_soon(self._request_claim if exc is None else partial(self._outage.noticed, exc))

    def _request_claim(self) -> None:
        self._claim_requested = True

    def install_wakeup_fd(self) -> None:
        self._poller.pipe.install_wakeup_fd()

    def stop(self, stage: ShutdownStage) -> None:
        """Advance the shutdown to `stage`; an earlier stage has no effect. Safe in a signal handler."""
        self.stage = max(self.stage, stage)
        self._poller.pipe.ring()

    def is_away(self) -> bool:
        """Whether the broker is unreachable; from any thread."""
        return self._outage.since is not None

    def outages(self) -> int:
        """How often the broker became unreachable; from any thread."""
        return self._outage.count

    def gave_up(self) -> bool:
        return self._outage.gave_up

    def release(self) -> None:
        """Close the descriptors after run(), in a process that goes on without the worker."""
        self._poller.close()
        self.pool.release()

    # --- the loop

    def run(self) -> None:
        """Run until a shutdown is complete and every delivery is settled. On an exception, return the
        running deliveries flagged as redelivered, then raise it (PoolBroken, or a programming error)."""
        try:
            self._run()
        except Exception:
            self.stage = ShutdownStage.COLD
            self._abandon()
            if not self.is_away():
                self._exchange()
            raise
        finally:
            self.stage = ShutdownStage.DONE

    def _run(self) -> None:
        entered = ShutdownStage.RUNNING
        while True:
            if self.stage > entered:
                entered = self.stage
                self._enter(entered)
                self._poller.pipe.ring()  # an idle worker ends now, and not after the pause of this iteration
            if self.is_away() and not self._outage.left_s():
                self._reconnect()
            self._sleep()
            away = self.is_away() or self.durable.is_away()
            self.pulse.beat(self.stage, away, self.pool.is_idle(), self._outage.worked_at)
            while self._requests:
                self._requests.popleft()()
            try:
                for outcome in self.pool.collect():
                    self._ended(outcome)
            except ColdShutdown:
                continue  # the stage is COLD by now; entering it returns the running tasks
            self._run_checks()
            if not self.is_away():
                self._exchange()
            if entered >= ShutdownStage.WARM and entered == self.stage and self._is_finished():
                return

    def _is_finished(self) -> bool:
        if self.stage < ShutdownStage.COLD and self.pool.busy():
            return False
        if self.durable.waits():
            if self.stage < ShutdownStage.COLD and self.durable.down_for_s() < LAST_WORD_S:
                return False
            back = self.durable.give_up()
            self.returned += len(back)
            self._settlements += back
            return False  # the next iteration settles them
        if not self._settlements:
            return True
        if not self.is_away():
            return False
        if self.stage < ShutdownStage.COLD and self._outage.down_for_s() < LAST_WORD_S:
            return False
        self.returned += len(self._settlements)
        log.error(
            "%d outcome(s) could not be sent to the broker; these tasks are redelivered when the lease ends",
            len(self._settlements),
        )
        return True

    def _sleep(self) -> None:
        self._watch()
        for kind, fd in self._poller.poll(min(self._pause_s(), self.pulse.manager.every_s)):
            if kind in ("pool", "blocked"):
                self.pool.ready(fd)
            elif kind == "broker":
                try:
                    if brought := self.consumer.wake(fd):
                        self._admit_all(brought)
                        self._armed = False
                    else:
                        self._claim_requested = True
                except BrokerDown as exc:
                    self._outage.begins(exc)

    def _pause_s(self) -> float:
        if self.pool.wants_turn() or self._requests:
            return 0.0
        now = time.monotonic()
        pause = self.pool.tick_s()
        if (left := self._gather.left_s(now)) is not None:
            return min(pause, left)
        if self.is_away():
            pause = min(pause, self._outage.left_s())
        elif self.stage == ShutdownStage.RUNNING and self._room():
            # Without a free slot there is nothing to claim for; an outcome frees one and wakes the loop.
            pause = 0.0 if self._claim_requested else min(pause, max(self._next_claim - now, 0.0))
        if self._settlements:
            pause = min(pause, 0.05)
        if self.durable.waits() and not self.is_away():
            pause = min(pause, self.durable.left_s())
        if self.autoscaler is not None and (self.held or self.pool.size > self.autoscaler.least):
            pause = min(pause, LOOK_S)
        if self._checks.are_needed():
            pause = min(pause, EVERY_S)
        if self._deadline is not None:
            pause = min(pause, max(self._deadline - now, 0.0))
        return pause

    def _watch(self) -> None:
        wanted = dict.fromkeys(self.pool.fds(), "pool") | dict.fromkeys(self.pool.blocked_fds(), "blocked")
        if not self.is_away() and self.stage == ShutdownStage.RUNNING:
            wanted |= dict.fromkeys(self.consumer.fds(), "broker")
        self._poller.watch(wanted)

    def set_queues(self, queues: list[str]) -> None:
        """Consume from these queues instead of the current ones; no effect during a shutdown."""
        if self.stage > ShutdownStage.RUNNING:
            return
        try:
            self.consumer.set_queues(queues)
            self._claim_requested = True
        except BrokerError as exc:
            self._outage.begins(exc)

    # --- claiming

    def _exchange(self) -> None:
        """Settle what has ended and claim new messages, in one request to the broker."""
        if self.stage == ShutdownStage.RUNNING and self._gather.holds(
            len(self._settlements), self.pool, time.monotonic()
        ):
            return
        batch, self._settlements = self._settlements, []
        room = 0
        try:
            if batch or self.durable.waits():
                # claim as soon as the result store is available again
                self._claim_requested |= self.durable.is_away()
                batch = self.durable.ready(batch)
            room = self._wanted()
            if not batch and not room:
                self._arm()
                return
            if self.consumer.gather_s:  # the others look ahead by themselves
                self.consumer.look_ahead(self.pool.ahead())
            if room:
                refused, deliveries = self.consumer.turn(batch, room)
                self._claim_requested = len(deliveries) >= room
            else:
                self._arm()  # so that what the batch sends wakes this worker without another request
                refused, deliveries = self.consumer.settle(batch), []
            self.stale += len(refused)
            report(batch, refused)
            self._outage.works()
        except BrokerBusy as exc:
            log.warning("%s; trying again", exc)
            self._settlements = batch + self._settlements
            return
        except (BrokerDown, BrokerFull) as exc:
            self._settlements = batch + self._settlements
            self._outage.begins(exc)
            return
        except BrokerError as exc:
            if not batch:
                self._outage.begins(exc)
            self._settlements += settle_individually(self.consumer, batch, exc)
            return
        if deliveries:
            crashpoint("claimed")
            self._admit_all(deliveries)
        self._armed = self._armed and not room
        self._arm()

    def _arm(self) -> None:
        """Ask the broker for a wake-up at the next message, once the backlog that it had is claimed."""
        if self._armed or self._claim_requested or self.stage != ShutdownStage.RUNNING or not self._room():
            return
        self._armed = True
        try:
            self.consumer.arm()
            self._next_claim = time.monotonic() + self.consumer.idle_s()
        except BrokerError as exc:
            self._outage.begins(exc)

    def _wanted(self) -> int:
        """How many messages to claim now; 0 when no claim is due."""
        if self.stage != ShutdownStage.RUNNING:
            return 0
        room = self._room()
        if not room and (not self.pool.room() or self.durable.is_away()):
            self.consumer.disarm()
            self._armed = False
        return room if self._claim_requested or time.monotonic() >= self._next_claim else 0

    def _room(self) -> int:
        """How many messages the pool can take. 0 while the result store is unavailable, and while slots
        are busy and less than a quarter of the pool's capacity is free, so that claims stay large."""
        if self.durable.is_away():
            return 0
        room = self.pool.room() if self.pool.size else 1
        if room * 4 < self.pool.size * self.pool.pace.depth and not self.pool.is_idle():
            return 0
        return max(room, 0)

    def _admit_all(self, deliveries: Sequence[Delivery]) -> None:
        self.throughput.add(deliveries)
        try:
            self.admission.look_up(deliveries)
        except BrokerError as exc:
            # The revoked ids are unavailable, and a revoked task must not run: requeue all.
            self._settlements += [Settlement(d, Settle.REQUEUE) for d in deliveries]
            self._outage.begins(exc)
            return
        now, ticks, early = time.time(), time.monotonic(), list[Settlement]()
        jobs = [
            job
            for d in self.repeats.new(deliveries, self.held)
            if (job := self._admit(d, now, ticks, early)) is not None
        ]
        if early:
            jobs = self._acknowledge(early, jobs)
        if jobs:
            crashpoint("before_hand_over")
            self.pool.take(jobs)
            crashpoint("handed_over")

    def _acknowledge(self, early: list[Settlement], jobs: list[Job]) -> list[Job]:
        """Acknowledge early, before the runs start: a crash must not run them twice. Returns the jobs
        whose acknowledgement the broker accepted."""
        try:
            stopped = set(self.consumer.settle(early))
        except BrokerError as exc:
            self._outage.begins(exc)
            stopped = {s.delivery.number for s in early}
            self._settlements += [Settlement(s.delivery, Settle.REQUEUE) for s in early]
        for number in stopped:
            self.held.pop(number, None)
        return [job for job in jobs if job.number not in stopped]

    def _admit(self, delivery: Delivery, now: float, ticks: float, early: list[Settlement]) -> Job | None:
        """The job for the pool; None when admission settles the delivery without a run."""
        held, message, settlement = self.admission.judge(delivery, now, ticks)
        if settlement is not None and held is not None:
            early.append(settlement)
        elif settlement is not None:
            self._add(message, settlement)
        if held is None:
            return None
        number = delivery.number
        self.held[number] = held
        self.total[held.message.task] += 1
        held.received_at, held.came_at = now, ticks
        self.reporter.received(held)
        if hard := held.message.hard_s or held.task.time_limit:
            self._checks.limit(number, held, hard)
        soft = held.message.soft_s or held.task.soft_time_limit
        return Job(number, delivery.raw, delivery.redelivered, delivery.deliveries, soft, delivery.queue)

    # --- outcomes

    def _ended(self, outcome: Outcome) -> None:
        held = self.held.pop(outcome.number, None)
        if held is None:
            return  # its delivery was already returned
        crashpoint("run_ended")
        if held.hard_s:
            self._checks.remove(outcome.number)
        outcome = self._lost.judged(held, outcome)
        settlement = self.rules.settlement(held, outcome)
        if self.reporter.reports(outcome):
            settlement.report = partial(self.reporter.ended, held, outcome)
        if held.acked:
            self._record_late(held, settlement)
        else:
            self._add(held.message, settlement)

    def _add(self, message: TaskMessage | None, settlement: Settlement) -> None:
        """Queue a settlement; with the rpc result backend its result becomes a reply message."""
        if message is not None:
            self._address(message, settlement)
        self._settlements.append(settlement)

    def _address(self, message: TaskMessage, settlement: Settlement) -> None:
        if settlement.result is None or not message.reply_to or self._inline:
            return
        reply = self.results.reply(settlement.result, message.reply_to, message.correlation_id)
        if reply is not None:
            settlement.sends, settlement.result = (*settlement.sends, reply), None

    def _record_late(self, held: InFlight, settlement: Settlement) -> None:
        """Record the outcome of a task acknowledged early: its result and the messages that follow."""
        self._address(held.message, settlement)
        self.durable.record(settlement)

    # --- periodic checks

    def _run_checks(self) -> None:
        if self.autoscaler is not None and self.stage == ShutdownStage.RUNNING:
            self.autoscaler.look(self._waiting, time.monotonic())
        released = self.pool.tick()
        if released:
            self._release(released)
        now = time.monotonic()
        self._checks.look(now)
        if self._deadline is not None and now >= self._deadline:
            self.stop(ShutdownStage.COLD)

    def _waiting(self) -> int:
        """How many messages wait for a slot, in this worker or, if none does, in the broker's queues."""
        here = max(self.pool.busy() - self.pool.size, 0)
        if here or self.is_away():
            return here
        try:
            return sum(self.app.broker.administration.depth(queue).ready for queue in self.consumer.queues)
        except BrokerError:
            return 0

    def give_back_waiting(self) -> None:
        self._release(self.pool.withdraw())

    def _release(self, numbers: list[int]) -> None:
        """Requeue jobs that have not started, at the head of their queue."""
        for number in numbers:
            held = self.held.pop(number, None)
            self._checks.remove(number)
            if held is not None and not held.acked:
                self.total[held.message.task] -= 1
                self._settlements.append(Settlement(held.delivery, Settle.REQUEUE))

    # --- broker outages

    def _reconnect(self) -> None:
        try:
            self.consumer.reconnect()
        except BrokerError as exc:
            self._outage.begins(exc)
            return
        self._outage.ends()
        self._claim_requested = True

    # --- shutdown

    def _enter(self, stage: ShutdownStage) -> None:
        if stage >= ShutdownStage.WARM:
            if not self.is_away():
                try:
                    # Prefetched messages return to their queues now, and not when the worker ends.
                    self.consumer.set_queues(())
                    crashpoint("shutdown_begun")
                except BrokerError as exc:
                    self._outage.begins(exc)
            self.give_back_waiting()
            self.pool.close()
            crashpoint("shutdown_withdrawn")
            if self.drain_timeout_s is not None and stage == ShutdownStage.WARM:
                self._deadline = time.monotonic() + self.drain_timeout_s
        if stage == ShutdownStage.COLD:
            self.was_cold, self._deadline = True, None
            self._abandon()

    def _abandon(self) -> None:
        """Kill the running tasks and return their deliveries, flagged: a part of a run may be done."""
        for outcome in self.pool.collect():
            self._ended(outcome)
        crashpoint("abandoning")
        for number in {run.number for run in self.pool.running()} & self.held.keys():
            self.reporter.cancelled(self.held[number])
        self.pool.stop()
        unsettled = [held.delivery for held in self.held.values() if not held.acked]
        self._settlements += [Settlement(delivery, Settle.RETURN) for delivery in unsettled]
        self.returned += len(self.held)
        self.held.clear()
