"""Settlement rules: from the outcome of a run to the settlement of its delivery. No I/O.

In:  an Outcome and the InFlight delivery.  Out: a Settlement.
The order of its steps: the result is stored, then the messages that follow are published, then the
delivery is acknowledged, then the event is published.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from qcore.brokers.contract.records import Delivery, Message, Settle, Settlement, StoredResult
from qcore.errors import InvalidTaskError, NotRegistered, TaskRevokedError, TimeLimitExceeded, WorkerLostError
from qcore.wire import result as result_wire
from qcore.wire.failure import exception_names
from qcore.wire.outcome import End, Outcome, Preconditions
from qcore.wire.result_form import JSON, ResultForm
from qcore.wire.task import TaskMessage
from qcore.worker.in_flight import InFlight
from qcore.worker.settling.failed_tasks import FailedTaskRecorder

#: A crashed worker loses all deliveries in flight, started or not, so its crash is weaker evidence against
#: a task than the crash of the process that ran it. That many more crashes of workers are allowed before
#: a message is dead-lettered for them alone.
EXTRA_WORKER_DEATHS = 10


#: (message, state, error) -> messages that follow, and the preconditions of the settlement
Consequences = Callable[[TaskMessage, str, BaseException], tuple[tuple[Message, ...], Preconditions | None]]


class SettlementRules:
    """The settlement rules of one worker, made from its settings."""

    def __init__(
        self,
        result_expires_s: float | None,
        max_deliveries: int,
        failures: FailedTaskRecorder | None = None,
        follow: Consequences | None = None,
        form: ResultForm = JSON,
    ) -> None:
        """failures: records tasks that failed for good; None where they are not kept. follow: what comes
        after a run that ended here and not in its own process. form: how results are written."""
        self.ttl_s, self.max_deliveries = result_expires_s, max_deliveries
        self._failures, self.follow, self._form = failures, follow, form

    def is_suspect(self, delivery: Delivery) -> bool:
        """Whether too many workers crashed while they held it, so that it must not be run again."""
        return delivery.deliveries > self.max_deliveries + EXTRA_WORKER_DEATHS

    # --- runs

    def settlement(self, held: InFlight, outcome: Outcome) -> Settlement:
        """The settlement of a delivery that was run."""
        end = outcome.end
        delivery, task = held.delivery, held.task
        if end == End.REQUEUED:
            return Settlement(delivery, Settle.RETURN)
        if end == End.MALFORMED:
            return self.refused(delivery, outcome.text, outcome.traceback, held.message.id, held.message)
        if end in (End.LOST, End.TIME_LIMIT, End.TERMINATED):
            return self._killed(held, outcome)
        if end == End.FAILURE and not task.acks_on_failure and held.late:
            return Settlement(delivery, Settle.RETURN)
        sends = tuple(
            Message(s.raw, s.queue, s.exchange, s.routing_key, s.priority, s.due_at) for s in outcome.sends
        )
        result = self._stored(held.message.id, outcome.meta)
        settlement = Settlement(delivery, Settle.ACK, result, sends, before=outcome.before, is_announced=True)
        if end == End.FAILURE and self._failures is not None:
            error = outcome.error or ("", outcome.text)
            settlement.failure = self._failures.of(held, error, outcome.traceback, outcome.runtime_s)
        return settlement

    def _killed(self, held: InFlight, outcome: Outcome) -> Settlement:
        delivery, task, ran_s = held.delivery, held.task, outcome.runtime_s
        if outcome.end == End.LOST:
            wants_rerun = task.reject_on_worker_lost is not False and held.late
            # Not every broker counts deliveries (RabbitMQ's classic queues do not), so the worker counts too.
            deaths = max(delivery.deliveries, held.deaths)
            if wants_rerun and deaths < self.max_deliveries:
                return Settlement(delivery, Settle.RETURN)
            error: Exception = WorkerLostError(f"the process running it ended: {outcome.text}")
            if wants_rerun:
                error = WorkerLostError(f"the process running it ended {deaths} times, last: {outcome.text}")
                return self._failed(held, error, ran_s, "crashed_too_often")
            return self._failed(held, error, ran_s)
        if outcome.end == End.TIME_LIMIT:
            if not task.acks_on_timeout and held.late:
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
        """Quarantine a malformed message or an unregistered task. With a `task_id`, also store a failure,
        because a caller may wait for the result."""
        error: Exception
        if reason == "unregistered":
            error = NotRegistered(message.task if message is not None else "?")
        else:
            error = InvalidTaskError(f"{reason}: {detail}" if detail else reason)
        result = None
        if task_id:
            data = result_wire.exception_data(error)
            meta = result_wire.encode(task_id, result_wire.FAILURE, data, now=time.time(), form=self._form)
            result = self._stored(task_id, meta)
        settlement = Settlement(delivery, Settle.QUARANTINE, result, reason=reason)
        if (
            message is not None and reason == "unregistered"
        ):  # else its body, which has what follows, is refused
            self._followed(settlement, message, result_wire.FAILURE, error)
        return settlement

    def crashed(self, held: InFlight) -> Settlement:
        """Dead-letter a message whose workers crashed too often."""
        error = WorkerLostError(f"its workers died {held.delivery.deliveries - 1} times while it ran")
        return self._failed(held, error, 0.0, "crashed_too_often")

    def not_run(self, held: InFlight, why: str) -> Settlement:
        """Acknowledge a revoked, expired or terminated task, and store the state REVOKED."""
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
        """The same settlement, with the messages and preconditions that follow from this task's end."""
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
            form=self._form,
        )
        return self._stored(message.id, meta)

    def _stored(self, task_id: str, meta: bytes | None) -> StoredResult | None:
        return StoredResult(task_id, meta, self.ttl_s) if meta is not None else None


#: how many tasks CrashCounter keeps
MOST = 10_000


class CrashCounter:
    """Counts crashes by task id; beyond MOST the task counted longest ago is dropped."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def count(self, task_id: str) -> int:
        """Count one more crash; returns the new count."""
        count = self._counts.pop(task_id, 0) + 1
        self._counts[task_id] = count
        if len(self._counts) > MOST:
            del self._counts[next(iter(self._counts))]
        return count
