"""Apps in memory, and workers in a thread of the test."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from qcore import App, chain, chord, group, shared_task
from qcore.errors import ConfigError
from qcore.tasks.current_app import current_or_none
from qcore.testing import in_memory_app, start_worker
from qcore.testing.worker import test_worker_started, test_worker_starting, test_worker_stopped
from tests.support.waiting import wait_for


def test_a_task_runs_in_the_process_of_the_test() -> None:
    seen = []
    with in_memory_app() as app:

        @app.task
        def add(x: int, y: int) -> int:
            seen.append(os.getpid())
            return x + y

        with start_worker(app):
            assert add.delay(1, 2).get(timeout=30) == 3

    assert seen == [os.getpid()]


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_workflows_run(pool: str) -> None:
    with in_memory_app() as app:

        @app.task
        def add(x: int, y: int) -> int:
            return x + y

        @app.task
        def total(values: list[int]) -> int:
            return sum(values)

        with start_worker(app, pool=pool, concurrency=2):
            assert chain(add.s(1, 2), add.s(3))().get(timeout=30) == 6
            assert chord(group(add.s(i, i) for i in range(3)), total.s())().get(timeout=30) == 6


def test_a_task_in_the_threads_pool_may_wait_for_another_one() -> None:
    with in_memory_app() as app:

        @app.task
        def inner() -> str:
            return "inner"

        @app.task
        def outer() -> str:
            return inner.delay().get(timeout=30) + " and outer"

        with start_worker(app, pool="threads", concurrency=2):
            assert outer.delay().get(timeout=30) == "inner and outer"


def test_what_the_test_prints_is_printed_whatever_the_broker(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = App("printing", broker=f"sqlite:///{tmp_path}/q.sqlite3", set_as_current=False)

    with start_worker(app):
        print("meanwhile")
    print("after")
    app.close()

    assert capsys.readouterr().out == "meanwhile\nafter\n"


def test_each_app_has_queues_of_its_own() -> None:
    with in_memory_app() as first, in_memory_app() as second:
        first.send_task("x")

        counts = [app.broker.administration.depth("celery") for app in (first, second)]

    assert [c.ready for c in counts] == [1, 0]


def test_the_current_app_is_the_one_before_again() -> None:
    before = current_or_none()

    with in_memory_app() as app, start_worker(app):
        assert current_or_none() is app

    assert current_or_none() is before


def test_two_tests_may_declare_shared_tasks_of_one_name() -> None:
    values = []
    for number in (1, 2):
        with in_memory_app() as app:

            @shared_task(name="number")
            def tell(number: int = number) -> int:
                return number

            with start_worker(app):
                values.append(tell.delay().get(timeout=30))

    assert values == [1, 2]


def test_a_running_task_finishes_when_the_block_ends() -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), []
    with in_memory_app() as app:

        @app.task
        def slow() -> None:
            begun.set()
            assert may_end.wait(60)
            ended.append(True)

        with start_worker(app):
            slow.delay()
            assert begun.wait(60)
            may_end.set()

    assert ended == [True]


def test_a_task_that_does_not_end_is_an_error_of_the_test() -> None:
    begun, may_end = threading.Event(), threading.Event()
    with in_memory_app() as app:

        @app.task
        def slow() -> None:
            begun.set()
            assert may_end.wait(60)

        with (
            pytest.raises(RuntimeError, match="longer shutdown_timeout"),
            start_worker(app, shutdown_timeout=0.01),
        ):
            slow.delay()
            assert begun.wait(60)
        may_end.set()
        wait_for(lambda: not any(t.name.startswith("worker-test") for t in threading.enumerate()))


def test_a_worker_that_does_not_start_raises_its_error() -> None:
    with (
        in_memory_app(imports=["no_such_module_anywhere"]) as app,
        pytest.raises(ConfigError, match="no_such_module_anywhere"),
        start_worker(app),
    ):
        raise AssertionError("the block must not run")


def test_signals_tell_of_the_worker() -> None:
    seen = []

    def starting(sender: App, **kwargs: object) -> None:
        seen.append(("starting", sender))

    def started(sender: App, worker: object, **kwargs: object) -> None:
        seen.append(("started", sender))

    def stopped(sender: App, worker: object, **kwargs: object) -> None:
        seen.append(("stopped", sender))

    test_worker_starting.connect(starting)
    test_worker_started.connect(started)
    test_worker_stopped.connect(stopped)
    try:
        with in_memory_app() as app, start_worker(app):
            pass
    finally:
        test_worker_starting.disconnect(starting)
        test_worker_started.disconnect(started)
        test_worker_stopped.disconnect(stopped)

    assert seen == [("starting", app), ("started", app), ("stopped", app)]


def test_the_worker_replies_to_control_requests() -> None:
    with in_memory_app() as app, start_worker(app) as worker:
        assert app.control.ping([worker.node], timeout=30) == [{worker.node: {"ok": "pong"}}]


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_many_workers_leave_no_threads_and_no_descriptors(pool: str) -> None:
    def run() -> None:
        with in_memory_app() as app, start_worker(app, pool=pool):
            pass

    run()
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        run()

    wait_for(lambda: threading.active_count() <= threads)
    wait_for(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
