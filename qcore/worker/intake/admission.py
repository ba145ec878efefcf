"""Admission: decide whether a delivery is run.

In:  a delivery.  Out: an InFlight for the pool, or the settlement that ends the delivery without a run:
malformed, unregistered, revoked, expired, not yet due, over its rate limit, or crashed too often.
Before this: brokers/X claimed it.  After this: worker/loop.py hands it to the pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from qcore.brokers.contract.records import Delivery, Settle, Settlement
from qcore.errors import Malformed
from qcore.tasks.task import Task
from qcore.wire import task as task_wire
from qcore.wire.content import JSON_ONLY
from qcore.wire.task import TaskMessage
from qcore.worker.in_flight import InFlight
from qcore.worker.intake.rate_limits import TokenBucket
from qcore.worker.intake.revoked import Revoked
from qcore.worker.services.reporting import TaskReporter
from qcore.worker.settling.rules import SettlementRules

Verdict = tuple[InFlight | None, TaskMessage | None, Settlement | None]


class Admission:
    """The admission rules of one worker. Other threads may change the revoked ids and rate limits."""

    def __init__(
        self,
        tasks: Mapping[str, Task],
        reporter: TaskReporter,
        rules: SettlementRules,
        accept: frozenset[str] = JSON_ONLY,
    ) -> None:
        self._tasks, self._reporter, self._rules, self._accept = tasks, reporter, rules, accept
        self.revoked = Revoked()
        self.revoked_stamps: dict[str, set[str]] = {}
        self.buckets: dict[str, TokenBucket] = {}

    def look_up(self, deliveries: Sequence[Delivery]) -> None:
        """Query the broker which of these are revoked, if the worker does not hold all revoked ids; raises
        BrokerError."""
        if not self.revoked.asks:
            return
        ids = []
        for delivery in deliveries:
            try:
                ids.append(task_wire.read(delivery.raw, self._accept).id)
            except Malformed:
                continue  # judge() refuses it
        self.revoked.look_up(ids)

    def judge(self, delivery: Delivery, now: float, ticks: float) -> Verdict:
        """Returns an InFlight, or the settlement that ends the delivery; both when it is acknowledged
        early. Also the message, unless it is malformed. `now` is epoch seconds, `ticks` monotonic seconds."""
        try:
            message = task_wire.read(delivery.raw, self._accept)
        except Malformed as exc:
            return None, None, self._refuse(delivery, exc.reason, exc.detail, exc.task_id)
        task = self._tasks.get(message.task)
        if task is None:
            words = f"no task named '{message.task}'"
            refusal = self._refuse(delivery, "unregistered", words, message.id, message)
            return None, message, refusal
        held = InFlight(delivery, message, task, late=bool(task.acks_late))
        if message.id in self.revoked.ids or (self.revoked_stamps and self.has_revoked_stamp(message)):
            return None, message, self._drop(held, "revoked")
        if message.expires is not None and message.expires <= now:
            return None, message, self._drop(held, "expired")
        if message.eta is not None and message.eta > now:
            # The broker holds it until its eta; no delayed task waits in a worker's memory.
            return None, message, Settlement(delivery, Settle.DELAY, due_at=message.eta)
        if self._rules.is_suspect(delivery):
            settlement = self._rules.crashed(held)
            facts = delivery, "crashed_too_often", "its workers died", message.id
            settlement.report = partial(self._reporter.refused, *facts)
            return None, message, settlement
        bucket = self.buckets.get(task.name)
        wait = bucket.reserve(message.id, ticks) if bucket is not None else 0.0
        if wait > 0:
            return None, message, Settlement(delivery, Settle.DELAY, due_at=now + wait)
        held.acked = not held.late
        return held, message, Settlement(delivery, Settle.ACK) if held.acked else None

    def has_revoked_stamp(self, message: TaskMessage) -> bool:
        """Whether the message carries a revoked stamp."""
        stamps = message.headers.get("stamps") or {}
        for key, values in self.revoked_stamps.items():
            found = stamps.get(key)
            if not values.isdisjoint(map(str, found) if isinstance(found, list) else (str(found),)):
                return True
        return False

    def _refuse(
        self,
        delivery: Delivery,
        reason: str,
        detail: str,
        task_id: str | None,
        message: TaskMessage | None = None,
    ) -> Settlement:
        settlement = self._rules.refused(delivery, reason, detail, task_id, message)
        name = message.task if message is not None else ""
        settlement.report = partial(self._reporter.refused, delivery, reason, detail, task_id, name)
        return settlement

    def _drop(self, held: InFlight, why: str) -> Settlement:
        settlement = self._rules.not_run(held, why)
        settlement.report = partial(self._reporter.not_run, held, why)
        return settlement
