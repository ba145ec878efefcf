"""What the worker says about tasks: log lines in Celery's words, and events.

Nothing is formatted for a log level that is off, and nothing is built for events that nobody wants.
"""

from __future__ import annotations

import logging
from typing import Any

from qcore.events.sender import EventSender
from qcore.wire.outcome import End, Outcome
from qcore.wire.task import TaskMessage
from qcore.worker.held import Held

log = logging.getLogger("qcore.worker")


class Say:
    """Reports of one worker."""

    def __init__(self, events: EventSender) -> None:
        self.events = events

    def received(self, held: Held) -> None:
        message = held.message
        if log.isEnabledFor(logging.INFO):
            log.info("Task %s[%s] received", message.shown_name, message.id)
        if self.events.tasks_on and held.task.send_events:
            self.events.note("task-received", message.id, _received, message)

    def started(self, held: Held, since: float, pid: int) -> None:
        if not held.said_started:
            held.said_started = True
            if self.events.tasks_on and held.task.send_events:
                self.events.note("task-started", held.message.id, dict, timestamp=since)

    def ended(self, held: Held, outcome: Outcome) -> None:
        end, name, task_id = outcome.end, held.message.shown_name, held.message.id
        events = self.events if self.events.tasks_on and held.task.send_events else None
        if events:
            self.started(held, outcome.started, outcome.pid)
        if end == End.SUCCESS:
            if log.isEnabledFor(logging.INFO):
                log.info("Task %s[%s] succeeded in %.6fs: %s", name, task_id, outcome.runtime_s, outcome.text)
            if events:
                events.note("task-succeeded", task_id, _succeeded, outcome)
        elif end == End.FAILURE:
            if outcome.expected:
                log.info("Task %s[%s] raised expected: %s", name, task_id, outcome.text)
            else:
                log.error(
                    "Task %s[%s] raised unexpected: %s\n%s", name, task_id, outcome.text, outcome.traceback
                )
            if events:
                events.note("task-failed", task_id, _failed, outcome.text, outcome.traceback)
        elif end == End.RETRY:
            log.info("Task %s[%s] retry: %s", name, task_id, outcome.text)
            if events:
                events.note("task-retried", task_id, _failed, outcome.text, outcome.traceback)
        elif end in (End.REJECTED, End.REQUEUED):
            log.info("Task %s[%s] rejected (%s)", name, task_id, outcome.text)
            if events:
                requeue = {"requeue": end == End.REQUEUED}
                events.note("task-rejected", task_id, dict, requeue)
        elif end == End.TERMINATED:
            log.warning("Task %s[%s] terminated", name, task_id)
            if events:
                events.note("task-revoked", task_id, _revoked, outcome.text, False)
        elif end in (End.LOST, End.TIME_LIMIT):
            words = (
                f"the process running it ended: {outcome.text}"
                if end == End.LOST
                else f"hard time limit of {held.hard_s}s passed; its process was killed"
            )
            log.error("Task %s[%s]: %s", name, task_id, words)
            if events:
                events.note("task-failed", task_id, _failed, words, "")

    def not_run(self, held: Held, why: str) -> None:
        """Revoked or expired."""
        log.info("Discarding %s task: %s[%s]", why, held.message.shown_name, held.message.id)
        self.events.note("task-revoked", held.message.id, _revoked, None, why == "expired")

    def refused(self, queue: str, reason: str, detail: str, task_id: str | None) -> None:
        log.error(
            "A message from queue '%s' was set aside (%s%s); see `qctl quarantine ls`",
            queue,
            f"task {task_id}: " if task_id else "",
            detail or reason,
        )
        if task_id:
            self.events.note("task-failed", task_id, _failed, f"{reason}: {detail}", "")


# --- the fields of each kind of event, in Celery's words


def _received(message: TaskMessage) -> dict[str, Any]:
    headers = message.headers
    return {
        "name": message.shown_name,
        "args": headers.get("argsrepr"),
        "kwargs": headers.get("kwargsrepr"),
        "root_id": message.root_id,
        "parent_id": message.parent_id,
        "retries": message.retries,
        "eta": headers.get("eta"),
        "expires": headers.get("expires"),
    }


def _succeeded(outcome: Outcome) -> dict[str, Any]:
    return {"result": outcome.text, "runtime": outcome.runtime_s}


def _failed(exception: str, traceback: str) -> dict[str, Any]:
    return {"exception": exception, "traceback": traceback}


def _revoked(signum: str | None, expired: bool) -> dict[str, Any]:
    return {"terminated": signum is not None, "signum": signum, "expired": expired}
