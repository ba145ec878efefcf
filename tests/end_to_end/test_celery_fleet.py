"""qctl against three workers of Celery's, with no code at hand: only the address of the broker.

The fleet is started once; the tests go from looking to changing to ending it, in this order.
"""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from qcore.control.commands.registry import commands
from qctl import exit_codes
from tests.qctl.cli.test_command_line import qctl
from tests.qctl.output.test_formats import run
from tests.support.processes import Process, Processes
from tests.support.rabbit_server import RabbitServer
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for

NODES = ["c1@test", "c2@test", "c3@test"]
#: a time-out that nothing sits out, and how soon a command ends then, however busy the machine is
LONG, SOON_S = "90", 45.0


class Fleet(NamedTuple):
    url: str
    backend: str
    workers: list[Process]
    processes: Processes

    def run(self, *words: str, process: bool = False) -> subprocess.CompletedProcess[str]:
        """One command, its wall time printed. process: with the start of an interpreter, as a user's."""
        begin = time.perf_counter()
        given = ("-b", self.url, "--result-backend", self.backend, *words)
        done = qctl(*given) if process else subprocess.CompletedProcess(given, *run(*given))
        took = time.perf_counter() - begin
        print(f"{took:6.3f} s  rc {done.returncode:<3} qctl {' '.join(words)}")
        return done

    def all_answer(self, *words: str) -> str:
        """A command that has to end when all three have answered; what it prints."""
        begin = time.perf_counter()
        done = self.run(*words, "-t", LONG)
        assert done.returncode == exit_codes.OK, (words, done.stderr)
        assert time.perf_counter() - begin < SOON_S, words
        return done.stdout


def start(processes: Processes, url: str, backend: str, nodes: list[str]) -> Fleet:
    workers = [
        processes.start_celery_worker(url, backend, "-c", "1", "-E", name=n, ready=False) for n in nodes
    ]
    for worker in workers:
        worker.wait_output(r"\bready\b", 60)
    return Fleet(url, backend, workers, processes)


