"""What results have for coroutines: `await result`, `async for` over a group.

In:  handles of result.py.  Out: values, without blocking the event loop.
After this: asynchronous.py, which is imported at the first use.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import aclosing
from typing import Any, Generic, Literal, overload

from qcore.tasks.typed import R_co
from qcore.wire.result import PROPAGATE_STATES, ResultMeta


class AwaitedResult(Generic[R_co]):
    """The part of AsyncResult for coroutines."""

    __slots__ = ()
    id: str
    app: Any
    parent: Any
    ignored: bool
    _meta: ResultMeta | None
    get: Any
    _read: Any
    _may_wait: Any

    def __await__(self) -> Generator[Any, Any, R_co]:
        """Wait for the value, without limit: see aget()."""
        return self.aget().__await__()

    @overload
    async def aget(
        self,
        timeout: float | None = None,
        propagate: Literal[True] = True,
        *,
        disable_sync_subtasks: bool = True,
    ) -> R_co: ...
    @overload
    async def aget(
        self, timeout: float | None = None, propagate: bool = True, *, disable_sync_subtasks: bool = True
    ) -> R_co | BaseException: ...
    async def aget(
        self, timeout: float | None = None, propagate: bool = True, *, disable_sync_subtasks: bool = True
    ) -> Any:
        """As get(), in a coroutine: the event loop runs on. Raises what get() raises."""
        from qcore.tasks.asynchronous import arriving, in_thread, within

        if self.ignored:
            return None
        if disable_sync_subtasks:
            self._may_wait()
        if self._meta is None or not self._meta.is_ready:
            async with within(timeout, f"no result of {self.id}"):
                async for meta in arriving(self.app, [self.id]):
                    self._read(meta)
        failed = self._meta is not None and self._meta.status in PROPAGATE_STATES
        if failed and propagate and self.parent is not None:
            return await in_thread(self.get, disable_sync_subtasks=False)  # it reads the parents
        return self.get(propagate=propagate, disable_sync_subtasks=False)


class AwaitedSet:
    """The part of ResultSet for coroutines."""

    app: Any
    get: Any
    _leaves: Any
    _raise_what_failed: Any

    def __await__(self) -> Generator[Any, Any, list[Any]]:
        """Wait for all values, without limit: see aget()."""
        return self.aget().__await__()

    async def aget(
        self, timeout: float | None = None, propagate: bool = True, *, disable_sync_subtasks: bool = True
    ) -> list[Any]:
        """As get(), in a coroutine: the event loop runs on. Raises what get() raises."""
        from qcore.tasks.asynchronous import in_thread, within
        from qcore.tasks.joins import assert_will_not_block

        if disable_sync_subtasks:
            assert_will_not_block()
        failed = False
        what = f"not all of {len(list(self._leaves()))} results were there"
        async with within(timeout, what), aclosing(self.__aiter__()) as results:
            async for result in results:
                if result._meta.status in PROPAGATE_STATES:
                    failed = True
                    if propagate:
                        await in_thread(self._raise_what_failed)
        if failed:
            found: list[Any] = await in_thread(self.get, propagate=propagate, disable_sync_subtasks=False)
            return found
        values: list[Any] = self.get(propagate=propagate, disable_sync_subtasks=False)
        return values

    async def __aiter__(self) -> AsyncGenerator[Any, None]:
        """The results of single tasks, each as soon as it is ready: its get() does not wait any more. A task
        that failed does not end the iteration. Results that are ignored are left out."""
        from qcore.tasks.asynchronous import arriving

        waiting: dict[str, list[Any]] = {}
        leaves: Iterator[Any] = self._leaves()
        for result in leaves:
            if result.ignored:
                continue
            if result._meta is not None and result._meta.is_ready:
                yield result
            else:
                waiting.setdefault(result.id, []).append(result)
        if not waiting:
            return
        async with aclosing(arriving(self.app, list(waiting))) as metas:
            async for meta in metas:
                for result in waiting[meta.task_id]:
                    result._read(meta)
                    yield result
