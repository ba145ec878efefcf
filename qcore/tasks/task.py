"""Tasks: functions that can be called from another process.

In:  a function and options.  Out: an object with delay(), apply_async(), retry(), request.
After this: app.py turns a call into a message.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from qcore.base.keywords import check_call
from qcore.base.times import iso, when
from qcore.errors import BrokerDown, Ignore, MaxRetriesExceededError, Retry
from qcore.tasks.calls import TaskCalls
from qcore.tasks.canvas import Signature
from qcore.tasks.current_app import current_app
from qcore.tasks.interface import SendingApp
from qcore.tasks.replacement import stand_in
from qcore.tasks.request import NO_REQUEST, Request, RequestStack, pop, push, running
from qcore.tasks.typed import P, R_co

if TYPE_CHECKING:
    from datetime import datetime


CO_COROUTINE = 0x80  # as in inspect, which costs 5 ms to import


class Replaced(Ignore):
    """Ends a run; `sig` takes over the id and the continuations of its task: see Task.replace()."""

    def __init__(self, sig: Signature) -> None:
        super().__init__(f"replaced by {sig!r}")
        self.sig = sig


class TaskApp(SendingApp, Protocol):
    """An app that has tasks, and can run one in this process."""

    def gen_task_name(self, name: str, module: str) -> str: ...

    @property
    def tasks(self) -> Mapping[str, Task]: ...

    @property
    def events(self) -> Any: ...

    def task_named(self, name: str) -> Task: ...

    def register_task(self, task: Task | type[Task]) -> Task: ...

    def run_here(self, task: Task, args: Any, kwargs: dict[str, Any], options: dict[str, Any]) -> Any: ...

    def store_state(self, task_id: str, state: str, result: Any, **extra: Any) -> None: ...


class Task(TaskCalls[P, R_co]):
    """One task of one app. An option that is None takes its value from the settings."""

    name: str = ""
    max_retries: int | None = 3
    default_retry_delay: float = 180
    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    retry_kwargs: dict[str, Any] | None = None
    retry_backoff: bool | float = False
    retry_backoff_max: float = 600
    retry_jitter: bool = True
    throws: tuple[type[BaseException], ...] = ()
    typing: bool = True
    ignore_result: bool | None = None
    store_errors_even_if_ignored: bool | None = None
    store_eager_result: bool | None = None
    acks_late: bool | None = None
    acks_on_failure_or_timeout: bool | None = None
    acks_on_failure: bool | None = None
    acks_on_timeout: bool | None = None
    reject_on_worker_lost: bool | None = None
    retry_on_worker_lost: bool | None = None
    track_started: bool | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    rate_limit: str | float | int | None = None
    serializer: str | None = None
    compression: str | None = None
    priority: int | None = None
    expires: Any = None
    queue: str | None = None
    exchange: str | None = None
    routing_key: str | None = None
    send_events: bool = True
    #: a subclass of celery.worker.request.Request, or its module:Class, that the worker tells of each run
    Request: Any = None
    abstract: bool = False
    #: whether the calls of a run are stored as the children of its result
    trail: bool = True
    #: characters of the text of its value in logs and events, at most
    resultrepr_maxsize: int = 1024
    #: whether a subclass wraps each run in a __call__() of its own
    overrides_call: bool = False
    #: whether a subclass overrides apply_async()
    overrides_sending: bool = False
    #: whether run() takes the task as its first argument: `bind` of the decorator
    is_method: bool = False
    #: whether run() is a coroutine function
    is_async: bool = False

    MaxRetriesExceededError = MaxRetriesExceededError
    OperationalError = BrokerDown

    #: (option, setting): the setting applies if neither the class nor the decorator gives the option
    from_config = (
        ("serializer", "task_serializer"),
        ("rate_limit", "task_default_rate_limit"),
        ("priority", "task_default_priority"),
        ("time_limit", "task_time_limit"),
        ("soft_time_limit", "task_soft_time_limit"),
        ("track_started", "task_track_started"),
        ("acks_late", "task_acks_late"),
        ("acks_on_failure_or_timeout", "task_acks_on_failure_or_timeout"),
        ("acks_on_failure", "task_acks_on_failure"),
        ("acks_on_timeout", "task_acks_on_timeout"),
        ("reject_on_worker_lost", "task_reject_on_worker_lost"),
        ("retry_on_worker_lost", "task_retry_on_worker_lost"),
        ("ignore_result", "task_ignore_result"),
        ("store_eager_result", "task_store_eager_result"),
        ("store_errors_even_if_ignored", "task_store_errors_even_if_ignored"),
    )

    _app: TaskApp | None = None
    _bound = False

    @property
    def app(self) -> TaskApp:
        if self._app is None:
            app: TaskApp = current_app()
            return app
        return self._app

    def _get_app(self) -> TaskApp:
        """The same, as packages for Celery ask for it."""
        return self.app

    def attach(self, app: TaskApp) -> None:
        """Set the options that follow from the settings; called once, at the first use of the app's tasks."""
        self._app = app
        if self._bound:
            return
        self._bound = True
        self.overrides_call = type(self).__call__ is not _PLAIN_CALL
        self.overrides_sending = type(self).apply_async is not Task.apply_async
        self.is_async = bool(getattr(getattr(self.run, "__code__", None), "co_flags", 0) & CO_COROUTINE)
        overrides_bind = getattr(type(self).bind, "__func__", None) is not _PLAIN_BIND
        if overrides_bind:
            type(self).bind(app)
        _complete(self, app)
        self.annotate()
        for option in ("acks_on_failure", "acks_on_timeout"):
            if getattr(self, option) is None:
                setattr(self, option, self.acks_on_failure_or_timeout)
        if not overrides_bind:
            self.on_bound(app)

    @classmethod
    def bind(cls, app: TaskApp) -> TaskApp:
        """Make tasks of this class those of `app`, with the options that follow from its settings. Returns
        the app. A subclass may override it: it is called when a task gets its app."""
        cls._app = app
        _complete(cls, app)
        cls.on_bound(app)
        return app

    def annotate(self) -> None:
        """Set the options that task_annotations has for this task, and put what it has as `@method` around
        that method; called when the task gets its app."""
        for options in _annotations(self.app.conf.task_annotations, self.name):
            for option, value in options.items():
                if option.startswith("@"):
                    self.add_around(option[1:], value)
                else:
                    setattr(self, option, value)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """The body of the task."""
        raise NotImplementedError(f"task {self.name} has no body: define run()")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run the task in this process, as a plain function call. A subclass may override it: workers call
        it too, and there super().__call__() is the body of the task, with the request of the run."""
        run: Callable[P, R_co] = self.run
        frame = running.get()
        if frame is not None and frame[0] is self and frame[1].awaits_call:
            frame[1].awaits_call = False  # a further call from the body is a plain one
            return run(*args, **kwargs)
        push(self, Request(args=args, kwargs=kwargs))
        try:
            return run(*args, **kwargs)
        finally:
            pop()

    # hooks, for subclasses
    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None: ...
    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None: ...
    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None: ...
    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None: ...
    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None: ...

    @classmethod
    def on_bound(cls, app: TaskApp) -> None:
        """Called when the task belongs to an app, with its options set."""

    def shadow_name(self, args: Any, kwargs: dict[str, Any], options: dict[str, Any]) -> str | None:
        """The name of one call in logs and events; None: that of the task."""

    def on_replace(self, sig: Signature) -> Any:
        """Called by replace() with the signature that takes over; what it returns the run returns."""
        if self.request.is_eager:
            return sig.apply().get()
        raise Replaced(sig)

    @classmethod
    def add_around(cls, attr: str, around: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Replace a method of the class by around(method); a second time, what is around the first one."""
        method = getattr(cls, attr)
        method = getattr(method, "__wrapped__", method)
        replacement = around(method)
        replacement.__wrapped__ = method  # type: ignore[attr-defined]
        setattr(cls, attr, replacement)

    def add_trail(self, result: Any) -> Any:
        """Store `result` as a child of the result of this run. Returns it."""
        if self.trail:
            self.request.children.append(result)
        return result

    @property
    def request(self) -> Request:
        """The request of the current run of this task; an empty one outside of a run."""
        frame = running.get()
        while frame is not None:
            if frame[0] is self:
                return frame[1]
            frame = frame[2]
        return NO_REQUEST

    @property
    def backend(self) -> Any:
        return self.app.backend

    def replace(self, sig: Signature) -> Any:
        """End this run and let `sig` take over the task id, the callbacks, the remaining chain and the place
        in a chord. Raises Replaced; in eager mode it returns the value of `sig`."""
        request = self.request
        return self.on_replace(sig if request.is_eager else stand_in(sig, request))

    def add_to_chord(self, sig: Signature, lazy: bool = False) -> Any:
        """Make `sig` one more member of the chord that this run is a member of, and publish it; lazy: it is
        not published, and returned to be. Raises ValueError outside of a chord, and NotImplementedError
        where members cannot be added to the result store's chords."""
        request = self.request
        if not request.chord:
            raise ValueError(f"this run of {self.name} is not a member of a chord")
        place = {"group_id": request.group, "group_index": request.group_index}
        sig.set(**place, chord=request.chord, root_id=request.root_id)
        self.backend.add_to_chord(request.group, sig.freeze(**place, chord=request.chord))
        return sig if lazy else sig.delay()

    def retry(
        self,
        args: Any = None,
        kwargs: dict[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Retry later: raises Retry, which ends this run; the worker publishes the next attempt.

        args and kwargs replace those of this run. countdown is in seconds. The options are those of
        apply_async(); the next attempt takes all others from this message, and the task's serializer.

        With throw=False it returns the Retry; the worker publishes the next attempt when this run ends.
        Raises `exc` (or MaxRetriesExceededError) after max_retries retries.
        """
        check_call(options)
        request = self.request
        if request.called_directly:
            raise exc or Retry("Task can be retried", None)
        limit = self.max_retries if max_retries is None else max_retries
        if max_retries is not None:
            request.override_max_retries = max_retries  # holds for auto_retry() in the same run, as in Celery
        retries = request.retries + 1
        if eta is None and countdown is None:
            countdown = self.default_retry_delay
        if limit is not None and retries > limit:
            if exc is not None:
                raise exc
            raise MaxRetriesExceededError(
                f"Can't retry {self.name}[{request.id}] args:{request.args} kwargs:{request.kwargs}",
                task_args=request.args,
                task_kwargs=request.kwargs,
            )
        sig = {
            "args": args,
            "kwargs": kwargs,
            "retries": retries,
            "eta": eta,
            "countdown": countdown,
            "options": options,
        }
        error = Retry(exc=exc, when=eta if eta is not None else countdown, sig=sig, is_eager=request.is_eager)
        if throw:
            raise error from exc
        if request.is_eager:
            again = (request.args if args is None else args, request.kwargs if kwargs is None else kwargs)
            self.apply(*again, **{"task_id": request.id, **options, "retries": retries})
        else:
            request.unthrown.append(error)
        return error

    def auto_retry(self, exc: BaseException, jitter: Callable[[], float] = random.random) -> None:
        """Retry if `exc` is one of autoretry_for, with the task's back-off; else do nothing."""
        if not isinstance(exc, self.autoretry_for) or isinstance(exc, self.dont_autoretry_for):
            return
        wanted = dict(self.retry_kwargs or {})
        if self.retry_backoff:
            factor = int(max(1.0, self.retry_backoff))
            delay = min(factor * 2**self.request.retries, self.retry_backoff_max)
            wanted["countdown"] = delay * jitter() if self.retry_jitter else delay
        if self.request.override_max_retries is not None:
            wanted["max_retries"] = self.request.override_max_retries
        self.retry(exc=exc, **wanted)

    # for subclasses and tests that stand in for a worker
    def push_request(self, *args: Any, **fields: Any) -> None:
        """Make a request with these fields the current one of this task, until pop_request()."""
        push(self, args[0] if args and isinstance(args[0], Request) else Request(**dict(*args, **fields)))

    def pop_request(self) -> None:
        pop()

    @property
    def request_stack(self) -> RequestStack:
        """The requests of this task that are active in this thread, the innermost last: a sequence with
        `top`, push() and pop()."""
        return RequestStack(self)

    def signature_from_request(
        self,
        request: Request | None = None,
        args: Any = None,
        kwargs: dict[str, Any] | None = None,
        queue: str | None = None,
        **options: Any,
    ) -> Signature:
        """The call of a request as a signature: with its id, place in a group and queue. What is given
        replaces what the request has."""
        request = self.request if request is None else request
        info = request.delivery_info or {}
        given = {
            "task_id": request.id,
            "root_id": request.root_id,
            "parent_id": request.parent_id,
            "group_id": request.group,
            "group_index": request.group_index,
            "shadow": request.shadow,
            "chord": request.chord,
            "chain": request.chain,
            "link": request.callbacks,
            "link_error": request.errbacks,
            "expires": request.expires,
            "soft_time_limit": request.soft_time_limit,
            "time_limit": request.time_limit,
            "headers": request.headers,
            "retries": request.retries,
            "reply_to": request.reply_to,
            "priority": info.get("priority"),
            "queue": queue or info.get("routing_key"),
            **options,
        }
        return self.signature(
            request.args if args is None else args,
            request.kwargs if kwargs is None else kwargs,
            **{name: value for name, value in given.items() if value is not None},
        )

    subtask_from_request = signature_from_request

    def send_event(
        self, type_: str, retry: bool = True, retry_policy: dict[str, Any] | None = None, **fields: Any
    ) -> None:
        """Publish an event about the current run; fields: what it has besides the task's id. It is published
        as every message; retry and retry_policy are accepted for Celery's sake."""
        request = self.request
        self.app.events.Dispatcher(hostname=request.hostname).send(type_, uuid=request.id, **fields)

    def update_state(self, task_id: str | None = None, state: str | None = None, meta: Any = None) -> None:
        """Store an intermediate state of the running task, such as PROGRESS, with `meta` as its result."""
        if not (task_id or self.request.id):
            raise ValueError("update_state() outside of a task needs a task_id")
        self.app.store_state(task_id or self.request.id or "", state or "PENDING", meta)

    def _called(self, sig: dict[str, Any]) -> tuple[Task, list[Any], dict[str, Any]]:
        """The task of a signature, and the signature's arguments."""
        return self.app.task_named(sig["task"]), list(sig.get("args") or ()), sig.get("kwargs") or {}

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def __reduce__(self) -> Any:
        return _unpickled, (self.name, type(self).__module__)


def _unpickled(name: str, module: str) -> Task:
    """The task of the current app by that name; its module is imported first. Raises NotRegistered."""
    if module != "__main__":
        importlib.import_module(module)
    app: TaskApp = current_app()
    return app.task_named(name)


#: Task.__call__ as it is here: a package may replace it, and workers then call that one
_PLAIN_CALL = Task.__call__
_PLAIN_BIND = Task.bind.__func__  # type: ignore[attr-defined]  # of a classmethod


def _complete(task: Task | type[Task], app: TaskApp) -> None:
    """Set the options of a task, or of its class, that follow from the settings."""
    for option, setting in (*task.from_config, ("compression", "task_compression")):
        if getattr(task, option) is None:
            setattr(task, option, app.conf[setting])


def _annotations(setting: Any, name: str) -> list[dict[str, Any]]:
    if not setting:
        return []
    maps = setting if isinstance(setting, list | tuple) else [setting]
    return [m[key] for m in maps for key in ("*", name) if key in m]


def next_attempt(sig: dict[str, Any], now: float) -> tuple[float, str]:
    """The due time of the attempt that Retry.sig describes: epoch seconds, and the text of the eta header."""
    eta = sig["eta"]
    due = when(eta, now) if eta is not None else now + max(float(sig["countdown"] or 0), 0.0)
    return due, iso(due)
