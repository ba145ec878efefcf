"""The request: what a running task can read about its message."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any


class _Chain:
    """`request.chain`: the signatures that follow, the next one last; a task may change the list. The copy is
    made when it is asked for, so that the chain of any other task is sent on as it was received."""

    def __get__(self, request: Any, owner: Any = None) -> Any:
        found = getattr(request, "_chain", None)
        if found is not None:
            found = request.__dict__["chain"] = list(found)
        return found


class Request:
    """The message of a running task, as attributes; headers of the caller are attributes too. Any other name
    raises AttributeError.

    called_directly is True for a plain call of the task; then most attributes are None.
    """

    id: str | None = None
    task: str | None = None
    args: Any = None
    kwargs: Any = None
    retries: int = 0
    eta: str | None = None
    expires: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    group: str | None = None
    group_index: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    hostname: str | None = None
    origin: str | None = None
    delivery_info: dict[str, Any] | None = None
    properties: dict[str, Any] | None = None
    headers: dict[str, Any] | None = None
    timelimit: Any = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    ignore_result: bool = False
    is_eager: bool = False
    called_directly: bool = True
    redelivered: bool = False
    deliveries: int = 1
    callbacks: Any = None
    errbacks: Any = None
    chain: Any = _Chain()
    chord: Any = None
    _chain: Any = None
    shadow: str | None = None
    stamped_headers: Any = None
    stamps: Any = None
    replaced_task_nesting: int = 0
    lang: str | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    loglevel: Any = None
    logfile: Any = None
    taskset: Any = None
    utc: Any = None

    #: the limit that retry() was given in this run
    override_max_retries: int | None = None
    #: the next __call__() of the task is that of the worker
    awaits_call = False

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)
        self.unthrown: list[Any] = []  # Retry: what retry(throw=False) returned
        self.children: list[Any] = []  # AsyncResult or GroupResult: the calls that this task published

    def links(self) -> dict[str, Any] | None:
        """What follows this run: callbacks, errbacks, chain and chord, as the task has left them. None for
        nothing."""
        own = self.__dict__
        chain = own.get("chain", self._chain)
        if not (chain or self.callbacks or self.errbacks or self.chord):
            return None
        return {"callbacks": self.callbacks, "errbacks": self.errbacks, "chain": chain, "chord": self.chord}

    def get(self, key: str, default: Any = None) -> Any:
        return getattr(self, key, default)

    def clear(self) -> None:
        """Forget all fields."""
        self.__dict__.clear()
        self.unthrown, self.children = [], []

    def as_execution_options(self) -> dict[str, Any]:
        """The options of a call with which a task of the same place in its workflow is sent."""
        hard_s, soft_s = self.timelimit or (None, None)
        stamps = {k: v for k, v in (self.stamps or {}).items() if k in (self.stamped_headers or ())}
        if self.stamps is not None and self.stamped_headers is not None:
            stamps["stamped_headers"] = self.stamped_headers
        return {
            "task_id": self.id,
            "root_id": self.root_id,
            "parent_id": self.parent_id,
            "group_id": self.group,
            "group_index": self.group_index,
            "shadow": self.shadow,
            "chord": self.chord,
            "chain": self.chain,
            "link": self.callbacks,
            "link_error": self.errbacks,
            "expires": self.expires,
            "soft_time_limit": soft_s,
            "time_limit": hard_s,
            "headers": self.headers or {},
            "retries": self.retries,
            "reply_to": self.reply_to,
            "replaced_task_nesting": self.replaced_task_nesting,
            "origin": self.origin,
            **stamps,
        }

    def update(self, *args: Any, **fields: Any) -> None:
        self.__dict__.update(*args, **fields)


#: (task, request, outer frame) of the task that runs in this thread or coroutine
Frame = tuple[Any, Request, Any]


running: ContextVar[Frame | None] = ContextVar("running", default=None)


NO_REQUEST = Request()


class RequestStack(Sequence[Request]):
    """The requests of one task that are active in this thread or coroutine, the innermost last."""

    def __init__(self, task: Any) -> None:
        self._task = task

    @property
    def stack(self) -> list[Request]:
        found: list[Request] = []
        frame = running.get()
        while frame is not None:
            if frame[0] is self._task:
                found.insert(0, frame[1])
            frame = frame[2]
        return found

    @property
    def top(self) -> Request | None:
        """The innermost one; None outside of a run."""
        found = self.stack
        return found[-1] if found else None

    def push(self, obj: Request) -> list[Request]:
        """Make a request the innermost one, until pop(). Returns all of them."""
        push(self._task, obj)
        return self.stack

    def pop(self) -> Request | None:
        """End the innermost run of the task, and return its request; None outside of one."""
        found = self.top
        if found is not None:
            pop()
        return found

    def __call__(self) -> Request:
        """The innermost one. Raises RuntimeError outside of a run."""
        found = self.top
        if found is None:
            raise RuntimeError(f"no run of {self._task.name} is active here")
        return found

    def __len__(self) -> int:
        return len(self.stack)

    def __getitem__(self, index: Any) -> Any:
        return self.stack[index]

    def __eq__(self, other: object) -> bool:
        return self.stack == (other.stack if isinstance(other, RequestStack) else other)

    __hash__ = None  # type: ignore[assignment]  # it changes


def push(task: Any, request: Request) -> None:
    """Make `task` the running task of this thread or coroutine, with `request`; pop() ends it."""
    running.set((task, request, running.get()))


def pop() -> None:
    frame = running.get()
    if frame is not None:
        running.set(frame[2])


def current_request() -> Request | None:
    """The request of the task that runs in this thread or coroutine; None outside of a run."""
    frame = running.get()
    return frame[1] if frame is not None else None


def current_task() -> Any:
    """The Task that runs in this thread or coroutine; None outside of a run."""
    frame = running.get()
    return frame[0] if frame is not None else None
