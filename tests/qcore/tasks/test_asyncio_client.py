"""The client in asyncio: `await task.adelay()`, `await result`, `async for` over a group."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from qcore import App, AsyncResult, chain, group
from qcore.errors import BrokerDown, ResultsNotKept, TimeoutError
from qcore.tasks import asynchronous
from qcore.tasks.joins import denied_join_result
from qcore.testing import in_memory_app, start_worker
from tests.support.processes import Processes
from tests.support.redis_server import RedisServer, require_server
from tests.support.waiting import wait_for


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Its value; no test waits longer than this for what should come."""
    return asyncio.run(asyncio.wait_for(coroutine, 60))


@pytest.fixture
def app() -> Iterator[App]:
    with in_memory_app() as app, start_worker(app, pool="threads", concurrency=4):
        yield app


def test_a_call_and_its_result_are_awaited(app: App) -> None:
    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    async def main() -> list[int]:
        first = await add.adelay(1, 2)
        second = await add.aapply_async((3,), {"y": 4}, priority=3)
        return [await first, await second.aget(timeout=60), await first, first.get(timeout=0)]

    assert run(main()) == [3, 7, 3, 3]


def test_tasks_signatures_and_names_are_sent(app: App) -> None:
    @app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    async def main() -> list[Any]:
        return [
            await (await add.s(1).adelay(2)),
            await (await chain(add.s(1, 2), add.s(3)).aapply_async()),
            await (await app.asend_task("add", (4, 5))),
            await (await group(add.s(i, i) for i in range(3)).aapply_async()),
        ]

    assert run(main()) == [3, 6, 9, [0, 2, 4]]


def test_the_exception_of_a_failed_task_is_raised(app: App) -> None:
    @app.task
    def fail(text: str = "no") -> int:
        raise ValueError(text)

    @app.task
    def add(x: int) -> int:
        return x

    async def main() -> None:
        with pytest.raises(ValueError, match="no"):
            await (await fail.adelay())
        error = await (await fail.adelay()).aget(propagate=False)
        assert isinstance(error, ValueError)
        last = await chain(fail.s("first"), add.s()).aapply_async()
        with pytest.raises(ValueError, match="first"):
            await last
        results = await group(add.s(1), fail.s("member")).aapply_async()
        with pytest.raises(ValueError, match="member"):
            await results
        values = await results.aget(propagate=False)
        assert values[0] == 1 and isinstance(values[1], ValueError)

    run(main())


def test_wrong_arguments_are_refused_as_in_a_plain_call(app: App) -> None:
    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    async def main() -> None:
        with pytest.raises(TypeError, match="missing a required argument"):
            await add.adelay(1)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="did you mean 'queue'"):
            await add.aapply_async((1, 2), quue="x")  # type: ignore[call-overload]

    run(main())


def test_a_result_that_does_not_come_is_a_time_out_and_is_not_watched_any_more() -> None:
    with in_memory_app() as app:
        result, members = AsyncResult("never", app=app), app.GroupResult("g", [AsyncResult("n1", app=app)])

        async def main() -> None:
            with pytest.raises(TimeoutError, match=r"no result of never within 0\.01 s"):
                await result.aget(timeout=0.01)
            with pytest.raises(TimeoutError, match="not all of 1 results"):
                await members.aget(timeout=0.01)
            task = asyncio.create_task(result.aget())
            watcher = asynchronous.watcher_of(app.results)
            while "never" not in watcher._waiting:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert watcher._waiting == {}

        run(main())


def test_the_results_of_a_group_come_as_they_are_ready(app: App) -> None:
    may_end = {name: threading.Event() for name in "abc"}

    @app.task
    def wait(name: str) -> str:
        assert may_end[name].wait(60)
        return name

    async def main() -> list[str]:
        results = await group(wait.s(name) for name in "abc").aapply_async()
        seen = []
        may_end["b"].set()
        async for result in results:
            seen.append(result.get(timeout=0))
            following = {"b": "c", "c": "a", "a": "a"}[seen[-1]]
            may_end[following].set()
        return seen

    assert run(main()) == ["b", "c", "a"]


def test_a_failed_member_does_not_end_the_iteration(app: App) -> None:
    @app.task
    def one(fails: bool) -> int:
        if fails:
            raise ValueError("no")
        return 1

    async def main() -> list[str]:
        results = await group(one.s(True), one.s(False)).aapply_async()
        return sorted([result.state async for result in results])

    assert run(main()) == ["FAILURE", "SUCCESS"]


def test_an_eager_result_is_awaited_at_once() -> None:
    with in_memory_app(task_always_eager=True) as app:

        @app.task
        def add(x: int, y: int) -> int:
            return x + y

        async def main() -> list[Any]:
            return [await (await add.adelay(1, 2)), await add.apply((3, 4))]

        assert run(main()) == [3, 7]


def test_an_app_without_results_says_so() -> None:
    with in_memory_app(result_backend="disabled://") as app:

        async def main() -> None:
            with pytest.raises(ResultsNotKept):
                await AsyncResult("x", app=app)

        run(main())


def test_awaiting_is_refused_where_get_is() -> None:
    with in_memory_app() as app:

        async def main() -> None:
            with denied_join_result():
                with pytest.raises(RuntimeError, match="Never call result"):
                    await AsyncResult("x", app=app)
                with pytest.raises(RuntimeError, match="Never call result"):
                    await app.GroupResult("g", [AsyncResult("x", app=app)])

        run(main())