@pytest.fixture(scope="module")
def fleet(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    if redis_server.process is None:
        redis_server.start()
    with redis_server.client() as client:
        client.flushall()
    processes = Processes(tmp_path_factory.mktemp("celery"))
    try:
        yield start(processes, redis_server.url, redis_server.url, NODES)
    finally:
        processes.close()


def test_every_inspect_command_ends_when_all_have_answered(fleet: Fleet) -> None:
    for command in commands("inspect"):
        words = ["no-such-task"] if command.name == "query_task" else []
        # objgraph needs a package that is not installed
        if command.visible and not words and command.name != "objgraph":
            said = json.loads(fleet.all_answer("inspect", command.name, "-o", "json"))
            assert sorted(said["replies"]) == NODES, command.name
    nobody = fleet.run("inspect", "query_task", "no-such-task")

    assert nobody.returncode == exit_codes.NOT_FOUND


def test_the_fleet_is_shown_as_it_is(fleet: Fleet) -> None:
    status = json.loads(fleet.all_answer("status", "-o", "json"))["items"]
    workers = json.loads(fleet.all_answer("worker", "ls", "-o", "json"))["items"]
    health = json.loads(fleet.all_answer("health", "-o", "json"))["items"]
    doctor = fleet.run("doctor", "-o", "json")
    failed = fleet.run("failed", "ls")

    assert [(i["node"], i["state"]) for i in status] == [(n, "online") for n in NODES]
    assert [(w["pool"], w["slots"], w["slots_used"], w["queues"]) for w in workers] == [
        ("prefork", 1, 0, ["celery"])
    ] * 3
    assert all(i["ok"] for i in health) and len(health) == 4
    assert [i["name"] for i in json.loads(doctor.stdout)["items"] if i["level"] == "error"] == []
    assert "only in the result store" in failed.stderr
    assert "3 workers of Celery's" in failed.stderr
    fleet.all_answer("wait", "workers>=3")


def test_calls_are_checked_and_waited_for(fleet: Fleet) -> None:
    good = fleet.run("call", "proj.add", "-a", "[2, 2]", "--wait", "-t", "60")
    bad = fleet.run("call", "proj.fail", "--wait", "-t", "60", process=True)
    typo = qctl("-b", fleet.url, "call", "proj.ad", "-a", "[2, 2]", patient=True)

    assert (good.returncode, good.stdout) == (exit_codes.OK, "4\n")
    assert bad.returncode == exit_codes.FAILED
    assert 'raise ValueError("boom")' in bad.stderr
    assert (typo.returncode, typo.stdout) == (exit_codes.NOT_FOUND, "")
    assert "did you mean 'proj.add'" in typo.stderr


def test_waiting_shows_how_the_task_stands_and_ctrl_c_only_stops_the_waiting(fleet: Fleet) -> None:
    ours, theirs = pty.openpty()
    words = ["-b", fleet.url, "call", "proj.nap", "-a", "[1.2]", "--id", "napping", "--wait"]
    call = subprocess.Popen([sys.executable, "-m", "qctl", *words], stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = b""
    while b"running on c" not in shown:
        shown += os.read(ours, 4096)

    call.send_signal(signal.SIGINT)
    left = b""
    while b"continues to wait" not in left:
        left += os.read(ours, 4096)

    out, _ = call.communicate(timeout=60)
    os.close(ours)
    assert (call.returncode, out) == (exit_codes.INTERRUPTED, b"")
    assert b"stopped waiting; the task napping continues" in left
    assert fleet.run("result", "napping", "--wait", "-t", "60").stdout == "1.2\n"


def test_why_and_stack_say_what_celery_does_not_tell(fleet: Fleet) -> None:
    """Each worker has one slot and prefetches four: of five tasks at least one waits behind another."""

    def why(task_id: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(fleet.run("task", "why", task_id, "-o", "json").stdout)
        return found

    def causes() -> dict[str, str]:
        return {task_id: why(task_id)["cause"] for task_id in ids}

    fleet.run("call", "proj.add", "-a", "[1, 1]", "--id", "later", "--countdown", "1000")
    ids = [f"long-{number}" for number in range(5)]
    for task_id in ids:
        fleet.run("call", "proj.nap", "-a", "[6]", "--id", task_id)
    found = wait_for(lambda: c if {"running", "prefetched"} <= set((c := causes()).values()) else None)

    running = next(task_id for task_id, cause in found.items() if cause == "running")
    prefetched = next(task_id for task_id, cause in found.items() if cause == "prefetched")
    stack = fleet.run("task", "stack", running)
    every = fleet.run("worker", "stack")
    assert "cannot be known" in " ".join(why(running)["evidence"])
    assert "when it starts cannot be known" in " ".join(why(prefetched)["evidence"])
    assert (
        why(prefetched)["sentence"].split(" ", 1)[1].startswith("has prefetched it and runs proj.nap first")
    )
    assert why("later")["cause"] == "waits_for_time"
    assert "a worker of Celery, holds it until " in why("later")["sentence"]
    assert stack.returncode == exit_codes.FAILED
    assert "Celery's workers do not tell their stacks" in stack.stderr
    assert every.returncode == exit_codes.PARTIAL
    assert every.stderr.count("Celery's workers do not tell their stacks") == 3
    ended = fleet.run("control", "terminate", "KILL", *ids, "later")
    assert ended.returncode == exit_codes.OK, ended.stderr
    wait_for(lambda: set(causes().values()) == {"revoked"})


def test_queues_are_listed_and_purged(fleet: Fleet) -> None:
    fleet.run("call", "proj.add", "-a", "[1, 1]", "-Q", "nobody")

    listed = json.loads(fleet.run("queue", "ls", "-o", "json").stdout)["items"]
    purged = json.loads(fleet.run("purge", "-Q", "nobody", "--yes", "-o", "json").stdout)["items"]

    assert {i["queue"]: i["ready"] for i in listed} == {"celery": 0, "nobody": 1}
    assert {i["queue"]: (i["out_per_s"], i["rates"]) for i in listed}["celery"] == (None, "net")
    assert purged[0]["deleted"] == 1


def test_control_commands_change_every_worker(fleet: Fleet) -> None:
    for words, answer in (
        (("revoke", "no-such-id"), "flagged as revoked"),
        (("rate_limit", "proj.add", "1000/s"), "new rate limit set"),
        (("time_limit", "proj.add", "30", "60"), "time limits set"),
        (("pool_grow", "1"), "pool will grow"),
        (("add_consumer", "mails"), "add consumer mails"),
        (("cancel_consumer", "mails"), "no longer consuming"),
        (("enable_events",), "task events"),
        (("disable_events",), "task events"),
        (("enable_events",), "task events"),
    ):
        assert fleet.all_answer("control", *words).count(answer) == 3, words
    for node in NODES:  # a pool of Celery's refuses while it has not noted the end of the last task
        wait_for(lambda n=node: "will shrink" in fleet.run("control", "pool_shrink", "1", "-d", n).stdout)
    unknown = fleet.run("control", "drain")
    refused = fleet.run("control", "autoscale", "4", "1")

    assert unknown.returncode == refused.returncode == exit_codes.FAILED
    assert "c1@test refused: it knows no command 'drain'" in unknown.stderr
    assert "c1@test refused: Autoscale not enabled" in refused.stderr


def test_events_of_celery_are_printed(fleet: Fleet) -> None:
    words = ("-b", fleet.url, "events", "--dump", "--type", "task-succeeded", "--limit", "1", "-o", "ndjson")
    dump = fleet.processes.qctl(*words)

    def printed() -> bool:
        # Nothing says when a listener on Redis is heard, so there are events until it is.
        fleet.run("call", "proj.add", "-a", "[2, 2]", "--no-check")
        return not dump.is_running

    wait_for(printed)

    assert dump.wait(60) == exit_codes.OK
    event = json.loads(dump.output().splitlines()[-1])
    assert (event["type"], event["result"]) == ("task-succeeded", "4")


def test_a_stopped_worker_is_silent_and_a_killed_one_is_not_taken_for_it(fleet: Fleet) -> None:
    # A worker that is ready may not hear requests yet.
    wait_for(lambda: fleet.all_answer("inspect", "ping").count("pong") == 3)
    fleet.workers[2].stop()
    for timeout in ("0.3", "3", "15"):  # on a busy machine the others may need more than the first
        ping = fleet.run("inspect", "ping", "-t", timeout)
        status = fleet.run("status", "-t", timeout, "-o", "json")
        health = fleet.run("health", "-t", timeout)
        if (ping.stdout.count("pong"), status.stdout.count('"online"')) == (2, 2):
            break
    doctor = fleet.run("doctor")
    fleet.workers[0].kill9()

    def silence() -> str:
        done = fleet.run("inspect", "ping", "-t", timeout)
        return done.stderr if "1 more worker" in done.stderr else ""

    unclear = wait_for(silence)  # the server notices the end of the connection in its own time
    fleet.workers[2].cont()

    assert ping.returncode == status.returncode == exit_codes.PARTIAL
    assert "c3@test is silent: no answer within" in ping.stderr
    assert [i["state"] for i in json.loads(status.stdout)["items"]] == ["online", "online", "silent"]
    assert health.returncode == doctor.returncode == exit_codes.NOT_MET
    assert "c3@test does not answer" in doctor.stdout
    assert "among c1@test, c3@test, of which the others are gone" in unclear
    assert "is silent" not in unclear
    left = json.loads(fleet.all_answer("status", "-o", "json"))["items"]
    assert [(i["node"], i["state"]) for i in left] == [("c2@test", "online"), ("c3@test", "online")]


def test_shutdown_sees_the_workers_go(fleet: Fleet) -> None:
    one = fleet.run("control", "shutdown", "-d", "c2@test", "-o", "json")

    # It asks for a second who is there, whatever the time-out is, which a busy worker may miss.
    assert one.returncode == exit_codes.OK or "c2@test is silent: no answer within 1 s" in one.stderr
    assert json.loads(one.stdout)["items"] == [{"node": "c2@test", "state": "gone"}]
    assert fleet.workers[1].wait(60) == 0


def test_a_fleet_on_rabbitmq_answers_too(
    rabbit_server: RabbitServer, rabbit_url: str, processes: Processes, tmp_path: Path
) -> None:
    fleet = start(processes, rabbit_url, "rpc://", ["c1@test"])
    ping = fleet.run("inspect", "ping", "-t", "5", "-o", "json")
    named = fleet.all_answer("inspect", "active_queues", "-d", "c1@test")
    grown = fleet.all_answer("control", "pool_grow", "1", "-d", "c1@test")
    called = fleet.run("call", "proj.add", "-a", "[2, 2]", "--wait", "-t", "60")
    ghost = fleet.run("inspect", "ping", "-d", "ghost@test", "-t", "0.3")
    why = fleet.run("task", "why", "no-such-id")

    assert (ping.returncode, json.loads(ping.stdout)["replies"]) == (0, {"c1@test": {"ok": "pong"}})
    assert "celery" in named
    assert "pool will grow" in grown
    assert (called.returncode, called.stdout) == (exit_codes.OK, "4\n")
    assert why.returncode == exit_codes.PARTIAL
    assert "it may wait in a queue, which this broker cannot tell" in why.stdout
    # Nobody there can say who listens, so whoever is named and says nothing is silent.
    assert ghost.returncode == exit_codes.PARTIAL
