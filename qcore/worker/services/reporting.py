"""Reports about tasks: log lines in Celery's format, and events.

In:  deliveries and outcomes.  Out: log records, and events for the EventSender. No text is built for a log
level or for events that are off.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from qcore.brokers.contract.records import Delivery, Settlement
from qcore.events.sender import EventSender
from qcore.signals import after_task_publish, published, task_received
from qcore.wire.outcome import End, Outcome
from qcore.wire.reprs import short_repr
from qcore.wire.task import TaskMessage
from qcore.worker.in_flight import InFlight
from qcore.worker.process.log_setup import Lines
from qcore.worker.services.task_signals import TaskSignals

log = logging.getLogger("qcore.worker")


def report(settled: Sequence[Settlement], refused: Sequence[int]) -> None:
    """Report the settlements that the broker accepted. `refused` are the delivery numbers of the others:
    their leases were lost, and the outcome of another run counts."""
    silent = 0
    for settlement in settled:
        announces = settlement.sends and not settlement.is_announced and after_task_publish.receivers
        if announces and settlement.delivery.number not in refused:
            published(settlement.sends)
        if settlement.report is None:
            continue
        if refused and settlement.delivery.number in refused:
            silent += 1
        else:
            settlement.report()
    if silent:
        log.warning(
            "%d outcome(s) were refused by the broker: their leases had expired, so other workers run "
            "these tasks again",
            silent,
        )


class TaskReporter:
    """The log lines and events of one worker's tasks."""

    watches = False  # the worker looks often which runs have started

    def __init__(self, events: EventSender, signals: TaskSignals) -> None:
        self.events, self._signals = events, signals

    def received(self, held: InFlight) -> None:
        if task_received.receivers:
            self._signals.received(held)
        if log.isEnabledFor(logging.INFO):
            log.info("Task %s[%s] received", held.message.shown_name, held.message.id, extra=_about(held))

    def waits(self, held: InFlight) -> None:
        """Publish task-received, once. For a short task that succeeds, ended() publishes it instead."""
        if not held.said_received:
            held.said_received = True
            if self.events.tasks_on and held.task.send_events:
                self.events.note(_received, held.message, held.received_at)

    def started(self, held: InFlight, since: float, pid: int) -> None:
        if not held.said_started:
            held.said_started = True
            self.waits(held)
            if self.events.tasks_on and held.task.send_events:
                self.events.note(_event, "task-started", held.message.id, since, {})

    def reports(self, outcome: Outcome) -> bool:
        """Whether ended() has anything to report."""
        return outcome.end != End.SUCCESS or self.events.tasks_on or log.isEnabledFor(logging.INFO)

    def ended(self, held: InFlight, outcome: Outcome) -> None:
        """Report the outcome of a run; to be called after the broker accepted its settlement."""
        if outcome.end == End.MALFORMED:
            about = outcome.text, outcome.traceback, held.message.id, held.message.task
            self.refused(held.delivery, *about)
            return
        end, name, task_id = outcome.end, held.message.shown_name, held.message.id
        events = self.events if self.events.tasks_on and held.task.send_events else None
        if events and end == End.SUCCESS and not held.said_received:
            events.note(_whole_run, held.message, held.received_at, outcome, makes=3)
            events = None
        elif events:
            self.started(held, outcome.started, outcome.pid)

        def publish(kind: str, **fields: Any) -> None:
            if events:
                # The end of the run, which is earlier than now after an outage of the result store.
                events.note(_event, kind, task_id, outcome.started + outcome.runtime_s, fields)

        if end == End.SUCCESS:
            if log.isEnabledFor(logging.INFO):
                log.info(
                    "Task %s[%s] succeeded in %.6fs: %s",
                    *(name, task_id, outcome.runtime_s, outcome.text),
                    extra={**_about(held), "runtime_s": outcome.runtime_s},
                )
            publish("task-succeeded", result=outcome.text, runtime=outcome.runtime_s)
        elif end == End.FAILURE:
            if outcome.expected:
                log.info("Task %s[%s] raised expected: %s", name, task_id, outcome.text, extra=_about(held))
            else:
                log.error(
                    "Task %s[%s] raised unexpected: %s\n%s",
                    name,
                    task_id,
                    outcome.text,
                    Lines(outcome.traceback),
                    extra=_about(held),
                )
            publish("task-failed", exception=outcome.text, traceback=outcome.traceback)
        elif end == End.RETRY:
            log.info("Task %s[%s] retry: %s", name, task_id, outcome.text, extra=_about(held))
            publish("task-retried", exception=outcome.text, traceback=outcome.traceback)
        elif end in (End.REJECTED, End.REQUEUED):
            log.info("Task %s[%s] rejected (%s)", name, task_id, outcome.text, extra=_about(held))
            publish("task-rejected", requeue=end == End.REQUEUED)
        elif end == End.TERMINATED:
            log.warning("Task %s[%s] terminated", name, task_id, extra=_about(held))
            publish("task-revoked", terminated=True, signum=outcome.text, expired=False)
            self._signals.ended(held, outcome)
        elif end in (End.LOST, End.TIME_LIMIT):
            words = (
                f"the process running it ended: {outcome.text}"
                if end == End.LOST
                else f"hard time limit of {held.hard_s}s passed; its process was killed"
            )
            log.error("Task %s[%s]: %s", name, task_id, words, extra=_about(held))
            publish("task-failed", exception=words, traceback="")
            self._signals.ended(held, outcome)

    def cancelled(self, held: InFlight) -> None:
        """Report a run that is ended since the connection to the broker was lost, or by a cold shutdown."""
        self.started(held, held.received_at, 0)
        log.info("Task %s[%s] cancelled", held.message.shown_name, held.message.id, extra=_about(held))
        if self.events.tasks_on and held.task.send_events:
            self.events.note(_event, "task-cancelled", held.message.id, time.time(), {})

    def was_done(self, message: TaskMessage, value: Any) -> None:
        """Publish task-succeeded for a redelivered task whose result is stored already."""
        fields = {"result": short_repr(value), "runtime": None}
        self.events.note(_event, "task-succeeded", message.id, time.time(), fields)

    def not_run(self, held: InFlight, why: str) -> None:
        """Report a task that is not run; `why` is `revoked` or `expired`."""
        names = held.message.shown_name, held.message.id
        log.info("Discarding %s task: %s[%s]", why, *names, extra=_about(held))
        fields = {"terminated": False, "signum": None, "expired": why == "expired"}
        held.received_at = held.received_at or time.time()
        self.waits(held)  # task-received carries the task's name, task-revoked does not
        self.events.note(_event, "task-revoked", held.message.id, time.time(), fields)
        self._signals.revoked(held, False, None, why == "expired")

    def refused(
        self, delivery: Delivery, reason: str, detail: str, task_id: str | None, name: str = ""
    ) -> None:
        """name: that of the task, as far as it is known."""
        self._signals.refused(delivery, reason, detail, task_id, name)
        log.error(
            "A message from queue '%s' was quarantined (%s%s); see `qctl quarantine ls`",
            delivery.queue,
            f"task {task_id}: " if task_id else "",
            detail or reason,
        )
        if task_id:
            fields = {"exception": f"{reason}: {detail}", "traceback": ""}
            self.events.note(_event, "task-failed", task_id, time.time(), fields)


