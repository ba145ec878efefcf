"""Workflows: chain, group, chord through real workers, ours and Celery's, on Redis and SQLite."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qcore import App, chain, chord, chunks, group, signature
from qcore.brokers.registry import open_broker
from qcore.errors import ChordError, Unsupported
from qcore.wire.outcome import ChordPart
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_for

FLOWS = "tests.projects.flows"
NEAR = {"timeout": 60}


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def module_url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"module_{request.param}_url")
    return found


@pytest.fixture
def app(module_url: str) -> Iterator[App]:
    made = App("canvas", broker=module_url, backend=module_url, set_as_current=False)
    yield made
    made.close()


@pytest.fixture(scope="module")
def worker(module_url: str, module_processes: Processes) -> Process:
    """One for all tests of a kind of broker."""
    return module_processes.start_qcore_worker(module_url, "-c", "2", app=FLOWS)


def sigs(app: App) -> Callable[..., Any]:
    """sig('add', 1, 2): a signature of the project, made where its tasks are not known."""

    def sig(name: str, *args: Any, **options: Any) -> Any:
        return signature(f"flows.{name}", args, app=app, **options)

    return sig


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


# --- through our worker


def test_a_chain_runs_step_by_step(app: App, worker: Process) -> None:
    s = sigs(app)

    result = chain(s("add", 2, 2), s("mul", 10), s("add", 1)).apply_async()

    assert result.get(**NEAR) == 41
    assert result.parent.get(**NEAR) == 40
    assert result.parent.parent.get(**NEAR) == 4
    assert [c.id for c in result.parent.parent.children] == [result.parent.id]


def test_the_bar_makes_chains(app: App, worker: Process) -> None:
    s = sigs(app)

    result = (s("add", 2, 2) | s("mul", 10) | s("add", 7, 7, immutable=True))()

    assert result.get(**NEAR) == 14


def test_a_group_gives_its_results_in_order(app: App, worker: Process) -> None:
    s = sigs(app)

    result = group(s("add", i, i) for i in range(50)).apply_async()

    assert result.get(**NEAR) == [2 * i for i in range(50)]
    assert result.completed_count() == 50
    assert result.ready() and result.successful() and not result.failed()
    assert len(result.children) == 50
    meta = result[3].meta()
    assert meta.group_id == result.id


def test_a_chord_calls_its_body_with_all_results(app: App, worker: Process) -> None:
    s = sigs(app)

    result = chord([s("add", i, i) for i in range(100)])(s("total"))

    assert result.get(**NEAR) == 2 * sum(range(100))
    assert result.parent.get(**NEAR)[:3] == [0, 2, 4]


def test_a_group_with_something_after_it_is_a_chord(app: App, worker: Process) -> None:
    s = sigs(app)

    flow = chain(s("add", 1, 1), group(s("add", 1), s("mul", 5)), s("total"), s("mul", 2))

    assert flow.apply_async().get(**NEAR) == (3 + 10) * 2


def test_chords_and_chains_nest(app: App, worker: Process) -> None:
    s = sigs(app)
    inner = chord([s("add", 1, 1), s("add", 2, 2)], s("total"))
    header = [
        chain(s("add", 1, 0), s("mul", 3)),
        inner,
        chain(s("add", 1, 1), group(s("add", 1), s("add", 2))),
    ]

    result = chord(header, chain(s("listed"), s("listed"))).apply_async()

    assert result.get(**NEAR) == [3, 6, [3, 4]]


def test_a_chain_may_end_in_a_group(app: App, worker: Process) -> None:
    s = sigs(app)

    result = chain(s("add", 1, 1), group(s("add", 1), s("add", 2))).apply_async()

    assert result.get(**NEAR) == [3, 4]


def test_an_empty_header_calls_the_body(app: App, worker: Process) -> None:
    assert chord([])(sigs(app)("total")).get(**NEAR) == 0


def test_chunks_are_a_group_of_portions(app: App, worker: Process) -> None:
    flow = chunks(sigs(app)("add"), zip(range(10), range(10), strict=True), 4)

    assert flow.apply_async().get(**NEAR) == [[0, 2, 4, 6], [8, 10, 12, 14], [16, 18]]


def test_a_failed_step_fails_the_rest_of_the_chain(app: App, worker: Process, tmp_path: Path) -> None:
    s, log = sigs(app), tmp_path / "log"
    flow = chain(s("add", 1, 1), s("fail"), s("add", 1), s("add", 2))
    flow.link_error(s("failed", str(log)))

    result = flow.apply_async()

    with pytest.raises(ValueError, match="boom"):
        result.get(**NEAR)
    wait_for(lambda: lines(log) == [result.parent.parent.id], what="the errback got the id")


def test_a_failed_member_fails_the_body(app: App, worker: Process, tmp_path: Path) -> None:
    s, log = sigs(app), tmp_path / "log"
    body = s("total")
    body.link_error(s("failed", str(log)))

    result = chord([s("add", 1, 1), s("fail"), s("add", 1, 1)])(body)

    with pytest.raises(ChordError, match=r"Dependency .* raised ValueError\('boom'\)"):
        result.get(**NEAR, follow_parents=False)
    wait_for(lambda: lines(log) == [result.id])


def test_a_failed_chain_in_a_header_fails_the_body(app: App, worker: Process) -> None:
    s = sigs(app)

    result = chord([s("add", 1, 1), chain(s("fail"), s("add", 1))])(s("total"))

    with pytest.raises(ChordError):
        result.get(**NEAR, follow_parents=False)


def test_a_revoked_member_fails_the_body(app: App, worker: Process) -> None:
    s = sigs(app)
    members = [s("add", 1, 1), s("add", 2, 2).set(task_id="stop-me", countdown=1.0)]
    app.control.revoke("stop-me")

    result = chord(members)(s("total"))

    with pytest.raises(ChordError):
        result.get(**NEAR, follow_parents=False)


def test_errbacks_with_more_arguments_are_called_where_it_failed(
    app: App, worker: Process, tmp_path: Path
) -> None:
    s, log = sigs(app), tmp_path / "log"
    failing = s("fail")
    failing.link_error(signature("flows.on_error", kwargs={"path": str(log)}, app=app))

    result = failing.apply_async()

    wait_for(lambda: lines(log))
    assert lines(log) == [f"{result.id} ValueError('boom') True"]


def test_a_replaced_task_hands_on_its_id_and_its_place(app: App, worker: Process) -> None:
    s = sigs(app)

    alone = s("replaced", 4).apply_async()
    chained = chain(s("replaced", 1), s("add", 1)).apply_async()
    member = chord([s("replaced", 1), s("add", 1, 1)])(s("total"))

    assert alone.get(**NEAR) == 50
    assert chained.get(**NEAR) == 21
    assert member.get(**NEAR) == 22


def test_a_body_is_sent_once_although_members_come_twice(app: App, worker: Process, tmp_path: Path) -> None:
    s, log = sigs(app), tmp_path / "log"
    flow = chord([s("add", i, i) for i in range(20)], s("write", str(log))).clone()
    flow.freeze()
    from qcore.tasks.signature import SendPlan

    plan = SendPlan(app)
    flow.emit(plan)
    plan.send()
    app.publish(plan.messages)  # every member once more, as after a crash

    wait_for(lambda: lines(log))
    wait_for(lambda: _idle(app))
    time.sleep(0.3)
    assert len(lines(log)) == 1


def test_a_body_is_sent_once_although_workers_are_killed(
    url: str, processes: Processes, tmp_path: Path
) -> None:
    app = App("killed", broker=url, backend=url, set_as_current=False)
    s, logs = sigs(app), [tmp_path / f"log{i}" for i in range(10)]
    env = {"QCTL_LEASE": "1"}
    first = processes.start_qcore_worker(url, "-c", "2", app=FLOWS, env=env)
    for log in logs:
        chord([s("add", i, i) for i in range(30)])(s("note_body", str(log)))

    wait_for(lambda: any(lines(log) for log in logs))
    first.kill9()
    processes.start_qcore_worker(url, "-c", "2", app=FLOWS, env=env)

    wait_for(lambda: all(lines(log) for log in logs), 60, "every body ran")
    wait_for(lambda: _idle(app), 60)
    # A body that ran as it was killed may run again, and is marked so; none was sent twice.
    fresh = [lines(log).count("again False") for log in logs]
    assert max(fresh) <= 1
    app.close()


def _idle(app: App) -> bool:
    depth = app.broker.administration.depth("celery")
    return not depth.ready and not depth.in_flight


# --- the count


def test_the_right_to_send_comes_back_to_the_member_that_had_it(url: str) -> None:
    broker = open_broker(url)
    broker.chords.create([("g", 2)], 60)
    first, last = (
        ChordPart("g", t, i, b'[1, "%s", "SUCCESS", 1]' % t.encode(), b"{}") for i, t in enumerate("ab")
    )

    assert broker.chords.count([first, first], 60) == [None, None]
    (full,) = broker.chords.count([last], 60)
    (again,) = broker.chords.count([last], 60)
    other = broker.chords.count([first], 60)

    assert full == again and full is not None
    assert full.entries == [first.entry, last.entry]
    assert other == [None]
    assert broker.chords.finish(full) and not broker.chords.finish(full)
    assert broker.chords.count([last, first], 60) == [None, None]
    broker.close()


def test_without_a_store_that_counts_a_chord_is_refused(rabbit_url: str) -> None:
    app = App("none", broker=rabbit_url, backend="rpc://", set_as_current=False)
    s = sigs(app)

    with pytest.raises(Unsupported, match="count the members"):
        chord([s("add", 1, 1), s("add", 1, 1)])(s("total"))
    app.close()


# --- eager


def test_workflows_run_eagerly() -> None:
    app = App("eager", broker="memory://eager", task_always_eager=True, set_as_current=False)

    @app.task(name="eager.add")
    def add(x: Any, y: Any) -> Any:
        return x + y

    @app.task(name="eager.total")
    def total(values: Any) -> Any:
        return sum(values)

    assert chain(add.s(1, 1), add.s(2)).apply_async().get() == 4
    assert group(add.s(i, i) for i in range(3))().get() == [0, 2, 4]
    assert chord([add.s(1, 1), add.s(2, 2)])(total.s()).get() == 6
    assert chain(add.s(1, 1), group(add.s(1), add.s(2)), total.s())().get() == 7


# --- neighbours: Celery's client with our worker, our client with Celery's


@pytest.fixture
def celery_client(redis_url: str) -> Iterator[Any]:
    import celery

    client = celery.Celery("client", broker=redis_url, backend=redis_url, set_as_current=False)
    yield client
    client.close()


def shapes(kit: Any, s: Callable[..., Any]) -> list[tuple[Any, Any]]:
    """Workflows, and what each comes to."""
    return [
        (kit.chain(s("add", 2, 2), s("mul", 10), s("add", 1)), 41),
        (kit.group([s("add", i, i) for i in range(5)]), [0, 2, 4, 6, 8]),
        (kit.chord([s("add", i, i) for i in range(5)], s("total")), 20),
        (kit.chain(s("add", 1, 1), kit.group([s("add", 1), s("mul", 5)]), s("total"), s("mul", 2)), 26),
        (
            kit.chord(
                [kit.chain(s("add", 1, 0), s("mul", 3)), s("add", 1, 1)], kit.chain(s("total"), s("mul", 2))
            ),
            10,
        ),
        (kit.chain(kit.group([s("add", 1, 1), s("add", 2, 2)]), s("listed")), [2, 4]),
    ]


@pytest.mark.slow
def test_celerys_workflows_run_on_our_worker(
    redis_url: str, celery_client: Any, processes: Processes
) -> None:
    import celery

    processes.start_qcore_worker(redis_url, "-c", "2", app=FLOWS)

    def s(name: str, *args: Any) -> Any:
        return celery_client.signature(f"flows.{name}", args=args)

    for flow, value in shapes(celery, s):
        assert flow.apply_async().get(timeout=60) == value, flow
    bad = celery.chord([s("add", 1, 1), s("fail")], s("total")).apply_async()
    wait_for(lambda: bad.state == "FAILURE", 60)
    assert isinstance(bad.result, celery.exceptions.ChordError)


@pytest.mark.slow
def test_our_workflows_run_on_celerys_worker(redis_url: str, processes: Processes) -> None:
    import qcore

    os.environ["FLOWS_CELERY"] = "1"
    try:
        processes.start_celery_worker(redis_url, redis_url, "-c", "1", "-P", "solo", app=FLOWS)
    finally:
        del os.environ["FLOWS_CELERY"]
    app = App("ours", broker=redis_url, backend=redis_url, set_as_current=False)
    s = sigs(app)

    for flow, value in shapes(qcore, s):
        assert flow.apply_async().get(timeout=60) == value, flow
    with pytest.raises(ChordError):
        chord([s("add", 1, 1), s("fail")])(s("total")).get(timeout=60, follow_parents=False)
    app.close()


@pytest.mark.slow
def test_both_kinds_of_workers_count_one_chord(redis_url: str, processes: Processes) -> None:
    os.environ["FLOWS_CELERY"] = "1"
    try:
        processes.start_celery_worker(redis_url, redis_url, "-c", "1", "-P", "solo", app=FLOWS)
    finally:
        del os.environ["FLOWS_CELERY"]
    processes.start_qcore_worker(redis_url, "-c", "1", app=FLOWS)
    app = App("both", broker=redis_url, backend=redis_url, set_as_current=False)
    s = sigs(app)

    results = [chord([s("add", i, i) for i in range(40)])(s("total")) for _ in range(5)]

    assert [r.get(timeout=60) for r in results] == [2 * sum(range(40))] * 5
    app.close()
