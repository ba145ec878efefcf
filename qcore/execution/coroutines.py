"""Coroutines of tasks: awaited with a soft time limit, or run to completion from synchronous code.

In:  the coroutine that a task returned.  Out: its value.
Imported only if a task is a coroutine function: asyncio takes 30 ms to import.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Coroutine, Generator
from typing import Any

from qcore.base import provided
from qcore.errors import SoftTimeLimitExceeded


class CoroutineDriver:
    """Await a coroutine; after soft_s seconds SoftTimeLimitExceeded is raised at its current `await`.

    asyncio can only cancel a task from outside. The driver does that, and raises SoftTimeLimitExceeded in
    the coroutine instead of the CancelledError.
    """

    __slots__ = ("_coro", "_soft_s", "_task", "_too_late")

    def __init__(self, coro: Coroutine[Any, Any, Any], soft_s: float | None) -> None:
        self._coro, self._soft_s, self._too_late = coro, soft_s, False
        self._task: asyncio.Task[Any] | None = None

    def __await__(self) -> Generator[Any, Any, Any]:
        if not self._soft_s:
            return (yield from self._coro.__await__())
        self._task = asyncio.current_task()
        timer = asyncio.get_running_loop().call_later(self._soft_s, self._stop)
        inner = self._coro.__await__()
        try:
            waits_for = next(inner)
            while True:
                try:
                    sent = yield waits_for
                except asyncio.CancelledError as exc:
                    waits_for = inner.throw(self._reason(exc))
                except BaseException as exc:
                    waits_for = inner.throw(exc)
                else:
                    waits_for = inner.send(sent)
        except StopIteration as end:
            return end.value
        finally:
            timer.cancel()

    def _stop(self) -> None:
        self._too_late = True
        if self._task is not None:
            self._task.cancel()

    def _reason(self, exc: BaseException) -> BaseException:
        if not self._too_late or self._task is None:
            return exc
        self._too_late = False
        self._task.uncancel()
        return SoftTimeLimitExceeded()


class _Runners(threading.local):
    runner: asyncio.Runner | None = None


_runners = _Runners()


def complete(coro: Coroutine[Any, Any, Any], soft_s: float | None) -> Any:
    """Run a coroutine from synchronous code and return its value. Each thread keeps its event loop for the
    next call."""
    context = contextvars.copy_context()
    if _has_loop():
        return _in_a_thread(coro, soft_s, context)
    if "event_loop" in provided:  # a thread of many greenlets, each of which may run a loop
        with asyncio.Runner(loop_factory=provided["event_loop"]) as runner:
            return runner.run(_await(coro, soft_s), context=context)
    if _runners.runner is None:
        _runners.runner = asyncio.Runner()
    return _runners.runner.run(_await(coro, soft_s), context=context)


def _has_loop() -> bool:
    """Whether this thread runs an event loop. A function of its own, so that the RuntimeError is not the
    context of what the coroutine raises."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _await(coro: Coroutine[Any, Any, Any], soft_s: float | None) -> Any:
    return await CoroutineDriver(coro, soft_s)


def _in_a_thread(coro: Coroutine[Any, Any, Any], soft_s: float | None, context: contextvars.Context) -> Any:
    """Run it in a new thread, because this one has a running event loop: an eager task in async code."""
    ended: dict[str, Any] = {}

    def serve() -> None:
        try:
            ended["value"] = context.run(asyncio.run, _await(coro, soft_s))
        except BaseException as exc:
            ended["error"] = exc

    thread = threading.Thread(target=serve, name="coroutine", daemon=True)
    thread.start()
    thread.join()
    if "error" in ended:
        raise ended["error"]
    return ended["value"]
