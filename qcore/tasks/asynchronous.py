"""The client in asyncio: calls and results that never block the event loop.

In:  functions that publish, from coroutines.  Out: what they return, and results that coroutines wait for.
Before this: `await task.adelay()`, `await result`.  After this: brokers/X.

The drivers block, so a few threads (CALL_THREADS) make the calls, and one thread for each result store
watches all results that coroutines of this process wait for: on Redis through one connection that is
subscribed to all of them. Threads rather than sockets in the loop: signals, routers and apply_async() of a
project run in a call, and each may block. What the threads bring is handed to a loop in portions, so that
other tasks run in between.

Imported only by coroutines: asyncio takes 30 ms to import.
"""

from __future__ import annotations

import asyncio
import builtins
import logging
import os
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from qcore.brokers.contract.result_watch import ResultWatch
from qcore.errors import QcoreError, TimeoutError
from qcore.results.base import ResultStore
from qcore.wire.result import ResultMeta

log = logging.getLogger("qcore.asyncio")

#: threads that make calls: on SQLite those that publish at the same time share a sync of the disk; for the
#: one connection to a server they wait
CALL_THREADS = 8
#: how many calls a loop begins, and how many values it takes, before its other tasks run
PORTION = 32
#: seconds after which a thread that watches nothing ends
IDLE_S = 5.0

T = TypeVar("T")
Future = asyncio.Future[Any]


class Deliveries:
    """Values for the futures of one loop, from other threads; and the turns of its calls."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Future, Any, BaseException | None]] = deque()
        self._lock, self._is_due = threading.Lock(), False
        self._begun, self._queued = 0, deque[Future]()

    async def turn(self) -> None:
        """Wait while PORTION calls have begun in this iteration of the loop, in the order of the callers."""
        loop = asyncio.get_running_loop()
        if self._begun < PORTION and not self._queued:
            if not self._begun:
                loop.call_soon(self._next_turn)
            self._begun += 1
            return
        future = loop.create_future()
        self._queued.append(future)
        await future

    def _next_turn(self) -> None:
        self._begun = 0
        while self._queued and self._begun < PORTION:
            future = self._queued.popleft()
            if not future.done():
                future.set_result(None)
                self._begun += 1
        if self._begun:
            asyncio.get_running_loop().call_soon(self._next_turn)

    def add(self, future: Future, value: Any, error: BaseException | None = None) -> None:
        self._waiting.append((future, value, error))
        with self._lock:
            if self._is_due:
                return
            self._is_due = True
        try:
            future.get_loop().call_soon_threadsafe(self._deliver)
        except RuntimeError:
            log.debug("a value came after its event loop was closed")

    def _deliver(self) -> None:
        for _ in range(min(PORTION, len(self._waiting))):
            future, value, error = self._waiting.popleft()
            if future.done():
                continue  # cancelled
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
        with self._lock:
            self._is_due = bool(self._waiting)
        if self._is_due:
            asyncio.get_running_loop().call_soon(self._deliver)


# A value must not hold its key: a closed loop would never be freed.
_deliveries: WeakKeyDictionary[asyncio.AbstractEventLoop, Deliveries] = WeakKeyDictionary()


def _deliveries_of(loop: asyncio.AbstractEventLoop) -> Deliveries:
    found = _deliveries.get(loop)
    if found is None:
        found = _deliveries[loop] = Deliveries()
    return found


# --- calls


class CallThreads:
    """The threads of this process that make calls for coroutines."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._calls: SimpleQueue[tuple[Callable[[], Any], Future, Deliveries]] = SimpleQueue()
        for number in range(CALL_THREADS):
            threading.Thread(target=self._serve, name=f"qcore-call-{number}", daemon=True).start()

    def submit(self, call: Callable[[], Any], future: Future, deliveries: Deliveries) -> None:
        self._calls.put((call, future, deliveries))

    def _serve(self) -> None:
        while True:
            self._make(*self._calls.get())  # a method of its own: a thread that waits keeps nothing alive

    @staticmethod
    def _make(call: Callable[[], Any], future: Future, deliveries: Deliveries) -> None:
        if future.cancelled():
            return
        try:
            value = call()
        except BaseException as exc:
            # StopIteration cannot be set on a future, and would end the coroutine that waits.
            error = RuntimeError(f"a call raised {exc!r}") if isinstance(exc, StopIteration) else exc
            deliveries.add(future, None, error)
        else:
            deliveries.add(future, value)


_threads: list[CallThreads] = []
_threads_lock = threading.Lock()


