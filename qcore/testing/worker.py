"""A worker in a thread of the test's process.

In:  an app.  Out: a worker that runs its tasks until the `with` block ends; it starts and stops within
milliseconds, prints nothing, and handles no signals.
Before this: app.py.  After this: worker/worker.py.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from qcore.signals import Signal
from qcore.tasks.decorators import shared_task
from qcore.tasks.joins import allow_join_result, waiting_blocks
from qcore.worker.services.base import ShutdownStage
from qcore.worker.worker import Worker

WORKER_LOGLEVEL = os.environ.get("WORKER_LOGLEVEL", "error")
#: seconds after which a worker that is not ready is given up
START_S = 30.0

test_worker_starting = Signal("test_worker_starting")
test_worker_started = Signal("test_worker_started", "worker consumer")
test_worker_stopped = Signal("test_worker_stopped", "worker")

_numbers = itertools.count(1)


@shared_task(name="celery.ping")
def ping() -> str:
    """Returns 'pong': whether a worker runs."""
    return "pong"


class TestWorkController(Worker):
    """A worker that tells when it is ready, and what it failed of before that."""

    __test__ = False
    redirects_output = False  # the process is the test's, which prints after the worker too

    def __init__(self, app: Any, **options: Any) -> None:
        self._settled = threading.Event()
        self._failure: BaseException | None = None
        super().__init__(app, **options)

    def start(self) -> None:
        """Run until the shutdown; to be called in a thread."""
        try:
            self.run()
        except BaseException as exc:
            self._failure = exc
            if self._settled.is_set():
                raise  # nobody waits for it any more; the thread's end shows it
        finally:
            loop = getattr(self, "loop", None)  # there is none before the pool and the consumer
            if loop is not None:
                loop.release()
            self._settled.set()

    def ensure_started(self) -> None:
        """Wait until it is ready. Raises what it failed of."""
        if not self._settled.wait(START_S):
            raise RuntimeError(f"the worker {self.node} is not ready after {START_S:g} s")
        if self._failure is not None:
            raise self._failure

    def shut_down(self) -> None:
        """Ask it to finish what it runs, and to end."""
        self.loop.stop(ShutdownStage.WARM)

    def reload(self, modules: Any = None, reload: bool = False, reloader: Any = None) -> None:
        """Does nothing: a task that is registered while the worker runs can be called. Celery's worker learns
        of it by this."""

    def _say_ready(self) -> None:
        test_worker_started.send(self.app, worker=self, consumer=self.loop.consumer)
        self._settled.set()


@contextmanager
def start_worker(
    app: Any,
    concurrency: int = 1,
    pool: str = "solo",
    loglevel: str | int = WORKER_LOGLEVEL,
    logfile: str | None = None,
    perform_ping_check: bool = True,
    ping_task_timeout: float = 10.0,
    shutdown_timeout: float = 10.0,
    **kwargs: Any,
) -> Iterator[TestWorkController]:
    """Run a worker in a thread, until the block ends; then running tasks finish, for at most shutdown_timeout
    seconds, else RuntimeError.

    pool: solo, one task after the other, or threads, `concurrency` at a time. perform_ping_check: it first
    runs the task celery.ping, whose result must come within ping_task_timeout seconds. Tasks may wait for
    results in it, as with Celery's. kwargs: options of a worker (queues, hostname, …).
    """
    test_worker_starting.send(app)
    worker = None
    try:
        with _worker_thread(
            app,
            concurrency,
            pool,
            loglevel,
            logfile,
            shutdown_timeout,
            kwargs.pop("WorkController", None),
            kwargs,
        ) as worker:
            if perform_ping_check:
                _check(app, ping_task_timeout)
            yield worker
    finally:
        test_worker_stopped.send(app, worker=worker)


def _check(app: Any, timeout_s: float) -> None:
    with allow_join_result():
        answer = app.task_named("celery.ping").delay().get(timeout=timeout_s)
    if answer != "pong":
        raise RuntimeError(f"the task celery.ping returned {answer!r} instead of 'pong'")


@contextmanager
def _worker_thread(
    app: Any,
    concurrency: int,
    pool: str,
    loglevel: str | int,
    logfile: str | None,
    shutdown_timeout: float,
    kind: type[TestWorkController] | None,
    options: dict[str, Any],
) -> Iterator[TestWorkController]:
    setup_app_for_worker(app, loglevel, logfile)
    options.setdefault("hostname", f"test{next(_numbers)}.{os.getpid()}@%h")
    options.setdefault("without_heartbeat", True)
    worker = (kind or TestWorkController)(
        app, concurrency=concurrency, pool=pool, loglevel=loglevel, logfile=logfile, **options
    )
    thread = threading.Thread(target=worker.start, name=f"worker-{worker.node}", daemon=True)
    thread.start()
    worker.ensure_started()
    waiting_blocks(False)
    try:
        yield worker
    finally:
        worker.shut_down()
        thread.join(shutdown_timeout)
        waiting_blocks(True)
        if thread.is_alive():
            raise RuntimeError(
                f"the worker {worker.node} still runs a task {shutdown_timeout:g} s after its shutdown; give "
                "start_worker() a longer shutdown_timeout"
            )


def setup_app_for_worker(app: Any, loglevel: str | int, logfile: str | None) -> None:
    """Make `app` the current one, with its tasks complete."""
    finalize = getattr(app, "finalize", None)
    if finalize is not None:
        finalize()
    app.set_current()
