"""The ACL that docs/brokers.md publishes is enough for everything, and allows nothing that it should not."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from qcore import App, chord, signature
from qcore.brokers.contract.administration import Depth
from qcore.brokers.contract.records import Message
from qcore.brokers.contract.schedules import HISTORY_SIZE, Firing, ScheduleStore
from qcore.brokers.registry import open_broker
from qcore.errors import BrokerError
from qcore.wire.schedule import HistoryRecord
from tests.contracts.consuming import take
from tests.qctl.cli.test_command_line import here
from tests.support.processes import ROOT, Processes
from tests.support.redis_server import RedisServer, require_server
from tests.support.waiting import wait_for

PASSWORD = "not-a-secret"


def published_acl() -> str:
    """The `user` line of the page, on one line."""
    text = (ROOT / "docs" / "brokers.md").read_text()
    found = re.search(r"^```\n(user qcore .*?)^```$", text, re.M | re.S)
    assert found is not None
    return " ".join(found[1].split()).replace(">PASSWORD", f">{PASSWORD}")


class GuardedServer(RedisServer):
    """A server whose default user may do nothing but answer the test that it is there."""

    def _ports(self) -> list[str]:
        acl = Path(self.dir) / "users.acl"
        acl.write_text(f"user default on nopass -@all +ping +acl|log\n{published_acl()}\n")
        return [*super()._ports(), "--aclfile", str(acl)]

    @property
    def url(self) -> str:
        return f"redis://qcore:{PASSWORD}@127.0.0.1:{self.port}/0"

    def denied(self) -> list[str]:
        """What the user of the page asked for and was refused."""
        with self.client() as client:
            return [entry["object"] for entry in client.acl_log() if entry["username"] == "qcore"]


@pytest.fixture
def guarded() -> Iterator[GuardedServer]:
    server = GuardedServer(require_server())
    yield server
    server.stop()


def use_every_step(store: ScheduleStore) -> None:
    """Whatever a store of schedule entries does."""
    store.tombstone_s = 0.0
    store.declare("app", {"a": b"1", "b": b"1"})
    (found,) = store.named(["a"])
    assert found is not None
    assert store.edit("a", b"2", "me", revision=found.revision, cursor_us=5)
    calls = (Message(b"x", "far"), Message(b"y", "far", priority=9), Message(b"z", "far", due_at=4e9))
    records = (HistoryRecord(9, "sent", task_id="t"),)
    assert store.fire([Firing("a", 5, 9, calls, records * (HISTORY_SIZE + 1), 1, task_id="t")]) == [None]
    assert store.fire([Firing("a", None, 0, calls, task_id="t")]) == [None]
    assert len(store.history("a")) == HISTORY_SIZE
    store.edit("a", None)
    store.sent([item.id for item in store.outbox()])
    assert store.outbox() == []
    store.announce("s1", {}, 60.0)
    assert [member.node for member in store.schedulers()] == ["s1"]
    store.retire("s1")
    assert store.declare("app", {}) == ["a", "b"]
    assert store.entries() == []
    assert store.declare("app", {}) == []
    assert store.clock()[1] > 0


def test_the_published_acl_is_enough(guarded: GuardedServer, processes: Processes) -> None:
    url, project = guarded.url, "tests.projects.served"
    worker = processes.start_qcore_worker(url, "-c", "2", "-E", app=project, name="w@test")
    app = App("client", broker=url, set_as_current=False)

    def sig(name: str, *args: object, **options: object) -> object:
        return signature(f"served.{name}", args, app=app, **options)

    ear = app.broker.subscribe("celeryev", "#")
    # results, chords, priorities, delays
    assert app.send_task("served.add", (1, 2)).get(timeout=60) == 3
    assert app.send_task("served.add", (1, 2), priority=9, countdown=0.2).get(timeout=60) == 3
    whole = chord([sig("add", i, i) for i in range(3)])(sig("total"))  # type: ignore[operator]
    assert whole.get(timeout=60) == 6
    # control, inspect, events, revokes
    assert app.control.ping(timeout=60) == [{"w@test": {"ok": "pong"}}]
    napping = app.send_task("served.nap", (60,))
    wait_for(lambda: "served.nap" in here("inspect", "active", QCTL_BROKER_URL=url).stdout, 60)
    app.control.revoke(napping.id, terminate=True)
    wait_for(lambda: napping.state == "REVOKED", 60)
    status = json.loads(here("status", "-o", "json", QCTL_BROKER_URL=url).stdout)
    assert [item["node"] for item in status["items"]] == ["w@test"]
    assert ear.get(60) is not None
    # what fails, and is tried again
    failing = app.send_task("served.add", (1, "x"))
    wait_for(lambda: app.broker.failed_tasks.of([failing.id]) != [None], 60)
    for words in (["ls"], ["group"], ["retry", "--all", "--yes"], ["rm", "--all", "--yes"]):
        assert here("failed", *words, QCTL_BROKER_URL=url).returncode == 0
    # what is no task, what dies, what is deleted
    app.broker.publish([Message(b"not a task", queue="celery")])
    wait_for(lambda: app.broker.administration.quarantined(), 60)
    app.broker.publish([Message(b"x", queue="other"), Message(b"y", queue="other", due_at=4e9)])
    for line in (
        "queue ls",
        "queue pause other --for 30m",
        "queue resume other",
        "queue peek other",
        "queue move other far --match state:queued,delayed --yes",
        "queue purge far --match state:queued --yes",
        "task why waits",
        "task revoke nobody",
        "task unrevoke nobody",
    ):
        assert here(*line.split(), QCTL_BROKER_URL=url).returncode in (0, 3), line
    assert here("purge", "-Q", "other", "--yes", QCTL_BROKER_URL=url).returncode == 0
    assert "purge -Q other" in here("audit", QCTL_BROKER_URL=url).stdout
    for _ in range(3):
        app.broker.task_logs.append({"chatty": [b"1", b"2"]}, 3)
    assert app.broker.task_logs.of("chatty") == [b"2", b"1", b"2"]
    assert app.broker.administration.depth("other") == Depth(0, 0, 0)
    use_every_step(app.broker.schedules)
    use_every_step(open_broker(url, {"schedule_outbox": True}).schedules)
    held = open_broker(url, {"lease_s": 0.2}).consumer(["mine"])
    app.broker.publish([Message(b"z", queue="mine")])
    assert take(held, 1)
    other = open_broker(url).consumer(["mine"])
    assert wait_for(other.reap) == 1
    other.close()
    # every connection cut, and a new worker after one that was killed
    worker.term(signal.SIGTERM)
    assert worker.wait() == 0
    assert "celery" in app.broker.administration.queues()
    app.broker.results_of(["x"])
    app.broker.forget_results([napping.id])
    ear.close()
    app.close()
    assert guarded.denied() == []


@pytest.mark.parametrize(
    "command", ["CONFIG GET *", "KEYS *", "FLUSHALL", "SCRIPT FLUSH", "SHUTDOWN", "ACL LIST"]
)
def test_the_published_acl_allows_no_more(guarded: GuardedServer, command: str) -> None:
    broker = open_broker(guarded.url)

    with pytest.raises(BrokerError, match="NOPERM"):
        broker._shared.call(*command.split())  # type: ignore[attr-defined]

    broker.close()
