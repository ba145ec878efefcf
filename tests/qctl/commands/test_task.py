"""`qctl task`: tasks found live and in the history, shown, followed."""

from __future__ import annotations

import json
import random
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qcore import App
from qcore.brokers.registry import open_broker
from qcore.events.store.table import TaskSeen
from qcore.tasks.canvas import chain, group
from qctl import exit_codes
from qctl.commands.task.history import History, path_for
from qctl.commands.task.record import Recorder
from qctl.filters import parse
from tests.faults import size
from tests.qctl.cli.test_command_line import here, one_sentence
from tests.support.processes import Processes
from tests.support.waiting import wait_for

NOW = time.time()


def seen(number: int, **more: Any) -> TaskSeen:
    failed = number % 50 == 0
    fields = {
        "name": f"proj.{'noisy' if number % 3 == 0 else 'charge'}",
        "state": "FAILURE" if failed else "SUCCESS",
        "worker": f"w{number % 4}@h",
        "kwargs": f"{{'client_id': {number % 5000}, 'note': 'x'}}",
        "exception": "TimeoutError('slow')" if failed else "",
        "updated": NOW - number / 20,
        "runtime": 0.25,
        **more,
    }
    return TaskSeen(task_id(number), **fields)  # type: ignore[arg-type]


def task_id(number: int) -> str:
    """An id such as clients make: those of one time are nowhere near each other."""
    return str(uuid.UUID(int=random.Random(number).getrandbits(128)))


@pytest.fixture
def broken_in(tmp_path: Path) -> Iterator[History]:
    history = History(tmp_path / "history.db", write=True)
    yield history
    history.close()


def test_a_history_is_searched_by_its_indexes(broken_in: History) -> None:
    many = size(20_000, 1_000_000)
    for start in range(0, many, 10_000):
        broken_in.keep(seen(n) for n in range(start, start + 10_000))

    wanted = parse("kwargs.client_id=1250 state:failed since:24h -name:*.noisy")
    began = time.perf_counter()
    found, looked = broken_in.search(wanted, 200)
    took_s = time.perf_counter() - began

    right = [n for n in range(1250, many, 5000) if n % 3]
    assert [r["id"] for r in found] == [task_id(n) for n in right][:200]
    assert looked <= many / 5000 + 1, "arguments of others were read as values"
    assert len(broken_in) == many
    print(f"{many:,} tasks: {looked:,} looked at in {took_s * 1000:.0f} ms")


def test_a_history_forgets_the_oldest_and_what_failed_last(broken_in: History) -> None:
    broken_in.keep(seen(n, state="STARTED" if n == 890 else seen(n).state) for n in range(1000))

    broken_in.forget(most=10, older_than=NOW - 45)
    states = [r["state"] for r in broken_in.search(parse(""), None)[0]]
    broken_in.keep([seen(2000, updated=NOW)])

    assert states == ["failed"] * 9 + ["running"]
    assert len(broken_in) == 11
    assert broken_in.get(task_id(400)) is not None and broken_in.get(task_id(450)) is None


def test_a_recorder_that_began_late_takes_nothing_away(broken_in: History) -> None:
    whole = seen(1, started=NOW - 5, root_id="r")
    broken_in.keep([whole, seen(3, state="STARTED", started=NOW - 5)])

    broken_in.keep([TaskSeen(whole.uuid, state="STARTED", updated=whole.updated - 1)])
    broken_in.keep([TaskSeen(task_id(3), state="SUCCESS", ended=NOW, updated=NOW)])

    one, other = broken_in.get(whole.uuid), broken_in.get(task_id(3))
    assert one is not None and other is not None
    assert (one["state"], one["name"], one["started_at"], one["root_id"]) == (
        *("succeeded", "proj.charge"),
        *(NOW - 5, "r"),
    )
    assert (other["state"], other["name"], other["started_at"]) == ("succeeded", "proj.noisy", NOW - 5)


def test_every_try_is_in_the_timeline(tmp_path: Path, sqlite_url: str) -> None:
    path = tmp_path / "qctl" / "history" / path_for(open_broker(sqlite_url).place).name
    recorder = Recorder(History(path, write=True), 3600, 1000)
    recorder.hear()
    tries: list[dict[str, Any]] = [
        {"type": f"task-{what}", "uuid": "a", "hostname": "w1@h", "timestamp": NOW + i, "name": "proj.a"}
        for i, what in enumerate("received started retried received started succeeded".split())
    ]

    recorder.take([tries[0]])
    recorder.take(tries[1:])
    recorder.close()
    done = here("task", "timeline", "a", "-b", sqlite_url, "-o", "json", XDG_STATE_HOME=str(tmp_path))

    items = json.loads(done.stdout)["items"]
    assert [i["what"] for i in items] == "received started retried received started succeeded".split()
    assert [i["after_ms"] for i in items] == [None, *[1000] * 5]


