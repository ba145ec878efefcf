"""Signals: functions that are called when something happens, with Celery's names, senders and arguments.

    from qcore.signals import task_failure

    @task_failure.connect
    def report(sender, task_id, exception, **kwargs): ...

In:  connect() in a project's code.  Out: calls of the receivers, in the process where the event happens.
A receiver that raises is logged, and stops nothing. docs/celery.md names the signals that are never sent.
"""

from __future__ import annotations

import inspect
import logging
import threading
import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

log = logging.getLogger("qcore.signals")

#: stands for every sender
_ANY = "any sender"


class Signal:
    """One kind of event. `receivers` is empty while nobody listens, so that senders can skip the work."""

    def __init__(self, name: str, arguments: str = "") -> None:
        """arguments: the names of the arguments of send(), with blanks between them."""
        self.name, self.providing_args = name, frozenset(arguments.split())
        #: (key, receiver or a weak reference to it, whether it is one)
        self.receivers: list[tuple[Hashable, Any, bool]] = []
        self._lock = threading.Lock()

    def connect(self, *args: Any, **options: Any) -> Any:
        """Call a receiver when the signal is sent; also a decorator, with and without options.

        receiver: a function that takes keyword arguments; sender: call it for this sender only; weak: do not
        keep it alive; dispatch_uid: a second one with the same name is ignored; retry: call it again, with
        growing pauses, until it does not raise. Raises ValueError for one that takes no `**kwargs`.
        """
        if args and callable(args[0]):
            return self._connect(*args, **options)
        return lambda receiver: self._connect(receiver, *args, **options)

    def _connect(
        self,
        receiver: Callable[..., Any],
        sender: Any = None,
        weak: bool = True,
        dispatch_uid: Hashable = None,
        retry: bool = False,
    ) -> Callable[..., Any]:
        if not _takes_keywords(receiver):
            raise ValueError("Signal receiver must accept keyword arguments.")
        key = (dispatch_uid or _identity(receiver), _ANY if sender is None else _identity(sender))
        kept: Any = receiver
        if retry:
            kept, weak = _retrying(receiver), False
        elif weak:
            kept = weakref.WeakMethod(receiver) if inspect.ismethod(receiver) else weakref.ref(receiver)
        with self._lock:
            self.receivers = [r for r in self.receivers if not r[2] or r[1]() is not None]
            if all(known != key for known, _, _ in self.receivers):
                self.receivers.append((key, kept, weak))
        return receiver

    def disconnect(
        self, receiver: Any = None, sender: Any = None, weak: Any = None, dispatch_uid: Hashable = None
    ) -> bool:
        """Stop calling a receiver. Returns whether it was connected."""
        key = (dispatch_uid or _identity(receiver), _ANY if sender is None else _identity(sender))
        with self._lock:
            left = [r for r in self.receivers if r[0] != key]
            found = len(left) < len(self.receivers)
            self.receivers = left
        return found

    def has_listeners(self, sender: Any = None) -> bool:
        """Whether send() with this sender would call anybody."""
        return bool(self._of(sender))

    def _of(self, sender: Any) -> list[Callable[..., Any]]:
        wanted = (_ANY, _identity(sender))
        found = [(kept() if weak else kept) for key, kept, weak in self.receivers if key[1] in wanted]  # type: ignore[index]
        return [receiver for receiver in found if receiver is not None]

    def send(self, sender: Any, **arguments: Any) -> list[tuple[Callable[..., Any], Any]]:
        """Call the receivers. Returns each of them with what it returned, or the exception that it raised."""
        found: list[tuple[Callable[..., Any], Any]] = []
        for receiver in self._of(sender) if self.receivers else ():
            try:
                response = receiver(signal=self, sender=sender, **arguments)
            except Exception as exc:
                log.exception("a receiver of the signal %s raised: %r", self.name, receiver)
                response = exc
            found.append((receiver, response))
        return found

    send_robust = send

    def __repr__(self) -> str:
        return f"<Signal {self.name}>"


def _identity(thing: Any) -> Hashable:
    """What makes two receivers or senders the same: texts by value, methods by object and function."""
    if isinstance(thing, str | bytes):
        return thing
    if inspect.ismethod(thing):
        return (id(thing.__self__), id(thing.__func__))
    return id(thing)


