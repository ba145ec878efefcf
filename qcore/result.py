"""The caller's handle on a task: AsyncResult.

In:  a task id and an app.  Out: its state, its value, or the exception it ended with.
Before this: results/X kept what worker/run.py reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qcore.errors import ResultsNotKept, TimeoutError
from qcore.wire import result as states
from qcore.wire.result import ResultMeta, exception_from

if TYPE_CHECKING:
    from qcore.app import App


class AsyncResult:
    """One task, by id. Cheap to make; nothing is asked of the store before it is needed."""

    __slots__ = ("_app", "_meta", "_task_name", "id", "parent")

    def __init__(
        self,
        id: str,
        app: App | None = None,
        parent: AsyncResult | None = None,
        task_name: str | None = None,
    ) -> None:
        if not id or not isinstance(id, str):
            raise ValueError(f"a result needs a task id, not {id!r}")
        self.id, self._app, self.parent, self._task_name = id, app, parent, task_name
        self._meta: ResultMeta | None = None

    @property
    def app(self) -> App:
        if self._app is None:
            from qcore.current import current_app

            self._app = current_app()
        return self._app

    def meta(self) -> ResultMeta:
        """What the store knows now; state PENDING when it knows nothing. Final answers are remembered.

        Raises ResultsNotKept, BrokerDown.
        """
        if self._meta is None or not self._meta.is_ready:
            self._meta = self.app.results.get([self.id])[0]
        return self._meta or ResultMeta(task_id=self.id)

    def get(
        self, timeout: float | None = None, propagate: bool = True, interval: float = 0.0, **_: Any
    ) -> Any:
        """Wait for the value.

        timeout is in seconds, None waits for ever. With propagate a failed task raises its
        exception (see wire/result.py for which class), else the exception is returned.
        Raises TimeoutError, ResultsNotKept, BrokerDown, TaskRevokedError.
        """
        if self._meta is None or not self._meta.is_ready:
            found = self.app.results.wait(self.id, timeout)
            if found is None:
                raise TimeoutError(f"no result of {self.id} within {timeout} s")
            self._meta = found
        if self._meta.status in states.PROPAGATE_STATES:
            error = self._error(self._meta)
            if propagate:
                raise error
            return error
        return self._meta.result

    wait = get

    def _error(self, meta: ResultMeta) -> BaseException:
        error = exception_from(meta.result)
        if meta.traceback and self.app.conf.task_remote_tracebacks:
            error.add_note(meta.traceback)
        return error

    @property
    def state(self) -> str:
        return self.meta().status

    status = state

    @property
    def result(self) -> Any:
        """The value; for failed, revoked and retried tasks the exception."""
        meta = self.meta()
        return self._error(meta) if meta.status in states.EXCEPTION_STATES else meta.result

    info = result

    @property
    def traceback(self) -> str | None:
        return self.meta().traceback

    @property
    def date_done(self) -> str | None:
        return self.meta().date_done

    @property
    def children(self) -> list[AsyncResult]:
        """Tasks that this one called."""
        found = []
        for child in self.meta().children or []:
            try:
                found.append(AsyncResult(child[0][0], self._app))
            except (TypeError, IndexError, ValueError):
                continue  # a shape of a later Celery: better one child less than no answer
        return found

    def ready(self) -> bool:
        return self.state in states.READY_STATES

    def successful(self) -> bool:
        """Whether it succeeded. Raises ValueError before it is ready, as Celery does."""
        if not self.ready():
            raise ValueError(f"task {self.id} is not ready yet")
        return self.state == states.SUCCESS

    def failed(self) -> bool:
        return self.state == states.FAILURE

    def forget(self) -> None:
        """Delete the result from the store."""
        self._meta = None
        self.app.results.forget([self.id])

    def revoke(self, terminate: bool = False, signal: str = "TERM", **_: Any) -> None:
        """Do not run it; with terminate stop it if it runs."""
        self.app.control.revoke(self.id, terminate=terminate, signal=signal)

    def kept(self) -> bool:
        """Whether results are kept at all."""
        try:
            return self.app.results.keeps
        except ResultsNotKept:
            return False

    def as_tuple(self) -> tuple[tuple[str, Any], None]:
        return (self.id, self.parent and self.parent.as_tuple()), None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncResult) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<AsyncResult: {self.id}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return AsyncResult, (self.id,)