def test_a_call_has_the_context_of_its_coroutine(app: App) -> None:
    tenant: ContextVar[str] = ContextVar("tenant")
    seen = []

    class Tenants(app.Task):  # type: ignore[misc,name-defined]
        def apply_async(self, *args: Any, **options: Any) -> Any:
            seen.append((tenant.get(), threading.current_thread() is threading.main_thread()))
            return super().apply_async(*args, **options)

    @app.task(base=Tenants)
    def one() -> int:
        return 1

    async def main() -> None:
        tenant.set("first")
        await (await one.adelay())

    run(main())
    assert seen == [("first", False)]


def test_several_loops_may_follow_each_other_or_run_at_once(app: App) -> None:
    @app.task
    def double(x: int) -> int:
        return 2 * x

    async def one(x: int) -> int:
        return await (await double.adelay(x))

    found: list[int] = []
    threads = [threading.Thread(target=lambda x=x: found.append(run(one(x)))) for x in range(4)]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(found) == [0, 2, 4, 6]
    assert run(one(5)) == 10


def test_the_app_is_opened_and_closed_off_the_loop(redis_url: str) -> None:
    app = App("opened", broker=redis_url, set_as_current=False)
    assert app.results_if_open is None

    async def main() -> None:
        async with app as entered:
            assert entered is app and app.results_if_open is not None
            assert (await app.asend_task("x")).id
        assert app.results_if_open is None

    run(main())


# --- against Redis


def test_a_server_that_does_not_answer_does_not_stop_the_loop() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # nobody accepts, nobody replies
        url = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        app = App("hangs", broker=url, set_as_current=False, task_publish_retry=False)

        async def main() -> None:
            calls = [asyncio.create_task(app.asend_task("x")) for _ in range(10)]
            waiting = asyncio.create_task(AsyncResult("x", app=app).aget())
            for _ in range(5_000):
                await asyncio.sleep(0)
            assert not any(call.done() for call in calls) and not waiting.done()
            server.close()
            for one in (*calls, waiting):
                with pytest.raises(BrokerDown):
                    await one

        run(main())


def test_who_awaits_a_result_is_told_of_an_outage_and_may_try_again() -> None:
    server = RedisServer(require_server())
    app = App("outage", broker=server.url, set_as_current=False)
    try:

        async def main() -> None:
            first = asyncio.create_task(AsyncResult("x", app=app).aget())
            watcher = asynchronous.watcher_of(await asynchronous.in_thread(lambda: app.results))
            while "x" not in watcher._waiting:
                await asyncio.sleep(0)
            await asyncio.to_thread(server.kill9)
            with pytest.raises(BrokerDown):
                await first
            await asyncio.to_thread(server.start)
            again = asyncio.create_task(AsyncResult("x", app=app).aget())
            await asynchronous.in_thread(app.store_state, "x", "SUCCESS", 5)
            assert await again == 5

        run(main())
    finally:
        app.close()
        server.stop()


def test_a_thousand_calls_and_results_are_in_flight_in_one_loop(redis_url: str, processes: Processes) -> None:
    processes.start_qcore_worker(redis_url, "-c", "1", "-P", "threads", app="tests.projects.proj")
    app = App("many", broker=redis_url, set_as_current=False)
    most = asynchronous.PORTION
    progress = {"called": 0, "ended": 0}
    steps: list[tuple[int, int]] = []

    async def one(x: int) -> int:
        result = await app.asend_task("proj.add", (x, 1))
        progress["called"] += 1
        value: int = await result
        progress["ended"] += 1
        return value

    async def tick(until: asyncio.Event) -> None:
        before = dict(progress)
        while not until.is_set():
            await asyncio.sleep(0)
            steps.append((progress["called"] - before["called"], progress["ended"] - before["ended"]))
            before = dict(progress)

    async def main() -> list[int]:
        async with app:
            until = asyncio.Event()
            ticking = asyncio.create_task(tick(until))
            values = await asyncio.gather(*[one(x) for x in range(1_000)])
            until.set()
            await ticking
            return values

    assert run(main()) == [x + 1 for x in range(1_000)]
    # Between two turns of another task of the loop at most two portions are handed over, of any kind: no
    # burst of results holds the loop.
    assert max(called for called, _ in steps) <= 2 * most
    assert max(ended for _, ended in steps) <= 2 * most
    assert len(steps) >= 2 * 1_000 // (2 * most)


def test_a_thread_that_watches_nothing_ends(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setattr(asynchronous, "IDLE_S", 0.05)
    app = App("idle", broker=redis_url, set_as_current=False)
    app.store_state("x", "SUCCESS", 1)

    async def main() -> Any:
        return await AsyncResult("x", app=app)

    assert run(main()) == 1
    wait_for(lambda: asynchronous.watcher_of(app.results)._watch is None)
    assert run(main()) == 1
    app.close()


def test_a_closed_loop_is_not_kept(app: App) -> None:
    @app.task
    def one() -> int:
        return 1

    async def main() -> int:
        return await (await one.adelay())

    assert run(main()) == 1
    wait_for(lambda: (gc.collect(), len(asynchronous._deliveries) == 0)[1])
