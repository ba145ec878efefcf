"""How a caller waits for results: whether it may, and what it is told meanwhile.

In:  results (result.py).  Out: their stored state, as it arrives. A task that waits for another one occupies
a slot, and when all slots wait nothing runs: in a worker get() is refused, as in Celery.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from qcore.errors import TimeoutError
from qcore.tasks.request import running
from qcore.wire.result import ResultMeta

#: seconds between two calls of on_interval
INTERVAL_S = 0.5
REFUSED = (
    "Never call result.get() within a task! It occupies a slot, and when all slots wait nothing runs: use a "
    "chain or a chord, or get(disable_sync_subtasks=False) or allow_join_result()"
)
#: whether get() is allowed or denied here whatever runs; None: it is denied within a task of a worker
_allowed: ContextVar[bool | None] = ContextVar("joins_allowed", default=None)
#: whether a waiting task blocks its slot; the pools whose tasks all share a thread say that it does not
_pool = {"blocks": True}


def waiting_blocks(blocks: bool) -> None:
    """Set whether a task of this process that waits keeps others from running."""
    _pool["blocks"] = blocks


def assert_will_not_block() -> None:
    """Raises RuntimeError within a task of a worker."""
    allowed = _allowed.get()
    if allowed is False:
        raise RuntimeError(REFUSED)
    frame = running.get() if allowed is None and _pool["blocks"] else None
    while frame is not None:
        if not frame[1].called_directly and not frame[1].is_eager:
            raise RuntimeError(REFUSED)
        frame = frame[2]


@contextmanager
def allow_join_result() -> Iterator[None]:
    """Within it, a task may wait for results."""
    token = _allowed.set(True)
    try:
        yield
    finally:
        _allowed.reset(token)


@contextmanager
def denied_join_result() -> Iterator[None]:
    """Within it, get() is refused outside of tasks too."""
    token = _allowed.set(False)
    try:
        yield
    finally:
        _allowed.reset(token)


def fulfil(waiting: list[Any], result: Any) -> list[Any]:
    """Call each (callback, on_error) of then() with a result that is there. Returns an empty list."""
    for callback, on_error in waiting:
        try:
            callback(result)
        except Exception as exc:
            if on_error is None:
                raise
            on_error(exc)
    return []


class Promised:
    """A result or several with Celery's promises. `_then` has the pairs that then() was given."""

    __slots__ = ("_promise", "_then")
    _then: list[Any] | None
    _promise: Any

    @property
    def on_ready(self) -> Any:
        """The promise, of the package vine, that is fulfilled with this result as soon as this process has
        read the final state; what then() was given is told by it from now on."""
        found = getattr(self, "_promise", None)
        if found is None:
            from vine import promise

            found = self._promise = promise()
            waiting, self._then = self._then or (), []
            for callback, on_error in waiting:
                found.then(callback, on_error)
            self._add_then(found, None)
        return found

    def throw(self, *args: Any, **kwargs: Any) -> None:
        """Have on_ready fail with an exception: each on_error that then() was given is called with it.
        Raises the exception, as vine's promises do."""
        self.on_ready.throw(*args, **kwargs)

    def then(self, callback: Any, on_error: Any = None, weak: bool = False) -> Any:
        """Call callback(result) as soon as this process has read the final state (of all results of a set),
        by get() or ready(), whatever the state is; on_error(exception) if that raises. Returns callback."""
        found = getattr(self, "_promise", None)
        if found is None:
            self._add_then(callback, on_error)
        else:
            found.then(callback, on_error)
        return callback

    def _add_then(self, callback: Any, on_error: Any) -> None:
        self._then = [*(self._then or ()), (callback, on_error)]


def as_mapping(
    meta: ResultMeta, error: Callable[[ResultMeta], BaseException] | None = None
) -> dict[str, Any]:
    """What on_message() and iter_native() get of a state: a mapping, as Celery's. error makes the
    exception of one that failed."""
    return {
        "task_id": meta.task_id,
        "status": meta.status,
        "result": error(meta) if error is not None else meta.result,
        "traceback": meta.traceback,
        "children": meta.children or [],
        "date_done": meta.date_done,
    }


def wait_watched(
    result: Any,
    timeout: float | None,
    interval: float,
    on_message: Callable[[dict[str, Any]], Any] | None,
    on_interval: Callable[[], Any] | None,
) -> ResultMeta | None:
    """Wait as results.wait() does, and call on_interval() every interval seconds, and on_message() with each
    state that is seen. None after timeout seconds."""
    until, seen = (None if timeout is None else time.monotonic() + timeout), None
    while True:
        meta: ResultMeta | None = result.app.results.get([result.id])[0]
        if meta is not None and meta != seen:
            seen = meta
            if on_message is not None:
                on_message(result._as_mapping(meta))
        if meta is not None and meta.is_ready:
            return meta
        left = interval or INTERVAL_S
        if until is not None:
            left = min(left, until - time.monotonic())
        if left <= 0:
            return None
        result.app.results.wait(result.id, left)
        if on_interval is not None:
            on_interval()


def arrivals(
    results: Any,
    timeout: float | None,
    interval: float,
    on_message: Callable[[dict[str, Any]], Any] | None,
    on_interval: Callable[[], Any] | None,
) -> Iterator[tuple[str, Any]]:
    """(id, state as a mapping) of each result of a set, as they arrive; of a group in it its members.

    Raises TimeoutError.
    """
    until, waiting = (None if timeout is None else time.monotonic() + timeout), list(results.results)
    while waiting:
        pending = results._look()
        later = []
        for result in waiting:
            if hasattr(result, "results"):
                yield result.id, result.results
            elif result not in pending and not result.ignored:
                meta = result._as_mapping(result.meta())
                if on_message is not None:
                    on_message(meta)
                yield result.id, meta
            elif not result.ignored:
                later.append(result)
        waiting = later
        if waiting:
            left = interval or INTERVAL_S
            if until is not None:
                left = min(left, until - time.monotonic())
            if left <= 0:
                raise TimeoutError(f"{len(waiting)} of {len(results)} results not there within {timeout} s")
            results.app.results.wait(waiting[0].id, left)
            if on_interval is not None:
                on_interval()
