"""Steps of a project (Celery's bootsteps), its options, its pool, and foreign messages.

Celery's worker and ours call them in the same order, with the same options, and receive the same messages.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest

from tests.support.processes import Process, Processes, run_python
from tests.support.rabbit_server import RabbitServer
from tests.support.redis_server import RedisServer, require_server
from tests.support.waiting import wait_for

APP = "tests.projects.stepped"
WORDS = ("-c", "1", "-n", "w@test", "--colour", "red", "--fast", "-Z", "south")


def notes_of(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def begin(kind: str, url: str, processes: Processes, notes: Path, fails: str = "", *words: str) -> Process:
    env = {"BROKER": url, "NOTES": str(notes), "FAILS": fails}
    start = processes.qctl if kind == "qcore" else processes.celery
    return start("-A", APP, "worker", *(words or WORDS), env=env)


def publish(url: str, number: int) -> None:
    exchange = kombu.Exchange("foreign-exchange")
    with kombu.Connection(url) as connection:
        producer = connection.Producer(exchange=exchange, serializer="json")
        for name in ("foreign", "unanswered"):
            queue = kombu.Queue(name, exchange, f"{name}-key")
            producer.publish({"number": number}, routing_key=f"{name}-key", declare=[queue])


def life(kind: str, url: str, processes: Processes, notes: Path, number: int, fails: str) -> list[Any]:
    """Start, receive two foreign messages, end by a signal; returns what was noted."""
    worker = begin(kind, url, processes, notes, fails)
    wait_for(lambda: ["ready"] in notes_of(notes), 60)
    publish(url, 1)
    wait_for(lambda: sum(note[0] == "Foreign" for note in notes_of(notes)) == 3, 60)
    wait_for(lambda: ["timer", "third tick", "w@test"] in notes_of(notes), 60)
    worker.term(number)
    assert worker.wait() == 0, worker.output()
    assert f"{fails} fails" in worker.output() or not fails
    return notes_of(notes)


def calls(notes: list[Any]) -> list[Any]:
    """The calls of the steps, in order; messages and the timer have no order among them."""
    return [note for note in notes if note[0] != "timer" and note[1:2] not in (["received"], ["raw"])]


@pytest.mark.parametrize(
    ("number", "fails"), [(signal.SIGTERM, ""), (signal.SIGQUIT, "Beside.stop")], ids=["warm", "cold"]
)
def test_steps_are_called_as_by_celery(
    number: int, fails: str, redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    theirs = life("celery", redis_url, processes, tmp_path / "celery", number, fails)
    ours = life("qcore", redis_url, processes, tmp_path / "qcore", number, fails)

    assert calls(ours) == calls(theirs)
    assert sorted(map(str, ours)) == sorted(map(str, theirs))
    assert ["Foreign", "received", {"number": 1}] in ours
    assert ["First", "made", {"colour": "red", "fast": True}] in ours


def test_foreign_messages_come_over_rabbitmq_again_after_a_loss(
    rabbit_url: str, rabbit_server: RabbitServer, processes: Processes, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    worker = begin("qcore", rabbit_url, processes, notes)
    wait_for(lambda: ["ready"] in notes_of(notes), 60)
    publish(rabbit_url, 1)
    wait_for(lambda: ["Foreign", "raw", {"number": 1}] in notes_of(notes), 60)
    wait_for(lambda: ["Foreign", "received", {"number": 1}] in notes_of(notes), 60)

    rabbit_server.kill_connections(rabbit_url)
    worker.wait_output("foreign messages are received again")
    publish(rabbit_url, 2)
    wait_for(lambda: ["Foreign", "received", {"number": 2}] in notes_of(notes), 60)
    worker.term()

    assert worker.wait() == 0, worker.output()
    assert notes_of(notes)[-1] == ["Beside", "shutdown"]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server that the test may kill."""
    made = RedisServer(require_server())
    yield made
    made.stop()


