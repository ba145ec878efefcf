"""Redis Cluster: redis+cluster:// finds the keys and follows them. For other URLs one sentence says what to
set, and with that everything works on one slot."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qcore import App, chord, signature
from qcore.brokers.contract.records import Message, Settle, Settlement
from qcore.brokers.redis.keys import Keys
from qcore.brokers.redis.servers import ReplyError, ServerSelector
from qcore.brokers.redis.topology.cluster import DEFAULT_PREFIX, Cluster, Node, Range, key_options, slot_of
from qcore.brokers.registry import open_broker
from qcore.brokers.shared.endpoints import split_urls
from qcore.errors import BrokerDown, ConfigError
from qctl import exit_codes
from tests.contracts.broker_contract import broker, opened, queue
from tests.contracts.bus_contract import BusContract
from tests.contracts.consuming import take
from tests.contracts.delay_contract import Waking
from tests.qcore.brokers.test_redis_acl import PASSWORD, published_acl, use_every_step
from tests.support.processes import ROOT, Processes, run_python
from tests.support.redis_cluster import SLOT, RealCluster
from tests.support.redis_server import ClusterServer, RedisServer, require_server

__all__ = ["broker", "opened", "queue"]

PROJECT = "tests.projects.served"
CELERY_CODE = """
import os
from celery import Celery

PREFIX = {"global_keyprefix": "{qcore}"}
app = Celery("proj", broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["CELERY_BROKER_URL"])
app.conf.update(broker_transport_options=PREFIX, result_backend_transport_options=PREFIX)

@app.task(name="proj.add")
def add(x, y):
    return x + y

if __name__ == "__main__":
    print(app.send_task("served.add", (20, 22)).get(timeout=30))
"""
CODE = """
from qcore import App
app = App("proj", broker_transport_options={"global_keyprefix": "{fleet}"})

@app.task(name="proj.add")
def add(x, y):
    return x + y
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterServer]:
    server = ClusterServer(require_server())
    yield server
    server.stop()


def qctl(home: Path, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("QCTL_", "CELERY_"))}
    env |= {"HOME": str(home), "PYTHONPATH": f"{home}{os.pathsep}{ROOT}"}
    return run_python("-m", "qctl", "-b", url, *words, env=env)


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("call", "proj.add", "--no-check"),
        ("queue", "ls"),
        ("inspect", "ping"),
        ("purge", "-f"),
        ("failed", "ls"),
        ("-A", "examples.proj", "worker"),
    ],
    ids=" ".join,
)
def test_without_a_prefix_in_braces_every_command_says_what_to_set(
    words: tuple[str, ...], cluster: ClusterServer, tmp_path: Path
) -> None:
    ran = qctl(tmp_path, cluster.url, *words)

    assert ran.returncode == 78, ran.stderr
    assert "cluster mode" in ran.stderr
    assert "'global_keyprefix': '{name}'" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_with_a_prefix_in_braces_a_task_runs(
    cluster: ClusterServer, processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "proj.py").write_text(CODE)
    words = ("-A", "proj", "--workdir", str(tmp_path), "-b", cluster.url)
    worker = processes.qctl(*words, "worker", "-n", "w1@cluster", "-c", "1")
    worker.wait_output("w1@cluster ready")

    call = ("-A", "proj", "--workdir", str(tmp_path), "call", "proj.add")
    called = qctl(tmp_path, cluster.url, *call, "-a", "[2, 2]", "--wait", "-t", "20")
    late = qctl(tmp_path, cluster.url, *call, "-a", "[20, 22]", "--countdown", "1", "--wait", "-t", "20")
    status = qctl(tmp_path, cluster.url, "-A", "proj", "--workdir", str(tmp_path), "status")

    assert called.stdout.strip().endswith("4"), called.stderr
    assert late.stdout.strip().endswith("42"), late.stderr
    assert "w1@cluster" in status.stdout, status.stderr


def test_schedule_entries_are_in_the_slot_of_the_prefix(cluster: ClusterServer) -> None:
    stray = open_broker(cluster.url).schedules
    with pytest.raises(ConfigError, match="global_keyprefix"):
        stray.declare("app", {"a": b"1"})
    with pytest.raises(ConfigError, match="global_keyprefix"):
        stray.clock()

    use_every_step(open_broker(cluster.url, {"global_keyprefix": "{fleet}"}).schedules)


def test_a_node_that_does_not_hold_the_keys_names_the_one_that_does(cluster: ClusterServer) -> None:
    app = App("moved", broker=cluster.url, set_as_current=False)
    door: ServerSelector = app.broker._door  # type: ignore[attr-defined]

    with pytest.raises(ConfigError, match=r"redis://10\.0\.0\.2:6379/0"):
        door.fail(ReplyError("MOVED 866 10.0.0.2:6379"))

    app.close()


