"""`qctl doctor`: ten seeded faults are found by name, and what it says mends them."""

from __future__ import annotations

import json
import shlex
import time
from collections import Counter
from typing import Any

import msgspec
import pytest
import redis

from qcore import App
from qcore.brokers.contract.records import Member, Settle, Settlement
from qcore.brokers.registry import open_broker
from qcore.control.client import Answers
from qctl import exit_codes
from qctl.commands.doctor.checks import lost_workers, not_trusted, unsigned_control, visibility_timeout
from qctl.commands.doctor.guarantees import guarantees
from qctl.fleet.facts import Facts
from tests.contracts.consuming import put, take
from tests.qctl.cli.test_command_line import here
from tests.support.processes import Processes
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for


def found(url: str) -> dict[str, Any]:
    done = here("doctor", "-b", url, "-o", "json")
    items = json.loads(done.stdout)["items"]
    errors = any(i["level"] == "error" for i in items)
    assert done.returncode == (exit_codes.NOT_MET if errors else exit_codes.OK)
    return {i["name"]: i for i in items}


def mend(url: str, fix: str, server: redis.Redis) -> None:
    words = shlex.split(fix, comments=True)
    if words[0] == "redis-cli":
        server.execute_command(*words[1:])
        return
    assert words[0] == "qctl"
    done = here(*words[1:], "-b", url, *(["--yes"] if "purge" in words else []))
    assert done.returncode == exit_codes.OK, done.stderr


def test_seeded_faults_are_found_by_name_and_mended(
    redis_server: RedisServer, redis_url: str, processes: Processes
) -> None:
    server = redis_server.client()
    server.config_set("appendonly", "no")
    broker = open_broker(redis_url, {"lease_s": 1.0})
    stuck = broker.consumer(["later"])
    put(broker, "later", "s")
    take(stuck, 1)
    stuck.renew = lambda: True  # type: ignore[method-assign]  # as if its process had died
    wait_for(lambda: "stuck-in-flight" in found(redis_url))
    alone = found(redis_url)
    assert alone["no-worker"]["level"] == "warning"
    mend(redis_url, alone["stuck-in-flight"]["fix"], server)
    assert broker.administration.depth("later").ready == 1
    # 5 to 7: queues. A name that nobody knows waits behind a pause, which a worker that runs heeds only
    # within a second.
    for words in (("call", "proj.nosuch", "--no-check"), ("queue", "pause", "celery")):
        done = here(*words, "-b", redis_url)
        assert done.returncode == exit_codes.OK, done.stderr
    processes.start_qcore_worker(redis_url, "-P", "threads", name="w1@test")
    # 1 to 4: what was left behind, and what the server was told
    server.lpush("abc.reply.celery.pidbox", "x")
    server.lpush("celeryev.1234", "x", "y")
    server.config_set("maxmemory-policy", "allkeys-lru")
    # 8, 9: messages that were set aside
    put(broker, "odd", "m", "d")
    held = take(consumer := broker.consumer(["odd"]), 2)
    consumer.settle([Settlement(held[0], Settle.QUARANTINE, reason="not_json")])
    consumer.settle([Settlement(held[1], Settle.QUARANTINE, reason="crashed_too_often")])
    # 10: a host with a wrong clock
    info = {"host": "far", "at": time.time() + 90, "pid": 1}
    noted = msgspec.json.encode({"ttl_s": 60, "info": info})
    server.zadd("qcore.members", {"w9@far": time.time()})
    server.hset("qcore.members.info", "w9@far", noted)

    sick = found(redis_url)
    broker.retire("w9@far")
    for name in sick:
        if name not in ("quarantine", "dead-letters", "clock-skew", "silent-worker", "nobody-signs"):
            mend(redis_url, sick[name]["fix"], server)
    well = found(redis_url)

    assert {
        *("reply-queues", "event-queues", "eviction", "not-durable", "unconsumed-queue", "paused-queue"),
        *("unregistered-task", "quarantine", "dead-letters", "clock-skew", "silent-worker", "events-off"),
    } <= set(sick)
    assert sick["clock-skew"]["about"] == "w9@far" and "90 s ahead" in sick["clock-skew"]["what"]
    assert sick["unconsumed-queue"]["about"] == "later"
    assert sick["unregistered-task"]["about"] == "proj.nosuch"
    assert set(well) == {"quarantine", "dead-letters", "nobody-signs"}


def facts_of(said: dict[str, dict[str, Any]], at: float = 0.0) -> Facts:
    members = {node: Member(node, {}, at, True) for node in said["conf"] if node.startswith("w")}
    return Facts(at, members, [], {"stats": {}, **said}, {}, {}, [], Counter(), [], True, 0.0, True)


