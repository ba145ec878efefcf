"""How fast queues fill and empty: what workers tell, and what two looks show."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from qcore import App
from qcore.brokers.contract.administration import Depth
from qcore.brokers.contract.records import Member
from qcore.control.client import Answers
from qcore.worker.services.throughput import QueueThroughput
from qctl.commands.metrics.collector import Collector
from qctl.fleet import queue_rates
from tests.contracts.consuming import Delivery
from tests.qctl.output.test_formats import run
from tests.support.processes import Processes
from tests.support.waiting import wait_for

SETTINGS: dict[str, Any] = {"broker_transport_options": {"global_keyprefix": "p:", "lease_s": 3}}
PROJECT = "tests.projects.served"


def batch(queue: str, size: int) -> list[Delivery]:
    return [Delivery(i, queue, b"") for i in range(size)]


def answers(**told: Any) -> Answers:
    """Workers on the queue `q`; those that tell nothing are not qcore's."""
    info = {node: {"taken": taken, "instance": node} for node, taken in told.items() if taken is not None}
    members = {node: Member(node, 0.0, True, one) for node, one in info.items()}
    return Answers({node: [{"name": "q"}] for node in told}, [], [], list(told), None, 0.0, members=members)


def test_a_worker_tells_what_it_took_and_how_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    takings = QueueThroughput()
    takings.add(batch("a", 40))
    takings.add([*batch("a", 1), *batch("b", 9)])
    now[0] = 110.0
    assert takings.rates() == {"a": (41, 4.1), "b": (9, 0.9)}
    takings.add(batch("b", 1))
    now[0] = 115.0
    assert takings.rates() == {"a": (41, 2.733), "b": (10, 0.667)}
    now[0] = 130.0
    assert takings.rates()["b"] == (10, 0.0)


@pytest.mark.parametrize(
    ("told", "before", "expected"),
    [
        ({"w1": {"q": (9, 3.0)}, "w2": {"q": [5, 1.5]}}, None, (None, 4.5, "workers")),
        ({"w1": {"q": (9, 3.0)}}, 50, (8.0, 3.0, "workers")),
        ({"w1": {"q": (9, 3.0)}}, 200, (0.0, 3.0, "workers")),  # a purge is no arrival
        ({"w1": {}}, 50, (5.0, 0.0, "workers")),
        ({}, 50, (5.0, 0.0, "workers")),
        ({"w1": {"q": (9, 3.0)}, "celery": None}, None, (None, None, "net")),
        ({"w1": {"q": (9, 3.0)}, "celery": None}, 50, (5.0, None, "net")),
        ({"celery": None}, 120, (None, 2.0, "net")),
        ({"celery": None}, 100, (None, None, "net")),
        ({"w1": {"q": "junk"}}, None, (None, 0.0, "workers")),
    ],
)
def test_what_came_is_what_was_taken_and_what_there_is_more(
    told: dict[str, Any], before: int | None, expected: tuple[Any, ...]
) -> None:
    now = queue_rates.look(["q"], [Depth(90, 10)])
    last = None if before is None else queue_rates.QueueSample(now.at - 10, {"q": before})

    found = queue_rates.rates(now, last, queue_rates.taken(answers(**told)))["q"]

    assert (found["in_per_s"], found["out_per_s"], found["rates"]) == expected
    assert all(("~" in word) == (expected[2] == "net") for word in queue_rates.words(found) if word != "-")


def test_a_counter_never_goes_back() -> None:
    collector = Collector(App("client", broker="memory://", set_as_current=False))

    def taken(said: Answers) -> str:
        return list(collector._taken_lines(said, {"q"}))[-1]

    assert taken(answers(w1={"q": (9, 3.0)}, w2={"q": (1, 0.0)}, celery=None)).endswith(" 10")
    assert taken(answers(w1={"q": (11, 3.0)})).endswith(" 12")
    assert taken(answers(w1={"q": (11, 3.0)}, w3={"q": (4, 0.0)})).endswith(" 16")


def test_counts_add_up_and_rates_are_shown_with_a_prefix(
    redis_url: str, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App("client", broker=redis_url, set_as_current=False, **SETTINGS)
    env = {"SERVED_SETTINGS": json.dumps(SETTINGS)}
    processes.start_qcore_worker(redis_url, "-c", "2", "-P", "threads", app=PROJECT, name="w@test", env=env)
    add, nap = app.signature("served.add", (1, 2)), app.signature("served.nap", (60,))
    app.send_many([add.set(priority=p) for p in (0, 3, 6, 9) for _ in range(30)])
    (member,) = wait_for(
        lambda: [m for m in app.broker.members() if (m.info["taken"].get("celery") or [0])[0] == 120]
    )
    sent = [nap.clone().set(priority=p) for p in (0, 3, 6, 9) for _ in range(5)]
    late = [add.clone().set(countdown=100, priority=p) for p in (0, 3, 6, 9)]
    idle = [add.clone().set(queue="idle", priority=p) for p in (0, 3, 6, 9) for _ in range(3)]
    app.send_many([*sent, *late, *idle])
    wait_for(lambda: app.broker.administration.depth("celery").in_flight)
    monkeypatch.setenv("SERVED_SETTINGS", json.dumps(SETTINGS))
    monkeypatch.setattr("tests.projects.served.app", app, raising=False)

    def listed(*words: str) -> list[dict[str, Any]]:
        code, out, err = run("-A", PROJECT, "-b", redis_url, "queue", "ls", *words, "-o", "json")
        assert code == 0, err
        found: list[dict[str, Any]] = json.loads(out)["items"]
        return found

    once, idle_now = listed()
    twice = listed("--rates", "100ms")[0]
    _, table, _ = run("-A", PROJECT, "-b", redis_url, "queue", "ls")

    assert member.info["taken"]["celery"][1] > 1
    assert once["ready"] + once["delayed"] + once["in_flight"] == 24 and once["delayed"] == 4
    assert (once["in_per_s"], once["rates"]) == (None, "workers") and once["out_per_s"] > 1
    assert twice["in_per_s"] is not None
    assert (idle_now["ready"], idle_now["out_per_s"]) == (12, 0.0) and idle_now["oldest_at"] is not None
    assert table.split("\n")[0].split()[-3:] == ["IN/S", "OUT/S", "PAUSED"]
