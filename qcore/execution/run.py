"""Run one task: from a job to its outcome.

In:  a Job, in the process (or thread) that runs it.  Out: an Outcome, with the encoded result.
Before this: worker/loop.py handed the message to a pool.  After this: worker/settling/rules.py.
"""

from __future__ import annotations

import os
import time
import traceback as tracebacks
from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple

from qcore.base.times import iso, when
from qcore.errors import (
    ColdShutdown,
    EncodeError,
    Ignore,
    Malformed,
    NotRegistered,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    WorkerLostError,
)
from qcore.execution import continuations, run_signals
from qcore.execution.requests import UnreadRequest
from qcore.execution.retry_options import arguments, links
from qcore.execution.run_signals import ExceptionInfo
from qcore.signals import announced, before_task_publish, task_postrun, task_prerun, task_success
from qcore.tasks.request import Request, pop, push
from qcore.tasks.result import AsyncResult, GroupResult
from qcore.tasks.task import Replaced, Task, next_attempt
from qcore.wire import result as result_wire
from qcore.wire import task as task_wire
from qcore.wire.failure import exception_names
from qcore.wire.outcome import End, Job, Outcome, Send
from qcore.wire.reprs import short_repr
from qcore.wire.task import Body, TaskMessage

if TYPE_CHECKING:
    from qcore.tasks.task import TaskApp


class RunContext(NamedTuple):
    """What a run needs of its process."""

    app: TaskApp
    node: str
    accept: frozenset[str]
    limit: Any  # a function(seconds) -> context manager that raises SoftTimeLimitExceeded inside
    extended: bool | str = False  # store the facts of result_wire.extended(); "request": all of them
    eager: bool = False  # called by Task.apply() in the caller's process
    passes: tuple[type[BaseException], ...] = (
        ColdShutdown,
    )  # exceptions that end a run from outside: run() raises them


