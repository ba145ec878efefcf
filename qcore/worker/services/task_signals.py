"""The signals about tasks that the worker itself sends, with Celery's arguments.

In:  deliveries, and what became of those that ended outside of a run.  Out: calls of the receivers, in the
worker's process. Nothing is prepared for a signal without receivers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from msgspec import to_builtins

from qcore.brokers.contract.records import Delivery
from qcore.errors import Malformed, NotRegistered, Reject, Retry, TimeLimitExceeded, WorkerLostError
from qcore.signals import task_failure, task_received, task_rejected, task_revoked, task_unknown
from qcore.wire import task as task_wire
from qcore.wire.envelope import Envelope, body_bytes, body_value, decode
from qcore.wire.outcome import End, Outcome
from qcore.worker.in_flight import InFlight


class ReceivedMessage:
    """A delivery as receivers get it, with the attributes of kombu's messages but ack() and reject(): the
    worker settles it. One that cannot be read has no headers and no properties."""

    channel: Any = None

    def __init__(self, delivery: Delivery, acknowledged: bool = True) -> None:
        self.acknowledged, self.errors = acknowledged, list[Malformed]()
        self._delivery, self.delivery_tag = delivery, delivery.number
        try:
            envelope = decode(delivery.raw)
            self.body: Any = body_bytes(envelope)
        except Malformed as exc:
            self.errors.append(exc)
            envelope = Envelope(delivery.raw.decode(errors="replace"))
            self.body = envelope.body
        self._envelope = envelope
        self.content_type, self.content_encoding = envelope.content_type, envelope.content_encoding
        self.headers: dict[str, Any] = dict(envelope.headers)
        self.properties: dict[str, Any] = to_builtins(envelope.properties)
        self.delivery_info = {
            "exchange": "",
            "routing_key": delivery.queue,
            **(envelope.properties.delivery_info or {}),
            "redelivered": delivery.redelivered,
        }

    @property
    def payload(self) -> Any:
        return self.decode()

    def decode(self) -> Any:
        """The body, deserialized. Raises Malformed."""
        if self.errors:
            raise self.errors[0]
        return body_value(self._envelope)

    def __repr__(self) -> str:
        return f"<ReceivedMessage: {self.delivery_tag} of {self._delivery.queue}>"


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
    def message(self) -> ReceivedMessage:
        return ReceivedMessage(self._held.delivery, self._held.acked)

    @property
    def body(self) -> Any:
        return self.message.body

    @property
    def content_type(self) -> str:
        return self.message.content_type

    @property
    def content_encoding(self) -> str:
        return self.message.content_encoding

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

    # --- what a subclass may override, for tasks with a `Request`; services/requests.py calls these. The
    # worker itself settles the delivery, whatever they do.

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """A process runs the task since time_accepted, in monotonic seconds; called up to 20 ms later."""

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """A time limit, in seconds, has passed; of a soft one it is called when the run has ended."""
        if not soft:
            self.acknowledge()

    def on_success(self, failed__retval__runtime: tuple[Any, Any, float], **kwargs: Any) -> None:
        """Never called, as in Celery, whose worker has its own."""

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """The run has not succeeded. exc_info: an ExceptionInfo; its exception may also be Retry, Ignore or
        Reject. return_ok: it ended by itself."""
        exc = exc_info.exception
        if isinstance(exc, Retry):
            self.on_retry(exc_info)
        elif isinstance(exc, Reject):
            self.reject(exc.requeue)
        elif not self._held.acked:
            self.acknowledge()

    def on_retry(self, exc_info: Any) -> None:
        """Called by on_failure() for a Retry."""
        if not self._held.acked:
            self.acknowledge()

    def acknowledge(self) -> None:
        """The delivery is acknowledged."""

    def reject(self, requeue: bool = False) -> None:
        """The delivery is rejected."""

    def __repr__(self) -> str:
        return f"<TaskRequest: {self.name}[{self.id}]>"


class TaskSignals:
    """consumer: returns the consumer, as steps get it, which is the sender as in Celery."""

    def __init__(self, node: str, consumer: Callable[[], Any] = lambda: None) -> None:
        self._node, self._consumer = node, consumer

    def received(self, held: InFlight) -> None:
        task_received.send(self._consumer(), request=TaskRequest(held, self._node))

    def revoked(self, held: InFlight, terminated: bool, signum: Any, expired: bool) -> None:
        if task_revoked.receivers:
            request = TaskRequest(held, self._node)
            about = {"terminated": terminated, "signum": signum, "expired": expired}
            task_revoked.send(held.task, request=request, **about)

    def refused(
        self, delivery: Delivery, reason: str, detail: str, task_id: str | None, name: str = ""
    ) -> None:
        """A message that was set aside; reason `unregistered`: there is no task with its name."""
        if reason == "unregistered" and task_unknown.receivers:
            about = {"message": ReceivedMessage(delivery), "exc": NotRegistered(name)}
            task_unknown.send(self._consumer(), **about, name=name, id=task_id)
        elif reason != "unregistered" and task_rejected.receivers:
            exc = Malformed(reason, detail, task_id)
            task_rejected.send(self._consumer(), message=ReceivedMessage(delivery), exc=exc)

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
