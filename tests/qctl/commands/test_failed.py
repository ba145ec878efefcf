"""`qctl failed` with a real worker, on Redis and in a file: fail, look, mend, try again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from qcore import App
from qcore.base.times import new_id
from qcore.brokers.base import Broker
from qcore.brokers.registry import open_broker
from qcore.wire import envelope
from qcore.wire import task as task_wire
from qcore.wire.failure import RETRY_OF, FailedTask
from qctl import exit_codes
from tests.faults import FULL, size
from tests.qctl.cli.test_command_line import here
from tests.support.processes import ROOT, Processes
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for

Done = subprocess.CompletedProcess[str]


class Fleet(NamedTuple):
    """A broker, one worker of tests.projects.failing, and a client."""

    url: str
    app: App
    folder: Path

    def send(self, name: str, *args: Any, **kwargs: Any) -> str:
        return str(self.app.send_task(f"failing.{name}", args, kwargs).id)

    def run(self, *words: str) -> Done:
        return here("failed", *words, QCTL_BROKER_URL=self.url)

    def items(self, *words: str) -> list[dict[str, Any]]:
        done = self.run(*words, "-o", "json")
        assert done.returncode in (exit_codes.OK, exit_codes.PARTIAL), done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)["items"]
        return found

    def wait_failed(self, *ids: str) -> list[FailedTask]:
        """Until all of these are kept."""
        broker = self.app.broker

        def look() -> list[FailedTask]:
            found = [f for f in broker.failed_tasks.of(ids) if f is not None]
            return found if len(found) == len(ids) else []

        return wait_for(look, 60, f"{ids} failed")


@pytest.fixture(scope="module", params=["redis", "sqlite"])
def fleet(
    request: pytest.FixtureRequest, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("failing")
    url = f"sqlite:///{folder}/qcore.sqlite3"
    if request.param == "redis":
        url = redis_server.url
        with redis_server.client() as client:
            client.flushall()
    started = Processes(folder)
    started.start_qcore_worker(url, "-c", "2", app="tests.projects.failing", name="w@test")
    app = App("client", broker=url, set_as_current=False)
    yield Fleet(url, app, folder)
    app.close()
    started.close()


def test_failures_of_every_kind_are_kept_and_other_ends_are_not(fleet: Fleet) -> None:
    ends = [fleet.send("ends", how) for how in ("ignore", "reject", "fine")]
    unknown = fleet.send("unknown")
    expired = fleet.app.send_task("failing.early", expires=-1).id

    kept = fleet.wait_failed(*map(fleet.send, ("again", "early", "ignored", "slow")))

    facts = [(f.name, f.exc_type, f.exc_message, f.tries) for f in kept]
    assert facts == [
        ("failing.again", "ConnectionError", "nobody there", 2),
        ("failing.early", "KeyError", "'early'", 1),
        ("failing.ignored", "LookupError", "nobody looks", 1),
        ("failing.slow", "TimeLimitExceeded", "0.2", 1),
    ]
    assert {f.worker for f in kept} == {"w@test"} and {f.queue for f in kept} == {"celery"}
    assert 0.2 <= kept[3].runtime_s < 60 and "raise LookupError" in kept[2].traceback
    assert envelope.decode(kept[0].raw).headers["retries"] == 1
    wait_for(lambda: fleet.app.broker.administration.depth("celery").in_flight == 0)
    assert fleet.app.broker.failed_tasks.of([*ends, unknown, expired]) == [None] * 5


def test_what_failed_is_looked_at_mended_and_tried_again_once(fleet: Fleet) -> None:
    missing = fleet.folder / "missing.txt"
    ids = [fleet.send("read", str(missing), user={"id": i}) for i in range(4)]
    fleet.wait_failed(*ids)
    mine = ["name:failing.read"]

    listed = fleet.items("ls", *mine)
    one = fleet.items("ls", *mine, "kwargs.user.id=2")
    (group,) = fleet.items("group", *mine)
    shown = json.loads(fleet.run("show", ids[1], "-o", "json").stdout)
    refused = fleet.run("retry", *mine)
    dry = fleet.run("retry", *mine, "--dry-run")
    without = fleet.run("retry", "--yes")
    missing.write_text("mended")
    first = fleet.items("retry", *mine, "kwargs.user.id<2", "--yes")
    rest = fleet.run("retry", *mine, "--rate", "50/s", "--yes", "-o", "ndjson")
    nothing = fleet.run("retry", *mine, "--yes")

    assert sorted(i["id"] for i in listed) == sorted(ids)
    assert [i["id"] for i in one] == [ids[2]]
    assert (group["exception"], group["count"], group["retried"]) == ("FileNotFoundError", 4, 0)
    assert group["first_at"] <= group["last_at"] and group["sample"]["id"] in ids
    assert (shown["args"], shown["kwargs"]) == ([str(missing)], {"user": {"id": 1}})
    assert "read_text" in shown["traceback"] and shown["schema"] == "qctl.failed.task"
    assert refused.returncode == exit_codes.REFUSED and "4 failed tasks would be retried" in refused.stderr
    assert refused.stderr.count("FileNotFoundError") == 4 and "4  failing.read  in celery" in refused.stderr
    assert dry.returncode == exit_codes.OK and without.returncode == exit_codes.USAGE
    assert {i["id"] for i in first} == set(ids[:2]) and {i["done"] for i in first} == {"retried"}
    lines = [json.loads(line) for line in rest.stdout.splitlines()]
    assert {line["id"] for line in lines} == set(ids[2:])
    assert nothing.returncode == exit_codes.NOT_FOUND
    new_ids = {i["id"]: i["retried_as"] for i in [*first, *lines]}
    for new in new_ids.values():
        assert fleet.app.AsyncResult(new).get(timeout=60) == "mended"
    again = {i["id"]: i["retried_as"] for i in fleet.items("ls", *mine)}
    assert again == new_ids


def test_a_new_try_that_fails_is_linked_to_the_first(fleet: Fleet) -> None:
    first = fleet.send("ignored")
    fleet.wait_failed(first)

    (done,) = fleet.items("retry", f"id:{first}", "--yes")
    (second,) = fleet.wait_failed(done["retried_as"])

    (older,) = fleet.wait_failed(first)
    assert (second.retry_of, second.tries, second.root_id) == (first, 1, first)
    before, after = envelope.decode(older.raw), envelope.decode(second.raw)
    assert envelope.body_bytes(after) == envelope.body_bytes(before)
    assert after.headers == {**before.headers, "id": second.task_id, RETRY_OF: first}


def test_failures_are_removed_by_a_filter(fleet: Fleet) -> None:
    ids = [fleet.send("ignored") for _ in range(3)]
    fleet.wait_failed(*ids)
    words = f"id:{ids[0]},{ids[1]}"

    removed = fleet.run("rm", words, "--yes")
    missing = fleet.run("show", ids[0])
    wrong = fleet.run("rm", "stat:x", "--yes")

    assert (removed.returncode, missing.returncode) == (exit_codes.OK, exit_codes.NOT_FOUND)
    assert "2 of 2 failed tasks deleted" in removed.stderr
    assert (
        wrong.returncode == exit_codes.USAGE
        and "did you mean 'state'" in wrong.stderr
        and "^" in wrong.stderr
    )
    assert [f is None for f in fleet.app.broker.failed_tasks.of(ids)] == [True, True, False]


def test_a_worker_that_is_told_so_keeps_no_failures(sqlite_url: str, processes: Processes) -> None:
    processes.start_qcore_worker(
        sqlite_url,
        *("-c", "1", "-P", "threads"),
        app="tests.projects.failing",
        env={"FAILING_SETTINGS": '{"worker_store_failed": false}'},
    )
    app = App("client", broker=sqlite_url, set_as_current=False)

    with pytest.raises(ValueError):
        app.send_task("failing.nothing", (1,)).get(timeout=60)

    assert app.broker.failed_tasks.counts().kept == 0
    app.close()


# --- many, without a worker


def fill(broker: Broker, count: int, queue: str) -> None:
    def one(number: int) -> FailedTask:
        task_id = new_id()
        raw = task_wire.build("proj.add", [number], {}, task_id=task_id, routing_key=queue)
        return FailedTask(task_id, "proj.add", queue, exc_type="OSError", failed_at=time.time(), raw=raw)

    for start in range(0, count, 5000):
        broker.failed_tasks.store([one(i) for i in range(start, min(count, start + 5000))])


def retrying(url: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "qctl", "failed", "retry", "--all", "--yes", "-b", url, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(params=["redis", "sqlite"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


def test_two_who_retry_at_once_send_each_task_once(url: str) -> None:
    broker = open_broker(url)
    fill(broker, 300, "nobody")

    both = [retrying(url, "--rate", "1000/s", "-o", "json") for _ in range(2)]
    said = [json.loads(one.communicate(timeout=60)[0])["items"] for one in both]

    words = Counter(item["done"] for items in said for item in items)
    assert words["retried"] == broker.administration.depth("nobody").ready == 300
    assert set(words) <= {"retried", "already_retried"}


def test_an_interrupted_retry_says_what_was_done_and_can_be_continued(url: str) -> None:
    broker = open_broker(url)
    fill(broker, 120, "nobody")

    first = retrying(url, "--rate", "50/s")
    wait_for(lambda: broker.administration.depth("nobody").ready >= 10)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    done = broker.administration.depth("nobody").ready
    second = retrying(url)
    _, after = second.communicate(timeout=60)

    assert first.returncode == exit_codes.INTERRUPTED and "Traceback" not in said
    assert (
        10 <= done < 120
        and f"{done} of 120 failed tasks retried" in said
        and "continue with the rest" in said
    )
    assert (
        second.returncode == exit_codes.OK and f"{120 - done} of {120 - done} failed tasks retried" in after
    )
    assert broker.administration.depth("nobody").ready == 120


@pytest.mark.timeout(1800 if FULL else 60)
def test_entries_that_end_while_they_are_retried_are_counted(redis_url: str) -> None:
    count = size(5_000, 344_000)
    broker = open_broker(redis_url, {"failed_max": 2 * count})
    fill(broker, count, "nobody")
    newest = [f.task_id for f in broker.failed_tasks.page(limit=300).entries]

    rate = () if FULL else ("--rate", "2500/s")  # so that there is a middle
    command = retrying(redis_url, "-o", "ndjson", *rate)
    wait_for(lambda: broker.administration.depth("nobody").ready, 120)
    broker.failed_tasks.forget(newest)
    lines, said = command.communicate(timeout=1500)

    words = Counter(json.loads(line)["done"] for line in lines.splitlines())
    assert words.total() == count and set(words) == {"retried", "gone"} and words["gone"] <= 300
    assert broker.administration.depth("nobody").ready == words["retried"]
    assert command.returncode == exit_codes.PARTIAL and "Traceback" not in said
