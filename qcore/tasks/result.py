"""The caller's handle of one result, AsyncResult, and of several, ResultSet and GroupResult.

In:  a task id and an app.  Out: its state, and its value or exception.
Before this: execution/run.py made the outcome, and results/X stored it.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

from qcore.base.keywords import check_accepted
from qcore.errors import ResultsNotKept, TimeoutError
from qcore.tasks.awaiting import AwaitedResult, AwaitedSet
from qcore.tasks.current_app import current_app
from qcore.tasks.joins import (
    Promised,
    arrivals,
    as_mapping,
    assert_will_not_block,
    fulfil,
    wait_watched,
)
from qcore.tasks.result_facts import ResultFacts
from qcore.tasks.result_sets import Members, Revocable, Saved
from qcore.tasks.typed import R_co
from qcore.wire import result as states
from qcore.wire.result import ResultMeta, exception_from

if TYPE_CHECKING:
    from qcore.tasks.interface import ClientApp


GET = "timeout propagate interval callback on_message on_interval disable_sync_subtasks"
#: further keywords that are accepted: the last three have no meaning here
GET_OF_CELERY = f"{GET} follow_parents no_ack EXCEPTION_STATES PROPAGATE_STATES"


class AsyncResult(AwaitedResult[R_co], Promised, ResultFacts, Revocable):
    """The result of one task, by id. Creating it makes no request to the result store."""

    __slots__ = ("_app", "_meta", "_task_name", "id", "ignored", "parent")
    TimeoutError = TimeoutError

    def __init__(
        self,
        id: Any,
        backend: Any = None,
        task_name: str | None = None,
        app: ClientApp | None = None,
        parent: AsyncResult | GroupResult | None = None,
    ) -> None:
        if type(id).__name__ == "UUID":
            id = str(id)
        if not id or not isinstance(id, str):
            raise ValueError(f"a result needs a task id, not {id!r}")
        self.id: str = id
        #: backend: the `app.backend` of another app, whose result it is
        self._app, self.parent, self._task_name = app or getattr(backend, "app", None), parent, task_name
        self._meta: ResultMeta | None = None
        self._then: list[Any] | None = None  # pairs: what then() was given
        #: nothing is stored, or no longer: get() returns None at once
        self.ignored = False

    @property
    def app(self) -> ClientApp:
        if self._app is None:
            self._app = current_app()
        return self._app

    @property
    def backend(self) -> Any:
        """The result store with the methods of Celery's backends."""
        return self.app.backend

    def meta(self) -> ResultMeta:
        """The stored state and value; state PENDING if none is stored. A final state is cached.

        Raises ResultsNotKept, BrokerDown.
        """
        if self._meta is None or not self._meta.is_ready:
            self._read(self.app.results.get([self.id])[0])
        return self._meta or ResultMeta(task_id=self.id)

    def _read(self, meta: ResultMeta | None) -> None:
        """Take a state that was read; a final one fulfils what then() was given."""
        self._meta = meta
        if self._then and meta is not None and meta.is_ready:
            self._then = fulfil(self._then, self)

    def _add_then(self, callback: Any, on_error: Any) -> None:
        super()._add_then(callback, on_error)
        self._read(self._meta)

    @overload
    def get(
        self,
        timeout: float | None = None,
        propagate: Literal[True] = True,
        interval: float = 0.5,
        **celerys: Any,
    ) -> R_co: ...
    @overload
    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        **celerys: Any,
    ) -> R_co | BaseException: ...
    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        **celerys: Any,
    ) -> Any:
        """Wait for the value and return it.

        timeout is in seconds, None waits for ever; on_interval() is called every interval seconds meanwhile,
        and on_message(mapping) with each state that is read. Within a task of a worker this is a
        RuntimeError, unless disable_sync_subtasks=False or within allow_join_result(). With
        propagate a failed task raises its exception (see wire/result.py for which class), else the exception
        is returned; as in Celery, that of the first parent that failed (follow_parents=False: its own). None
        at once if the task's result is ignored, or after forget(). callback is called with (id, value) before
        the value is returned. Raises TimeoutError, ResultsNotKept,
        BrokerDown, TaskRevokedError.
        """
        check_accepted("get()", celerys, GET, GET_OF_CELERY)
        if self.ignored:
            return None
        if celerys.get("disable_sync_subtasks", True):
            self._may_wait()
        follow = propagate and self.parent is not None and celerys.get("follow_parents", True)
        if self._meta is None or not self._meta.is_ready:
            watching = celerys.get("on_message"), celerys.get("on_interval")
            if any(watching):
                found = wait_watched(self, timeout, interval, *watching)
            else:
                found = self.app.results.wait(self.id, timeout)
            if found is None:
                if follow:
                    self._raise_of_parents()
                raise TimeoutError(f"no result of {self.id} within {timeout} s")
            self._read(found)
            assert self._meta is not None
        if self._meta.status in states.PROPAGATE_STATES:
            if follow:
                self._raise_of_parents()
            if propagate:
                raise self._thrown(self._meta)
            return self._error(self._meta)
        if celerys.get("callback") is not None:
            celerys["callback"](self.id, self._meta.result)
        return self._meta.result

    wait = get

    def _may_wait(self) -> None:
        assert_will_not_block()

    def _as_mapping(self, meta: ResultMeta) -> dict[str, Any]:
        return as_mapping(meta, self._error if meta.status in states.EXCEPTION_STATES else None)

    def _raise_of_parents(self) -> None:
        """Raise the exception of the first parent that failed, if one did. One round trip for all."""
        parents: list[AsyncResult | GroupResult] = []
        parent = self.parent
        while parent is not None:
            parents.append(parent)
            parent = parent.parent
        found = ResultSet(parents[::-1], self._app)
        found._look()
        found._raise_what_failed()

    def _error(self, meta: ResultMeta) -> BaseException:
        return exception_from(meta.result)

    def _thrown(self, meta: ResultMeta) -> BaseException:
        """The exception that is to be raised: with task_remote_tracebacks its traceback ends with the remote
        one; that needs the package tblib, without which the text is a note of the exception."""
        error = self._error(meta)
        if meta.traceback and self.app.conf.task_remote_tracebacks:
            try:
                tblib = importlib.import_module("tblib")
            except ImportError:
                error.add_note(meta.traceback)
            else:
                remote: TracebackType = tblib.Traceback.from_string(meta.traceback).as_traceback()
                return error.with_traceback(remote)
        return error

    @property
    def state(self) -> str:
        return self.meta().status

    status = state

    @property
    def result(self) -> Any:
        """The value; the exception of a failed, revoked or retried task."""
        meta = self.meta()
        return self._error(meta) if meta.status in states.EXCEPTION_STATES else meta.result

    info = result

    @property
    def children(self) -> list[AsyncResult | GroupResult]:
        """The results of the tasks and groups that this task called."""
        found = []
        for child in self.meta().children or []:
            try:
                found.append(result_from_tuple(child, self._app))
            except (TypeError, IndexError, ValueError):
                continue  # a format of a later Celery: the other children are still valid
        return found

    def as_list(self) -> list[str]:
        """Its id, and those of its parents."""
        parent = self.parent
        if parent is None:
            return [self.id]
        return [self.id, *(parent.as_list() if isinstance(parent, AsyncResult) else [parent.id])]

    def exists(self) -> bool:
        """Whether the store has a state of this task."""
        return self.app.results.stored([self.id])[0] is not None

    def maybe_throw(self, propagate: bool = True, callback: Any = None) -> Any:
        """Raise the exception of a task that failed, without waiting. Returns the value, or None."""
        meta = self.meta()
        if propagate and meta.status in states.PROPAGATE_STATES:
            raise self._thrown(meta)
        if callback is not None:
            callback(self.id, self.result)
        return self.result

    maybe_reraise = maybe_throw

    def ready(self) -> bool:
        return self.state in states.READY_STATES

    def successful(self) -> bool:
        """Whether the task succeeded; False before the result is ready."""
        return self.state == states.SUCCESS

    def failed(self) -> bool:
        return self.state == states.FAILURE

    def forget(self) -> None:
        """Delete the result from the store."""
        self._meta = None
        self.app.results.forget([self.id])
        self.ignored = True

    def _ids(self) -> list[str]:
        return [self.id]

    def kept(self) -> bool:
        """Whether the app stores results."""
        try:
            return self.app.results.keeps
        except ResultsNotKept:
            return False

    def as_tuple(self) -> tuple[tuple[str, Any], None]:
        return (self.id, self.parent and self.parent.as_tuple()), None

    def __eq__(self, other: object) -> bool:
        return str(other) == self.id if isinstance(other, AsyncResult | str) else False

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<AsyncResult: {self.id}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return AsyncResult, (self.id,)