def test_foreign_messages_come_again_after_an_outage(
    server: RedisServer, processes: Processes, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    worker = begin("qcore", server.url, processes, notes)
    wait_for(lambda: ["ready"] in notes_of(notes), 60)

    server.kill9()
    worker.wait_output("the connection of foreign messages is lost")
    server.restart()
    worker.wait_output("foreign messages are received again")
    publish(server.url, 2)
    wait_for(lambda: ["Foreign", "received", {"number": 2}] in notes_of(notes), 60)
    server.kill9()  # the shutdown does not wait for a connection
    worker.term()

    assert worker.wait(30) in (0, 3), worker.output()
    assert notes_of(notes)[-1] == ["Beside", "shutdown"]


def test_a_callback_that_fails_is_logged_and_one_that_says_so_ends_the_worker(
    redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    worker = begin("qcore", redis_url, processes, notes)
    wait_for(lambda: ["ready"] in notes_of(notes), 60)

    publish(redis_url, -1)
    worker.wait_output("no number is negative")
    publish(redis_url, 1)
    wait_for(lambda: ["Foreign", "received", {"number": 1}] in notes_of(notes), 60)
    publish(redis_url, 0)

    assert worker.wait() == 0, worker.output()
    assert "a step ends the worker: it raised WorkerShutdown" in worker.output()
    assert notes_of(notes)[-1] == ["Beside", "shutdown"]
    # What was not acknowledged is there for the next worker.
    begin("qcore", redis_url, processes, tmp_path / "next")
    wait_for(lambda: ["Foreign", "received", {"number": -1}] in notes_of(tmp_path / "next"), 60)


def test_foreign_messages_need_a_broker_that_kombu_reaches(processes: Processes, tmp_path: Path) -> None:
    worker = begin("qcore", f"sqlite:///{tmp_path}/q.db", processes, tmp_path / "notes")

    assert worker.wait() != 0
    assert "cannot be reached by kombu's connections; use Redis or RabbitMQ" in worker.output()
    assert "Traceback" not in worker.output()
    assert notes_of(tmp_path / "notes")[-1] == ["Beside", "shutdown"]


@pytest.mark.parametrize(
    ("kind", "fails"), [("celery", "Late.start"), ("qcore", "Late.start"), ("qcore", "Second.start")]
)
def test_a_step_that_does_not_start_ends_the_worker(
    kind: str, fails: str, redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    worker = begin(kind, redis_url, processes, tmp_path / "notes", fails)

    assert worker.wait() == 1
    assert f"{fails} fails" in worker.output()
    noted = notes_of(tmp_path / "notes")
    assert ["ready"] not in noted
    step = fails.partition(".")[0]
    assert [step, "start"] in noted
    assert [step, "stop"] not in noted


def qctl(notes: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "NOTES": str(notes), "BROKER": "redis://127.0.0.1:1/0"}
    return run_python("-m", "qctl", *words, env=env)


def test_the_help_page_shows_the_options_of_the_app(tmp_path: Path) -> None:
    with_app = qctl(tmp_path / "notes", "-A", APP, "worker", "--help")
    after = qctl(tmp_path / "notes", "worker", "--help", "-A", APP)
    without = qctl(tmp_path / "notes", "worker", "--help")

    for page in (with_app, after):
        assert "--colour TEXT" in page.stdout, page.stderr
        assert "-Z, --zone TEXT" in page.stdout
    assert "--colour" not in without.stdout


def test_an_option_that_is_not_the_apps_either_is_refused(tmp_path: Path) -> None:
    ran = qctl(tmp_path / "notes", "-A", APP, "worker", "--color", "red")

    assert ran.returncode == 2
    assert "--colour" in ran.stderr  # the near miss
    assert "Traceback" not in ran.stderr


def test_preload_options_are_those_of_every_command(tmp_path: Path) -> None:
    ran = qctl(tmp_path / "notes", "-A", APP, "report", "-Z", "east")
    qctl(tmp_path / "notes", "-A", APP, "report")

    assert notes_of(tmp_path / "notes") == [
        ["preload", {"zone": "east"}],
        ["preload", {"zone": "north"}],
    ], ran.stderr


CONFLICTS = """
import click
from celery import Celery, bootsteps

app = Celery("conflicts", broker="memory://conflicts")
app.user_options["worker"].add(click.Option(["--reload"], help="Of the app."))
app.user_options["worker"].add(click.Option(["--size"], type=int, default=7, help="Of the app."))


class Ends(bootsteps.Step):
    def __init__(self, worker, **options):
        print("size", options["size"], "reload" in options)
        raise SystemExit(0)


app.steps["worker"].add(Ends)
"""


@pytest.mark.parametrize(("words", "size"), [((), 7), (("--size", "8"), 8)])
def test_an_option_that_qctl_has_stays_that_of_qctl(
    words: tuple[str, ...], size: int, tmp_path: Path
) -> None:
    (tmp_path / "conflicts.py").write_text(CONFLICTS)

    ran = qctl(tmp_path / "notes", "--workdir", str(tmp_path), "-A", "conflicts", "worker", *words)

    assert ran.returncode == 0, ran.stderr
    assert f"size {size} False" in ran.stdout + ran.stderr
    assert ran.stderr.count("--reload is an option of qctl here; that of the app has no effect") == 1


def test_beat_takes_options_of_the_app(redis_url: str, processes: Processes, tmp_path: Path) -> None:
    env = {"BROKER": redis_url, "NOTES": str(tmp_path / "notes")}
    beat = processes.qctl("-A", APP, "beat", "--pace", "3", "-Z", "west", env=env)
    beat.wait_output("Ready")
    beat.term()

    assert beat.wait() == 0
    assert notes_of(tmp_path / "notes") == [["preload", {"zone": "west"}]]
