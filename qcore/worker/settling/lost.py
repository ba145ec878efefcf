"""Runs whose process ended: how often that happened to a task, and whether it is retried.

In:  the outcome LOST of a run.  Out: the same, or that of a retry, whose next attempt is a message.
Before this: worker/loop.py.  After this: rules.py.
"""

from __future__ import annotations

from typing import Any

import msgspec

from qcore.errors import Retry, WorkerLostError
from qcore.execution.run import Run, RunContext
from qcore.tasks.request import pop, push
from qcore.wire.outcome import End, Job, Outcome
from qcore.worker.in_flight import InFlight

#: how many tasks are kept
MOST = 10_000


class LostRuns:
    """Those of one worker. Beyond MOST tasks the one counted longest ago is dropped."""

    def __init__(self, app: Any, node: str) -> None:
        self._tools = RunContext(app, node, frozenset(app.conf.accept_content), None)
        self._counts: dict[str, int] = {}

    def count(self, task_id: str) -> int:
        """Count one more crash; returns the new count."""
        count = self._counts.pop(task_id, 0) + 1
        self._counts[task_id] = count
        if len(self._counts) > MOST:
            del self._counts[next(iter(self._counts))]
        return count

    def judged(self, held: InFlight, outcome: Outcome) -> Outcome:
        """The outcome that counts: that of a retry for a task with retry_on_worker_lost, while it has
        retries left; and for a task that was cancelled, whose message is delivered again."""
        if outcome.end == End.CANCELLED:
            return self._cancelled(held, outcome)
        if outcome.end != End.LOST:
            return outcome
        held.deaths = self.count(held.message.id)
        task, retries = held.task, held.message.retries
        if not task.retry_on_worker_lost or (task.max_retries is not None and retries >= task.max_retries):
            return outcome
        error = WorkerLostError(f"the process running it ended: {outcome.text}")
        wait_s = task.default_retry_delay
        sig = {"args": None, "kwargs": None, "retries": retries + 1, "eta": None, "countdown": wait_s}
        return self._retried(held, outcome, Retry(exc=error, when=wait_s, sig=sig)) or outcome

    def _cancelled(self, held: InFlight, outcome: Outcome) -> Outcome:
        retried = self._retried(held, outcome, Retry("the connection to the broker was lost"))
        # A store apart may have the result of the next run already.
        meta = retried.meta if retried is not None and self._tools.app.results.in_broker else None
        return msgspec.structs.replace(outcome, meta=meta)

    def _retried(self, held: InFlight, outcome: Outcome, error: Retry) -> Outcome | None:
        """The outcome of the run as if the task had raised `error`, for which on_retry() and task_retry are
        called; None if the message cannot be read."""
        delivery = held.delivery
        run = Run(Job(outcome.number, delivery.raw, delivery.redelivered, queue=delivery.queue), self._tools)
        if run.request is None:
            return None
        push(held.task, run.request)
        try:
            retried = run.retried_for(error)
        finally:
            pop()
        return msgspec.structs.replace(retried, started=outcome.started, pid=outcome.pid)
