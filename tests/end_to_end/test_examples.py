"""The example projects, written for Celery, do the same on Celery's worker and on qcore's."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT, Processes, run_python
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for

EXAMPLES = ROOT / "examples"
KINDS = ("celery", "qcore")
Reader = Callable[[str, Path], Any]


class Runner:
    """Runs an example twice: worker and client of Celery, then of qcore."""

    def __init__(self, server: RedisServer, processes: Processes, place: Path) -> None:
        self.server, self.processes, self.place = server, processes, place

    def both(
        self,
        app: str,
        options: list[str],
        client: list[str],
        read: Callable[[str, Path], Any],
        folder: str = "",
    ) -> list[Any]:
        """app, options: of the worker; client: a Python program, as words behind `python`. read: gets what
        the client printed and the folder of what the tasks wrote, and waits for what comes later. Returns
        what `read` made of each kind."""
        return [self.one(kind, app, options, client, read, folder) for kind in KINDS]

    def one(
        self, kind: str, app: str, options: list[str], client: list[str], read: Reader, folder: str
    ) -> Any:
        with self.server.client() as redis:
            redis.flushall()
        place = self.place / kind
        place.mkdir()
        names = {"SHOP_DATABASE": "shop.sqlite3", "ETL_TARGET": "", "MAILER_OUTBOX": ""}
        names |= {"SERVICE_REPORTS": "", "BLOG_FOLDER": ""}
        env = {name: str(place / file) for name, file in names.items()}
        env |= {"REDIS_URL": self.server.url, "PYTHONPATH": str(ROOT)}
        start = self.processes.celery if kind == "celery" else self.processes.qctl
        workdir = str(EXAMPLES / folder)
        words = ("--workdir", workdir, "-A", app, "worker", "-c", "2", "-n", "w@test", "-l", "INFO")
        worker = start(*words, *options, env=env)
        worker.wait_output("w@test ready")
        before = ["-m", "qcore.celery"] if kind == "qcore" else []
        done = run_python(
            *before,
            *client,
            cwd=Path(workdir),
            env={**os.environ, **env, "PYTHONPATH": f"{workdir}{os.pathsep}{ROOT}"},
            imports="qctl" if kind == "qcore" else "celery",
            timeout_s=120,
        )
        assert done.returncode == 0, f"{kind}: {done.stderr}\n{worker.output()}"
        found = read(done.stdout, place)
        worker.term()
        assert worker.wait() == 0
        return found


@pytest.fixture
def runner(redis_server: RedisServer, redis_url: str, processes: Processes, tmp_path: Path) -> Runner:
    return Runner(redis_server, processes, tmp_path)


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def main_of(module: str, runner: Runner) -> str:
    """A script that calls main() of a module."""
    script = runner.place / f"client_of_{module}.py"
    script.write_text(f"import {module}\n{module}.main()\n")
    return str(script)


def test_no_example_for_celery_mentions_qcore() -> None:
    mine = {"proj.py", "quotes.py"}
    ordinary = [p for p in EXAMPLES.rglob("*.py") if p.name not in mine and "extension" not in p.parts]
    found = [p for p in ordinary if "qc" in p.read_text().lower()]

    assert found == []


@pytest.mark.timeout(300)
def test_the_shop(runner: Runner) -> None:
    def read(printed: str, place: Path) -> Any:
        base = sqlite3.connect(place / "shop.sqlite3")
        wanted = {"product": "name, stock", "order": "id, card, state, attempts", "receipt": "order_id, text"}
        tables = {
            t: base.execute(f"SELECT {c} FROM orders_{t} ORDER BY 1").fetchall() for t, c in wanted.items()
        }
        kept = "SELECT status, COUNT(*) FROM django_celery_results_taskresult GROUP BY 1"
        tables["result"] = dict(base.execute(kept).fetchall())
        base.close()
        return printed, tables

    theirs, ours = runner.both("shop", ["-Q", "celery,mails"], ["manage.py", "demo"], read, "shop")

    # A process of Celery's that retries at once may write RETRY over the end of the next attempt.
    kept, end = theirs[1].pop("result"), {"FAILURE": 4, "SUCCESS": 7}
    assert sum(kept.values()) == sum(end.values()) and all(kept.get(state, 0) <= end[state] for state in end)
    assert set(kept) <= {*end, "RETRY"}
    assert ours[1].pop("result") == end
    assert ours == theirs
    assert ours[1]["order"] == [
        (1, "good", "sent", 1),
        (2, "slow-2", "sent", 3),
        (3, "good", "sold out", 1),
        (4, "refused", "refused", 1),
        (5, "slow-9", "placed", 4),
    ]
    assert ours[1]["receipt"] == [(1, "2 lamp: sent"), (2, "1 lamp: sent"), (3, "9 lamp: sold out")]
    assert ours[1]["product"] == [("lamp", 2)]


@pytest.mark.timeout(300)
def test_the_etl_job(runner: Runner) -> None:
    def read(printed: str, place: Path) -> Any:
        wait_for(lambda: (place / "complaint.json").exists() and (place / "complaint.json").read_text())
        return json.loads(printed), files(place)

    theirs, ours = runner.both("etl", [], [main_of("etl", runner)], read)

    assert ours == theirs
    assert ours[0]["summary"] == {"berlin": 2, "paris": 2, "rome": 1}
    assert json.loads(ours[1]["complaint.json"])[0] == "ChordError"


@pytest.mark.timeout(300)
def test_the_mailer(runner: Runner) -> None:
    def read(printed: str, place: Path) -> Any:
        wait_for(lambda: len(list(place.glob("news-*"))) == 9)
        wait_for(lambda: all(path.read_text() for path in place.iterdir()))
        found = {name: json.loads(text) for name, text in files(place).items()}
        times = sorted(mail.pop("at") for name, mail in found.items() if name.startswith("news"))
        assert times[-1] - times[0] > 7 / 5  # five in a second
        return json.loads(printed), found

    theirs, ours = runner.both("mailer", ["-Q", "mails,bulk"], [main_of("mailer", runner)], read)

    assert ours == theirs
    assert len(ours[1]) > 15


BEAT = """
import logging
logging.basicConfig(level="INFO")
from celery.beat import Service
from mailer import app
app.finalize()
Service(app, scheduler_cls="celery.beat:Scheduler").start()
"""


BY_CELERYS_BEAT = (*KINDS, "celery worker -B")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", [*KINDS, "qctl beat", "qctl worker -B", "celery worker -B"])
def test_the_periodic_tasks_of_the_mailer(kind: str, runner: Runner, tmp_path: Path) -> None:
    outbox, script = tmp_path / "outbox", tmp_path / "beat_of_mailer.py"
    script.write_text(BEAT)
    env = {"REDIS_URL": runner.server.url, "MAILER_OUTBOX": str(outbox), "MAILER_EVERY_S": "0.3"}
    env["PYTHONPATH"] = f"{EXAMPLES}{os.pathsep}{ROOT}"
    start = runner.processes.celery if kind.startswith("celery") else runner.processes.qctl
    words = ("-A", "mailer", "worker", "-c", "1", "-Q", "mails,bulk", "-n", "w@test", "-l", "INFO")
    embedded = ("-B", "-s", str(tmp_path / "schedule")) if kind == "celery worker -B" else ()
    if kind == "qctl worker -B":
        embedded = ("-B",)
    worker = start("--workdir", str(EXAMPLES), *words, *embedded, env=env)
    worker.wait_output("w@test ready")

    before = ["-m", "qcore.celery"] if kind == "qcore" else []
    if kind == "qctl beat":
        words = ("--workdir", str(EXAMPLES), "-A", "mailer", "beat", "-l", "INFO")
        beat = runner.processes.qctl(*words, env=env)
    elif kind.endswith("worker -B"):
        beat = worker
    else:
        beat = runner.processes.start(sys.executable, *before, str(script), env=env, name="beat")
    wait_for(lambda: (outbox / "count-2.json").exists() and (outbox / "count-2.json").read_text())
    wait_for(lambda: (outbox / "unpaid-debtor@example.org.json").exists())
    beat.term(signal.SIGTERM if kind.endswith("-B") else signal.SIGINT)
    assert beat.wait() == 0, beat.output()
    worker.term()
    assert worker.wait() == 0

    found = files(outbox)
    assert json.loads(found["count-0.json"]) == {"what": "mails", "queue": "bulk"}
    assert json.loads(found["unpaid-debtor@example.org.json"])["subject"] == "unpaid"
    published = {"reminders": "mailer.remind", "mailer.count(what='mails')": "mailer.count"}
    for name, task in published.items():
        said = f"due task {name} ({task})" if kind in BY_CELERYS_BEAT else f"for the schedule entry '{name}'"
        assert said in beat.output()


SERVICE = """
import json, time
from fastapi.testclient import TestClient
from service import api