#: the task that collects the results of a group within a workflow
COLLECT = "celery.accumulate"
#: seconds that a group waits for one result before it reads all of them again
SLICE_S = 0.5


class ResultSet(AwaitedSet, Promised, Members, Revocable):
    """Several results, in order, read in one round trip."""

    def __init__(
        self,
        results: Sequence[AsyncResult | GroupResult] = (),
        app: ClientApp | None = None,
        ready_barrier: Any = None,
    ) -> None:
        """ready_barrier: of vine; what waits for this set is told when the barrier is, not when the results
        are read, and a result that is added is added to it."""
        self.results: list[AsyncResult | GroupResult] = list(results)
        self._app = app
        self._then: list[Any] = []
        self._on_full = ready_barrier
        if ready_barrier is not None:
            ready_barrier.then(self._fulfil)

    parent: AsyncResult | GroupResult | None = None

    @property
    def app(self) -> ClientApp:
        if self._app is None:
            self._app = current_app()
        return self._app

    @property
    def backend(self) -> Any:
        """The result store with the methods of Celery's backends."""
        return self.app.backend

    def _leaves(self) -> Iterator[AsyncResult]:
        for result in self.results:
            if isinstance(result, ResultSet):
                yield from result._leaves()
            else:
                yield result

    def _look(self) -> list[AsyncResult]:
        """Read all results that were not ready. Returns those that still are not."""
        waiting = [r for r in self._leaves() if not r.ignored and (r._meta is None or not r._meta.is_ready)]
        if waiting:
            metas = self.app.results.get([r.id for r in waiting])
            for result, meta in zip(waiting, metas, strict=True):
                result._read(meta)
        return [r for r in waiting if r._meta is None or not r._meta.is_ready]

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        **celerys: Any,
    ) -> list[Any]:
        """Wait for all values and return them in order; with propagate, raise the first failure that is read.

        timeout is in seconds; None waits without limit. Raises TimeoutError, ResultsNotKept, BrokerDown.
        """
        check_accepted("get()", celerys, GET, GET_OF_CELERY)
        if celerys.get("disable_sync_subtasks", True):
            assert_will_not_block()
        callback, on_message, on_interval = (
            celerys.get(k) for k in ("callback", "on_message", "on_interval")
        )
        for _ in arrivals(self, timeout, interval, on_message, on_interval) if on_message else ():
            pass
        until = None if timeout is None else time.monotonic() + timeout
        waiting = self._look()
        while waiting:
            if propagate:
                self._raise_what_failed()
            left = SLICE_S if until is None else min(SLICE_S, until - time.monotonic())
            if left <= 0:
                raise TimeoutError(f"{len(waiting)} of {len(self)} results not there within {timeout} s")
            # The last result is likely to be ready last; after SLICE_S all others are read too.
            self.app.results.wait(waiting[-1].id, left)
            if on_interval is not None:
                on_interval()
            waiting = self._look()
        self._all_read()
        given: dict[str, Any] = {"callback": callback, "disable_sync_subtasks": False}
        at_once = [0 if isinstance(r, AsyncResult) else None for r in self.results]
        return [r.get(t, propagate, **given) for r, t in zip(self.results, at_once, strict=True)]

    join = join_native = get

    def _raise_what_failed(self) -> None:
        for result in self._leaves():
            if result._meta is not None and result._meta.status in states.PROPAGATE_STATES:
                if result._task_name == COLLECT and isinstance(result.parent, GroupResult):
                    result.parent._look()  # it stands for this group, whose own failure Celery raises
                    result.parent._raise_what_failed()
                raise result._thrown(result._meta)

    def _all_read(self) -> None:
        if self._on_full is None:
            self._fulfil()

    def _fulfil(self) -> None:
        waiting, self._then = self._then, []  # what is called may read this set
        fulfil(waiting, self)

    def iter_native(
        self,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Any = None,
        on_interval: Any = None,
    ) -> Iterator[tuple[str, Any]]:
        """(id, mapping of the state) of each result, as they arrive. Raises TimeoutError."""
        yield from arrivals(self, timeout, interval, on_message, on_interval)
        self._all_read()

    def ready(self) -> bool:
        if self._look():
            return False
        self._all_read()
        return True

    def successful(self) -> bool:
        return not self._look() and all(r.state == states.SUCCESS for r in self._leaves())

    def failed(self) -> bool:
        self._look()
        return any(r._meta is not None and r._meta.status == states.FAILURE for r in self._leaves())

    def waiting(self) -> bool:
        return bool(self._look())

    def completed_count(self) -> int:
        """How many tasks have succeeded."""
        self._look()
        return sum(r._meta is not None and r._meta.status == states.SUCCESS for r in self._leaves())

    def maybe_throw(self, callback: Any = None, propagate: bool = True) -> None:
        """Raise the exception of a task that failed, without waiting."""
        for result in self.results:
            result.maybe_throw(propagate=propagate, callback=callback)

    maybe_reraise = maybe_throw

    def forget(self) -> None:
        self.app.results.forget([r.id for r in self._leaves()])

    def _ids(self) -> list[str]:
        return [r.id for r in self._leaves()]

    def __iter__(self) -> Iterator[AsyncResult | GroupResult]:
        return iter(self.results)

    def __getitem__(self, index: int) -> AsyncResult | GroupResult:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __bool__(self) -> bool:
        return True


