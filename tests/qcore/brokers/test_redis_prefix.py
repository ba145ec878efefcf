"""`global_keyprefix`: two fleets on one database that see nothing of each other."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from qcore import App
from qcore.brokers.contract.records import Message, Settle
from qcore.brokers.contract.schedules import Firing
from qcore.wire.result import KEY_PREFIX
from tests.contracts.broker_contract import opened, queue
from tests.contracts.consuming import Open, end, put, take
from tests.qctl.cli.test_command_line import qctl
from tests.support.processes import Processes
from tests.support.redis_server import RedisServer, require_server
from tests.support.waiting import wait_for

__all__ = ["opened", "queue"]

PREFIXES = ("one:", "two:")
PROJECT = "tests.projects.served"


def app_of(url: str, prefix: str, **settings: object) -> App:
    options = {"broker_transport_options": {"global_keyprefix": prefix}, **settings}
    return App("client", broker=url, set_as_current=False, **options)


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    """A server of this module alone: its tests look at all keys, also at those that others write late."""
    server = RedisServer(require_server())
    yield server
    server.stop()


@pytest.fixture
def broker_url(redis_url: str) -> str:
    return redis_url


@pytest.fixture
def apps(redis_url: str) -> Iterator[list[App]]:
    made = [app_of(redis_url, prefix) for prefix in PREFIXES]
    yield made
    for app in made:
        app.close()


def start(processes: Processes, url: str, prefix: str) -> None:
    settings = {"broker_transport_options": {"global_keyprefix": prefix}}
    env = {"SERVED_SETTINGS": json.dumps(settings)}
    processes.start_qcore_worker(url, "-c", "1", "-E", app=PROJECT, name=f"{prefix[:3]}@test", env=env)


def test_two_fleets_on_one_server_see_nothing_of_each_other(
    apps: list[App], redis_url: str, processes: Processes, redis_server: RedisServer
) -> None:
    one, two = apps
    start(processes, redis_url, "one:")
    ears = [app.broker.subscribe("celeryev", "#") for app in apps]

    # tasks and results: only the first has a worker
    done, waiting = one.send_task("served.add", (1, 2)), two.send_task("served.add", (1, 2))
    assert done.get(timeout=60) == 3
    assert two.broker.administration.depth("celery").ready == 1
    assert one.broker.administration.depth("celery").ready == 0
    assert two.broker.results_of([done.id]) == [None]
    assert ears[0].get(60) is not None
    assert ears[1].get(0) is None
    start(processes, redis_url, "two:")
    assert waiting.get(timeout=60) == 3
    assert one.broker.results_of([waiting.id]) == [None]
    # control, members, events
    for app, node in ((one, "one@test"), (two, "two@test")):
        assert app.control.ping(timeout=60) == [{node: {"ok": "pong"}}]
        assert [member.node for member in app.broker.members()] == [node]
        assert app.broker.foreign_members() == []
    # revokes
    task = two.send_task("served.add", (3, 4), countdown=0.5)
    one.control.revoke(task.id)
    assert one.broker.revoked() == [task.id]
    assert two.broker.revoked() == []
    assert task.get(timeout=60) == 7
    # what is no task
    one.broker.publish([Message(b"not a task", queue="celery")])
    wait_for(one.broker.administration.quarantined)
    assert two.broker.administration.quarantined() == []
    # schedule entries
    one.broker.schedules.declare("app", {"a": b"1", "b": b"1"})
    assert one.broker.schedules.fire([Firing("a", 0, 1, (Message(b"x", "q", due_at=4e9),), task_id="t")]) == [
        None
    ]
    one.broker.schedules.announce("s@test", {}, 60.0)
    one.broker.schedules.edit("b", b"2")
    assert two.broker.schedules.entries() == two.broker.schedules.schedulers() == []
    assert two.broker.schedules.clock()[1] == 0
    assert two.broker.administration.depth("q").delayed == 0
    assert one.broker.administration.depth("q").delayed == 1

    with redis_server.client() as client:
        names = client.keys() + client.pubsub_channels()
    assert [name for name in names if not name.startswith((b"one:", b"two:"))] == []
    for ear in ears:
        ear.close()


def test_results_that_celery_reads_have_the_prefix_of_the_result_backend(redis_url: str) -> None:
    own = {"result_backend_transport_options": {"global_keyprefix": "mine"}}

    for settings, prefix in (
        ({}, "one:"),
        ({"result_backend": redis_url}, ""),
        ({"result_backend": redis_url, **own}, "mine_"),
        (own, "mine_"),
    ):
        app = app_of(redis_url, "one:", **settings)
        app.store_state("an-id", "SUCCESS", 1)
        assert app.broker._shared.call("EXISTS", f"{prefix}{KEY_PREFIX}an-id") == 1  # type: ignore[attr-defined]
        app.broker._shared.call("DEL", f"{prefix}{KEY_PREFIX}an-id")  # type: ignore[attr-defined]
        app.close()


def test_a_bench_stays_under_the_prefix(redis_url: str, redis_server: RedisServer) -> None:
    settings = {"broker_transport_options": {"global_keyprefix": "one:"}}

    done = qctl(
        *("-A", PROJECT, "-b", redis_url, "bench", "--tasks", "50", "--trips", "3", "-c", "1", "-o", "json"),
        SERVED_SETTINGS=json.dumps(settings),
    )

    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["items"]) == 6
    with redis_server.client() as client:
        # Results have a prefix of their own (result_backend_transport_options), and were deleted.
        assert {key for key in client.scan_iter() if not key.startswith(b"one:")} == set()


def test_workers_of_celery_are_known_under_another_control_exchange(
    redis_url: str, redis_server: RedisServer
) -> None:
    app = App("other", broker=redis_url, set_as_current=False, control_exchange="other")
    with redis_server.client() as client:
        for exchange, node in (("other.pidbox", "c1@here"), ("celery.pidbox", "c2@there")):
            client.sadd(f"_kombu.binding.{exchange}", f"\x06\x16\x06\x16{node}.{exchange}")

    assert app.broker.foreign_members() == ["c1@here"]
    assert app.broker.roster()[1] == ["c1@here"]
    app.close()


def test_every_key_and_channel_has_the_prefix(opened: Open, redis_server: RedisServer, queue: str) -> None:
    broker = opened(global_keyprefix="app:", lease_s=0.2)
    consumer = broker.consumer([queue])
    put(broker, queue, "a", "b", "c")
    put(broker, queue, "d", due_at=time.time() + 60)
    put(broker, queue, "e", priority=9)
    got = take(consumer, 2)
    consumer.arm()
    end(consumer, got[0], action=Settle.RETURN)
    end(consumer, got[1], action=Settle.QUARANTINE, reason="x")
    broker.announce("n", {}, 60)
    broker.revoke(["x"])
    ear, box = broker.subscribe("ex.pidbox", node="n"), broker.inbox("reply.ex", "key")
    broker.reply("reply.ex", "key", b"answer")
    box.get(60)

    with redis_server.client() as client:
        names = client.keys() + client.pubsub_channels()
    assert len(names) > 10
    assert [name for name in names if not name.startswith(b"app:")] == []
    ear.close()
    box.close()