async def in_thread(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call a function that may block in another thread, with the context of this coroutine. If the coroutine
    is cancelled meanwhile, a call that has begun goes on."""
    loop = asyncio.get_running_loop()
    if not _threads or _threads[0].pid != os.getpid():
        with _threads_lock:
            if not _threads or _threads[0].pid != os.getpid():
                _threads[:] = [CallThreads()]  # a forked child has no threads of its parent
    deliveries = _deliveries_of(loop)
    await deliveries.turn()
    future, context = loop.create_future(), copy_context()
    _threads[0].submit(lambda: context.run(function, *args, **kwargs), future, deliveries)
    found: T = await future
    return found


# --- results


class ResultWatcher:
    """Tells coroutines of the results in one store; a thread watches while some are awaited."""

    def __init__(self, store: ResultStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._waiting: dict[str, list[tuple[Future, Deliveries]]] = {}
        self._watch: ResultWatch | None = None

    def future_of(self, task_id: str) -> Future:
        """A future of the running loop for the meta of a result, once it is ready; forget() gives it up."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        with self._lock:
            self._waiting.setdefault(task_id, []).append((future, _deliveries_of(loop)))
            if self._watch is None:
                self._watch = self._store.watch()
                threading.Thread(
                    target=self._serve, args=(self._watch,), name="qcore-results", daemon=True
                ).start()
            self._watch.add((task_id,))
        return future

    def forget(self, task_id: str, future: Future) -> None:
        """The future is not awaited any more."""
        with self._lock:
            left = [one for one in self._waiting.get(task_id, ()) if one[0] is not future]
            if left:
                self._waiting[task_id] = left
            elif self._waiting.pop(task_id, None) is not None and self._watch is not None:
                self._watch.remove((task_id,))

    def _serve(self, watch: ResultWatch) -> None:
        try:
            while True:
                metas: list[ResultMeta] = []
                try:
                    metas = watch.arrived(IDLE_S)
                except QcoreError as exc:
                    self._fail(exc, watch)
                if not metas and self._is_idle():
                    return
                self._hand_over(metas)
        except BaseException as exc:
            log.exception("results are not watched any more; who waits for one gets this error")
            with self._lock:
                self._watch = None
            self._fail(exc, watch)
        finally:
            watch.close()

    def _is_idle(self) -> bool:
        """Whether nobody waits: then this thread ends, and the next one that waits starts another."""
        with self._lock:
            if not self._waiting:
                self._watch = None
            return not self._waiting

    def _hand_over(self, metas: list[ResultMeta]) -> None:
        with self._lock:
            found = [(meta, self._waiting.pop(meta.task_id, ())) for meta in metas]
        for meta, futures in found:
            for future, deliveries in futures:
                deliveries.add(future, meta)

    def _fail(self, error: BaseException, watch: ResultWatch) -> None:
        """Raise an error in all that wait."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            watch.remove(waiting)
        for futures in waiting.values():
            for future, deliveries in futures:
                deliveries.add(future, None, error)


_watchers_lock = threading.Lock()


def watcher_of(store: ResultStore) -> ResultWatcher:
    """The watcher of a store; one for all loops."""
    found = store.watcher
    if found is None:
        with _watchers_lock:
            found = store.watcher = store.watcher or ResultWatcher(store)
    watcher: ResultWatcher = found
    return watcher


async def arriving(app: Any, task_ids: Sequence[str]) -> AsyncGenerator[ResultMeta, None]:
    """The metas of results as they are ready. Raises BrokerDown, ResultsNotKept."""
    store: ResultStore = app.results_if_open or await in_thread(lambda: app.results)
    if not store.keeps:
        store.get(task_ids)  # raises
    watcher = watcher_of(store)
    ready: asyncio.Queue[Future] = asyncio.Queue()
    futures = {}
    try:
        for number, task_id in enumerate(dict.fromkeys(task_ids), 1):
            future = futures[task_id] = watcher.future_of(task_id)
            future.add_done_callback(ready.put_nowait)
            if number % PORTION == 0:
                await asyncio.sleep(0)
        for _ in futures:
            yield (await ready.get()).result()
    finally:
        for task_id, future in futures.items():
            if future.done():
                future.cancelled() or future.exception()  # one that nobody has read is logged otherwise
            else:
                future.cancel()
                watcher.forget(task_id, future)


@asynccontextmanager
async def within(timeout: float | None, what: str) -> AsyncIterator[None]:
    """asyncio.timeout() that raises qcore's TimeoutError."""
    try:
        async with asyncio.timeout(timeout):
            yield
    except builtins.TimeoutError:
        raise TimeoutError(f"{what} within {timeout} s") from None
