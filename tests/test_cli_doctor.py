"""`qctl doctor`: ten seeded faults are found by name, and what it says mends them."""

from __future__ import annotations

import json
import shlex
import time
from typing import Any

import msgspec
import pytest
import redis

from qcore.brokers.base import Settle, Settlement, open_broker
from qctl import exits
from tests.processes import Processes
from tests.redis_server import RedisServer
from tests.suites.consuming import put, take
from tests.test_cli import qctl
from tests.waiting import wait_for


def found(url: str) -> dict[str, Any]:
    done = qctl("doctor", "-b", url, "-o", "json")
    items = json.loads(done.stdout)["items"]
    errors = any(i["level"] == "error" for i in items)
    assert done.returncode == (exits.NOT_MET if errors else exits.OK)
    return {i["name"]: i for i in items}


def mend(url: str, fix: str, server: redis.Redis) -> None:
    words = shlex.split(fix, comments=True)
    if words[0] == "redis-cli":
        server.execute_command(*words[1:])
        return
    assert words[0] == "qctl"
    done = qctl(*words[1:], "-b", url, *(["--yes"] if "purge" in words else []))
    assert done.returncode == exits.OK, done.stderr


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
    assert broker.depth("later").ready == 1
    processes.start_qcore_worker(redis_url, "-P", "threads", name="w1@test")
    # 1 to 4: what was left behind, and what the server was told
    server.lpush("abc.reply.celery.pidbox", "x")
    server.lpush("celeryev.1234", "x", "y")
    server.config_set("maxmemory-policy", "allkeys-lru")
    # 5 to 7: queues. A name that nobody knows waits behind a pause.
    qctl("queue", "pause", "celery", "-b", redis_url)
    qctl("call", "proj.nosuch", "--no-check", "-b", redis_url)
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
        if name not in ("quarantine", "dead-letters", "clock-skew", "silent-worker"):
            mend(redis_url, sick[name]["fix"], server)
    well = found(redis_url)

    assert {
        *("reply-queues", "event-queues", "eviction", "not-durable", "unconsumed-queue", "paused-queue"),
        *("unregistered-task", "quarantine", "dead-letters", "clock-skew", "silent-worker", "events-off"),
    } <= set(sick)
    assert sick["clock-skew"]["about"] == "w9@far" and "90 s ahead" in sick["clock-skew"]["what"]
    assert sick["unconsumed-queue"]["about"] == "later"
    assert sick["unregistered-task"]["about"] == "proj.nosuch"
    assert set(well) == {"quarantine", "dead-letters"}


def test_a_long_task_of_celerys_behind_a_short_visibility_is_named() -> None:
    from collections import Counter

    from qctl.doctor.checks import visibility_timeout
    from qctl.doctor.facts import Facts

    now = time.time()
    said: dict[str, dict[str, Any]] = {
        "stats": {"c1@h": {"broker": {"transport": "redis"}}},
        "conf": {"c1@h": {"broker_transport_options": {"visibility_timeout": 5}}},
        "active": {"c1@h": [{"name": "proj.nap", "time_start": now - 60}]},
    }
    facts = Facts(now, {}, [], said, {}, {}, [], Counter(), [], True, 0.0)

    (symptom,) = visibility_timeout(facts)

    assert (symptom.name, symptom.about) == ("visibility-timeout", "c1@h")
    assert "has run for 60 s" in symptom.what


@pytest.mark.parametrize("driver", ["sqlite"])
def test_a_quiet_broker_has_nothing_wrong_but_no_worker(driver: str, sqlite_url: str) -> None:
    done = qctl("doctor", "-b", sqlite_url)

    assert done.returncode == exits.OK
    assert done.stdout.splitlines()[0] == "warning no-worker"
