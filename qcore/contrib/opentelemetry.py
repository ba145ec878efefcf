"""Spans of OpenTelemetry for calls and runs: the setting `tracing`.

In:  calls that are published and tasks that run, in this process.  Out: spans of the global tracer provider.
A message carries its context in its headers, in the form of the global propagator (W3C: `traceparent`), as
with OpenTelemetry's instrumentation of Celery, so that both kinds of clients and workers share their traces.

install() puts its functions around App.send_task(), Flow.publish() and Run.call() once; a process without
tracing does not import this file, and nothing there asks whether it is on. Only the API is needed: the
project, or `opentelemetry-instrument`, sets up the SDK and an exporter.
"""

from __future__ import annotations

import functools
import logging
import mmap
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from qcore.app.app import App
from qcore.errors import ConfigError
from qcore.execution.run import Run
from qcore.signals import (
    before_task_publish,
    task_prerun,
    worker_process_shutdown,
    worker_shutdown,
)
from qcore.tasks.signature import Flow
from qcore.version import __version__
from qcore.wire import result as result_wire
from qcore.wire.outcome import Outcome

try:
    from opentelemetry import propagate, trace
    from opentelemetry.context import Context, attach, detach
    from opentelemetry.propagators.textmap import Getter
    from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
except ImportError:
    raise ConfigError(
        "the setting tracing needs the package opentelemetry-api: pip install 'qctl[otel]'"
    ) from None

log = logging.getLogger("qcore.worker")

SYSTEM = "celery"
#: the header of a retry with the context of the run that it repeats
RETRIED = "traceparent_retried"
INSTRUMENTATION = "opentelemetry.instrumentation.celery"
FLUSH_MS = 5_000
#: the end of the description of a sampler that drops what belongs to a trace that is not sampled
_NOT_SAMPLED = (
    "remoteParentNotSampled:AlwaysOffSampler,"
    "localParentSampled:AlwaysOnSampler,localParentNotSampled:AlwaysOffSampler}"
)
_KINDS = {True: SpanKind.INTERNAL, False: SpanKind.CONSUMER}

#: the spans of the send_task() that runs, which end when it returns; None outside of one
_open: ContextVar[list[Span] | None] = ContextVar("open", default=None)
#: the run whose span is current
_run: ContextVar[tuple[Run, Span] | None] = ContextVar("run", default=None)


class _Headers(Getter[Mapping[str, Any]]):
    """Reads a context from headers; what is no text there is no part of one."""

    def get(self, carrier: Mapping[str, Any], key: str) -> list[str] | None:
        value = carrier.get(key)
        return [value] if isinstance(value, str) else None

    def keys(self, carrier: Mapping[str, Any]) -> list[str]:
        return list(carrier)


_HEADERS = _Headers()
#: the sampler that _is_dropped() saw last, and whether it follows a parent that is not sampled
_sampler: list[Any] = [None, False]
_tracer = trace.get_tracer("qcore", __version__)


class _Installed:
    """What install() has put in place, and what was there before."""

    def __init__(self) -> None:
        self.send_task, self.publish = App.send_task, Flow.publish
        self.call, self.call_async = Run.call, Run.call_async
        #: shared with forked children, so that one of them logs what all of them see
        self.said = mmap.mmap(-1, 1)
        self.seen: tuple[Any, int, bool] = None, 0, False

    def is_doubled(self) -> bool:
        """Whether CeleryInstrumentor is active in this process: it makes the spans then, this file none."""
        receivers = task_prerun.receivers  # a new list at each change
        known, length, found = self.seen
        if known is receivers and length == len(receivers):
            return found
        found = any(_module(kept() if weak else kept) == INSTRUMENTATION for _, kept, weak in receivers)
        self.seen = receivers, len(receivers), found
        if found and self.said[:1] == b"\0":
            self.said[:1] = b"\1"
            log.warning(
                "%s is active too and makes the spans; the setting tracing adds none", INSTRUMENTATION
            )
        return found


_lock = threading.Lock()
_installed: list[_Installed] = []


