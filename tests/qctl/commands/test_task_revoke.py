"""`qctl task revoke` on Redis and in a file: each task is said to be where it was, and does not run."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from qcore import App, chain, signature
from qcore.brokers.contract.records import Message
from qcore.brokers.registry import open_broker
from qcore.wire import task as task_wire
from qctl import exit_codes
from qctl.commands.task.revoke import Revoker
from tests.faults import FULL
from tests.qctl.output.test_formats import run
from tests.support.processes import Processes
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for


class Fleet(NamedTuple):
    url: str
    app: App
    early: dict[str, str]  # what was sent and revoked before the worker began, and what was said
    codes: tuple[int, int]


def revoke(url: str, *words: str) -> tuple[int, dict[str, str]]:
    code, out, err = run("task", "revoke", *words, "-o", "json", "-b", url)
    try:
        return code, {item["id"]: item["done"] for item in json.loads(out)["items"]}
    except (ValueError, KeyError):
        raise AssertionError((code, out, err)) from None


@pytest.fixture(scope="module", params=["redis", "sqlite"])
def fleet(
    request: pytest.FixtureRequest, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("revoking")
    url = f"sqlite:///{folder}/qcore.sqlite3"
    if request.param == "redis":
        url = redis_server.url
        with redis_server.client() as client:
            client.flushall()
    app = App("client", broker=url, set_as_current=False)

    def sig(x: int) -> Any:
        return signature("served.add", (x, x), app=app)

    early = {
        "queued": app.send_task("served.add", (1, 1)).id,
        "urgent": app.send_task("served.add", (1, 1), priority=9).id,
        "delayed": app.send_task("served.add", (1, 1), countdown=3000).id,
        "kept": app.send_task("served.add", (2, 2)).id,
    }
    early["linked"] = chain(sig(3), signature("served.add", (1,), app=app)).apply_async().parent.id
    named, words = revoke(url, *(early[k] for k in ("queued", "urgent", "delayed", "linked")))
    mixed, more = revoke(url, early["queued"], "no-such-id")
    said = {name: (words | more).get(task_id, "") for name, task_id in early.items()}
    said["unknown"] = more["no-such-id"]
    started = Processes(folder)
    started.start_qcore_worker(url, "-c", "1", app="tests.projects.served", name="w@test")
    yield Fleet(url, app, early | {f"{k}: said": v for k, v in said.items()}, (named, mixed))
    app.close()
    started.close()


def test_what_was_revoked_while_no_worker_ran_never_runs(fleet: Fleet) -> None:
    early, results = fleet.early, fleet.app.results

    assert fleet.app.AsyncResult(early["kept"]).get(timeout=60) == 4
    wait_for(lambda: fleet.app.AsyncResult(early["linked"]).state == "REVOKED", 60)

    assert [
        meta.status for meta in results.get([early[k] for k in ("queued", "urgent", "delayed")]) if meta
    ] == ["REVOKED"] * 3
    assert early["delayed: said"] == early["urgent: said"] == "removed from queue"
    assert early["linked: said"] == "will be refused by the worker that takes it"
    assert (early["queued: said"], early["unknown: said"]) == ("already finished", "unknown id")
    assert fleet.codes == (exit_codes.OK, exit_codes.PARTIAL)
    assert fleet.app.broker.administration.depth("celery").delayed == 0


def test_a_running_task_is_stopped_only_when_that_is_asked_for(fleet: Fleet) -> None:
    nap = fleet.app.send_task("served.nap", (60,)).id
    wait_for(lambda: nap in run("inspect", "active", "-b", fleet.url)[1], 60)
    behind = fleet.app.send_task("served.add", (1, 1)).id

    left = revoke(fleet.url, nap)
    waited = revoke(fleet.url, behind)
    stopped = revoke(fleet.url, nap, "--terminate", "--signal", "KILL")

    assert left == (exit_codes.PARTIAL, {nap: "still runs on w@test"})
    assert waited[0] == exit_codes.OK
    # The worker may have taken it between, and refused it by now.
    later = ("will be refused by w@test", "will be refused by the worker that takes it")
    said = ("removed from queue", *later, "already finished")
    assert waited[1][behind] in said
    assert stopped == (exit_codes.OK, {nap: "stopped on w@test"})
    wait_for(
        lambda: revoke(fleet.url, nap, behind)[1] == {nap: "already finished", behind: "already finished"}, 10
    )
    assert revoke(fleet.url, "no-such-id", "nor-this") == (
        exit_codes.NOT_FOUND,
        {"no-such-id": "unknown id", "nor-this": "unknown id"},
    )


def test_what_matches_is_revoked_at_once_and_nothing_else(fleet: Fleet) -> None:
    number = 100_000 if FULL else 1_000
    names = ("proj.sync_a", "proj.sync_b", "proj.other")
    for start in range(0, number, 5000):
        fleet.app.broker.publish(
            [
                Message(
                    task_wire.build(names[i % 3], (i,), {"tenant": i % 2}, task_id=f"t{i}"),
                    queue="far",
                    priority=3 * (i % 2),
                )
                for i in range(start, min(number, start + 5000))
            ]
        )
    words = ("--match", "name:*.sync_* kwargs.tenant=1", "-b", fleet.url)
    expected = {f"t{i}" for i in range(number) if i % 3 < 2 and i % 2}

    dry, _, said = run("task", "revoke", *words, "--dry-run")
    refused, _, _ = run("task", "revoke", *words)
    began = time.monotonic()
    code, out, _ = run("task", "revoke", *words, "--yes", "-o", "ndjson")
    print(f"{len(expected):,} of {number:,} revoked in {time.monotonic() - began:.1f} s")
    again, _, _ = run("task", "revoke", *words, "--yes")

    assert (dry, refused, code, again) == (
        exit_codes.OK,
        exit_codes.REFUSED,
        exit_codes.OK,
        exit_codes.NOT_FOUND,
    )
    assert f"{len(expected)} tasks would be revoked" in said and "proj.sync_b  in far" in said
    lines = [json.loads(line) for line in out.splitlines()]
    assert {line["id"] for line in lines} == expected
    assert {(line["done"], line["queue"]) for line in lines} == {("removed from queue", "far")}
    assert fleet.app.broker.administration.depth("far").ready == number - len(expected)


def test_what_was_revoked_by_mistake_runs(fleet: Fleet) -> None:
    run("control", "revoke", "by-mistake", "-b", fleet.url)

    code, out, _ = run("task", "unrevoke", "by-mistake", "-b", fleet.url)
    again, _, _ = run("task", "unrevoke", "by-mistake", "-b", fleet.url)
    sent = fleet.app.send_task("served.add", (20, 2), task_id="by-mistake")

    assert (code, again) == (exit_codes.OK, exit_codes.NOT_FOUND)
    assert "unrevoked" in out
    assert sent.get(timeout=60) == 22


def test_it_must_be_said_which_tasks(sqlite_url: str) -> None:
    assert run("task", "revoke", "-b", sqlite_url)[0] == exit_codes.USAGE
    assert run("task", "revoke", "a", "--match", "x", "-b", sqlite_url)[0] == exit_codes.USAGE


def test_one_that_was_stopped_goes_on_with_the_rest(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = open_broker(sqlite_url)
    ids = {f"t{i}" for i in range(450)}
    broker.publish(
        [Message(task_wire.build("proj.x", (), {}, task_id=one), queue="far") for one in sorted(ids)]
    )
    change, batches = Revoker.change, []

    def change_and_be_stopped(self: Revoker, items: Any) -> Any:
        batches.append([item.id for item in items])
        if len(batches) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return change(self, items)

    monkeypatch.setattr(Revoker, "change", change_and_be_stopped)
    words = ("task", "revoke", "--match", "name:proj.x", "--yes", "-b", sqlite_url, "-o", "ndjson")

    stopped, first, said = run(*words)
    waiting = broker.administration.depth("far").ready
    done, second, _ = run(*words)

    assert (stopped, done) == (exit_codes.INTERRUPTED, exit_codes.OK)
    assert "run the same command again" in said
    some, others = ([json.loads(line)["id"] for line in out.splitlines()] for out in (first, second))
    assert len(some) == 200 and waiting == 250
    assert sorted(some + others) == sorted(ids) == sorted(one for batch in batches for one in batch)
    assert broker.administration.depth("far").ready == 0
    broker.close()


def test_ids_may_come_from_stdin(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = open_broker(sqlite_url)
    broker.publish(
        [Message(task_wire.build("proj.x", (), {}, task_id=f"t{i}"), queue="far") for i in range(4)]
    )
    monkeypatch.setattr("sys.stdin", io.StringIO("\ufefft1\r\nt2\x00\nno-such-id\n\n"))

    assert revoke(sqlite_url, "t0", "-") == (
        exit_codes.PARTIAL,
        {**dict.fromkeys(("t0", "t1", "t2"), "removed from queue"), "no-such-id": "unknown id"},
    )
    assert broker.administration.depth("far").ready == 1
    broker.close()


def test_a_queue_is_drained_when_its_worker_is_idle(fleet: Fleet) -> None:
    naps = [fleet.app.send_task("served.nap", (0.3,)) for _ in range(3)]

    early, _, _ = run("queue", "drain", "celery", "-b", fleet.url)
    code, out, err = run("queue", "drain", "celery", "--wait", "-t", "20", "-o", "json", "-b", fleet.url)

    assert (early, code) == (exit_codes.NOT_MET, exit_codes.OK), err
    assert {json.loads(out)[key] for key in ("ready", "delayed", "in_flight")} == {0}
    assert [fleet.app.AsyncResult(nap.id).state for nap in naps] == ["SUCCESS"] * 3


def test_control_revoke_says_where_a_task_was(fleet: Fleet) -> None:
    nap = fleet.app.send_task("served.nap", (60,)).id
    wait_for(lambda: nap in run("inspect", "active", "-b", fleet.url)[1], 60)
    done = fleet.early["kept"]
    fleet.app.broker.administration.purge("far")  # among too many messages nobody looks
    far = fleet.app.send_task("served.add", (1, 1), queue="nobody-takes").id

    def revoked(*ids: str) -> tuple[int, str]:
        code, _, err = run("control", "revoke", *ids, "-b", fleet.url)
        return code, err

    code, said = revoked(nap, done, far)
    one_of_two, mixed = revoked(done, "no-such-id")
    unknown, nobody = revoked("no-such-id")
    only_one, _, quiet = run("control", "revoke", "no-such-id", "-d", "w@test", "-b", fleet.url)
    _, out, _ = run("control", "revoke", nap, "-o", "json", "-b", fleet.url)
    stopped = revoke(fleet.url, nap, "--terminate", "--signal", "KILL")

    assert code == one_of_two == only_one == exit_codes.OK
    assert f"{nap}: still runs on w@test" in said and f"{done}: already finished" in said
    assert f"{far}: waits in nobody-takes and will be refused" in said
    assert "no-such-id: unknown" in mixed
    assert unknown == exit_codes.NOT_FOUND and "no worker, queue or result knows no-such-id" in nobody
    assert "no-such-id:" not in quiet
    assert json.loads(out)["replies"]["w@test"]["held"] == {nap: "active"}
    assert stopped == (exit_codes.OK, {nap: "stopped on w@test"})
