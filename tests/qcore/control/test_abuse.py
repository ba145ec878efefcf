"""The control bus under abuse: garbage, emptied tables, dead callers, floods of revoked ids."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qcore.app.app import App
from qcore.base.times import new_id
from qcore.brokers.registry import open_broker
from qcore.control.server import MOST_BYTES
from qcore.wire import control as wire
from qcore.wire import envelope
from qcore.worker.intake import revoked as revoked_ids
from qcore.worker.intake.revoked import Revoked
from tests.faults import FULL
from tests.faults.fleet import no_surprises, rss_kib
from tests.support.processes import Process, Processes
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for

Live = tuple[Process, App, RedisServer]


@pytest.fixture(scope="module")
def live(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One worker, whose heartbeat to the broker is half a second."""
    if redis_server.process is None:
        redis_server.start()
    with redis_server.client() as client:
        client.flushall()
    processes = Processes(tmp_path_factory.mktemp("abused"))
    settings = {"SERVED_SETTINGS": json.dumps({"broker_transport_options": {"heartbeat_s": 1.0}})}
    worker = processes.start_qcore_worker(
        redis_server.url,
        *("-c", "2", "-l", "WARNING"),
        name="w1@test",
        app="tests.projects.served",
        env=settings,
    )
    app = App("asker", broker=redis_server.url, set_as_current=False)
    yield worker, app, redis_server
    app.close()
    processes.close()


def said(body: Any, **headers: Any) -> bytes:
    """A body as a control message."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return envelope.wrap(raw, exchange="celery.pidbox", routing_key="", headers=headers)


def method(name: Any, arguments: Any = None, **fields: Any) -> bytes:
    return said({"method": name, "arguments": arguments or {}, **fields})


PICKLE = b"\x80\x04\x95\x20\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."
REPLY = {"exchange": "reply.celery.pidbox", "routing_key": "nobody"}


def corpus() -> dict[str, bytes]:
    """Control messages that are none, or hardly: made when they are needed, since some are large."""
    return {
        "C01 not JSON": b"\xff\x00 not a message",
        "C02 a list": b"[1, 2]",
        "C02 a list inside": said([1, 2]),
        "C03 null": b"null",
        "C03 null inside": said(None),
        "C04 a body that is not base64": said({"method": "ping"}).replace(b'"body":"', b'"body":"***'),
        "C05 no method": said({"arguments": {}}),
        "C06 the method is a list": method(["ping"]),
        "C07 an unknown method": method("no_such_method", reply_to=REPLY),
        "C08 arguments are text": said({"method": "ping", "arguments": "all"}),
        "C09 the destination is a number": method("ping", destination=42),
        "C10 100,000 destinations": method("ping", destination=["w1@test"] * 100_000),
        "C11 a costly expression": method("ping", pattern="(a+)+$", matcher="pcre"),
        "C11 a costly glob": method("ping", pattern="*a" * 120, matcher="glob"),
        "C12 reply_to is text": method("ping", reply_to="me"),
        "C12 reply_to without a key": method("ping", reply_to={"exchange": "reply.celery.pidbox"}),
        "C12 reply_to is a task queue": method(
            "ping", reply_to={"exchange": "celery", "routing_key": "celery"}
        ),
        "C12 reply_to is the default exchange": method(
            "ping", reply_to={"exchange": "", "routing_key": "celery"}
        ),
        "C13 expired": said({"method": "shutdown", "arguments": {}}, expires=time.time() - 3600),
        "C14 the clock is text": said({"method": "ping", "arguments": {}}, clock="late"),
        "C14 a clock of 64 bits": said({"method": "ping", "arguments": {}}, clock=2**63),
        "C15 pickle": envelope.wrap(
            PICKLE, exchange="", routing_key="", content_type="application/x-python-serialize"
        ),
        "C16 a deep body": said(b"[" * 100_000 + b"]" * 100_000),
        "C17 a billion slots": method("pool_grow", {"n": 10**9}),
        "C17 slots in words": method("pool_grow", {"n": "many"}),
        "C18 a rate that is none": method("rate_limit", {"task_name": "served.add", "rate_limit": "often"}),
        "C19 a revoke of 300,000": method("revoke", {"task_id": [f"{i:036}" for i in range(300_000)]}),
        "C19 the id is an object": method("revoke", {"task_id": {"a": 1}}),
    }


def test_a_worker_survives_the_control_corpus(live: Live) -> None:
    worker, app, _ = live
    slow = {}

    for name, raw in corpus().items():
        app.broker.broadcast("celery.pidbox", "", raw)
        began = time.monotonic()
        answers = app.control.ask("ping", timeout_s=60)
        assert answers.replies == {"w1@test": {"ok": "pong"}}, name
        slow[name] = time.monotonic() - began

    assert max(slow.values()) < 30, slow
    assert app.broker.administration.depth("celery").ready == 0
    assert app.control.ask("stats", timeout_s=60).replies["w1@test"]["pool"]["max-concurrency"] == 2
    no_surprises([worker])


def test_replies_go_only_to_places_for_replies(live: Live) -> None:
    """A request must not make a worker write into a task queue or another key."""
    _, app, server = live
    with server.client() as client:
        client.sadd("_kombu.binding.reply.evil", "k\x06\x16\x06\x16celery")
        client.sadd("_kombu.binding.celery", "celery\x06\x16\x06\x16celery")
        before = set(client.scan_iter())

        for exchange, key in (
            ("reply.evil", "k"),
            ("celery", "celery"),
            ("", "celery"),
            ("reply.x", "y" * 300),
        ):
            to = {"exchange": exchange, "routing_key": key}
            app.broker.broadcast("celery.pidbox", "", method("ping", reply_to=to, ticket="t"))
        app.control.ask("ping")

        own = {b"_kombu.binding_deadlines", b"_kombu.binding.reply.celery.pidbox"}
        own |= {
            key for key in client.scan_iter() if key.startswith(b"qcore.watched.")
        }  # the worker renews it
        assert set(client.scan_iter()) - own <= before
        assert client.llen("celery") == 0


def test_emptied_tables_of_listeners_fill_again(live: Live) -> None:
    worker, app, server = live

    with server.client() as client:
        for _ in range(20 if FULL else 3):
            tables = list(client.scan_iter("_kombu.binding.*"))
            assert tables
            client.delete(*tables)
            assert app.control.ask("ping", timeout_s=60).replies == {"w1@test": {"ok": "pong"}}
            wait_for(lambda: client.exists("_kombu.binding.celery.pidbox"))

    no_surprises([worker])


def test_a_caller_that_died_leaves_nothing_for_long(live: Live) -> None:
    """Its inbox is never closed, and its reply comes all the same."""
    _, app, server = live
    boxes = [app.broker.inbox(app.control.reply_exchange, new_id()) for _ in range(20)]

    for box in boxes:
        request = wire.Request("ping", {}, reply_key=box.key, ticket=box.key)
        app.broker.broadcast(app.control.exchange, "", wire.encode_request(request))
    with server.client() as client:
        pattern = "*.reply.celery.pidbox"
        lists = wait_for(lambda: len(f := {*client.scan_iter(pattern, _type="list")}) == 20 and f)
        left = [client.pttl(name) for name in lists]

    assert all(0 < ms <= 10_000 for ms in left)
    for box in boxes:
        box.close()


def test_a_reply_that_is_too_large_is_refused_in_words(live: Live) -> None:
    _, app, _ = live
    answer = app.control.ask("x" * (MOST_BYTES + 100), timeout_s=60).replies["w1@test"]

    assert answer == {"error": "the answer has 10 MiB; at most 8 can be sent"}


def test_many_revoked_ids_are_asked_for_and_not_read(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever number is revoked, the worker knows a few and no revoked task gets by."""
    count = 1_000_000 if FULL else 2_000
    if not FULL:
        monkeypatch.setattr(revoked_ids, "MOST", 500)
    broker = open_broker(redis_server.url.removesuffix("/0") + "/2")
    for start in range(0, count, 5000):
        broker.revoke([f"{i:036}" for i in range(start, min(start + 5000, count))])
    clock = [0.0]
    known = Revoked(lambda: clock[0])

    before = rss_kib_now()
    known.load(broker)

    assert rss_kib_now() - before < 5 * 1024
    assert known.asks
    known.look_up([f"{5:036}", f"{count - 5:036}", "not revoked"])
    assert {f"{5:036}", f"{count - 5:036}"} <= known.ids
    assert "not revoked" not in known.ids
    assert len(known.ids) <= revoked_ids.MOST

    with_few = Revoked()
    with redis_server.client() as client:
        client.select(2)
        client.delete("qcore.revoked")
    clock[0] += revoked_ids.LOOK_AGAIN_S
    known.look_up(["a"])
    with_few.load(broker)
    assert not known.asks and not with_few.asks
    broker.close()