class GroupResult(ResultSet, Saved):
    """The results of a group, with the group id."""

    def __init__(
        self,
        id: Any = None,
        results: Sequence[AsyncResult | GroupResult] = (),
        parent: AsyncResult | GroupResult | None = None,
        app: ClientApp | None = None,
    ) -> None:
        super().__init__(results, app)
        self.id, self.parent = id, parent

    @property
    def children(self) -> list[AsyncResult | GroupResult]:
        return self.results

    def as_tuple(self) -> tuple[tuple[str, Any], list[Any]]:
        return (self.id, self.parent and self.parent.as_tuple()), [r.as_tuple() for r in self.results]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GroupResult) and other.id == self.id and other.results == self.results

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<GroupResult: {self.id} [{', '.join(str(r) for r in self.results)}]>"


def result_from_tuple(r: Any, app: ClientApp | None = None) -> AsyncResult | GroupResult:
    """The handle from the return value of as_tuple(). Raises TypeError, IndexError, ValueError."""
    (found, parent), members = r if isinstance(r[0], list | tuple) else ((r[0], r[1]), None)
    above = result_from_tuple(parent, app) if parent else None
    if members is None:
        return AsyncResult(found, app=app, parent=above)
    return GroupResult(found, [result_from_tuple(m, app) for m in members], above, app)


Handle = AsyncResult | GroupResult
