"""`qctl queue` on Redis and in a file: look, purge, save, load, move and pause say exactly what they did."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from qcore.brokers.contract.records import Message, Settle, Settlement
from qcore.brokers.registry import open_broker
from qcore.wire import task as task_wire
from qctl import exit_codes
from tests.contracts.consuming import message, put, take
from tests.faults import FULL
from tests.qctl.cli.test_command_line import qctl
from tests.qctl.output.test_formats import run
from tests.support.redis_server import RedisServer

JUNK = b"\xff\x00 no task"


@pytest.fixture(params=["redis", "sqlite"])
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setenv("QCTL_CONFIG", str(tmp_path / "config"))
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


def task(name: str, task_id: str, *args: Any, **options: Any) -> bytes:
    return task_wire.build(name, args, {}, task_id=task_id, routing_key="mails", **options)


def filled(url: str) -> Any:
    """A queue with two kinds of tasks in several priorities, one delayed, and junk."""
    broker = open_broker(url)
    for priority in (9, 0, 6, 3):
        raws = [task(f"proj.{kind}", f"{kind}-{priority}", priority) for kind in ("good", "bad")]
        broker.publish([Message(raw, queue="mails", priority=priority) for raw in raws])
    late = Message(task("proj.bad", "bad-late", "x"), queue="mails", due_at=time.time() + 1000)
    broker.publish([late, Message(JUNK, queue="mails")])
    return broker


def answer(url: str, *words: str, code: int = exit_codes.OK) -> list[dict[str, Any]]:
    got, out, err = run("queue", *words, "-o", "json", "-b", url)
    assert got == code, (got, out, err)
    found: list[dict[str, Any]] = json.loads(out)["items"]
    return found


def test_counts_are_what_was_enqueued_and_who_paused_it_is_said(url: str) -> None:
    broker = filled(url)
    consumer = broker.consumer(["mails"])
    take(consumer, 3)
    answer(url, "pause", "mails", "--for", "30m", "--reason", "db upgrade")

    (mails,) = answer(url, "ls")
    _, table, _ = run("queue", "ls", "-b", url)
    answer(url, "resume", "mails")
    (after,) = answer(url, "ls")

    assert (mails["ready"], mails["in_flight"], mails["delayed"]) == (6, 3, 1)
    assert (mails["paused"], mails["pause_reason"], mails["consumers"]) == (True, "db upgrade", 0)
    assert mails["paused_by"] and mails["paused_until_at"] > mails["paused_at"]
    assert "db upgrade" in table
    assert (mails["oldest_at"] is None) == url.startswith("redis")  # ids that tell nothing
    assert (after["paused"], after["paused_by"], after["paused_until_at"]) == (False, None, None)


def test_looking_alters_nothing(redis_url: str, redis_server: RedisServer, url: str) -> None:
    filled(url)

    def everything() -> dict[bytes, Any]:
        with redis_server.client() as client:
            return {key: client.dump(key) for key in client.scan_iter()}

    before = everything()
    peeked = answer(url, "peek", "mails", "-n", "20")
    grouped = answer(url, "peek", "mails", "--group-by", "name")
    chosen = answer(url, "peek", "mails", "name:proj.bad -args.0=9", "--raw")
    raw = qctl("queue", "peek", "mails", "id:good-0", "--raw", "-b", url).stdout

    assert everything() == before
    assert [i["id"] for i in peeked] == [
        *("good-0", "bad-0", None, "good-3", "bad-3", "good-6", "bad-6", "good-9", "bad-9", "bad-late")
    ]
    assert (peeked[-1]["state"], peeked[0]["state"], peeked[2]["name"]) == ("delayed", "queued", None)
    assert {g["name"]: g["count"] for g in grouped} == {"proj.bad": 5, "proj.good": 4, "(no task)": 1}
    assert [i["id"] for i in chosen] == ["bad-0", "bad-3", "bad-6", "bad-late"]
    assert json.loads(raw)["headers"]["id"] == "good-0"


def test_a_purge_removes_what_matches_and_a_load_brings_back_the_same_bytes(url: str, tmp_path: Path) -> None:
    broker, saved = filled(url), str(tmp_path / "bad.ndjson")
    before = {w.raw: (w.priority, w.due_at) for w in broker.administration.waiting("mails")}

    code, _, err = run("queue", "purge", "mails", "--match", "name:*.bad", "-b", url)
    (dry,) = answer(url, "purge", "mails", "--match", "name:*.bad", "--dry-run")
    (purged,) = answer(url, "purge", "mails", "--match", "name:*.bad", "--save", saved, "--yes")
    left = [w.raw for w in broker.administration.waiting("mails")]
    answer(url, "purge", "mails", "--match", "name:*.bad", "--yes", code=exit_codes.NOT_FOUND)
    assert run("queue", "save", "mails", saved, "-b", url)[0] == exit_codes.USAGE  # it is there already
    (loaded,) = answer(url, "load", saved, "--yes")

    assert (code, dry["deleted"], dry["matched"]) == (exit_codes.REFUSED, 0, 5)
    assert "proj.bad" in err
    assert (purged["deleted"], purged["waited"], purged["taken_meanwhile"]) == (5, 10, 0)
    assert len(left) == 5 and not any(b"proj.bad" in raw for raw in left)
    assert loaded["loaded"] == 5
    assert {w.raw: (w.priority, w.due_at) for w in broker.administration.waiting("mails")} == before
    assert Path(saved).stat().st_mode & 0o777 == 0o600

    (whole,) = answer(url, "save", "mails", str(tmp_path / "all.ndjson"))
    order = [w.raw for w in broker.administration.waiting("mails")]
    (all_of_it,) = answer(url, "purge", "mails", "--yes")
    assert (whole["saved"], all_of_it["deleted"]) == (10, 10)
    answer(url, "load", str(tmp_path / "all.ndjson"), "--yes")
    assert [w.raw for w in broker.administration.waiting("mails")] == order


def test_what_a_worker_took_meanwhile_is_neither_deleted_nor_saved(url: str, tmp_path: Path) -> None:
    from qctl.commands.queue.files import Saver, read
    from qctl.filters import parse
    from qctl.fleet.queued_messages import matching

    broker, path = filled(url), str(tmp_path / "f")
    found = list(matching(broker, "mails", parse("name:proj.bad")))
    consumer = broker.consumer(["mails"])
    (first, second) = take(consumer, 2)
    assert b"bad-0" in second.raw

    with Saver(path) as saver:
        start = saver.write(found)
        gone = broker.administration.drop_these([one for one, _ in found])
        saver.rewrite(start, len(found), [one for one, yes in zip(found, gone, strict=True) if yes])

    assert gone == [False, True, True, True, True]
    assert [m.raw for m in read(path, None)] == [one.raw for one, _ in found[1:]]
    assert consumer.settle([Settlement(d, Settle.ACK) for d in (first, second)]) == []


def test_what_matches_is_moved(url: str) -> None:
    broker = filled(url)

    (moved,) = answer(url, "move", "mails", "later", "--match", "name:*.bad", "--limit", "3", "--yes")

    assert moved["moved"] == 3
    assert sorted(w.priority for w in broker.administration.waiting("later")) == [0, 3, 6]
    assert len(list(broker.administration.waiting("mails"))) == 7


def test_draining_waits_until_it_is_empty_and_idle(url: str) -> None:
    broker = open_broker(url)
    put(broker, "mails", "a", "b")
    consumer = broker.consumer(["mails"])
    held = take(consumer, 2)

    early, _, err = run("queue", "drain", "mails", "--wait", "-t", "0.3", "-b", url)
    consumer.settle([Settlement(d, Settle.ACK) for d in held])
    late, _, _ = run("queue", "drain", "mails", "--wait", "-t", "60", "-b", url)

    assert (early, late) == (exit_codes.NOT_MET, exit_codes.OK)
    assert "2 in flight" in err


def test_rabbitmq_says_what_it_cannot_do(rabbit_url: str, tmp_path: Path) -> None:
    open_broker(rabbit_url).publish([Message(message("a"), queue="mails")])

    for words in (
        ["peek", "mails"],
        ["save", "mails", str(tmp_path / "f")],
        ["purge", "mails", "--match", "x"],
    ):
        code, _, err = run("queue", *words, "-b", rabbit_url)
        assert (code, "cannot read all messages of a queue" in err) == (exit_codes.FAILED, True)
    assert "will be refused if it waits" in run("task", "revoke", "a", "-b", rabbit_url)[1]
    code, _, err = run("task", "unrevoke", "a", "-b", rabbit_url)
    assert (code, "cannot delete revoked ids" in err) == (exit_codes.FAILED, True)


def test_many_queues_are_listed_in_few_round_trips(redis_url: str, redis_server: RedisServer) -> None:
    number = 10_000 if FULL else 2_000
    prefixed = open_broker(redis_url, {"global_keyprefix": "app:"})
    prefixed.publish(
        [Message(message("m"), queue=f"q{i}", priority=p) for i in range(number) for p in (0, 3, 6, 9)]
    )
    put(open_broker(redis_url), "q1", "of nobody")
    queues = prefixed.administration.queues()

    with redis_server.client() as client:
        before = client.info("stats")["total_reads_processed"]
        found = prefixed.administration.depths(queues)
        reads = client.info("stats")["total_reads_processed"] - before

    assert reads < number / 4  # of the server's; one by one there would be one for each queue at least
    assert len(queues) == number and sum(depth.ready for depth in found) == 4 * number


def test_messages_are_counted_by_an_argument(sqlite_url: str) -> None:
    broker = open_broker(sqlite_url)
    for number, kwargs in enumerate([{"tenant": "acme"}, {"tenant": "acme"}, {"tenant": 7}, {}]):
        raw = task_wire.build("proj.bill", (), kwargs, task_id=f"u{number}", routing_key="mails")
        broker.publish([Message(raw, queue="mails")])

    grouped = answer(sqlite_url, "peek", "mails", "--group-by", "kwargs.tenant")

    assert {g["kwargs.tenant"]: g["count"] for g in grouped} == {"acme": 2, "7": 1, "(none)": 1}