def rss_kib_now() -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def test_a_worker_does_not_run_what_was_revoked_among_many(
    redis_server: RedisServer, processes: Processes
) -> None:
    url = redis_server.url.removesuffix("/0") + "/1"  # the other worker must not take these tasks
    app = App("asker", broker=url, set_as_current=False)
    many = [f"{i:036}" for i in range(1_000_000 if FULL else revoked_ids.MOST + 2_000)]
    app.broker.revoke(["the oldest"], ttl_s=10_000)
    for start in range(0, len(many), 5000):
        app.broker.revoke(many[start : start + 5000])
    worker = processes.start_qcore_worker(url, "-c", "1", "-P", "threads", name="w9@test", fresh=True)

    dropped = app.send_task("proj.add", (1, 1), task_id="the oldest")
    run = app.send_task("proj.add", (1, 2))

    assert run.get(timeout=60) == 3
    wait_for(lambda: dropped.state == "REVOKED")
    assert rss_kib(worker.pid) < 80 * 1024
    app.close()


def test_control_answers_while_every_slot_computes(live: Live) -> None:
    """With all children at work and tasks waiting."""
    _, app, _ = live
    tasks = [app.send_task("served.spin", (100.0,)) for _ in range(2)]

    def running() -> set[str]:
        replies = app.control.ask("active", timeout_s=60).replies
        return {task["id"] for task in replies.get("w1@test", ())}

    wait_for(lambda: running() == {t.id for t in tasks})

    answered = [bool(app.control.ask("ping", timeout_s=60).replies) for _ in range(200 if FULL else 20)]
    still = running()
    app.control.ask("terminate", {"signal": "KILL", "task_id": [t.id for t in tasks]})

    assert all(answered)
    assert still == {t.id for t in tasks}