def test_everything_works_through_two_seeds_that_do_not_own_the_slot(
    redis_cluster: RealCluster, processes: Processes, tmp_path: Path
) -> None:
    url = redis_cluster.url
    first, second = split_urls(url)
    store = f"{second};{first}"  # for qcore another place than the broker: a result store of its own
    worker = processes.start_qcore_worker(url, "-c", "2", "-E", app=PROJECT, name="w@cluster", backend=store)
    app = App("client", broker=url, backend=store, set_as_current=False)
    ear = app.broker.subscribe("celeryev", "#")

    assert app.send_task("served.add", (1, 2)).get(timeout=60) == 3
    assert app.send_task("served.add", (1, 2), priority=9, countdown=0.2).get(timeout=60) == 3
    members = [signature("served.add", (i, i), app=app) for i in range(3)]
    assert chord(members)(signature("served.total", app=app)).get(timeout=60) == 6
    assert app.control.ping(timeout=60) == [{"w@cluster": {"ok": "pong"}}]
    assert ear.get(60) is not None
    use_every_step(app.broker.schedules)
    with redis_cluster.owner().client() as client:
        keys = [key.decode() for key in client.scan_iter()]
    assert keys and {slot_of(key) for key in keys} == {SLOT}

    doctor = qctl(tmp_path, url, "doctor")
    assert (
        f"slot {SLOT} of the prefix {{qcore}} is at 127.0.0.1:{redis_cluster.owner().port} (replica 127"
        in (doctor.stdout + doctor.stderr)
    )
    assert f"prefix:{{qcore}} slot:{SLOT}" in qctl(tmp_path, url, "report").stdout
    ear.close()
    app.close()
    worker.term()
    assert worker.wait() == 0


def test_an_idle_fleet_follows_its_slot(
    redis_cluster: RealCluster, processes: Processes, tmp_path: Path
) -> None:
    worker = processes.start_qcore_worker(redis_cluster.url, "-c", "1", app=PROJECT, name="idle@cluster")
    app = App("client", broker=redis_cluster.url, set_as_current=False)
    assert app.send_task("served.add", (1, 2)).get(timeout=60) == 3

    redis_cluster.end_move(*redis_cluster.begin_move())

    assert app.send_task("served.add", (3, 4)).get(timeout=60) == 7
    (warning,) = [s for s in app.broker.diagnosis.symptoms() if s.name.startswith("cluster")]
    assert warning.name == "cluster-no-replica"
    assert warning.what.startswith(f"127.0.0.1:{redis_cluster.owner().port}, which owns slot {SLOT} ")
    app.close()
    worker.term()
    assert worker.wait() == 0
    assert "Traceback" not in worker.output()


