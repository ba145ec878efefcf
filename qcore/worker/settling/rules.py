"""From an outcome to what becomes of its delivery: pure rules.

In:  an Outcome and the Held delivery.  Out: a Settlement, and what to say about it.
The order of truth: the result is durable, then what follows is sent, then the delivery is
acknowledged, then the event is sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from qcore.brokers.contract.records import Delivery, Message, Settle, Settlement, StoredResult
from qcore.errors import InvalidTaskError, NotRegistered, TaskRevokedError, TimeLimitExceeded, WorkerLostError
from qcore.wire import result as result_wire
from qcore.wire.failure import exception_names
from qcore.wire.outcome import End, Outcome, Preconditions
from qcore.wire.task import TaskMessage
from qcore.worker.in_flight import InFlight
from qcore.worker.settling.failed_tasks import FailedTaskRecorder

#: A worker that dies takes all it holds with it, started or not, so its death says less of a task than
#: the death of the process that ran it: a message is held by that many more dead workers before it
#: is set aside for that alone.
EXTRA_WORKER_DEATHS = 10


#: (message, state, error) -> messages that follow, and what must be durable before
Consequences = Callable[[TaskMessage, str, BaseException], tuple[tuple[Message, ...], Preconditions | None]]


class SettlementRules:
    """How deliveries end; made once from the settings."""

    def __init__(
        self,
        result_expires_s: float | None,
        max_deliveries: int,
        failures: FailedTaskRecorder | None = None,
        follow: Consequences | None = None,
    ) -> None:
        """failures: records tasks that failed for good; None where they are not kept. follow: what comes
        after a run that ended here and not in its own process."""
        self.ttl_s, self.max_deliveries = result_expires_s, max_deliveries
        self._failures, self.follow = failures, follow

    def is_suspect(self, delivery: Delivery) -> bool:
        """Whether so many of its holders died that it must not be tried again."""
        return delivery.deliveries > self.max_deliveries + EXTRA_WORKER_DEATHS

    # --- runs

    def settlement(self, held: InFlight, outcome: Outcome) -> Settlement:
        """What becomes of a delivery that was run."""
        end = outcome.end
        delivery, task = held.delivery, held.task
        if end == End.REQUEUED:
            return Settlement(delivery, Settle.RETURN)
        if end == End.MALFORMED:
            return self.refused(delivery, outcome.text, outcome.traceback, held.message.id, held.message)
        if end in (End.LOST, End.TIME_LIMIT, End.TERMINATED):
            return self._killed(held, outcome)
        if end == End.FAILURE and not task.acks_on_failure_or_timeout and held.late:
            return Settlement(delivery, Settle.RETURN)
        sends = tuple(
            Message(s.raw, s.queue, s.exchange, s.routing_key, s.priority, s.due_at) for s in outcome.sends
        )
        result = self._stored(held.message.id, outcome.meta)
        settlement = Settlement(delivery, Settle.ACK, result, sends, before=outcome.before)
        if end == End.FAILURE and self._failures is not None:
            error = outcome.error or ("", outcome.text)
            settlement.failure = self._failures.of(held, error, outcome.traceback, outcome.runtime_s)
        return settlement

    def _killed(self, held: InFlight, outcome: Outcome) -> Settlement:
        delivery, task, ran_s = held.delivery, held.task, outcome.runtime_s
        if outcome.end == End.LOST:
            wants_rerun = task.reject_on_worker_lost is not False and held.late
            # Not every broker counts (RabbitMQ's classic queues do not), so we count what we see.
            deaths = max(delivery.deliveries, held.deaths)
            if wants_rerun and deaths < self.max_deliveries:
                return Settlement(delivery, Settle.RETURN)
            error: Exception = WorkerLostError(f"the process running it ended: {outcome.text}")
            if wants_rerun:
                error = WorkerLostError(f"the process running it ended {deaths} times, last: {outcome.text}")
                return self._failed(held, error, ran_s, "crashed_too_often")
            return self._failed(held, error, ran_s)
        if outcome.end == End.TIME_LIMIT:
            if not task.acks_on_failure_or_timeout and held.late:
                return Settlement(delivery, Settle.RETURN)
            return self._failed(held, TimeLimitExceeded(held.hard_s), ran_s)
        return self.not_run(held, "terminated")

    # --- refusals, before any run

    def refused(
        self,
        delivery: Delivery,
        reason: str,
        detail: str,
        task_id: str | None,
        message: TaskMessage | None = None,
    ) -> Settlement:
        """Bytes that are no task for us: kept aside, and a failure stored when somebody may wait."""
        error: Exception
        if reason == "unregistered":
            error = NotRegistered(message.task if message is not None else "?")
        else:
            error = InvalidTaskError(f"{reason}: {detail}" if detail else reason)
        result = None
        if task_id:
            data = result_wire.exception_data(error)
            meta = result_wire.encode(task_id, result_wire.FAILURE, data, now=time.time())
            result = self._stored(task_id, meta)
        settlement = Settlement(delivery, Settle.QUARANTINE, result, reason=reason)
        if message is not None:
            self._followed(settlement, message, result_wire.FAILURE, error)
        return settlement

    def crashed(self, held: InFlight) -> Settlement:
        """A message whose earlier runs took their workers with them too often."""
        error = WorkerLostError(f"its workers died {held.delivery.deliveries - 1} times while it ran")
        return self._failed(held, error, 0.0, "crashed_too_often")

    def not_run(self, held: InFlight, why: str) -> Settlement:
        """Revoked, expired or terminated."""
        settlement = Settlement(held.delivery, Settle.ACK, self.revoked(held.message, why))
        return self._followed(settlement, held.message, result_wire.REVOKED, TaskRevokedError(why))

    def _failed(
        self, held: InFlight, error: BaseException, runtime_s: float, quarantine: str = ""
    ) -> Settlement:
        action = Settle.QUARANTINE if quarantine else Settle.ACK
        result = self.failure(held.message, error)
        settlement = Settlement(held.delivery, action, result, reason=quarantine)
        if self._failures is not None:
            settlement.failure = self._failures.of(held, exception_names(error), "", runtime_s)
        return self._followed(settlement, held.message, result_wire.FAILURE, error)

    def _followed(
        self, settlement: Settlement, message: TaskMessage, state: str, error: BaseException
    ) -> Settlement:
        """With what follows from the end of this message."""
        if self.follow is not None:
            settlement.sends, settlement.before = self.follow(message, state, error)
        return settlement

    # --- results

    def failure(self, message: TaskMessage, error: BaseException) -> StoredResult | None:
        return self._meta(message, result_wire.FAILURE, error)

    def revoked(self, message: TaskMessage, why: str) -> StoredResult | None:
        return self._meta(message, result_wire.REVOKED, TaskRevokedError(why))

    def _meta(self, message: TaskMessage, state: str, error: BaseException) -> StoredResult | None:
        if message.ignore_result:
            return None
        meta = result_wire.encode(
            message.id,
            state,
            result_wire.exception_data(error),
            now=time.time(),
            group_id=message.group,
            parent_id=message.parent_id,
        )
        return self._stored(message.id, meta)

    def _stored(self, task_id: str, meta: bytes | None) -> StoredResult | None:
        return StoredResult(task_id, meta, self.ttl_s) if meta is not None else None


#: tasks that are remembered
MOST = 10_000


class CrashCounter:
    """Counts by task id; the longest ago is forgotten first."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def count(self, task_id: str) -> int:
        """One more; how many so far."""
        count = self._counts.pop(task_id, 0) + 1
        self._counts[task_id] = count
        if len(self._counts) > MOST:
            del self._counts[next(iter(self._counts))]
        return count