def install() -> None:
    """Trace all calls and runs of this process, and of those that it forks. A second call has no effect."""
    with _lock:
        if _installed:
            return
        _installed.append(_Installed())
    # Every way to call or run a task passes through these; a check in each of them would cost those who do
    # not trace.
    App.send_task = _send_task  # type: ignore[method-assign]
    Flow.publish = _publish  # type: ignore[method-assign]
    Run.call = _call  # type: ignore[method-assign]
    Run.call_async = _call_async  # type: ignore[method-assign, assignment]
    before_task_publish.connect(_creates)
    worker_process_shutdown.connect(_flush)
    worker_shutdown.connect(_flush)


def uninstall() -> None:
    """Undo install(), for tests."""
    with _lock:
        if not _installed:
            return
        before = _installed.pop()
    App.send_task, Flow.publish = before.send_task, before.publish  # type: ignore[method-assign]
    Run.call, Run.call_async = before.call, before.call_async  # type: ignore[method-assign]
    before_task_publish.disconnect(_creates)
    worker_process_shutdown.disconnect(_flush)
    worker_shutdown.disconnect(_flush)


def _module(receiver: Any) -> str:
    return str(getattr(receiver, "__module__", ""))


def _flush(**about: Any) -> None:
    """A child of a worker ends without the hooks of the interpreter's end, at which the SDK exports."""
    flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if flush is not None:
        flush(FLUSH_MS)


def _is_dropped(parent: SpanContext) -> bool:
    """Whether a span inside `parent` is certainly not recorded: the parent is not, and the sampler of the SDK
    follows it. Then none is begun, and the context of the parent is passed on, which costs less than half."""
    if parent.trace_flags.sampled or not parent.is_valid:
        return False
    sampler = getattr(trace.get_tracer_provider(), "sampler", None)
    if sampler is not _sampler[0]:
        words = sampler.get_description() if sampler is not None else ""
        follows = words.startswith("ParentBased{") and words.endswith(_NOT_SAMPLED)
        _sampler[:] = sampler, follows
    return bool(_sampler[1])


# --- the side of the caller


@functools.wraps(App.send_task)
def _send_task(self: App, *args: Any, **options: Any) -> Any:
    """App.send_task(): the span of its message covers the publishing too."""
    spans: list[Span] = []
    token = _open.set(spans)
    try:
        return _installed[0].send_task(self, *args, **options)
    except BaseException as exc:
        for span in spans:
            _fail(span, exc)
        raise
    finally:
        _open.reset(token)
        for span in spans:
            span.end()


@functools.wraps(Flow.publish)
def _publish(self: Flow, *args: Any, **options: Any) -> Any:
    """Flow.publish(): one span around those of its messages, so that a workflow is one trace."""
    if _installed[0].is_doubled():
        return _installed[0].publish(self, *args, **options)
    about = {"messaging.system": SYSTEM, "celery.task_name": self.task, **_operation("send")}
    with _tracer.start_as_current_span(f"send {self.task}", kind=SpanKind.CLIENT, attributes=about):
        return _installed[0].publish(self, *args, **options)


def _creates(sender: Any, headers: Any, body: Any, routing_key: str, **about: Any) -> None:
    """Receiver of before_task_publish: begin the span of a message and put its context into the headers.

    A message that is not published by send_task() itself (of a workflow, a retry, the next step of a chain, a
    chord's body) is published later, with others or by another process: its span is that of its creation.
    """
    if not _installed or _installed[0].is_doubled():
        return
    head = headers if "id" in headers else body  # protocol 1 has them in the body
    spans, current = _open.get(), trace.get_current_span()
    # A chord's body is published by a worker's main process, in no run: the context of the member that
    # completed it is in its headers.
    context = None if current.get_span_context().is_valid else _context_in(headers)
    if _is_dropped(trace.get_current_span(context).get_span_context()):
        headers.pop(RETRIED, None)
        if context is None:
            propagate.inject(headers)
        return
    operation = "create" if spans is None else "send"
    span = _tracer.start_span(
        f"{operation} {sender}",
        context,
        SpanKind.PRODUCER,
        {
            "messaging.system": SYSTEM,
            "messaging.destination.name": routing_key,
            "messaging.message.id": head["id"],
            "messaging.message.conversation_id": head.get("root_id") or head["id"],
            "celery.task_name": str(sender),
            "celery.retries": head.get("retries") or 0,
            **_operation(operation),
        },
    )
    if (running := _run.get()) is not None and head["id"] == running[0].message.id:
        propagate.inject(carrier := dict[str, str]())
        if "traceparent" in carrier:
            headers[RETRIED] = carrier["traceparent"]
    else:
        headers.pop(RETRIED, None)  # a copy of the headers of another call
    propagate.inject(headers, trace.set_span_in_context(span, context))
    if spans is None:
        span.end()
    else:
        spans.append(span)


