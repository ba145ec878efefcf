"""The signals about tasks that the worker itself sends, with Celery's arguments.

In:  deliveries, and what became of those that ended outside of a run.  Out: calls of the receivers, in the
worker's process. Nothing is prepared for a signal without receivers.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from qcore.errors import Malformed, NotRegistered, TimeLimitExceeded, WorkerLostError
from qcore.signals import task_failure, task_received, task_rejected, task_revoked, task_unknown
from qcore.wire import task as task_wire
from qcore.wire.outcome import End, Outcome
from qcore.worker.in_flight import InFlight


class TaskRequest:
    """A delivery as receivers get it, with the attributes of Celery's worker request."""

    def __init__(self, held: InFlight, node: str) -> None:
        self._held, self.hostname = held, node
        message = held.message
        self.id, self.name, self.task = message.id, message.task, held.task
        self.task_id = self.correlation_id = message.id
        self.task_name = self.type = message.task
        self.eta, self.expires, self.reply_to = message.eta, message.expires, message.reply_to
        self.root_id, self.parent_id, self.group = message.root_id, message.parent_id, message.group
        self.request_dict = dict(message.headers)
        self.argsrepr, self.kwargsrepr = message.headers.get("argsrepr"), message.headers.get("kwargsrepr")
        self.delivery_info = {
            "routing_key": held.delivery.queue,
            "priority": message.priority,
            "redelivered": held.delivery.redelivered,
        }

    @cached_property
    def _body(self) -> tuple[Any, Any]:
        try:
            args, kwargs, _ = task_wire.read_body(self._held.message)
        except Malformed:
            return (), {}
        return args, kwargs

    @property
    def args(self) -> Any:
        return self._body[0]

    @property
    def kwargs(self) -> Any:
        return self._body[1]

    def __repr__(self) -> str:
        return f"<TaskRequest: {self.name}[{self.id}]>"


class TaskSignals:
    """sender: the Worker; it stands for Celery's consumer."""

    def __init__(self, node: str, sender: Any = None) -> None:
        self._node, self.sender = node, sender

    def received(self, held: InFlight) -> None:
        task_received.send(self.sender, request=TaskRequest(held, self._node))

    def revoked(self, held: InFlight, terminated: bool, signum: Any, expired: bool) -> None:
        if task_revoked.receivers:
            request = TaskRequest(held, self._node)
            about = {"terminated": terminated, "signum": signum, "expired": expired}
            task_revoked.send(held.task, request=request, **about)

    def refused(self, reason: str, detail: str, task_id: str | None, name: str = "") -> None:
        """A message that was set aside; reason `unregistered`: there is no task with its name."""
        if reason == "unregistered":
            exc: Exception = NotRegistered(name)
            task_unknown.send(self.sender, message=None, exc=exc, name=name, id=task_id)
        else:
            exc = Malformed(reason, detail, task_id)
            task_rejected.send(self.sender, message=None, exc=exc)

    def ended(self, held: InFlight, outcome: Outcome) -> None:
        """A run that did not end by itself: its process has ended, or was ended."""
        if outcome.end == End.TERMINATED:
            self.revoked(held, True, outcome.text, False)
        elif task_failure.receivers and outcome.end in (End.LOST, End.TIME_LIMIT):
            exc: Exception = WorkerLostError(outcome.text)
            if outcome.end == End.TIME_LIMIT:
                exc = TimeLimitExceeded(held.hard_s)
            request = TaskRequest(held, self._node)
            about = {"task_id": request.id, "args": request.args, "kwargs": request.kwargs}
            task_failure.send(held.task, exception=exc, **about, traceback=None, einfo=None)