def test_celerys_worker_and_clients_share_the_prefix_at_the_owner(
    redis_cluster: RealCluster, processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "celproj.py").write_text(CELERY_CODE)
    single = redis_cluster.single_url
    env = {"CELERY_BROKER_URL": single, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    celery = processes.celery("-A", "celproj", "worker", "-n", "c@x", "-P", "solo", "-l", "INFO", env=env)
    celery.wait_output("c@x ready")
    app = App("client", broker=redis_cluster.url, set_as_current=False)

    assert app.send_task("proj.add", (1, 2)).get(timeout=60) == 3
    assert app.control.ping(timeout=60) == [{"c@x": {"ok": "pong"}}]
    celery.term()
    celery.wait()
    processes.start_qcore_worker(redis_cluster.url, "-c", "1", app=PROJECT)
    client = processes.start(sys.executable, str(tmp_path / "celproj.py"), env=env, imports="celery")
    assert client.wait() == 0, client.output()
    assert client.output().strip().endswith("42")
    app.close()


@pytest.mark.parametrize(
    ("given", "prefix", "results"),
    [
        ({}, "{qcore}", "{qcore}_"),
        ({"global_keyprefix": "shop"}, "{shop}", "{shop}_"),
        ({"global_keyprefix": "{shop}:", "result_prefix": "{shop}:"}, "{shop}:", "{shop}:"),
        ({"global_keyprefix": "shop", "result_prefix": "shop"}, "{shop}", "{shop}_"),
        ({"global_keyprefix": "a{b}", "result_prefix": "r."}, "a{b}", "a{b}r."),
        ({"result_prefix": "{shop}"}, "{shop}", "{shop}_"),
        ({"global_keyprefix": "{}"}, "{{}}", "{{}}_"),
    ],
)
def test_a_prefix_gets_a_hash_tag_when_it_has_none(given: dict[str, str], prefix: str, results: str) -> None:
    keys = Keys(0, key_options(given))

    assert keys.prefix == prefix
    assert keys.result("x") == f"{results}celery-task-meta-x"
    assert slot_of(keys.result("{other}")) == slot_of(keys.lists("{queue}")[1]) == slot_of(prefix)


def test_prefixes_of_two_slots_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'{b}' and that of the broker '{a}'"):
        key_options({"global_keyprefix": "{a}", "result_prefix": "{b}"})


def test_the_slot_is_that_of_the_server(redis_cluster: RealCluster) -> None:
    for key in ("", "a", "{a}", "x{a}{b}", "{}a", "a{", "}{a}", "{ü}"):
        assert redis_cluster.nodes[0].command("KEYSLOT", key) == slot_of(key), key


@pytest.mark.parametrize(
    ("url", "single"),
    [
        ("redis+cluster://a,b:7000/0", "redis://a:6379/0"),
        ("redis+cluster://a:7000", "redis://a:7000/0"),
        (
            "rediss+cluster://u:p%2C@[::1]:7000,b/0?ssl_cert_reqs=none",
            "rediss://u:p%2C@[::1]:7000/0?ssl_cert_reqs=none",
        ),
    ],
)
def test_a_node_has_the_credentials_and_options_of_the_url(url: str, single: str) -> None:
    cluster = Cluster(url, DEFAULT_PREFIX, lambda _: None)

    assert cluster.url_of(cluster.seeds[0]) == single


def test_a_refusal_says_where_the_slot_is() -> None:
    cluster = Cluster("redis+cluster://a:7000/0", DEFAULT_PREFIX, lambda _: None)
    cluster.owner = Node("a", 7000)

    assert cluster.learn(ReplyError(f"MOVED {SLOT} 10.0.0.2:7001")) and cluster.owner == Node(
        "10.0.0.2", 7001
    )
    assert cluster.learn(ReplyError(f"MOVED {SLOT} :7002")) and cluster.owner == Node("10.0.0.2", 7002)
    assert not cluster.learn(ReplyError(f"ASK {SLOT} b:7003")) and cluster.owner == Node("10.0.0.2", 7002)
    assert not cluster.learn(ReplyError("CLUSTERDOWN The cluster is down")) and cluster.owner is None
    assert not cluster.refuses(ReplyError("MOVED 1 b:7003")), "the key of another slot"
    assert not cluster.refuses(ReplyError("ERR MOVED")) and not cluster.refuses(b"MOVED")


def test_slots_without_an_owner_are_named() -> None:
    def ranges(*pairs: tuple[int, int]) -> list[Range]:
        return [Range(first, last, Node("a", 1), ()) for first, last in pairs]

    assert Cluster.gaps(ranges((0, 16383))) == ""
    assert Cluster.gaps(ranges((1, 5), (8, 16380))) == "0, 6-7, 16381-16383"


def test_a_server_that_is_no_cluster_is_refused_in_one_sentence(redis_server: RedisServer) -> None:
    url = redis_server.url.replace("redis://", "redis+cluster://")

    with pytest.raises(ConfigError, match="is not in cluster mode: write redis://"):
        open_broker(url).check()
    with pytest.raises(ConfigError, match="contains only cluster URLs"):
        open_broker(f"{url};{redis_server.url}")


def test_the_published_permissions_and_one_more_are_enough_in_a_cluster(redis_cluster: RealCluster) -> None:
    for node in redis_cluster.nodes:
        with node.client() as client:
            client.execute_command("ACL", "SETUSER", *published_acl().split()[1:], "+cluster|slots")
    app = App("acl", broker=redis_cluster.url.replace("//", f"//qcore:{PASSWORD}@"), set_as_current=False)

    app.send_task("served.add", (1, 2))
    assert len(take(app.broker.consumer(["celery"]), 1)) == 1
    assert "of the prefix {qcore}" in app.broker.diagnosis.cluster()
    assert app.broker.diagnosis.symptoms() is not None

    app.close()


def test_while_the_slot_moves_a_step_is_refused_as_a_whole(redis_cluster: RealCluster) -> None:
    broker = open_broker(redis_cluster.url, {"connect_timeout_s": 0.3})
    broker.publish([Message(b"%d" % i, queue="q") for i in range(5)])
    broker.publish([Message(b"late", queue="q", due_at=4e9)])
    consumer = broker.consumer(["q"])
    first, second = take(consumer, 2)
    consumer.settle([Settlement(first, Settle.QUARANTINE, reason="test")])
    consumer.arm()
    # All keys that a settlement names are there. The list it sends to is not, which would end it half-way.
    move = redis_cluster.begin_move()
    settled = [Settlement(second, sends=(Message(b"next", queue="new"),))]

    for _ in range(2):
        with pytest.raises(BrokerDown, match=rf"slot {SLOT} of the prefix {{qcore}} is being moved"):
            consumer.settle(settled)
        with pytest.raises(BrokerDown, match="is being moved"):
            consumer.claim(2)
        redis_cluster.move_keys(*move, limit=2)
    redis_cluster.end_move(*move)

    assert consumer.settle(settled) == []
    assert broker.administration.peek("new") == [b"next"]
    consumer.reconnect()
    assert [d.raw for d in take(consumer, 3)] == [b"2", b"3", b"4"]
    consumer.close()
    broker.close()


@pytest.fixture
def broker_url(running_cluster: RealCluster) -> str:
    with running_cluster.owner().client() as client:
        client.flushall()
    return running_cluster.url


class TestContract(BusContract, Waking):
    """A part of the contract: what needs connections that wait, and those of several brokers."""


def test_a_password_with_a_comma_is_no_list_of_nodes(tmp_path: Path) -> None:
    ran = qctl(tmp_path, "redis+cluster://:pa,ss@127.0.0.1:1,127.0.0.1:2/0", "status")

    assert ran.returncode == exit_codes.UNAVAILABLE, ran.stderr
    assert "cannot reach the broker" in ran.stderr and "ss@" not in ran.stderr
