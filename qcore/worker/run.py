"""Run one task: from a job to its outcome.

In:  a Job, in the process (or thread) that runs it.  Out: an Outcome, encoded result included.
Before this: worker/consumer.py handed the message to a pool.  After this: worker/settle.py.
"""

from __future__ import annotations

import os
import time
import traceback as tracebacks
from typing import TYPE_CHECKING, Any, NamedTuple

from qcore.errors import (
    Ignore,
    Malformed,
    NotRegistered,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
)
from qcore.task import Request, Task, next_attempt, pop, push
from qcore.times import new_id
from qcore.wire import result as result_wire
from qcore.wire import task as task_wire
from qcore.wire.outcome import End, Job, Outcome, Send
from qcore.wire.task import Body, TaskMessage

if TYPE_CHECKING:
    from qcore.app import App


class Tools(NamedTuple):
    """What a run needs of the process it is in."""

    app: App
    node: str
    accept: frozenset[str]
    limit: Any  # a function(seconds) -> context manager that raises SoftTimeLimitExceeded inside
    extended: bool = False  # store name, args and the like with the result


def run(job: Job, tools: Tools) -> Outcome:
    """The outcome of one job. Raises nothing but SystemExit, KeyboardInterrupt and the like."""
    started, clock = time.time(), time.perf_counter()
    outcome = Outcome(job.number, End.SUCCESS, started, 0.0, os.getpid())
    try:
        message = task_wire.read(job.raw)
        body = task_wire.read_body(message, tools.accept)
        task = tools.app._tasks.get(message.task) or tools.app.task_named(message.task)
    except Malformed as exc:
        outcome.end, outcome.text = End.MALFORMED, exc.reason
        outcome.traceback = str(exc)
        return outcome
    except NotRegistered as exc:
        outcome.end, outcome.text, outcome.traceback = End.MALFORMED, "unregistered", str(exc)
        return outcome
    request = make_request(job, message, body, tools.node)
    keep = not _ignores(task, message)
    push(task, request)
    try:
        _call(task, request, body, message, job, keep, outcome, tools)
    finally:
        pop()
        outcome.runtime_s = time.perf_counter() - clock
    return outcome


def _call(
    task: Task,
    request: Request,
    body: Body,
    message: TaskMessage,
    job: Job,
    keep: bool,
    outcome: Outcome,
    tools: Tools,
) -> None:
    """Call the task and write what came of it into `outcome`."""
    args, kwargs = body.args, body.kwargs
    hooks = type(task)
    try:
        if hooks.before_start is not Task.before_start:
            task.before_start(message.id, args, kwargs)
        if job.soft_s:
            with tools.limit(job.soft_s):
                value = _attempt(task, args, kwargs)
        else:
            value = _attempt(task, args, kwargs)
        if keep:
            outcome.meta = _meta(message, result_wire.SUCCESS, value, request, tools, body)
        outcome.text = task_wire.short_repr(value)
        if body.embed:
            outcome.sends = follow_ups(body.embed, value, message, tools.app)
        if hooks.on_success is not Task.on_success:
            task.on_success(value, message.id, args, kwargs)
        state, returned = result_wire.SUCCESS, value
    except Retry as exc:
        state, returned = result_wire.RETRY, exc
        _retried(exc, message, body, keep, outcome, request, tools)
        if hooks.on_retry is not Task.on_retry:
            task.on_retry(exc, message.id, args, kwargs, None)
    except Ignore:
        outcome.end = End.IGNORED
        return
    except Reject as exc:
        outcome.end = End.REQUEUED if exc.requeue else End.REJECTED
        outcome.text = str(exc)
        if not exc.requeue and keep:
            outcome.meta = _meta(message, result_wire.FAILURE, exc, request, tools, body)
        return
    except (Exception, SystemExit, KeyboardInterrupt) as exc:  # a task may raise anything; we go on
        state, returned = result_wire.FAILURE, exc
        _failed(exc, task, message, body, keep, outcome, request, tools)
        if hooks.on_failure is not Task.on_failure:
            _quietly(task.on_failure, exc, message.id, args, kwargs, None)
    if hooks.after_return is not Task.after_return:
        _quietly(task.after_return, state, returned, message.id, args, kwargs, None)