def _takes_keywords(receiver: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(receiver).parameters.values()
    except (TypeError, ValueError):  # no signature, as for some functions written in C
        return True
    return any(p.kind is p.VAR_KEYWORD for p in parameters)


def _retrying(receiver: Callable[..., Any]) -> Callable[..., Any]:
    from kombu.utils import functional

    retry_over_time: Any = functional.retry_over_time

    def again(*args: Any, **kwargs: Any) -> Any:
        def failed(exc: Exception, intervals: Any, retries: int) -> float:
            pause = float(next(intervals))
            log.error("a receiver raised %r; it is called again in %g s: %r", exc, pause, receiver)
            return pause

        return retry_over_time(receiver, Exception, args, kwargs, failed)

    return again


# --- in the process that publishes


class _Sent(Signal):
    """The older form of after_task_publish, which sends it when there are receivers."""

    def _connect(self, *args: Any, **options: Any) -> Callable[..., Any]:
        after_task_publish.connect(self._forward, weak=False)
        return super()._connect(*args, **options)

    def _forward(self, sender: Any, headers: Mapping[str, Any], body: Any, **_: Any) -> None:
        args, kwargs = (body["args"], body["kwargs"]) if isinstance(body, dict) else body[:2]
        head = body if isinstance(body, dict) else headers
        about = {"eta": head.get("eta"), "taskset": head.get("taskset", head.get("group"))}
        self.send(sender, task_id=head["id"], task=sender, args=args, kwargs=kwargs, **about)


before_task_publish = Signal(
    "before_task_publish", "body exchange routing_key declare headers properties retry_policy"
)
after_task_publish = Signal("after_task_publish", "body headers exchange routing_key")
task_sent = _Sent("task_sent", "task_id task args kwargs eta taskset")

# --- in the process that runs the task

task_prerun = Signal("task_prerun", "task_id task args kwargs")
task_postrun = Signal("task_postrun", "task_id task args kwargs retval state")
task_success = Signal("task_success", "result runtime")
task_failure = Signal("task_failure", "task_id exception args kwargs traceback einfo")
task_retry = Signal("task_retry", "request reason einfo")
task_internal_error = Signal("task_internal_error", "task_id args kwargs request exception traceback einfo")

# --- in the worker

task_received = Signal("task_received", "request")
task_revoked = Signal("task_revoked", "request terminated signum expired")
task_rejected = Signal("task_rejected", "message exc")
task_unknown = Signal("task_unknown", "message exc name id")
celeryd_init = Signal("celeryd_init", "instance conf options")
celeryd_after_setup = Signal("celeryd_after_setup", "instance conf")
import_modules = Signal("import_modules")
worker_init = Signal("worker_init")
worker_before_create_process = Signal("worker_before_create_process")
worker_process_init = Signal("worker_process_init")
worker_process_shutdown = Signal("worker_process_shutdown", "pid exitcode")
worker_ready = Signal("worker_ready")
worker_shutting_down = Signal("worker_shutting_down", "sig how exitcode")
worker_shutdown = Signal("worker_shutdown")
heartbeat_sent = Signal("heartbeat_sent")
setup_logging = Signal("setup_logging", "loglevel logfile format colorize")
after_setup_logger = Signal("after_setup_logger", "logger loglevel logfile format colorize")
after_setup_task_logger = Signal("after_setup_task_logger", "logger loglevel logfile format colorize")

beat_init = Signal("beat_init")
beat_embedded_init = Signal("beat_embedded_init")

#: of qctl: the values of the options that an app adds to all commands (app.user_options)
user_preload_options = Signal("user_preload_options", "app options")

#: of the eventlet pool, which is their sender
eventlet_pool_started = Signal("eventlet_pool_started")
eventlet_pool_preshutdown = Signal("eventlet_pool_preshutdown")
eventlet_pool_postshutdown = Signal("eventlet_pool_postshutdown")
eventlet_pool_apply = Signal("eventlet_pool_apply", "target args kwargs")


def announced(name: str, place: Any, priority: int | None) -> Callable[..., None]:
    """The function that sends before_task_publish; its receivers may change headers, body and properties.
    place: exchange and routing key come first."""

    def send(headers: dict[str, Any], body: Any, properties: dict[str, Any]) -> None:
        properties |= {"correlation_id": headers["id"] if "id" in headers else body["id"]}
        if priority is not None:
            properties["priority"] = priority
        before_task_publish.send(
            name,
            body=body,
            exchange=place[0],
            routing_key=place[1],
            headers=headers,
            properties=properties,
            declare=[],
            retry_policy=None,
        )

    return send


def published(messages: Sequence[Any]) -> None:
    """Send after_task_publish for messages (Message, Send) that the broker has, or gets in the next step.

    The last one comes first: what receivers of before_task_publish have begun, such as a span, ends in the
    opposite order.
    """
    from qcore.errors import Malformed
    from qcore.wire import task as task_wire
    from qcore.wire.content import ANYTHING

    for message in reversed(messages):
        try:
            found = task_wire.read(message.raw, ANYTHING)
            headers, body = found.headers, task_wire.call_of(found, ANYTHING)
        except Malformed as exc:  # signed, say, where this process does not trust its own certificate
            log.warning("after_task_publish is not sent, since the message cannot be read here: %s", exc)
            continue
        after_task_publish.send(
            found.task,
            headers=headers,
            body=body,
            exchange=message.exchange,
            routing_key=message.routing_key or message.queue,
        )
