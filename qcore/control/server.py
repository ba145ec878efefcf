"""The control server of a worker: receives control requests and sends replies, in a thread of its own.

In:  requests on the control exchange (wire/control.py).  Out: replies.  It replies within
milliseconds while every slot is busy; a malformed request is counted, logged and dropped.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from qcore.brokers.contract.subscription import Subscription
from qcore.brokers.registry import open_broker
from qcore.control.authorization import Authorizer
from qcore.control.commands.base import Command, WorkerView
from qcore.control.commands.registry import commands, find
from qcore.errors import BrokerError, Malformed, UnknownName
from qcore.settings.values import refuse_queue_kind
from qcore.wire import control as wire

if TYPE_CHECKING:
    from qcore.tasks.interface import ClientApp

log = logging.getLogger("qcore.control")

WAIT_S = 30.0  # for a request
MOST_BYTES = 8 << 20  # of a reply
MOST_LINES = 20  # log lines per minute about failed requests without a reply


class ControlServer:
    """A service of the worker: one subscription to control requests, one thread that replies."""

    def __init__(self, app: ClientApp, view: WorkerView, guard: Authorizer) -> None:
        refuse_queue_kind(app.conf, "control")
        self._app, self._view = app, view
        self._exchange = f"{app.conf.control_exchange}.pidbox"
        self._accept = wire.accepted(app.conf.accept_content)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._ear: Subscription | None = None
        self.malformed = 0
        self._minute_began, self._lines = float("-inf"), 0
        self.guard = guard

    def start(self) -> None:
        self._broker = open_broker(self._app.broker_url(), self._app.broker_options())
        self.guard.remember_at(self._broker, self._view.node)
        commands()  # import them before the first request arrives
        self._first_listen()
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if (ear := self._ear) is not None:
            ear.wake()
        if self._thread is not None:
            self._thread.join(timeout=3.0)
        self._broker.close()

    def _serve(self) -> None:
        wait_s = 0.1
        while not self._stop.is_set():
            try:
                if self._ear is None:
                    self._listen()
                    wait_s = 0.1
                assert self._ear is not None
                raw = self._ear.get(WAIT_S if self._ear.can_wake else 0.2)
                if raw is not None:
                    self._answer(raw)
            except BrokerError as exc:
                log.debug("control: %s", exc)
                self._drop()
                self._stop.wait(wait_s)
                wait_s = min(wait_s * 2, 2.0)
            except Exception:  # a bug in one request must not end the server
                log.exception("a control request could not be answered")
        self._drop()

    def _first_listen(self) -> None:
        """Raises BrokerError: then nothing starts."""
        self._listen()

    def _is_answered(self, request: wire.Request) -> bool:
        """Whether a request to this node is for it at all; else it is ignored."""
        return True

    def _listen(self) -> None:
        """Subscribe, then load the revoked ids: in this order no revocation is missed."""
        self._ear = self._broker.subscribe(self._exchange, "", self._view.node)
        self._view.load_revoked(self._broker)

    def _drop(self) -> None:
        ear, self._ear = self._ear, None
        if ear is not None:
            try:
                ear.close()
            except BrokerError:
                pass

    def _answer(self, raw: bytes) -> None:
        try:
            request = wire.decode_request(raw, self._accept)
            if request.has_expression() and not self._may_ask(request):
                return  # it selects workers by an expression, which is not evaluated without authorization
            if not request.is_for(self._view.node) or not self._is_answered(request):
                return
        except Malformed as exc:
            self.malformed += 1
            log.warning("a malformed control request was ignored: %s", exc)
            return
        if request.expires and request.expires < time.time() - 60:
            return  # its caller's time-out has passed
        clock = self._app.tick_clock(request.clock)
        refusal, value = self._run(request)
        if request.reply_key is None and not refusal and isinstance(value, dict) and "error" in value:
            self._warn_unheard(request, str(value["error"]))
        if request.reply_key is None or (request.method == "shutdown" and not refusal):
            return
        exchange, serializer = request.reply_exchange or wire.REPLY_EXCHANGE, self._app.conf.task_serializer
        reply = wire.Reply(self._view.node, value, request.ticket, clock, self._view.instance)
        try:
            message = wire.encode_reply(reply, exchange, request.reply_key, serializer)
        except (TypeError, ValueError, RecursionError) as exc:
            reply.value = {"error": f"the answer has no JSON form: {exc}"}
            message = wire.encode_reply(reply, exchange, request.reply_key, serializer)
        if len(message) > MOST_BYTES:
            words = f"the answer has {len(message) >> 20} MiB; at most {MOST_BYTES >> 20} can be sent"
            reply.value = {"error": words}
            message = wire.encode_reply(reply, exchange, request.reply_key, serializer)
        self._broker.reply(exchange, request.reply_key, message)

    def _may_ask(self, request: wire.Request) -> bool:
        try:
            scope = find(request.method).scope_for(request.arguments)
        except UnknownName:
            scope = "read"  # an unknown command is reported by _run()
        return self.guard.may_ask(request, scope)

    def _warn_unheard(self, request: wire.Request, reason: str) -> None:
        """Log why a request without a reply failed, at most MOST_LINES times a minute."""
        now = time.monotonic()
        if now - self._minute_began >= 60.0:
            self._minute_began, self._lines = now, 0
        self._lines += 1
        if self._lines <= MOST_LINES:
            log.warning(
                ("control request %.64r failed, and it has no reply address: %.300s"), request.method, reason
            )
        elif self._lines == MOST_LINES + 1:
            log.warning("more control requests failed; further failures are not logged for a minute")

    def _run(self, request: wire.Request) -> tuple[bool, Any]:
        """Whether the request was refused, and the value of the reply."""
        try:
            found = find(request.method)
        except UnknownName:
            return False, {"error": f"KeyError({request.method!r})"}  # Celery's text, which its tools parse
        refusal = self.guard.refusal(request, found.scope_for(request.arguments))
        if refusal is not None:
            return True, {"error": refusal}
        return False, self._carry_out(found, request)

    def _carry_out(self, found: Command, request: wire.Request) -> Any:
        self._view.request_clock = request.clock
        try:
            return found.handler(self._view, **found.checked(request.arguments))
        except ValueError as exc:
            return {"error": str(exc)}
        except Exception as exc:  # of any handler, also an app's: the server must not end
            log.warning("control command %s: %r", request.method, exc)
            return {"error": repr(exc)}
