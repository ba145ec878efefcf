"""Counts of a worker's tasks, for `--metrics-port`.

In:  what the loop reports about deliveries and runs.  Out: counters and histograms, which another thread
reads. Only a worker with that option has a CountingReporter; without it no task costs anything here.
Labels are bounded: the first MOST_NAMES task names (or queues), then OTHERS.
After this: metrics_port.py.
"""

from __future__ import annotations

from collections import Counter

from qcore.base.histogram import Histogram
from qcore.base.times import when
from qcore.brokers.contract.records import Delivery
from qcore.wire import identity
from qcore.wire.outcome import End, Outcome
from qcore.wire.task import TaskMessage
from qcore.worker.in_flight import InFlight
from qcore.worker.services.reporting import TaskReporter

MOST_NAMES = 200
OTHERS = "other"
#: the state that a run's end counts as
STATES = {
    End.SUCCESS: "succeeded",
    End.FAILURE: "failed",
    End.RETRY: "retried",
    End.IGNORED: "ignored",
    End.REJECTED: "rejected",
    End.REQUEUED: "requeued",
    End.LOST: "failed",
    End.TIME_LIMIT: "failed",
    End.TERMINATED: "revoked",
    End.CANCELLED: "requeued",
}


class Names:
    """The label of a name: itself for the first `most` names, then OTHERS."""

    def __init__(self, most: int = MOST_NAMES) -> None:
        self._most = most
        self._known: dict[str, str] = {}

    def label(self, name: str) -> str:
        found = self._known.get(name)
        if found is None:
            if len(self._known) >= self._most:
                return OTHERS
            found = self._known[name] = name
        return found


class TaskCounts:
    """What became of a worker's tasks since its start. Only the loop's thread changes it."""

    def __init__(self) -> None:
        self.tasks, self.queues = Names(), Names()
        self.by_state: Counter[tuple[str, str]] = Counter()
        self.runs: Counter[str] = Counter()  # ended ones
        self.runtimes: dict[str, Histogram] = {}
        self.waits: dict[str, Histogram] = {}
        self.busy_s = 0.0  # of ended runs

    def ended(self, held: InFlight, outcome: Outcome) -> None:
        """Count one run."""
        task = self.tasks.label(held.message.task)
        if outcome.end == End.MALFORMED:
            return  # refused() counts it
        self.by_state[task, STATES[End(outcome.end)]] += 1
        self.runs[task] += 1
        self.busy_s += outcome.runtime_s
        runtimes = self.runtimes.get(task)
        if runtimes is None:
            runtimes = self.runtimes[task] = Histogram()
        runtimes.add(outcome.runtime_s)
        since = runnable_at(held.message)
        if since is None:
            return
        queue = self.queues.label(held.delivery.queue)
        waits = self.waits.get(queue)
        if waits is None:
            waits = self.waits[queue] = Histogram()
        waits.add(outcome.started - since)


def runnable_at(message: TaskMessage) -> float | None:
    """Since when a message could run: its eta, else the time in its id; None when neither is known."""
    eta = message.headers.get("eta")
    if eta is not None:
        try:
            return when(eta, 0.0)
        except (TypeError, ValueError):
            return None
    # The next attempt has the id, and so the time, of the first one.
    return identity.sent_at(message.id) if not message.retries else None


class CountingReporter(TaskReporter):
    """A TaskReporter that counts too."""

    counts: TaskCounts

    def reports(self, outcome: Outcome) -> bool:
        return True

    def ended(self, held: InFlight, outcome: Outcome) -> None:
        self.counts.ended(held, outcome)
        if super().reports(outcome):
            super().ended(held, outcome)

    def not_run(self, held: InFlight, why: str) -> None:
        self.counts.by_state[self.counts.tasks.label(held.message.task), why] += 1
        super().not_run(held, why)

    def refused(
        self, delivery: Delivery, reason: str, detail: str, task_id: str | None, name: str = ""
    ) -> None:
        # The names of such messages are not those of tasks here: anyone may send any number of them.
        self.counts.by_state[OTHERS, "malformed"] += 1
        super().refused(delivery, reason, detail, task_id, name)
