"""The command line with workers: real processes on an embedded broker, or on Redis."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from qctl import exit_codes
from tests.qctl.cli.test_command_line import here, qctl
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_for

Qctl = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def fleet(redis_url: str, processes: Processes) -> tuple[Qctl, list[Process]]:
    """Two workers, w1 and w2, and a qctl that knows their broker."""
    # A stopped worker counts as silent for three intervals: longer than any of these tests takes.
    words = ("-c", "1", "-P", "threads", "--heartbeat-interval", "60s")
    workers = [
        processes.start_qcore_worker(redis_url, *words, name=f"{name}@test", ready=False)
        for name in ("w1", "w2")
    ]
    for worker in workers:
        worker.wait_output(r"\bready\b")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return here(*words, QCTL_BROKER_URL=redis_url, QCTL_TIMEOUT="60")

    return run, workers


def test_looking_at_a_fleet(fleet: tuple[Qctl, list[Process]]) -> None:
    run, _ = fleet

    status = json.loads(run("status", "-o", "json").stdout)
    ping = run("inspect", "ping")
    one = run("inspect", "ping", "-d", "w1@*", "-o", "name")
    lines = run("inspect", "ping", "-o", "ndjson").stdout.splitlines()
    known = run("inspect", "registered")

    assert [(i["node"], i["state"]) for i in status["items"]] == [
        ("w1@test", "online"),
        ("w2@test", "online"),
    ]
    assert ping.returncode == exit_codes.OK
    assert ping.stdout.splitlines()[0].split() == ["WORKER", "REPLY"]
    assert "2 of 2 workers answered" in ping.stderr
    assert one.stdout == "w1@test\n"
    assert [json.loads(line)["reply"] for line in lines] == [{"ok": "pong"}] * 2
    assert "proj.add" in known.stdout


def test_an_unknown_destination_is_named_with_the_nearest(fleet: tuple[Qctl, list[Process]]) -> None:
    run, _ = fleet

    alone = run("inspect", "ping", "-d", "w3@test")
    among = run("inspect", "ping", "-d", "w1@test,ghost@host")

    assert alone.returncode == exit_codes.NOT_FOUND
    assert "no worker named 'w3@test'; did you mean" in alone.stderr
    assert among.returncode == exit_codes.PARTIAL
    assert "ghost@host" in among.stderr
    assert "w1@test" in among.stdout


def test_a_stopped_worker_is_named_as_silent(fleet: tuple[Qctl, list[Process]]) -> None:
    run, workers = fleet

    workers[1].stop()
    for timeout in ("0.5", "3", "10"):  # on a busy machine w1 may need more than the first
        ping, status = run("inspect", "ping", "-t", timeout), run("status", "-t", timeout, "-o", "json")
        if "w1@test" in ping.stdout and "online" in status.stdout:
            break

    assert ping.returncode == status.returncode == exit_codes.PARTIAL
    assert "w2@test is silent" in ping.stderr
    assert "s ago" in ping.stderr
    assert {i["node"]: i["state"] for i in json.loads(status.stdout)["items"]} == {
        "w1@test": "online",
        "w2@test": "silent",
    }


def test_a_refused_command_fails(fleet: tuple[Qctl, list[Process]]) -> None:
    run, _ = fleet

    done = run("control", "rate_limit", "nope", "10/m")

    assert done.returncode == exit_codes.FAILED
    assert "w1@test refused: " in done.stderr


def test_calls_and_results(fleet: tuple[Qctl, list[Process]], redis_url: str) -> None:
    run, _ = fleet

    sent = run("call", "proj.add", "-a", "[2, 2]")
    task_id = sent.stdout.strip()
    waited = run("result", task_id, "--wait", "-t", "60")
    failed = run("call", "proj.fail", "--wait", "-t", "60")
    typo = qctl("call", "proj.ad", "-a", "[2, 2]", patient=True, QCTL_BROKER_URL=redis_url)
    unknown = run("result", "nosuch")
    late = run("call", "proj.nap", "-a", "[100]", "--wait", "-t", "0.3")

    assert sent.stdout == f"{task_id}\n"
    assert sent.stderr == ""
    assert len(task_id) == 36
    assert (waited.returncode, waited.stdout) == (exit_codes.OK, "4\n")
    assert (failed.returncode, failed.stdout) == (exit_codes.FAILED, "")
    assert "ValueError: boom" in failed.stderr
    assert "Traceback" in failed.stderr
    assert "qctl/" not in failed.stderr
    assert (typo.returncode, typo.stdout) == (exit_codes.NOT_FOUND, "")
    assert "did you mean 'proj.add'" in typo.stderr
    assert unknown.returncode == exit_codes.NOT_FOUND
    assert late.returncode == exit_codes.TIMED_OUT


def test_what_runs_is_shown_as_a_table(fleet: tuple[Qctl, list[Process]]) -> None:
    run, _ = fleet
    task_id = run("call", "proj.nap", "-a", "[100]").stdout.strip()

    def active() -> list[list[str]]:
        return [line.split() for line in run("inspect", "active").stdout.splitlines() if task_id in line]

    row = wait_for(active)[0]
    later = run("call", "proj.add", "-a", "[2, 2]", "--countdown", "3000").stdout.strip()
    delayed = run("inspect", "scheduled", "-o", "csv").stdout

    assert delayed.count(later) == 1, "both workers list what waits in the broker"
    assert row[0] in ("w1@test", "w2@test")
    assert row[1:3] == [task_id, "proj.nap"]
    assert row[4] == "[100]"


def test_shutdown_waits_until_the_workers_are_gone(fleet: tuple[Qctl, list[Process]]) -> None:
    run, workers = fleet

    one = run("control", "shutdown", "-d", "w1@*")
    left = run("status", "-o", "name")
    refused = run("control", "shutdown")
    shown = run("control", "shutdown", "--dry-run", "-o", "json")
    rest = run("control", "shutdown", "--yes", "-o", "json")
    none = run("status")

    # It asks for a second who is there, whatever the time-out is, which a busy worker may miss.
    assert one.returncode == exit_codes.OK or "w1@test is silent: no answer within 1 s" in one.stderr
    assert workers[0].wait(60) == 0
    assert left.stdout == "w2@test\n"
    assert refused.returncode == exit_codes.REFUSED
    assert "1 worker, the whole fleet, would be asked to stop" in refused.stderr
    assert [i["state"] for i in json.loads(shown.stdout)["items"]] == ["untold"]
    assert [i["state"] for i in json.loads(rest.stdout)["items"]] == ["gone"]
    assert none.returncode == exit_codes.NO_ANSWER
    assert "no worker is online" in none.stderr


def test_events_are_printed_one_a_line(
    fleet: tuple[Qctl, list[Process]], processes: Processes, redis_url: str
) -> None:
    run, _ = fleet
    run("control", "enable_events")
    before = _listeners(redis_url)
    lines = processes.qctl("-b", redis_url, "events", "--dump", "--type", "task-*", "--limit", "3")
    objects = processes.qctl(
        "-b", redis_url, "events", "--dump", "--type", "task-*", "--limit", "3", "-o", "ndjson"
    )
    lines.wait_output("listening")
    wait_for(lambda: _listeners(redis_url) == before + 2)

    run("call", "proj.add", "-a", "[2, 2]")

    assert lines.wait(60) == exit_codes.OK
    assert objects.wait(60) == exit_codes.OK
    found = [json.loads(line) for line in objects.output().splitlines()]
    assert [e["type"] for e in found] == ["task-received", "task-started", "task-succeeded"]
    printed = [line for line in lines.output().splitlines() if "task-" in line]
    assert all("proj.add[" in line for line in printed)


def _listeners(url: str) -> int:
    """How many clients listen by pattern; PUBSUB NUMPAT would count each pattern once."""
    import redis

    client = redis.Redis.from_url(url)
    return sum(int(one["psub"]) > 0 for one in client.client_list())  # type: ignore[no-untyped-call]


def test_ctrl_c_ends_the_dump_with_0(processes: Processes, sqlite_url: str) -> None:
    import signal

    dump = processes.qctl("-b", sqlite_url, "events", "--dump")
    dump.wait_output("listening")

    dump.term(signal.SIGINT)

    assert dump.wait(60) == exit_codes.OK
    assert "Traceback" not in dump.output()


def test_a_call_that_nobody_can_run_says_so(sqlite_url: str) -> None:
    before = time.monotonic()

    done = here("call", "proj.add", "-a", "[2, 2]", "--wait", "-t", "90", "-b", sqlite_url)

    assert done.returncode == exit_codes.NO_ANSWER
    assert done.stdout == ""
    assert "no worker is online" in done.stderr
    assert time.monotonic() - before < 45  # it did not wait for the time-out


def test_purge_asks_or_refuses(sqlite_url: str) -> None:
    for _ in range(3):
        here("call", "proj.add", "-Q", "reports", "-b", sqlite_url)

    refused = here("purge", "-Q", "reports", "-b", sqlite_url)
    wrong = here("purge", "-Q", "report", "--yes", "-b", sqlite_url)
    dry = here("purge", "-Q", "reports", "--dry-run", "-o", "json", "-b", sqlite_url)
    done = here("purge", "-Q", "reports", "--yes", "-o", "json", "-b", sqlite_url)

    assert refused.returncode == exit_codes.REFUSED
    assert "3 messages" in refused.stderr
    assert wrong.returncode == exit_codes.NOT_FOUND
    assert "'reports'" in wrong.stderr
    assert json.loads(dry.stdout)["items"][0]["deleted"] == 0
    assert json.loads(done.stdout)["items"][0]["deleted"] == 3


def test_results_that_are_not_kept_are_explained(sqlite_url: str) -> None:
    done = here("result", "x", "-b", sqlite_url, "--result-backend", "disabled://")

    assert done.returncode == exit_codes.BAD_CONFIG
    assert "--result-backend" in done.stderr


#: qctl with more time for the steps of the demonstration: the slow task takes 30 s
PATIENT_DEMO = """
import sys
from qctl.commands.demo import steps
from qctl.main import main
more = {"[2]": ["[30]"], "5s": ["60s"], "5": ["60"], "shutdown": ["shutdown", "-t", "100"]}
process, steps.START_S, steps.STEP_S = steps.Demo.process, 100.0, 100.0
steps.Demo.process = lambda demo, *words: process(demo, *sum((more.get(w, [w]) for w in words), []))
sys.exit(main())
"""


@pytest.mark.timeout(300)
def test_the_demo_does_everything() -> None:
    done = qctl("demo")
    if done.returncode != exit_codes.OK:  # a busy machine may not see a task of two seconds while it runs
        words = [sys.executable, "-c", PATIENT_DEMO, "demo"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)

    assert done.returncode == exit_codes.OK, done.stdout + done.stderr
    assert "$ qctl call proj.add -a '[2, 2]'" in done.stdout
    assert "task-succeeded" in done.stdout


def test_a_revoke_without_workers_is_remembered(processes: Processes, sqlite_url: str) -> None:
    sent = here("call", "proj.add", "-a", "[2, 2]", "--id", "doomed", "-b", sqlite_url)
    revoked = here("control", "revoke", "doomed", "-b", sqlite_url)
    processes.start_qcore_worker(sqlite_url, "-c", "1", "-P", "threads")

    found = here("result", "doomed", "--wait", "-t", "60", "-b", sqlite_url)

    assert sent.stdout == "doomed\n"
    assert revoked.returncode == exit_codes.OK
    assert "stores the request" in revoked.stderr
    assert found.returncode == exit_codes.FAILED
    assert "revoked" in found.stderr


def test_a_task_that_no_worker_has(fleet: tuple[Qctl, list[Process]]) -> None:
    run, _ = fleet

    done = run("inspect", "query_task", "nosuch", "-o", "json")

    assert done.returncode == exit_codes.NOT_FOUND
    assert json.loads(done.stdout)["replies"] == {"w1@test": {}, "w2@test": {}}
