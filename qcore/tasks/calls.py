"""The calls of a task: published, run in this process, or written down as a signature.

In:  a task, arguments, options.  Out: the handle of a result, or a Signature.
Before this: task.py, whose Task is built on this.  After this: app.py turns a call into a message.

The overloads are for type checkers: a task of a coroutine function gives what the coroutine returns.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, overload

from qcore.base.keywords import check_call
from qcore.tasks.canvas import Signature
from qcore.tasks.map_calls import chunks, xmap, xstarmap
from qcore.tasks.result import AsyncResult
from qcore.tasks.result import AsyncResult as Handle
from qcore.tasks.typed import P, R_co, V

if TYPE_CHECKING:
    from typing import Unpack

    from qcore.tasks.typed import CallOptions


class TaskCalls(Generic[P, R_co]):
    """The part of a task that is used where it is called. P: the parameters of its function, without `self`
    of a bound one; R_co: what it returns."""

    name: str
    is_method: bool
    typing: bool
    time_limit: float | None
    soft_time_limit: float | None
    run: Callable[..., Any]
    #: dumps the models among the arguments of a call, with pydantic=True
    _dump_models: Callable[[Any, Any, bool], tuple[Any, Any]] | None = None
    _app: Any

    @property
    def app(self) -> Any:
        raise NotImplementedError

    @overload
    def delay(
        self: TaskCalls[P, Coroutine[Any, Any, V]], *args: P.args, **kwargs: P.kwargs
    ) -> AsyncResult[V]: ...
    @overload
    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R_co]: ...
    def delay(self, *args: Any, **kwargs: Any) -> AsyncResult:
        """Publish a call with these arguments. Returns the handle of its result."""
        return self.apply_async(args, kwargs)

    @overload
    def apply_async(
        self: TaskCalls[P, Coroutine[Any, Any, V]],
        args: Any = None,
        kwargs: dict[str, Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncResult[V]: ...
    @overload
    def apply_async(
        self, args: Any = None, kwargs: dict[str, Any] | None = None, **options: Unpack[CallOptions]
    ) -> AsyncResult[R_co]: ...
    def apply_async(
        self, args: Any = None, kwargs: dict[str, Any] | None = None, **options: Any
    ) -> AsyncResult:
        """Publish a call; options as in App.send_task(). Returns the handle of its result.

        Raises TypeError if the arguments do not fit the function, ValueError if the soft time limit is above
        the hard one, BrokerDown, Unroutable.
        """
        app = self.app
        self._check_limits(options)
        args, kwargs = self._sendable(args or (), kwargs or {})
        if app.conf.task_always_eager:
            return self.apply(args, kwargs, **options)
        result: AsyncResult[Any] = app.send_task(self.name, args, kwargs, task=self, **options)
        return result

    @overload
    async def adelay(
        self: TaskCalls[P, Coroutine[Any, Any, V]], *args: P.args, **kwargs: P.kwargs
    ) -> AsyncResult[V]: ...
    @overload
    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R_co]: ...
    async def adelay(self, *args: Any, **kwargs: Any) -> AsyncResult:
        """As delay(), in a coroutine: the event loop runs on."""
        from qcore.tasks.asynchronous import in_thread

        found: AsyncResult = await in_thread(self.apply_async, args, kwargs)
        return found

    @overload
    async def aapply_async(
        self: TaskCalls[P, Coroutine[Any, Any, V]],
        args: Any = None,
        kwargs: dict[str, Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncResult[V]: ...
    @overload
    async def aapply_async(
        self, args: Any = None, kwargs: dict[str, Any] | None = None, **options: Unpack[CallOptions]
    ) -> AsyncResult[R_co]: ...
    async def aapply_async(
        self, args: Any = None, kwargs: dict[str, Any] | None = None, **options: Any
    ) -> AsyncResult:
        """As apply_async(), in a coroutine: the event loop runs on."""
        from qcore.tasks.asynchronous import in_thread

        found: AsyncResult = await in_thread(self.apply_async, args, kwargs, **options)
        return found

    def _check_limits(self, options: dict[str, Any]) -> None:
        """Raises ValueError if the soft time limit of a call is above its hard one."""
        soft_s = options.get("soft_time_limit") or self.soft_time_limit
        hard_s = (options.get("time_limit") or self.time_limit) if soft_s else None
        if soft_s and hard_s and soft_s > hard_s:
            raise ValueError(
                f"soft_time_limit of {self.name} is {soft_s:g} s, above its time_limit of {hard_s:g} s"
            )

    def _sendable(self, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The arguments of a call as they are sent; raises TypeError if they do not fit the function."""
        if self._dump_models is not None:
            args, kwargs = self._dump_models(args, kwargs, self.is_method)
        if self.typing:
            self._check_arguments(args, kwargs)
        return args, kwargs

    def _check_arguments(self, args: Any, kwargs: dict[str, Any]) -> None:
        check = self.__dict__.get("_signature_check")
        if check is None:
            check = self.__dict__["_signature_check"] = _arity(self.run)
        check(args, kwargs)

    @overload
    def apply(
        self: TaskCalls[P, Coroutine[Any, Any, V]],
        args: Any = None,
        kwargs: dict[str, Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncResult[V]: ...
    @overload
    def apply(
        self, args: Any = None, kwargs: dict[str, Any] | None = None, **options: Unpack[CallOptions]
    ) -> AsyncResult[R_co]: ...
    def apply(self, args: Any = None, kwargs: dict[str, Any] | None = None, **options: Any) -> AsyncResult:
        """Run the task in this process, with the same steps as in a worker; its result is ready at once."""
        check_call(options)
        result: AsyncResult[Any] = self.app.run_here(self, args or (), kwargs or {}, options)
        return result

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        return self.signature(args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """An immutable signature: the result of a previous task is not added to its arguments."""
        return self.signature(args, kwargs, immutable=True)

    def signature(
        self, args: Any = None, kwargs: dict[str, Any] | None = None, immutable: bool = False, **options: Any
    ) -> Signature:
        check_call(options)
        return Signature(self.name, args, kwargs, options, immutable=immutable, app=self._app)

    subtask = signature

    def map(self, it: Any) -> Signature:
        """A call that runs this task once for each item."""
        return xmap(self.s(), it, app=self._app)

    def starmap(self, it: Any) -> Signature:
        """A call that runs this task once for each tuple of arguments."""
        return xstarmap(self.s(), it, app=self._app)

    def chunks(self, it: Any, n: int) -> Signature:
        """Calls that each run this task for n tuples of arguments."""
        return chunks(self.s(), it, n, app=self._app)

    # the last ones, since the method hides the class of that name
    @overload
    def AsyncResult(
        self: TaskCalls[P, Coroutine[Any, Any, V]], task_id: str, **options: Any
    ) -> Handle[V]: ...
    @overload
    def AsyncResult(self, task_id: str, **options: Any) -> Handle[R_co]: ...
    def AsyncResult(self, task_id: str, **options: Any) -> Any:
        return Handle(task_id, app=self.app, task_name=self.name, **options)


def _arity(run: Callable[..., Any]) -> Callable[[Any, dict[str, Any]], None]:
    """A function that raises TypeError if arguments do not fit `run`; fast for positional arguments."""
    import inspect

    try:
        sig = inspect.signature(run)
    except (TypeError, ValueError):
        return lambda args, kwargs: None
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    least = sum(p.default is p.empty and p.kind in plain for p in sig.parameters.values())
    only_plain = all(p.kind in plain for p in sig.parameters.values())
    most = len(sig.parameters)

    def check(args: Any, kwargs: dict[str, Any]) -> None:
        if only_plain and not kwargs and least <= len(args) <= most:
            return
        sig.bind(*args, **kwargs)

    return check