def _attempt(task: Task, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if not task.autoretry_for:
        return task.run(*args, **kwargs)
    try:
        return task.run(*args, **kwargs)
    except (Ignore, Reject, Retry, SoftTimeLimitExceeded):
        raise
    except Exception as exc:
        task.auto_retry(exc)  # raises Retry, or the exception itself when it was the last try
        raise


def make_request(job: Job, message: TaskMessage, body: Body, node: str) -> Request:
    """The request a task sees: every header is an attribute."""
    headers = message.headers
    request = Request()
    fields = request.__dict__
    fields.update(headers)
    own = {k: v for k, v in headers.items() if k not in task_wire.KNOWN_HEADERS}
    info = message.envelope.properties.delivery_info or {}
    fields.update(
        id=message.id,
        task=message.task,
        args=body.args,
        kwargs=body.kwargs,
        retries=message.retries,
        group=message.group,
        headers=own or None,
        hostname=node,
        reply_to=message.reply_to,
        correlation_id=message.correlation_id,
        delivery_info={
            "exchange": info.get("exchange", ""),
            "routing_key": info.get("routing_key", job.queue),
            "priority": message.priority,
            "redelivered": job.redelivered,
        },
        redelivered=job.redelivered,
        deliveries=job.deliveries,
        called_directly=False,
        callbacks=body.embed.get("callbacks"),
        errbacks=body.embed.get("errbacks"),
        chain=body.embed.get("chain"),
        chord=body.embed.get("chord"),
    )
    return request


def _ignores(task: Task, message: TaskMessage) -> bool:
    return bool(message.ignore_result if message.ignore_result is not None else task.ignore_result)


def _meta(
    message: TaskMessage,
    state: str,
    value: Any,
    request: Request,
    tools: Tools,
    body: Body,
    traceback: str | None = None,
) -> bytes:
    extended = None
    if tools.extended:
        extended = {
            "name": message.task,
            "args": body.args,
            "kwargs": body.kwargs,
            "worker": tools.node,
            "retries": message.retries,
            "queue": (message.envelope.properties.delivery_info or {}).get("routing_key"),
        }
    result = value
    if state in result_wire.EXCEPTION_STATES:
        cause = value.exc if isinstance(value, Retry) and isinstance(value.exc, BaseException) else value
        result = result_wire.exception_data(cause)
    return result_wire.encode(
        message.id,
        state,
        result,
        now=time.time(),
        traceback=traceback,
        children=[c.as_tuple() for c in request.children],
        group_id=message.group,
        parent_id=message.parent_id,
        extended=extended,
    )


def _failed(
    exc: BaseException,
    task: Task,
    message: TaskMessage,
    body: Body,
    keep: bool,
    outcome: Outcome,
    request: Request,
    tools: Tools,
) -> None:
    outcome.end = End.FAILURE
    outcome.text = task_wire.short_repr(exc)
    outcome.traceback = _traceback(exc)
    outcome.expected = isinstance(exc, task.throws) if task.throws else False
    if keep or task.store_errors_even_if_ignored:
        outcome.meta = _meta(
            message, result_wire.FAILURE, exc, request, tools, body, traceback=outcome.traceback
        )
    outcome.sends = error_follow_ups(body.embed, message, tools.app)


def _retried(
    exc: Retry,
    message: TaskMessage,
    body: Body,
    keep: bool,
    outcome: Outcome,
    request: Request,
    tools: Tools,
) -> None:
    """The next attempt is a message of its own with the same id; the settling of this one sends it."""
    outcome.end, outcome.text = End.RETRY, str(exc)
    outcome.traceback = _traceback(exc)
    sig = exc.sig or {"args": body.args, "kwargs": body.kwargs, "retries": message.retries + 1}
    due, eta = next_attempt({"eta": None, "countdown": 0, **sig}, time.time())
    outcome.retry_due = due
    options = sig.get("options") or {}
    info = message.envelope.properties.delivery_info or {}
    queue = options.get("queue") or request.delivery_info["routing_key"]  # type: ignore[index]
    head = message.headers
    raw = task_wire.build(
        message.task,
        sig["args"],
        sig["kwargs"],
        task_id=message.id,
        exchange=info.get("exchange") or "",
        routing_key=queue,
        priority=options.get("priority", message.priority),
        eta=eta,
        expires=head.get("expires"),
        retries=sig["retries"],
        time_limit=message.hard_s,
        soft_time_limit=message.soft_s,
        root_id=message.root_id,
        parent_id=message.parent_id,
        group_id=message.group,
        group_index=head.get("group_index"),
        shadow=head.get("shadow"),
        ignore_result=bool(message.ignore_result),
        reply_to=message.reply_to,
        embed=body.embed,
        headers={k: v for k, v in head.items() if k not in task_wire.KNOWN_HEADERS}
        | (options.get("headers") or {}),
        stamped_headers=head.get("stamped_headers"),
        stamps=head.get("stamps"),
        serializer=options.get("serializer") or "json",
        compression=head.get("compression"),
    )
    outcome.sends = [Send(raw, queue=queue, priority=message.priority, due_at=due)]
    if keep:
        outcome.meta = _meta(
            message, result_wire.RETRY, exc, request, tools, body, traceback=outcome.traceback
        )


def follow_ups(embed: dict[str, Any], value: Any, message: TaskMessage, app: App) -> list[Send]:
    """The callbacks and the next link of the chain, as messages."""
    sends = [
        _send(link, (value,), message, app) for link in embed.get("callbacks") or () if isinstance(link, dict)
    ]
    chain = embed.get("chain")
    if chain:
        sends.append(_send(chain[-1], (value,), message, app, chain=chain[:-1]))
    return sends


def error_follow_ups(embed: dict[str, Any], message: TaskMessage, app: App) -> list[Send]:
    """The errbacks, called with the id of the failed task, as Celery does for tasks known by name."""
    return [_send(link, (message.id,), message, app) for link in embed.get("errbacks") or ()]


def _send(
    link: dict[str, Any], first: tuple[Any, ...], message: TaskMessage, app: App, chain: Any = None
) -> Send:
    from qcore.canvas import Signature

    args, kwargs, options = Signature(link, app=app).merged(first)
    if chain:
        options = {**options, "chain": chain}
    options = {"root_id": message.root_id or message.id, "parent_id": message.id, **options}
    made = app.message(
        link["task"], args, kwargs, options.get("task_id") or new_id(), options, app._tasks.get(link["task"])
    )
    return Send(made.raw, made.queue, made.exchange, made.routing_key, made.priority, made.due_at)


def _traceback(exc: BaseException) -> str:
    """The traceback from the task's own frame on; the frames of this file say nothing."""
    tb = exc.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename == __file__:
        tb = tb.tb_next
    return "".join(tracebacks.format_exception(type(exc), exc, tb))


def _quietly(hook: Any, *args: Any) -> None:
    """A hook that fails must not change how the run ended."""
    try:
        hook(*args)
    except Exception:
        import logging

        logging.getLogger("qcore.worker").exception("a hook of a task raised")
