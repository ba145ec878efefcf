"""docs/extending.md: its code is that of examples/extension, whose project runs on both workers."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery
import kombu
import pytest

from qcore import App
from qcore.errors import ConfigError
from qcore.results.base import ResultStore
from tests.contracts.result_contract import OpenStore, ResultContract
from tests.support.processes import ROOT, Processes
from tests.support.waiting import wait_for

EXTENSION = ROOT / "examples" / "extension"
PAGE = ROOT / "docs" / "extending.md"
BLOCK = re.compile(r"^```(?:python|toml)\n# (examples/\S+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks() -> list[tuple[str, str]]:
    return BLOCK.findall(PAGE.read_text())


@pytest.mark.parametrize(("file", "code"), blocks())
def test_a_block_of_code_is_that_of_the_example(file: str, code: str) -> None:
    text = (ROOT / file).read_text()

    for part in code.split("\n…\n"):  # where the page leaves something out
        assert part.strip("\n") in text


def test_every_block_of_code_names_its_file() -> None:
    fenced = re.findall(r"^```(?:python|toml)$", PAGE.read_text(), re.MULTILINE)

    assert len(fenced) == len(blocks()) > 10


def life(kind: str, url: str, processes: Processes, place: Path) -> list[Any]:
    """What the project in Celery's way did on this kind of worker."""
    place.mkdir()
    env = {"BROKER": url, "RESULTS": str(place / "results.db")}
    env["PYTHONPATH"] = os.pathsep.join((str(EXTENSION), str(ROOT)))
    start = processes.qctl if kind == "qcore" else processes.celery
    words = ("-c", "2", "-n", f"{kind}@test", "--greeting", "hello", "--zone", "south")
    if kind == "celery":  # its command line takes no place of a class
        env["CELERY_CUSTOM_WORKER_POOL"] = "project:Threads"
    pool = "custom" if kind == "celery" else "project:Threads"
    worker = start("-A", "project", "worker", "-P", pool, *words, env=env)
    worker.wait_output(f"hello from {kind}@test in the south")
    with kombu.Connection(url) as connection:
        exchange = kombu.Exchange("post")
        letters = kombu.Queue("letters", exchange, "letter")
        producer = connection.Producer(exchange=exchange, serializer="json")
        producer.publish({"text": "dear all"}, routing_key="letter", declare=[letters])
    worker.wait_output("a letter: dear all")
    worker.wait_output("still here")
    with celery.Celery("client", broker=url, set_as_current=False) as client:
        sent = client.send_task("project.add", (2, 3), task_id=f"{kind}-1")

        def ask(request: str, **arguments: Any) -> Any:
            found = client.control.broadcast(request, arguments=arguments, reply=True, timeout=10.0, limit=1)
            return next(iter(found[0].values())) if found else None

        wait_for(lambda: stored(place / "results.db", sent.id) is not None, 60)
        answers = [ask("zone"), ask("move", name="west"), ask("zone")]
    worker.term()
    assert worker.wait() == 0, worker.output()
    assert "goodbye" in worker.output()
    return [str(answer).replace(kind, "KIND") for answer in (*answers, stored(place / "results.db", sent.id))]


def stored(file: Path, task_id: str) -> Any:
    if not file.exists():
        return None
    with sqlite3.connect(file) as connection:
        try:
            rows = connection.execute(
                "SELECT json_extract(CAST(value AS TEXT), '$.result', '$.status') FROM results WHERE key = ?",
                (f"celery-task-meta-{task_id}",),
            ).fetchall()
        except sqlite3.OperationalError:  # no table yet
            return None
    return rows[0][0] if rows else None


def test_the_project_in_celerys_way_does_the_same_on_both(
    redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    theirs = life("celery", redis_url, processes, tmp_path / "celery")
    ours = life("qcore", redis_url, processes, tmp_path / "qcore")

    assert ours == theirs
    assert ours == ["south", "{'ok': 'KIND@test is in the west'}", "west", '[5,"SUCCESS"]']


def test_the_help_page_shows_the_options_of_the_example() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qctl", "-A", "project", "worker", "--help"],
        env={**os.environ, "BROKER": "memory://", "PYTHONPATH": os.pathsep.join((str(EXTENSION), str(ROOT)))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert "--greeting TEXT" in done.stdout, done.stderr
    assert "How the worker greets" in done.stdout


class TestMemoResults(ResultContract):
    """The store of the example, named by its place."""

    @pytest.fixture
    def open_store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenStore]:
        monkeypatch.syspath_prepend(str(EXTENSION))
        url = f"shelf.store:MemoResults://{tmp_path}/results.db"
        app = App("memo", broker="memory://memo", backend=url, set_as_current=False)

        def open_one() -> ResultStore:
            app.close()  # the next use opens the store anew
            return app.results

        yield open_one
        app.close()


def test_a_result_backend_that_cannot_be_loaded_is_an_error() -> None:
    app = App("memo", broker="memory://memo", backend="shelf.nowhere:Results", set_as_current=False)

    with pytest.raises(ConfigError, match=r"'shelf.nowhere:Results' .* cannot be loaded"):
        _ = app.results
