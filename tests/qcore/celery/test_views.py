"""The modules that `import celery` gives: each name is there, and is a name of Celery's."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import celery.contrib.abortable
import pytest

import qcore.celery.abortable
from qcore import App
from qcore.celery.app import Celery
from qcore.celery.views import views
from tests.support.processes import Processes
from tests.support.waiting import wait_for


def test_every_name_is_there() -> None:
    lines = (
        "from qcore.celery import install; install()\n"
        "from qcore.celery.views import views\n"
        "import importlib\n"
        "for module, names in views().items():\n"
        "    found = importlib.import_module(module)\n"
        "    assert found.__file__.startswith('<qcore'), found.__file__\n"
        "    for name in names.keys() - {'*'}:\n"
        "        getattr(found, name)\n"
    )
    subprocess.run([sys.executable, "-c", lines], check=True)


@pytest.mark.parametrize("module", views())
def test_every_name_is_one_of_celerys(module: str) -> None:
    theirs = importlib.import_module(module)
    assert [name for name in views()[module] if name != "*" and not hasattr(theirs, name)] == []


#: a package replaces build_tracer(), and what it builds cannot be built
BROKEN_TRACER = """
from qcore.celery import install; install()
from celery.app import trace
from qcore.testing import in_memory_app, start_worker
with in_memory_app() as app, start_worker(app, pool="threads"):
    add = app.task(lambda x, y: x + y, name="add")
    wrapped = trace.build_tracer
    trace.build_tracer = lambda *args, **options: wrapped(*args, **options) if 1 / 0 else None
    print(add.delay(1, 2).get(timeout=60))
"""


def test_a_task_runs_although_what_a_package_puts_around_it_cannot_be_made() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BROKEN_TRACER], capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout == "3\n"
    assert "what a package has put around the runs of add raised" in done.stderr


@pytest.mark.parametrize("worker", ["qcore", "celery"])
@pytest.mark.parametrize("client", [qcore.celery.abortable, celery.contrib.abortable])
def test_a_task_is_aborted(worker: str, client: Any, redis_url: str, processes: Processes) -> None:
    if worker == "qcore":
        processes.start_qcore_worker(redis_url, "-c", "1", app="tests.projects.abortable")
    else:
        processes.start_celery_worker(redis_url, redis_url, "-c", "1", app="tests.projects.abortable")
    kind = Celery if client is qcore.celery.abortable else celery.Celery
    app = kind("client", broker=redis_url, backend=redis_url, set_as_current=False)
    sent = App("sender", broker=redis_url, set_as_current=False).send_task("abortable.waits", (1200,))
    result = client.AbortableAsyncResult(sent.id, app=app)
    wait_for(lambda: result.state == "PROGRESS", 60)
    assert not result.is_aborted()
    result.abort()
    assert result.get(timeout=60) == "aborted"
