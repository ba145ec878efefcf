"""A process dies at each named place in turn; whatever it did there, no task may be lost by it."""

from __future__ import annotations

import itertools
import re
import signal
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from qcore.base.crashpoints import VARIABLE, armed
from qcore.brokers.contract.records import Message
from tests.faults import FULL
from tests.faults.fleet import Fleet, no_surprises
from tests.faults.history import note_all
from tests.support.processes import ROOT, Process
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

TASKS = 30
EVERY = ("redis", "sqlite", "rabbit")


class Point(NamedTuple):
    """How to get a process to a place, and where that place exists."""

    nth: int = 2
    kinds: tuple[str, ...] = EVERY
    after: str = ""  # kill | TERM | QUIT: what happens to a worker before


POINTS = {
    # the way of a delivery through the worker
    "claimed": Point(),
    "claim_uncommitted": Point(kinds=("sqlite",)),
    "before_hand_over": Point(),
    "handed_over": Point(),
    "run_ended": Point(nth=9),
    "stored_apart": Point(kinds=("rabbit",)),
    "before_settle": Point(nth=4),
    "sent_before_ack": Point(nth=4, kinds=("rabbit",)),
    "settle_uncommitted": Point(nth=4, kinds=("sqlite",)),
    "settled": Point(nth=4),
    # children
    "child_born": Point(nth=1),
    "child_start": Point(nth=7),
    "child_ran": Point(nth=7),
    "child_sent": Point(nth=7),
    "child_buried": Point(nth=1),
    # a task publishes another
    "before_publish": Point(nth=1),
    "published": Point(nth=1),
    # leases
    "before_renew": Point(kinds=("redis", "sqlite")),
    "renewed": Point(kinds=("redis", "sqlite")),
    "before_reap": Point(nth=1, kinds=("redis", "sqlite"), after="kill"),
    "reaped": Point(nth=1, kinds=("redis", "sqlite"), after="kill"),
    # shutdown
    "shutdown_begun": Point(nth=1, after="TERM"),
    "shutdown_withdrawn": Point(nth=1, after="TERM"),
    "before_leave": Point(nth=1, after="TERM"),
    "left": Point(nth=1, after="TERM"),
    "abandoning": Point(nth=1, after="QUIT"),
}

#: places that take a fault of another kind to get to
ELSEWHERE = {
    "lease_renamed": "test_a_worker_that_lost_its_lease_dies_while_it_takes_a_new_one",
    "handed_out": "test_a_worker_dies_with_what_woke_it",
    "before_fire": "test_a_scheduler_that_dies_here_neither_loses_nor_repeats_an_instant",
    "fire_uncommitted": "test_a_scheduler_that_dies_here_neither_loses_nor_repeats_an_instant",
    "fired": "test_a_scheduler_that_dies_here_neither_loses_nor_repeats_an_instant",
    "chord_complete": "test_a_chord_goes_on_when_its_worker_dies_before_the_body_is_sent",
}


#: Between a worker and its children it matters little which broker they serve: in CI these are
#: visited with Redis, as are the steps that the SQLite and RabbitMQ drivers have in common with it.
IN_CI = {
    "redis": set(POINTS),
    "sqlite": {
        *("claim_uncommitted", "settle_uncommitted", "before_settle", "settled", "published"),
        *("before_renew", "before_reap", "reaped", "left"),
    },
    "rabbit": {"handed_over", "stored_apart", "before_settle", "sent_before_ack", "settled", "left"},
}


def calls(fleet: Fleet) -> dict[str, Message]:
    """Tasks of every kind the worker treats in its own way."""
    found: dict[str, Message] = {}
    for i in range(TASKS):
        name = f"t{i}"
        if i % 10 == 3:  # due later, and known only once it is claimed
            message = fleet.work(name, 0.02, countdown=0.4, ignore_result=False)
            found[name] = Message(message.raw, queue="celery")
        elif i % 10 == 5:
            step = {
                "task": "faults.work",
                "args": [str(fleet.path), f"{name}-next"],
                "kwargs": {},
                "options": {},
                "immutable": True,
            }
            found[name] = fleet.work(name, 0.02, chain=[step])
        elif i == 7:
            found[name] = fleet.work(name, 0.02, deadly=True)
        elif i == 8:
            found[name] = fleet.message("faults.publish", (str(fleet.path), name), name)
        else:
            found[name] = fleet.work(name, 0.04, ignore_result=False)
    return found