client = TestClient(api)
def ended(posted):
    assert posted.status_code == 202
    while (found := client.get("/reports/" + posted.json()["id"])).json().get("state") == "waiting":
        time.sleep(0.02)
    return found.status_code, found.json()

posted = [
    client.post("/reports", json={"title": "sales", "numbers": [1, 2, 6]}),
    client.post("/reports", json={"title": "empty", "numbers": []}),
    client.post("/reports/slow"),
]
found = [ended(one) for one in posted]
found.append(client.post("/reports", json={"title": "wrong", "numbers": "none"}).status_code)
found.append(client.delete("/reports/" + posted[0].json()["id"]).json())
print(json.dumps(found))
"""


@pytest.mark.timeout(300)
def test_the_service(runner: Runner, tmp_path: Path) -> None:
    client = tmp_path / "client_of_service.py"
    client.write_text(SERVICE)

    theirs, ours = runner.both(
        "service", [], [str(client)], lambda printed, place: (json.loads(printed), files(place))
    )

    assert ours == theirs
    assert ours[1] == {"sales.txt": "sales: 3 on average of 3\n"}
    assert ours[0][1][0] == 422


BLOG = """
import json, time
from make_celery import flask_app

client = flask_app.test_client()
def ended(posted):
    assert posted.status_code == 202
    while not (found := client.get("/tasks/" + posted.json["id"]).json)["ready"]:
        time.sleep(0.02)
    return found

found = [ended(client.post("/posts", json={"first": "hello", "second": "world"}))]
found.append(ended(client.post("/posts/third", data="!")))
found.append(ended(client.post("/posts/fourth", data="")))
client.delete("/posts/third")
print(json.dumps(found))
"""


@pytest.mark.timeout(300)
def test_the_blog(runner: Runner, tmp_path: Path) -> None:
    client = tmp_path / "client_of_blog.py"
    client.write_text(BLOG)

    def read(printed: str, place: Path) -> Any:
        wait_for(lambda: not (place / "third.txt").exists())
        return json.loads(printed), files(place)

    theirs, ours = runner.both("make_celery", [], [str(client)], read, "blog")

    assert ours == theirs
    assert sorted(ours[1]) == ["first.txt", "index.html", "second.txt"]
    assert "the post fourth is empty" in ours[0][2]["value"]
