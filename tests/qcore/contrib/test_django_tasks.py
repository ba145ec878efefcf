"""Django's tasks (django.tasks): enqueued in one process, run by `qctl worker`, on SQLite."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT, Processes, run_python

django = pytest.importorskip("django")
pytestmark = pytest.mark.skipif(
    django.VERSION < (6, 0), reason=f"Django {django.get_version()} has no django.tasks; 6.0 has"
)

FILES = {
    "desk/__init__.py": "from .celery import app\n",
    "desk/settings.py": """
SECRET_KEY = "of a test"
USE_TZ = True
TASKS = {"default": {"BACKEND": "qcore.contrib.django_tasks.QcoreBackend", "QUEUES": ["default", "mails"]}}
""",
    "desk/celery.py": """
import os
from qcore import App
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "desk.settings")
app = App("desk")
app.config_from_object("django.conf:settings", namespace="CELERY")
""",
    "desk/tasks.py": """
from django.tasks import task
@task
def add(x, y):
    return x + y
@task(queue_name="mails")
async def mail(to):
    return {"to": to}
@task(takes_context=True)
def attempt(context, word):
    return [word, context.attempt, context.task_result.id]
@task
def fail():
    raise LookupError("no such order")
@task
def kept(what):
    return what
""",
}
CLIENT = """
import asyncio, datetime, json, sys, time
import django
django.setup()
import desk
from django.tasks import TaskResultStatus, default_task_backend, task_backends
from django.tasks.exceptions import TaskResultDoesNotExist, TaskResultMismatch, InvalidTask
from django.utils import timezone
from desk.tasks import add, attempt, fail, kept, mail
def end(result, most=60):
    until = time.monotonic() + most
    while not result.is_finished and time.monotonic() < until:
        time.sleep(0.02)
        result.refresh()
    return result
def name(error, call):
    try:
        call()
    except error as exc:
        return type(exc).__name__
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    for file, text in FILES.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(text)
    return folder


def environment(site: Path) -> dict[str, str]:
    path = f"{site}{os.pathsep}{ROOT}"
    url = f"sqlite:///{site}/broker.db"
    return {"PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "desk.settings", "QCTL_BROKER_URL": url}


@pytest.fixture(scope="module")
def worker(site: Path) -> Iterator[None]:
    processes = Processes(site)
    words = ("-A", "desk", "worker", "-c", "1", "-Q", "celery,mails", "-n", "w1@test", "-l", "INFO")
    process = processes.qctl(*words, env=environment(site))
    process.wait_output("w1@test ready")
    yield
    process.term()
    assert process.wait() == 0


def client(site: Path, code: str) -> Any:
    """What a process that only enqueues prints."""
    env = {**os.environ, **environment(site)}
    done = run_python("-c", CLIENT + code, env=env, cwd=site, imports="qctl")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.usefixtures("worker")
def test_a_task_runs_in_a_worker_and_any_process_reads_its_result(site: Path) -> None:
    code = """
sent = add.enqueue(2, y=3)
first = [sent.status, sent.args, sent.kwargs, sent.enqueued_at is not None, sent.attempts]
done = end(sent)
again = add.get_result(sent.id)
mailed = end(asyncio.run(mail.aenqueue("ada")))
of_context = end(attempt.enqueue("x"))
print(json.dumps([first, done.status, done.return_value, done.attempts, done.worker_ids, again == done,
    done.enqueued_at <= done.started_at <= done.finished_at, done.last_attempted_at == done.started_at,
    mailed.return_value, asyncio.run(mail.aget_result(mailed.id)).task.queue_name,
    of_context.return_value == ["x", 1, of_context.id],
    name(TaskResultDoesNotExist, lambda: add.get_result("nobody")),
    name(TaskResultMismatch, lambda: fail.get_result(sent.id)),
    name(InvalidTask, lambda: add.using(queue_name="other"))]))
"""

    assert client(site, code) == [
        ["READY", [2], {"y": 3}, True, 0],
        *("SUCCESSFUL", 5, 1, ["w1@test"], True, True, True),
        *({"to": "ada"}, "mails", True),
        *("TaskResultDoesNotExist", "TaskResultMismatch", "InvalidTask"),
    ]


@pytest.mark.usefixtures("worker")
def test_a_failed_task_has_its_exception_and_its_traceback(site: Path) -> None:
    code = """
done = end(fail.enqueue())
[error] = done.errors
print(json.dumps([done.status, error.exception_class_path, error.exception_class.__name__,
    "no such order" in error.traceback and "in fail" in error.traceback,
    name(ValueError, lambda: done.return_value), done.attempts, done.finished_at is not None]))
"""

    assert client(site, code) == [
        "FAILED",
        "builtins.LookupError",
        "LookupError",
        True,
        "ValueError",
        1,
        True,
    ]


def test_priorities_and_later_times_are_those_of_the_message(site: Path, tmp_path: Path) -> None:
    code = """
from desk.celery import app
later = timezone.now() + datetime.timedelta(hours=1)
kept.using(run_after=later).enqueue("later")
for priority in (-100, 0, 100):
    kept.using(priority=priority, queue_name="mails").enqueue(priority)
depth = app.broker.administration.depth("celery")
print(json.dumps([depth.ready, depth.delayed, task_backends["default"].supports_defer,
    task_backends["default"].supports_get_result]))
"""
    folder = tmp_path / "site"
    folder.mkdir()
    for file, text in FILES.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(text)

    counts = client(folder, code)
    words = [sys.executable, "-m", "qctl", "queue", "peek", "mails", "-o", "json"]
    peeked = subprocess.run(
        words,
        env={**os.environ, **environment(folder)},
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )

    assert counts == [0, 1, True, True]
    args = [item["args"] for item in json.loads(peeked.stdout)["items"]]
    assert [next(n for n in ("[-100]", "[100]", "[0]") if n in str(arg)) for arg in args] == [
        "[100]",
        "[0]",
        "[-100]",
    ]