def die_at(fleet: Fleet, name: str, point: Point, backend: str) -> Process | None:
    """Run a worker to the place; the worker itself when only a child of it died."""
    if point.after == "kill":
        first = fleet.worker(backend=backend)
        fleet.wait_started(6)
        first.kill9()
    worker = fleet.worker(backend=backend, env={VARIABLE: f"{name}:{point.nth}"}, ready=False)
    if point.after in ("TERM", "QUIT"):
        fleet.wait_started(6)
        worker.term(getattr(signal, f"SIG{point.after}"))
    found = wait_for(
        lambda: re.search(rf"crashpoint {name} reached in (\d+)", worker.output()), 20, f"{name} reached"
    )
    if int(found[1]) != worker.pid:
        return worker
    worker.wait(60)
    return None


@pytest.mark.parametrize(
    ("fleet", "name"),
    [
        (kind, name)
        for kind in EVERY
        for name, point in POINTS.items()
        if kind in point.kinds and (FULL or name in IN_CI[kind])
    ],
    indirect=["fleet"],
)
def test_a_process_that_dies_here_loses_nothing(
    fleet: Fleet, name: str, request: pytest.FixtureRequest
) -> None:
    backend = request.getfixturevalue("redis_url") if fleet.url.startswith("amqp") else ""
    messages = calls(fleet)
    fleet.publish(messages)
    note_all(fleet.path, "published", [f"{n}-next" for n in messages if n.endswith("5")])
    began = time.monotonic()

    survivor = die_at(fleet, name, POINTS[name], backend)
    worker = survivor or fleet.worker(backend=backend)
    fleet.wait_done()

    verdict = fleet.verdict()
    # Sending and acknowledging are two steps there, and a task's own publish always is one by itself.
    twice = {"t8-child"}
    if fleet.url.startswith("amqp"):
        twice |= {n for n in verdict.tasks if n.endswith("-next")}
    verdict.require(2 * TASKS, may_be_unflagged=twice)
    if survivor is None:
        no_surprises([worker])
    print(f"{fleet.url.partition(':')[0]} {name}: {verdict}, {time.monotonic() - began:.1f} s")


def test_a_worker_that_lost_its_lease_dies_while_it_takes_a_new_one(fleet: Fleet) -> None:
    fleet.publish_many(TASKS, 0.1)
    worker = fleet.worker(env={VARIABLE: "lease_renamed"})
    fleet.wait_started(4)

    worker.stop()
    second = fleet.worker()
    fleet.wait_done()
    worker.cont()
    worker.wait_output("crashpoint lease_renamed reached")
    worker.wait(60)
    fleet.publish_many(TASKS, 0.01, "more")
    fleet.wait_done()

    fleet.verdict().require(TASKS)
    no_surprises([second])


@pytest.mark.parametrize("fleet", ["redis"], indirect=True)
@pytest.mark.parametrize("nth", [1, 2])
def test_a_worker_dies_with_what_woke_it(fleet: Fleet, nth: int) -> None:
    worker = fleet.worker(env={VARIABLE: f"handed_out:{nth}"})
    fleet.publish_many(1, 0.0, "one")
    if nth == 2:
        fleet.wait_done()
    fleet.publish_many(3, 0.0, "more")
    numbers = itertools.count()

    def is_reached() -> bool:
        # What comes while it is not waiting yet is claimed, and wakes nobody.
        if worker.is_running:
            fleet.publish_many(1, 0.0, f"yet{next(numbers)}-")
        return "crashpoint handed_out reached" in worker.output()

    wait_for(is_reached)
    worker.wait(60)

    second = fleet.worker()
    fleet.wait_done()

    fleet.verdict().require(1)
    no_surprises([second])


@pytest.mark.parametrize("fleet", ["rabbit"], indirect=True)
@pytest.mark.parametrize("place", ["stored_apart", "sent_before_ack"])
def test_an_attempt_that_is_sent_besides_a_success_is_not_lost(
    fleet: Fleet, place: str, redis_url: str
) -> None:
    fleet.publish({"t-0": fleet.message("faults.again", (str(fleet.path), "t"), "t", ignore_result=False)})
    worker = fleet.worker(backend=redis_url, env={VARIABLE: place}, ready=False)
    worker.wait_output(f"crashpoint {place} reached")
    worker.wait(60)

    fleet.worker(backend=redis_url)
    fleet.wait_done()

    fleet.verdict().require(2, may_be_unflagged={"t-1"})


def test_every_place_in_the_code_is_visited() -> None:
    found = {
        name
        for path in (ROOT / "qcore").rglob("*.py")
        for name in re.findall(r'^ +crashpoint\("(\w+)"\)$', path.read_text(), re.M)
    }

    assert found == POINTS.keys() | ELSEWHERE.keys()
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert [test for test in ELSEWHERE.values() if f"def {test}(" not in tests] == []


def test_another_place_does_nothing() -> None:
    crashpoint = armed("here:1")

    crashpoint("there")

    assert Path("/proc/self").exists()