def test_a_worker_whose_lease_ended_stays_named() -> None:
    facts = facts_of({"conf": {}, "active_queues": {}}, 100.0)
    facts.members = {
        "w1@h": Member("w1@h", 20.0, False, {"pid": 7, "host": "far"}),
        "w2@h": Member("w2@h", 99.0, True, {}),
    }
    (lost,) = lost_workers(facts)

    assert (lost.name, lost.level, lost.about) == ("lost-worker", "warning", "w1@h")
    assert "1m20s" in lost.what and "pid 7 on far" in lost.what


KEYS = {"ops": {"secret": "********", "scope": "admin"}}


@pytest.mark.parametrize(
    ("confs", "expected"),
    [
        ([{}, {}], [("nobody-signs", "warning", "")]),
        ([{"control_keys": KEYS}, {}], []),
        ([{"control_unsigned": "refuse"}], []),
        (
            [{"control_keys": KEYS, "control_unsigned": "allow"}, {"control_keys": KEYS}],
            [("unsigned-control", "error", "w0@h")],
        ),
        ([{"error": "refused (unsigned): …"}], []),
    ],
)
def test_unsigned_control_is_named(confs: list[Any], expected: list[Any]) -> None:
    facts = facts_of({"conf": {f"w{i}@h": conf for i, conf in enumerate(confs)} | {"celery@h": {}}})

    assert [(s.name, s.level, s.about) for s in unsigned_control(facts)] == expected


def test_a_worker_that_wants_a_signature_is_not_simply_left_out() -> None:
    (symptom,) = not_trusted(facts_of({"conf": {}, "stats": {"w1@h": {"error": "refused (unsigned): sign"}}}))

    assert (symptom.name, symptom.about) == ("not-trusted", "w1@h")


def promised(url: str) -> dict[str, tuple[str, str]]:
    done = here("doctor", "--guarantees", "-b", url, "-o", "json")
    assert done.returncode == exit_codes.OK, done.stderr
    return {item["name"]: (item["holds"], item["what"]) for item in json.loads(done.stdout)["items"]}


def test_which_promises_hold_is_said_of_each_broker(
    redis_server: RedisServer, redis_url: str, sqlite_url: str
) -> None:
    server = redis_server.client()
    server.config_set("appendonly", "no")
    on_redis, on_sqlite = promised(redis_url), promised(sqlite_url)
    rabbit = {p.name: p.holds for p in open_broker("amqp://127.0.0.1:1//").diagnosis.guarantees()}
    emulated = {p.name: p.holds for p in open_broker("filesystem://").diagnosis.guarantees()}

    assert set(on_redis) == set(on_sqlite)
    assert {name for name, (holds, _) in on_sqlite.items() if holds != "yes"} == {"signed-control"}
    assert on_redis["durable-publish"][0] == "no"
    assert rabbit == {"confirmed-publish": "yes", "durable-publish": "yes"}
    assert emulated == {"confirmed-publish": "no", "durable-publish": "unknown"}


def test_promises_follow_the_settings_of_all_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    keyed = {"task_max_deliveries": 5, "task_acks_late": True, "control_keys": KEYS}
    early = {"task_max_deliveries": 5, "task_acks_late": False, "control_keys": KEYS}
    app = App("x", broker="memory://promises", set_as_current=False)

    def found(*confs: Any) -> dict[str, str]:
        answers = Answers({f"w{i}@h": conf for i, conf in enumerate(confs)}, [], [], [], None, 0.0)
        monkeypatch.setattr(type(app.control), "ask", lambda *_, **__: answers)
        return {p.name: p.holds for p in guarantees(app).promises}

    assert found(keyed)["at-least-once"] == found(keyed)["signed-control"] == "yes"
    assert found(early)["at-least-once"] == "no"
    assert found(early, keyed)["at-least-once"] == "partly"
    assert found(keyed, keyed | {"control_unsigned": "allow"})["signed-control"] == "partly"
    assert found(keyed | {"task_reject_on_worker_lost": False})["at-least-once"] == "no"
    app.close()


def test_a_long_task_of_celerys_behind_a_short_visibility_is_named() -> None:
    now = time.time()
    said: dict[str, dict[str, Any]] = {
        "stats": {"c1@h": {"broker": {"transport": "redis"}}},
        "conf": {"c1@h": {"broker_transport_options": {"visibility_timeout": 5}}},
        "active": {"c1@h": [{"name": "proj.nap", "time_start": now - 60}]},
    }
    facts = facts_of(said, now)

    (symptom,) = visibility_timeout(facts)

    assert (symptom.name, symptom.about) == ("visibility-timeout", "c1@h")
    assert "has run for 60 s" in symptom.what


@pytest.mark.parametrize("driver", ["sqlite"])
def test_a_quiet_broker_has_nothing_wrong_but_no_worker(driver: str, sqlite_url: str) -> None:
    done = here("doctor", "-b", sqlite_url)

    assert done.returncode == exit_codes.OK
    assert done.stdout.splitlines()[0] == "warning no-worker"