class Run:
    """One run: the call of the task, and its outcome.

    call() calls the task, call_async() awaits it in an event loop; all other steps are the same.
    """

    __slots__ = (
        "args",
        "body",
        "clock",
        "end",
        "job",
        "keep",
        "message",
        "outcome",
        "request",
        "task",
        "thrown",
        "tools",
    )

    task: Task
    message: TaskMessage
    body: Body
    end: tuple[str, Any]  # the state, and what the task returned or raised

    def __init__(self, job: Job, tools: RunContext) -> None:
        """Read the message. If it is malformed or its task unregistered, the outcome is MALFORMED and
        `request` is None."""
        self.job, self.tools, self.clock = job, tools, time.perf_counter()
        self.outcome = outcome = Outcome(job.number, End.SUCCESS, time.time(), 0.0, os.getpid())
        self.request: Request | None = None
        self.thrown: Retry | None = None
        try:
            self.message = message = task_wire.read(job.raw, tools.accept)
            self.body = task_wire.read_body(message, tools.accept)
            self.task = tools.app.task_named(message.task)
        except Malformed as exc:
            outcome.end, outcome.text = End.MALFORMED, exc.reason
            outcome.traceback = str(exc)
            return
        except NotRegistered as exc:
            outcome.end, outcome.text, outcome.traceback = End.MALFORMED, "unregistered", str(exc)
            return
        self.args = self.body.args
        if message.usual is None:
            failure = message.headers.get(continuations.ERRBACK)
            if failure is not None:
                self.args = continuations.errback_arguments(failure, self.body.args)
        self.request = UnreadRequest(job, message, self.body, tools.node, tools.eager)
        self.keep = not ignores_result(self.task, message)

    def call(self) -> Outcome:
        """Call the task and return the outcome. Raises only the exceptions in `passes`."""
        if self.request is None:
            return self.outcome
        push(self.task, self.request)
        try:
            try:
                self._before()
                soft_s, task = self.job.soft_s, self.task
                if soft_s and not task.is_async:
                    with self.tools.limit(soft_s):
                        value = _attempt(task, self.args, self.body.kwargs, None)
                else:
                    value = _attempt(task, self.args, self.body.kwargs, soft_s)
                self._succeeded(value)
            except self.tools.passes:
                raise
            except BaseException as exc:
                self._raised(exc)  # a task may raise any exception; the process continues
            if type(self.request) is not UnreadRequest and self.request.unthrown:
                self._send_unthrown(self.request.unthrown)
            if task_postrun.receivers or self.outcome.sends:
                run_signals.ends(self, *self.end)
        finally:
            pop()
            self.outcome.runtime_s = time.perf_counter() - self.clock
        return self.outcome

    async def call_async(self, was_killed: Callable[[], End | None]) -> Outcome:
        """Await the task. The pool stops it by cancelling its asyncio task: was_killed() then returns the
        reason, None if the task cancelled itself."""
        if self.request is None:
            return self.outcome
        from asyncio import CancelledError

        push(self.task, self.request)
        try:
            try:
                self._before()
                self._succeeded(await _attempt_async(self.task, self.args, self.body.kwargs, self.job.soft_s))
            except CancelledError as exc:
                end = was_killed()
                if end is None:
                    self._raised(exc)
                else:
                    self.outcome.end, self.outcome.meta = end, None
                    self.outcome.text = "it was cancelled"
                    self.end = result_wire.REVOKED, exc
            except self.tools.passes:
                raise
            except BaseException as exc:
                self._raised(exc)
            if type(self.request) is not UnreadRequest and self.request.unthrown:
                self._send_unthrown(self.request.unthrown)
            if task_postrun.receivers or self.outcome.sends:
                run_signals.ends(self, *self.end)
        finally:
            pop()
            self.outcome.runtime_s = time.perf_counter() - self.clock
        return self.outcome

    def _before(self) -> None:
        if task_prerun.receivers:
            run_signals.starts(self)
        if type(self.task).before_start is not Task.before_start:
            self.task.before_start(self.message.id, self.body.args, self.body.kwargs)

    def _succeeded(self, value: Any) -> None:
        """Set the result and the continuations of the outcome. An exception in this step, such as a result
        that has no JSON form, is a failure of the task."""
        task, message, outcome, (args, kwargs, _) = self.task, self.message, self.outcome, self.body
        assert self.request is not None
        if isinstance(value, _HANDLES):
            value = value.as_tuple()
        embed = self.body.embed
        links = embed if type(self.request) is UnreadRequest else self.request.links()
        if links and not self.tools.eager and any(links.values()):
            try:
                following = continuations.succeeded(links, value, message, self.tools.app)
            except Exception as exc:
                if not isinstance(exc, EncodeError):
                    run_signals.broken(self, exc)
                raise
            outcome.sends, outcome.before = following.sends(), following.before
        if self.keep:
            outcome.meta = self._meta(result_wire.SUCCESS, value)
        outcome.text = short_repr(value, most=task.resultrepr_maxsize)
        hooks = type(task)
        if hooks.on_success is not Task.on_success:
            if self.tools.eager:
                task.on_success(value, message.id, args, kwargs)
            else:  # as in Celery, it does not change how the task ended
                _quietly(task.on_success, value, message.id, args, kwargs)
        if hooks.after_return is not Task.after_return:
            _quietly(task.after_return, result_wire.SUCCESS, value, message.id, args, kwargs, None)
        self.end = result_wire.SUCCESS, value
        if task_success.receivers:
            run_signals.succeeded(self, value)

    def retried_for(self, exc: Retry) -> Outcome:
        """The outcome of a run that did not end by itself, which is retried."""
        self._raised(exc)
        return self.outcome

    def _raised(self, exc: BaseException) -> None:
        """Set the outcome after an exception: Retry, Ignore, Reject and Replaced, or a failure."""
        task, message, outcome, (args, kwargs, _) = self.task, self.message, self.outcome, self.body
        hooks = type(task)
        outcome.sends, outcome.before, outcome.meta = [], None, None
        state = result_wire.FAILURE
        self.end = state, exc
        einfo = ExceptionInfo(exc)
        if isinstance(exc, Retry):
            self.thrown = exc
            try:
                self._retried(exc)
            except (
                Exception
            ) as bad:  # options that cannot be serialised: without a next attempt the task has failed
                outcome.sends, outcome.retry_due = [], None
                self.end = result_wire.FAILURE, bad
                self._failed(bad, ExceptionInfo(bad))
                return
            self.end = result_wire.RETRY, exc
            if hooks.on_retry is not Task.on_retry:
                cause = exc if exc.exc is None else exc.exc
                run_signals.broken(self, _quietly(task.on_retry, cause, message.id, args, kwargs, einfo))
            run_signals.retried(self, exc, einfo)
            return
        if isinstance(exc, Replaced):
            following = continuations.replaced(exc.sig, self.tools.app)
            outcome.sends, outcome.before = following.sends(), following.before
            outcome.end = End.IGNORED
            self.end = "IGNORED", exc
            return
        if isinstance(exc, Ignore):
            outcome.end = End.IGNORED
            self.end = "IGNORED", exc
            return
        if isinstance(exc, Reject):
            outcome.end = End.REQUEUED if exc.requeue else End.REJECTED
            outcome.text = str(exc)
            self.end = "REJECTED", exc
            if not exc.requeue and self.keep:
                outcome.meta = self._meta(result_wire.FAILURE, exc)
            return
        self._failed(exc, einfo)
        if hooks.after_return is not Task.after_return:
            _quietly(task.after_return, state, exc, message.id, args, kwargs, einfo)

    def _failed(self, exc: BaseException, einfo: ExceptionInfo) -> None:
        task, outcome, request = self.task, self.outcome, self.request
        assert request is not None
        if isinstance(exc, SystemExit | KeyboardInterrupt):
            # As in Celery, which also ends the process: stored unchanged, it would end the caller of get().
            exc = WorkerLostError(f"the task ended its process: {exc!r}").with_traceback(exc.__traceback__)
        outcome.end = End.FAILURE
        outcome.text = short_repr(exc)
        outcome.traceback = _traceback(exc)
        outcome.error = exception_names(exc)
        outcome.expected = isinstance(exc, task.throws) if task.throws else False
        links = request.links()
        if links:
            bad = _quietly(self._follow_failure, links, exc, outcome.traceback, request)
            run_signals.broken(self, bad)
        if self.keep or task.store_errors_even_if_ignored:
            outcome.meta = self._meta(result_wire.FAILURE, exc, outcome.traceback)
        if type(task).on_failure is not Task.on_failure:
            args, kwargs, _ = self.body
            run_signals.broken(self, _quietly(task.on_failure, exc, self.message.id, args, kwargs, einfo))
        run_signals.failed(self, exc, einfo)

    def _follow_failure(
        self, links: dict[str, Any], exc: BaseException, traceback: str, request: Request
    ) -> None:
        error, message = result_wire.exception_data(exc), self.message
        state, live = result_wire.FAILURE, (request, exc)
        following = continuations.failed(links, message, self.tools.app, state, error, traceback, live)
        self.outcome.sends, self.outcome.before = following.sends(), following.before

    def _retried(self, exc: Retry) -> None:
        """Make the next attempt, a new message with the same id; the settlement of this one publishes it."""
        message, outcome = self.message, self.outcome
        outcome.end, outcome.text = End.RETRY, str(exc)
        outcome.traceback = _traceback(exc)
        sig = exc.sig or {"retries": message.retries + 1}
        now = time.time()
        due, eta = next_attempt({"eta": None, "countdown": 0, **sig}, now)
        outcome.retry_due = due
        outcome.sends = [self._next_attempt(sig, due, eta, now)]
        if self.keep:
            outcome.meta = self._meta(result_wire.RETRY, exc, outcome.traceback)

    def _send_unthrown(self, errors: list[Retry]) -> None:
        """Add the attempts of retry(throw=False); that of a Retry which the task has raised is there already.
        An attempt that cannot be serialised fails the task."""
        now, outcome = time.time(), self.outcome
        try:
            for error in errors:
                if error is not self.thrown and error.sig is not None:
                    due, eta = next_attempt(error.sig, now)
                    outcome.sends = [*outcome.sends, self._next_attempt(error.sig, due, eta, now)]
            if outcome.meta is not None:
                outcome.meta = result_wire.with_next_attempt(outcome.meta, self.tools.app.result_form)
        except (TypeError, ValueError) as bad:
            self._raised(bad)

    def _next_attempt(self, sig: dict[str, Any], due: float, eta: str, now: float) -> Send:
        """The message of the next attempt: a copy of this one, with the options of retry() replaced. Raises
        TypeError and ValueError for options that cannot be serialised."""
        message, body, options = self.message, self.body, sig.get("options") or {}
        head, info = message.headers, message.envelope.properties.delivery_info or {}
        assert self.request is not None
        args, kwargs = arguments(self.task, sig.get("args"), sig.get("kwargs"), body)
        expires, expires_at = head.get("expires"), None
        if "expires" in options:
            expires_at = when(options["expires"], now) if options["expires"] is not None else None
            expires = iso(expires_at) if expires_at is not None else None
        priority = options.get("priority")
        priority = message.priority if priority is None else min(max(priority, 0), 9)
        # Without a queue, exchange or routing key in the options it returns to the queue of this message.
        exchange, key = options.get("exchange"), options.get("routing_key")
        queue = options.get("queue")
        queue = getattr(queue, "name", queue)
        if queue is None and exchange is None:
            queue = key or self.job.queue or info.get("routing_key")
            exchange, key = ("" if key else info.get("exchange") or ""), key or info.get("routing_key")
        elif queue is not None:
            exchange, key = "", queue
        own = {k: v for k, v in head.items() if k not in task_wire.KNOWN_HEADERS}
        announces = before_task_publish.receivers and not self.tools.eager
        place = exchange or "", key or queue or ""
        same = sig.get("args") is None and sig.get("kwargs") is None
        raw = task_wire.build(
            message.task,
            args,
            kwargs,
            task_id=options.get("task_id", message.id),
            exchange=place[0],
            routing_key=place[1],
            priority=priority,
            eta=eta,
            expires=expires,
            expiration_ms=str(max(int((expires_at - now) * 1000), 0)) if expires_at is not None else None,
            retries=sig["retries"],
            time_limit=options.get("time_limit", message.hard_s),
            soft_time_limit=options.get("soft_time_limit", message.soft_s),
            root_id=options.get("root_id", message.root_id),
            parent_id=options.get("parent_id", message.parent_id),
            group_id=options.get("group_id", message.group),
            group_index=options.get("group_index", head.get("group_index")),
            shadow=options.get("shadow", head.get("shadow")),
            ignore_result=bool(options.get("ignore_result", message.ignore_result)),
            reply_to=options.get("reply_to", message.reply_to),
            embed=links(self.request.links() or {}, options),
            headers=options.get("headers", own),
            stamped_headers=options.get("stamped_headers", head.get("stamped_headers")),
            stamps=options.get("stamps", head.get("stamps")),
            # A text that hides arguments also hides those of the next attempts.
            argsrepr=options.get("argsrepr", head.get("argsrepr") if same else None),
            kwargsrepr=options.get("kwargsrepr", head.get("kwargsrepr") if same else None),
            serializer=options.get("serializer") or self.task.serializer or "json",
            protocol=self.tools.app.conf.task_protocol,
            repr_levels=self.tools.app.conf.task_repr_maxlevels,
            compression=options.get("compression", head.get("compression")),
            before=announced(message.task, place, priority) if announces else None,
        )
        if queue is None:
            return Send(raw, exchange=exchange or "", routing_key=key or "", priority=priority, due_at=due)
        return Send(raw, queue=queue, priority=priority, due_at=due)

    def _children(self) -> list[Any]:
        request = self.request
        if request is None or type(request) is UnreadRequest:
            return []
        return [child.as_tuple() for child in request.children]

    def _meta(self, state: str, value: Any, traceback: str | None = None) -> bytes:
        message, body, tools = self.message, self.body, self.tools
        extended = None
        if tools.extended:
            extended = result_wire.extended(message, body, tools.node, tools.extended == "request")
        result, form = value, tools.app.result_form
        if state in result_wire.EXCEPTION_STATES:
            cause = value.exc if isinstance(value, Retry) and isinstance(value.exc, BaseException) else value
            result = form.exception(cause, result_wire.exception_data(cause))
        return result_wire.encode(
            message.id,
            state,
            result,
            now=time.time(),
            traceback=traceback,
            children=self._children(),
            group_id=message.group,
            parent_id=message.parent_id,
            extended=extended,
            form=form,
        )


