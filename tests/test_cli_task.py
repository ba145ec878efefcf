"""`qctl task`: tasks found live and in the history, shown, followed."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qcore import App
from qcore.brokers.base import open_broker
from qcore.canvas import chain, group
from qcore.events.table import TaskSeen
from qctl import exits
from qctl.filters import parse
from qctl.tasks.history import History, path_for
from tests.faults import size
from tests.processes import Processes
from tests.test_cli import one_sentence, qctl
from tests.waiting import wait_for

NOW = time.time()


def seen(number: int, **more: Any) -> TaskSeen:
    failed = number % 50 == 0
    fields = {
        "name": f"proj.{'noisy' if number % 3 == 0 else 'charge'}",
        "state": "FAILURE" if failed else "SUCCESS",
        "worker": f"w{number % 4}@h",
        "kwargs": f"{{'client_id': {number % 5000}, 'note': 'x'}}",
        "exception": "TimeoutError('slow')" if failed else "",
        "updated": NOW - number,
        "runtime": 0.25,
        **more,
    }
    return TaskSeen(f"{number:032x}", **fields)  # type: ignore[arg-type]


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

    right = [n for n in range(0, min(many, 86_400), 50) if n % 5000 == 1250 and n % 3]
    assert [r["id"] for r in found] == [f"{n:032x}" for n in right]
    assert looked <= many / 50 + 1
    assert len(broken_in) == many
    print(f"{many:,} tasks: {looked:,} looked at in {took_s * 1000:.0f} ms")


def test_a_history_forgets_the_oldest_and_what_failed_last(broken_in: History) -> None:
    broken_in.keep(seen(n) for n in range(1000))

    broken_in.forget(most=100, older_than=NOW - 900)

    assert len(broken_in) == 100
    assert broken_in.get(f"{0:032x}") is not None
    assert sum(r["state"] == "failed" for r in broken_in.search(parse(""), None)[0]) == 19


def test_tasks_are_found_wherever_they_are(redis_url: str, processes: Processes, tmp_path: Path) -> None:
    env = {"XDG_STATE_HOME": str(tmp_path), "QCTL_BROKER_URL": redis_url}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return qctl(*words, **env)

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
    unknown = run("task", "show", "nosuch")
    bad = run("task", "ls", "stat:failed")

    assert [t["id"] for t in running] == [napping.id] and running[0]["worker"] == "w1@test"
    assert [(t["id"], t["queue"]) for t in queued] == [(waiting.id, "later")]
    assert [t["id"] for t in broken] == [t["id"] for t in live] == [failed.id]
    assert shown["state"] == "failed" and "ValueError" in shown["traceback"]
    assert {"history", "result store"} <= set(shown["sources"])
    assert args["args"] == [9, 9]
    assert [t["what"] for t in times] == ["received", "started", "failed"]
    assert all(t["after_ms"] >= 0 for t in times[1:])
    assert tree.stdout.count("proj.add") == 2 and tree.stdout.count("└─ ") == 1 and " *" in tree.stdout
    assert unknown.returncode == exits.NOT_FOUND and one_sentence(unknown)
    assert bad.returncode == exits.USAGE and "^" in bad.stderr
