"""`qctl task stack` and `qctl worker stack` with a worker of each pool, and tasks that are stuck."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qcore import App
from qcore.app.app import App as AppClass
from qctl import exit_codes
from tests.qctl.cli.test_command_line import qctl
from tests.support.processes import ROOT, Process, Processes
from tests.support.waiting import wait_for

POOLS = ("prefork", "threads", "asyncio", "gevent", "eventlet", "solo")
#: for so long a task may be paused
MOST_PAUSE_S = 0.05
Qctl = Callable[..., "subprocess.CompletedProcess[str]"]


class Place:
    """Where the tasks of tests/projects/stuck.py note that they run, and what lets them end."""

    def __init__(self, folder: Path) -> None:
        self.log, self.release, self.fifo = folder / "log", folder / "release", folder / "fifo"
        self.log.touch()
        os.mkfifo(self.fifo)

    def send(self, app: AppClass, name: str, queue: str, *more: str) -> Any:
        return app.send_task(f"stuck.{name}", (str(self.log), *more), queue=queue)

    def wait(self, *words: str) -> None:
        wait_for(lambda: sorted(self.log.read_text().split()) == sorted(words), what=f"{words} run")


def stacks_of(app: AppClass, *nodes: str) -> dict[str, dict[str, Any]]:
    """The tasks of the replies by name, each with its node; and how long the answer took, as `took`."""
    answers = app.control.ask("stack", {}, list(nodes) or None, 20.0)
    assert not answers.silent
    return {
        f"{node.partition('@')[0]}.{task['name'].partition('.')[2]}": task
        for node, reply in answers.replies.items()
        for task in reply["tasks"]
    }


def calls(task: dict[str, Any]) -> list[str]:
    return [frame["function"] for frame in task["frames"]]


def doing_becomes(app: AppClass, node: str, key: str, doing: str) -> dict[str, Any]:
    """It is still on its way when it says that it runs; and on a busy machine it waits for its turn."""
    return wait_for(
        lambda: found if (found := stacks_of(app, node).get(key, {})).get("doing") == doing else {},
        what=f"{key} is seen as {doing}",
    )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def start(processes: Processes, url: str, *pools: str) -> dict[str, Process]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    workers = {
        pool: processes.start_qcore_worker(
            url,
            *("-P", pool, "-Q", pool, "-c", "1" if pool == "solo" else "4"),
            name=f"{pool}@test",
            app="tests.projects.stuck",
            ready=False,
            env={"PYTHONPATH": path},
        )
        for pool in pools
    }
    for worker in workers.values():
        worker.wait_output(r"\bready\b")
    return workers


def test_each_pool_tells_where_its_tasks_are(redis_url: str, processes: Processes, place: Place) -> None:
    app = App("asker", broker=redis_url, set_as_current=False)
    workers = start(processes, redis_url, *POOLS)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return qctl(*words, QCTL_BROKER_URL=redis_url)

    nobody = run("worker", "stack")
    release = str(place.release)
    sent = {pool: place.send(app, "sleep", pool, release) for pool in POOLS}
    place.send(app, "awaits", "asyncio", release)
    place.send(app, "hashes", "threads")
    place.send(app, "locked", "prefork", str(place.fifo))
    endless = place.send(app, "sums", "prefork")
    place.wait(*["sleeps"] * 6, "awaits", "hashes", "locked", "sums")

    # In a call into C that has released the interpreter lock: in every pool, by name and line.
    for pool in ("prefork", "threads", "asyncio", "solo"):
        task = doing_becomes(app, f"{pool}@test", f"{pool}.sleep", "c_wait")
        assert calls(task) == ["sleep", "inner"]
        assert task["frames"][-1]["code"] == "time.sleep(60)"
        assert task["frames"][-1]["file"] == str(ROOT / "tests/projects/stuck.py")
        assert task["waits_in"].endswith("nanosleep")
    for pool in ("gevent", "eventlet"):
        greenlet = doing_becomes(app, f"{pool}@test", f"{pool}.sleep", "switched")
        assert calls(greenlet)[:2] == ["sleep", "inner"]

    # A coroutine: down to what it awaits.
    coroutine = doing_becomes(app, "asyncio@test", "asyncio.awaits", "await")
    assert calls(coroutine) == ["awaits", "deeper", "sleep"]
    assert coroutine["waits_in"] == "Future"

    # In a call into C that keeps the lock, waiting or computing; and in one that computes without it.
    locked = doing_becomes(app, "prefork@test", "prefork.locked", "c_wait")
    assert calls(locked) == ["locked"]
    assert "PyDLL(None).read" in locked["frames"][-1]["code"]
    assert calls(doing_becomes(app, "prefork@test", "prefork.sums", "c_compute")) == ["sums"]
    assert calls(doing_becomes(app, "threads@test", "threads.hashes", "c_compute")) == ["hashes"]

    # The command line.
    one = run("task", "stack", sent["prefork"].id)
    assert one.returncode == exit_codes.OK, one.stderr
    first, *rest = one.stdout.splitlines()
    assert first.startswith(f"stuck.sleep {sent['prefork'].id} at prefork@test, process ")
    assert "waits in a call into C (" in first
    assert rest[-1] == "    time.sleep(60)"
    assert "do-not-tell" not in one.stdout, "values of variables may be secrets"
    whole = json.loads(run("worker", "stack", "-o", "json").stdout)
    assert whole["schema"] == "qctl.worker.stack", whole
    assert len(whole["items"]) == 10
    assert {i["node"] for i in whole["items"]} == {f"{pool}@test" for pool in POOLS}
    unknown = run("task", "stack", "no-such-id")
    assert unknown.returncode == exit_codes.NOT_FOUND
    assert "qctl task why no-such-id" in unknown.stderr
    assert (nobody.returncode, nobody.stdout) == (exit_codes.OK, "")
    assert "no task runs" in nobody.stderr

    # A worker whose interpreter lock is kept cannot answer, which is said.
    place.send(app, "locked", "threads", str(place.fifo))
    wait_for(lambda: place.log.read_text().count("locked") == 2)
    rest_of = run("worker", "stack")
    assert rest_of.returncode == exit_codes.PARTIAL
    assert "threads@test: it did not answer, its last heartbeat was " in rest_of.stderr
    assert "interpreter lock" in rest_of.stderr
    assert "stuck.sleep" in rest_of.stdout, "the others are told"
    workers["threads"].kill9()
    app.control.terminate(endless.id)

    # A task that computes is hardly paused, however often it is asked.
    loops = [place.send(app, "loop", pool, release) for pool in ("prefork", "asyncio")]
    wait_for(lambda: place.log.read_text().count("loop") == 2)
    for _ in range(4):
        assert calls(doing_becomes(app, "prefork@test", "prefork.loop", "python"))[0] == "loop"
        assert calls(doing_becomes(app, "asyncio@test", "asyncio.loop", "python"))[0] == "loop"
    place.release.touch()
    in_process, in_thread = (result.get(timeout=60) for result in loops)
    print(f"paused for {in_process * 1000:.1f} ms in a child, {in_thread * 1000:.1f} ms in a thread")
    assert in_process < MOST_PAUSE_S
    assert in_thread < MOST_PAUSE_S

    app.close()