def test_a_long_chain_is_drawn_in_one_column(tmp_path: Path, sqlite_url: str) -> None:
    path = tmp_path / "qctl" / "history" / path_for(open_broker(sqlite_url).place).name
    history = History(path, write=True)
    chain = [seen(n, parent_id=task_id(n - 1), root_id=task_id(0), ended=NOW + n) for n in range(1, 1000)]
    knot = [seen(n, parent_id=task_id(4001 - n), root_id=task_id(0)) for n in (2000, 2001)]
    history.keep([seen(0, root_id=task_id(0)), *chain, *knot])
    history.close()

    lines = here(
        "task", "tree", task_id(7), "-b", sqlite_url, XDG_STATE_HOME=str(tmp_path)
    ).stdout.splitlines()

    assert len(lines) == 1002 and max(map(len, lines)) < 80
    assert sum(line.startswith("then ") and line.endswith(" *") for line in lines) == 999


def test_times_without_a_recorder_are_gaps(broken_in: History, tmp_path: Path) -> None:
    broken_in.note_alive(NOW - 100)
    recorder = Recorder(History(broken_in.path, write=True), 3600, 1000)

    recorder.hear()
    news = [recorder.lose("the broker was unreachable"), recorder.lose("the broker was unreachable")]
    recorder.hear()
    recorder.take([{"type": "task-received", "uuid": "a", "hostname": "w1@h", "timestamp": NOW, "seq": 1}])
    recorder.take([{"type": "task-received", "uuid": "b", "hostname": "w1@h", "timestamp": NOW, "seq": 5}])
    recorder.close()

    gaps = broken_in.gaps()
    assert news == [True, False]
    assert [gap.why for gap in gaps] == [
        "nobody recorded",
        "the broker was unreachable",
        "3 events were lost",
    ]
    assert gaps[0].since == NOW - 100 and gaps[0].until == pytest.approx(time.time(), abs=30)
    assert recorder.total == 2 and broken_in.recorded_until is not None


def test_a_history_that_is_none_is_one_sentence(tmp_path: Path, sqlite_url: str) -> None:
    path = tmp_path / "qctl" / "history" / path_for(open_broker(sqlite_url).place).name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database" * 100)

    done = here("task", "ls", "-b", sqlite_url, XDG_STATE_HOME=str(tmp_path))

    assert done.returncode == exit_codes.FAILED and one_sentence(done)
    assert str(path) in done.stderr


def test_tasks_are_found_wherever_they_are(redis_url: str, processes: Processes, tmp_path: Path) -> None:
    env = {"XDG_STATE_HOME": str(tmp_path), "QCTL_BROKER_URL": redis_url}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return here(*words, **env)

    def listed(*words: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(run("task", "ls", *words, "-o", "json").stdout)["items"]
        return found

    recorder = processes.qctl("task", "record", env=env)
    recorder.wait_output("recording")
    processes.start_qcore_worker(redis_url, "-P", "threads", "-c", "2", "-E", name="w1@test")
    app = App("client", broker=redis_url, set_as_current=False)
    add = app.signature("proj.add", (2, 2))
    both = group(app.signature("proj.add", (1,)), app.signature("proj.mul", (3,)))
    chain(add, both).apply_async()
    failed = app.send_task("proj.fail", ())
    napping = app.send_task("proj.nap", (30,))
    waiting = app.send_task("proj.add", (9, 9), queue="later")
    large = "x" * 1_000_000
    whole = app.send_task("proj.fail", (large,), {"password": "hunter2"})
    wait_for(lambda: app.broker.failed_tasks.of([whole.id])[0])
    history = path_for(open_broker(redis_url).place).name
    path = tmp_path / "qctl" / "history" / history
    wait_for(lambda: path.exists() and len(History(path)) >= 5)

    running = wait_for(lambda: listed("state:running", "args.0=30"))
    queued = listed("state:queued")
    broken = wait_for(lambda: listed("exc:ValueError", "--from", "history"))
    live = listed("name:proj.fail", "--from", "live")
    shown = json.loads(run("task", "show", failed.id, "-o", "json").stdout)
    args = json.loads(run("task", "show", waiting.id, "--args", "-o", "json").stdout)
    times = json.loads(run("task", "timeline", failed.id, "-o", "json").stdout)["items"]
    member = listed("name:proj.mul")[0]
    tree = run("task", "tree", member["id"])
    full = json.loads(run("task", "show", whole.id, "--args", "-o", "json").stdout)
    people = run("task", "show", whole.id).stdout
    unknown = run("task", "show", "nosuch")
    bad = run("task", "ls", "stat:failed")

    assert [t["id"] for t in running] == [napping.id] and running[0]["worker"] == "w1@test"
    assert [(t["id"], t["queue"]) for t in queued] == [(waiting.id, "later")]
    assert {t["id"] for t in broken} | {t["id"] for t in live} == {failed.id, whole.id}
    assert full["args"] == [large] and full["kwargs"] == {"password": "********"}
    assert "hunter2" not in people and "failed tasks" in full["sources"]
    assert shown["state"] == "failed" and "ValueError" in shown["traceback"]
    assert {"history", "result store"} <= set(shown["sources"])
    assert args["args"] == [9, 9]
    assert [t["what"] for t in times] == ["received", "started", "failed"]
    assert all(t["after_ms"] >= 0 for t in times[1:])
    assert tree.stdout.count("proj.add") == 2 and tree.stdout.count("└─ ") == 1 and " *" in tree.stdout
    assert unknown.returncode == exit_codes.NOT_FOUND and one_sentence(unknown)
    assert bad.returncode == exit_codes.USAGE and "^" in bad.stderr
