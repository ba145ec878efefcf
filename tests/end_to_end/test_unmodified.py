"""A project written for Celery alone runs on Celery's worker and on qcore's, and does the same on both."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.processes import ROOT, Process, Processes, run_python
from tests.support.waiting import wait_for

PROJECT = "tests.projects.plain"
#: run by a client process of the project: prints what each call gave
CLIENT = """
import json, sys
from celery import chain, chord, group
from tests.projects.plain.tasks import *

def outcome(result):
    try:
        return result.get(timeout=90)
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"

found = {
    "add": outcome(add.delay(1, 2)),
    "chain": outcome((add.s(1, 2) | add.s(3) | total.si([1, 1])).apply_async()),
    "group": outcome(group(add.s(i, 1) for i in range(4)).apply_async()),
    "chord": outcome(chord([add.s(i, i) for i in range(5)], total.s()).apply_async()),
    "flaky": outcome(flaky.delay(2)),
    "given up": outcome(flaky.delay(9)),
    "fail": outcome(fail.delay()),
    "progress": outcome(progress.delay()),
    "slow": outcome(slow.delay()),
    "replaced": outcome(replaced.delay(4)),
    "parent": outcome(parent.delay()),
}
mail.delay("somebody")
ignored.delay()
rejected.delay()
print(json.dumps(found))
"""


def environment(url: str, notes: Path) -> dict[str, str]:
    return {"SHOP_URL": url, "SHOP_NOTES": str(notes)}


def start(kind: str, processes: Processes, env: dict[str, str], node: str = "w1@test") -> Process:
    words = ("-A", PROJECT, "worker", "-c", "2", "-n", node, "-l", "INFO", "-Q", "shop,mails")
    worker = (processes.qctl if kind == "qcore" else processes.celery)(*words, env=env)
    worker.wait_output(f"{node} ready")
    return worker


def client(kind: str, env: dict[str, str], code: str = CLIENT) -> Any:
    """What a client process of the project printed, with Celery or with qcore behind `import celery`."""
    before = "from qcore.celery import install; install()\n" if kind == "qcore" else ""
    done = run_python(
        *("-c", before + code),
        env={**os.environ, **env, "PYTHONPATH": str(ROOT)},
        imports="qctl" if kind == "qcore" else "celery",
        timeout_s=400,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def what_happened(
    kind: str, by: str, url: str, processes: Processes, notes: Path
) -> tuple[Any, Counter[str]]:
    env = environment(url, notes)
    worker = start(kind, processes, env)
    found = client(by, env)
    wait_for(lambda: {"mail somebody", "mail child"} <= set(notes.read_text().splitlines()))
    wait_for(lambda: notes.read_text().count("before plain.total") == 3)  # chain, chord, that of parent()
    wait_for(lambda: notes.read_text().count("after plain.total") == 3)
    wait_for(lambda: notes.read_text().count("before plain.rejected") == 1)
    if kind == "celery":  # ending, it gives back what it has not acknowledged, also what it has run
        with redis.Redis.from_url(url) as server:
            wait_for(lambda: not server.exists("unacked", "shop", "mails"))
    worker.term()
    assert worker.wait() == 0
    return found, Counter(notes.read_text().splitlines())


@pytest.mark.timeout(600)
def test_a_project_does_the_same_on_both_workers(
    redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    theirs, their_notes = what_happened("celery", "celery", redis_url, processes, tmp_path / "celery")
    ours, our_notes = what_happened("qcore", "qcore", redis_url, processes, tmp_path / "qcore")
    mixed, mixed_notes = what_happened("qcore", "celery", redis_url, processes, tmp_path / "mixed")

    assert ours == theirs
    assert mixed == theirs
    assert our_notes == their_notes, f"\nqcore: {our_notes - their_notes}\ncelery: {their_notes - our_notes}"
    assert mixed_notes == their_notes


def test_the_start_says_that_celery_is_qcore_and_real_turns_it_off(
    redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    env = environment(redis_url, tmp_path / "notes")
    worker = start("qcore", processes, env)
    assert "celery       is qcore in this process" in worker.output()
    worker.term()
    worker.wait()

    real = processes.qctl("-A", PROJECT, "worker", env={**env, "QCTL_CELERY": "real"})
    assert real.wait() != 0
    assert "is a Celery app" in real.output()


LOAD = """
import json
from tests.projects.plain.tasks import counted, flaky
first = {first}
ids = [counted.delay(first + n).id for n in range(150)] + [flaky.delay(1).id for n in range(40)]
print(json.dumps(ids))
"""


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_way_there_and_back_loses_nothing(redis_url: str, processes: Processes, tmp_path: Path) -> None:
    """Celery, qcore, Celery, qcore: the worker is exchanged while tasks are sent and run."""
    notes = tmp_path / "notes"
    env = environment(redis_url, notes)
    ids: list[str] = []
    workers = []
    for turn, kind in enumerate(("celery", "qcore", "celery", "qcore")):
        worker = start(kind, processes, env, f"{kind}{turn}@test")
        workers.append(worker)
        if turn < 3:
            ids += client("celery", env, LOAD.format(first=len(ids)))
            ids += client("qcore", env, LOAD.format(first=len(ids)))
            worker.term()  # with tasks in the queue, and some that run
            assert worker.wait(120) == 0

    def runs() -> dict[str, list[str]]:
        """The nodes that ran each of the counted tasks."""
        found: dict[str, list[str]] = {}
        for line in notes.read_text().splitlines():
            if line.startswith("counted"):
                _, number, node = line.split()
                found.setdefault(number, []).append(node)
        return found

    # Before the states are asked for, which takes a process each time.
    wait_for(lambda: len(runs()) == 6 * 150, 300)
    wait_for(lambda: notes.read_text().count("after plain.flaky SUCCESS") >= 6 * 40, 300)
    states = f"""
import json
from celery.result import AsyncResult
from tests.projects.plain.celery import app
print(json.dumps([app.AsyncResult(i).state for i in {ids!r}]))
"""

    def not_done(kind: str) -> list[str]:
        """A process of Celery's that retries at once reads the stored state, then writes RETRY: over the
        SUCCESS of the next attempt, if another process stored that in between."""
        left = [one for one, state in zip(ids, client(kind, env, states), strict=True) if state != "SUCCESS"]
        said = "".join(worker.output() for worker in workers[::2]) if left else ""
        return [one for one in left if f"plain.flaky[{one}] succeeded" not in said]

    wait_for(lambda: not not_done("celery"), 300)
    assert not_done("qcore") == []
    # A worker of Celery's gives what it had begun back when it stops; one of qcore's begins nothing twice.
    twice = {number: nodes for number, nodes in runs().items() if len(nodes) > 1}
    print("run twice:", twice)
    assert all(nodes[0].startswith("celery") for nodes in twice.values()), twice