def _operation(name: str) -> dict[str, str]:
    return {"messaging.operation.name": name, "messaging.operation.type": name}


def _context_in(headers: Mapping[str, Any]) -> Context:
    return propagate.extract(headers, getter=_HEADERS)


# --- the side of the worker


@functools.wraps(Run.call)
def _call(self: Run) -> Outcome:
    before = _installed[0]
    if self.request is None or before.is_doubled():
        return before.call(self)
    with _span_of(self):
        return before.call(self)


@functools.wraps(Run.call_async)
async def _call_async(self: Run, *args: Any) -> Outcome:
    before = _installed[0]
    if self.request is None or before.is_doubled():
        return await before.call_async(self, *args)
    with _span_of(self):
        return await before.call_async(self, *args)


@contextmanager
def _span_of(run: Run) -> Iterator[None]:
    """The span of a run, which is current in the body of the task and in what follows it."""
    message = run.message
    headers = message.headers
    context = _context_in(headers)  # the baggage of the caller too
    if _is_dropped(trace.get_current_span(context).get_span_context()):
        attached = attach(context)
        try:
            if run.body.embed.get("chord"):
                _mark_chord(run.body.embed)
            yield
        finally:
            detach(attached)
        return
    links = None
    if RETRIED in headers:
        repeated = trace.get_current_span(_context_in({"traceparent": headers[RETRIED]})).get_span_context()
        links = [Link(repeated)] if repeated.is_valid else None
    span = _tracer.start_span(
        f"process {message.task}",
        context,
        _KINDS[run.tools.eager],
        {
            "messaging.system": SYSTEM,
            "messaging.destination.name": run.job.queue,
            "messaging.message.id": message.id,
            "messaging.message.conversation_id": message.root_id or message.id,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "celery.task_name": message.task,
            "celery.retries": message.retries,
        },
        links,
    )
    token, attached = _run.set((run, span)), attach(trace.set_span_in_context(span, context))
    try:
        if run.body.embed.get("chord"):
            _mark_chord(run.body.embed)
        yield
        if span.is_recording():
            _describe(span, run)
    except BaseException as exc:  # it ends the run from outside
        _fail(span, exc)
        raise
    finally:
        detach(attached)
        _run.reset(token)
        span.end()


def _mark_chord(embed: dict[str, Any]) -> None:
    """Put the context of this run, of a chord's member, into the headers of the body that it may complete."""
    chord = embed["chord"]
    if isinstance(chord, dict):
        options = chord.get("options") or {}
        headers = dict(options.get("headers") or {})
        propagate.inject(headers)
        embed["chord"] = {**chord, "options": {**options, "headers": headers}}


def _describe(span: Span, run: Run) -> None:
    """How the run ended: a failure is an error of the span, a retry or an expected exception is none."""
    state, value = run.end
    span.set_attribute("celery.state", state)
    if not isinstance(value, BaseException):
        return
    if state == result_wire.FAILURE and not run.outcome.expected:
        _fail(span, value)
    elif state == result_wire.RETRY:
        span.set_attribute("celery.retry.reason", str(value))
        span.record_exception(getattr(value, "exc", None) or value)
    elif state == result_wire.FAILURE:
        span.record_exception(value)


def _fail(span: Span, exc: BaseException) -> None:
    span.record_exception(exc)
    span.set_attribute(
        "error.type", f"{type(exc).__module__}.{type(exc).__qualname__}".removeprefix("builtins.")
    )
    span.set_status(Status(StatusCode.ERROR, str(exc)))