def _about(held: InFlight) -> dict[str, Any]:
    """The fields of a record about a task, which a JSON log shows."""
    return {"task_name": held.message.shown_name, "task_id": held.message.id, "queue": held.delivery.queue}


# --- events, in Celery's format


def _event(kind: str, task_id: str, timestamp: float, fields: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": kind, "uuid": task_id, "timestamp": timestamp, **fields}]


def _received(message: TaskMessage, at: float) -> list[dict[str, Any]]:
    headers = message.headers
    fields = {
        "name": message.shown_name,
        "args": headers.get("argsrepr"),
        "kwargs": headers.get("kwargsrepr"),
        "root_id": message.root_id,
        "parent_id": message.parent_id,
        "retries": message.retries,
        "eta": headers.get("eta"),
        "expires": headers.get("expires"),
    }
    return _event("task-received", message.id, at, fields)


def _whole_run(message: TaskMessage, received_at: float, outcome: Outcome) -> list[dict[str, Any]]:
    """All three events of a short task that succeeded."""
    started, runtime = outcome.started, outcome.runtime_s
    ended = {"result": outcome.text, "runtime": runtime}
    return [
        *_received(message, received_at),
        *_event("task-started", message.id, started, {}),
        *_event("task-succeeded", message.id, started + runtime, ended),
    ]