def run(job: Job, tools: RunContext) -> Outcome:
    """Run one job and return its outcome. Raises only the exceptions in `tools.passes`."""
    return run_signals.traced(Run(job, tools))


def _attempt(task: Task, args: list[Any], kwargs: dict[str, Any], soft_s: float | None) -> Any:
    if not task.autoretry_for:
        value = task.run(*args, **kwargs) if not task.overrides_call else _call(task, args, kwargs)
        return value if type(value) is not CoroutineType else _complete(value, soft_s)
    try:
        value = task.run(*args, **kwargs) if not task.overrides_call else _call(task, args, kwargs)
        return value if type(value) is not CoroutineType else _complete(value, soft_s)
    except (Ignore, Reject, Retry, SoftTimeLimitExceeded):
        raise
    except Exception as exc:
        task.auto_retry(exc)  # raises Retry, or the exception itself after the last retry
        raise


def _call(task: Task, args: list[Any], kwargs: dict[str, Any]) -> Any:
    task.request.awaits_call = True
    return task(*args, **kwargs)


def _complete(coro: Any, soft_s: float | None) -> Any:
    from qcore.execution.coroutines import complete

    return complete(coro, soft_s)


async def _attempt_async(task: Task, args: list[Any], kwargs: dict[str, Any], soft_s: float | None) -> Any:
    from qcore.execution.coroutines import CoroutineDriver

    try:
        coro = task.run(*args, **kwargs) if not task.overrides_call else _call(task, args, kwargs)
        return await CoroutineDriver(coro, soft_s)
    except (Ignore, Reject, Retry, SoftTimeLimitExceeded):
        raise
    except Exception as exc:
        if task.autoretry_for:
            task.auto_retry(exc)
        raise


def ignores_result(task: Task, message: TaskMessage) -> bool:
    """Whether the result of a run is not stored: as the message says, else as the task says."""
    return bool(message.ignore_result if message.ignore_result is not None else task.ignore_result)


_HANDLES = (AsyncResult, GroupResult)

#: files whose frames are left out of tracebacks
_OURS = (__file__, __file__.replace("execution/run.py", "execution/coroutines.py"))


def _traceback(exc: BaseException) -> str:
    """The traceback from the task's first frame on, without qcore's frames above it."""
    tb = exc.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename in _OURS:
        tb = tb.tb_next
    return "".join(tracebacks.format_exception(type(exc), exc, tb))


def _quietly(hook: Any, *args: Any) -> Exception | None:
    """Call a hook; its exception is logged, returned, and does not change the outcome."""
    try:
        hook(*args)
        return None
    except Exception as exc:
        import logging

        logging.getLogger("qcore.worker").exception("a callback or follow-up of a task raised")
        return exc
