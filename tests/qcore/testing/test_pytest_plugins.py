"""The fixtures for pytest: those of qcore, and those of Celery by their names."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import indent

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parent.parent.parent.parent

#: a test file as projects of Celery have it
SUITE = """
import pytest
from celery import Celery, Task, current_app, shared_task
from celery.contrib.testing.app import TestApp

@shared_task(name="suite.double")
def double(x):
    return 2 * x

class Counted(Task):
    pass

@pytest.fixture(scope="session")
def celery_config():
    return {"task_default_queue": "of-the-suite", "broker_transport_options": {"polling_interval": 0.01}}

@pytest.fixture(scope="session")
def celery_parameters():
    return {"task_cls": Counted}

@pytest.fixture(scope="session")
def celery_includes():
    return ["included_tasks"]

@pytest.fixture(scope="session")
def celery_worker_parameters():
    return {"queues": ("of-the-suite",)}

def test_the_app_has_the_settings(celery_app):
    assert isinstance(celery_app, Celery)
    assert celery_app.conf.task_default_queue == "of-the-suite"
    assert celery_app.conf.timezone == "UTC"
    assert issubclass(celery_app.Task, Counted)

@pytest.mark.celery(task_default_queue="other", worker_prefetch_multiplier=7)
def test_the_marker_has_settings(celery_app):
    assert celery_app.conf.task_default_queue == "other"
    assert celery_app.conf.worker_prefetch_multiplier == 7

def test_a_worker_runs_tasks(celery_app, celery_worker):
    @celery_app.task(name="local.fail")
    def fail():
        raise ValueError("no")

    celery_worker.reload()
    assert double.delay(4).get(timeout=30) == 8
    assert celery_app.tasks["included.triple"].delay(3).get(timeout=30) == 9
    with pytest.raises(ValueError, match="no"):
        fail.delay().get(timeout=30)

def test_that_fails(celery_app, celery_worker):
    assert double.delay(4).get(timeout=30) == 9

def test_the_current_app(depends_on_current_app, celery_app):
    assert current_app.main == celery_app.main == "celery.tests"
    assert current_app._get_current_object() is celery_app

def test_an_app_of_its_own():
    app = TestApp("mine", config={"task_always_eager": True})

    @app.task(name="mine.one")
    def one():
        return 1

    assert app.main == "mine"
    assert one.delay().get() == 1

@pytest.mark.skip(reason="to count")
def test_skipped(celery_worker):
    pass
"""
SESSION = """
import pytest
from celery import Task, shared_task

@shared_task(name="session.double")
def double(x):
    return 2 * x

class Triple(Task):
    name = "session.triple"

    def run(self, x):
        return 3 * x

@pytest.fixture(scope="session")
def celery_class_tasks():
    return [Triple]

@pytest.fixture(scope="session", autouse=True)
def worker_of_the_session(celery_session_app, celery_session_worker):
    yield celery_session_worker

@pytest.fixture(scope="session")
def celery_config():
    return {"broker_transport_options": {"polling_interval": 0.01}}

def test_the_worker_has_the_class(celery_session_app):
    assert celery_session_app.tasks["session.triple"].delay(5).get(timeout=30) == 15

def test_its_app_is_the_current_one(celery_session_app):
    from celery import current_app
    assert current_app._get_current_object() is celery_session_app
    assert double.delay(3).get(timeout=30) == 6
"""
TRAP = """
import pytest
from celery import current_app

@pytest.fixture(scope="session")
def use_celery_app_trap():
    return True

def test_the_current_app_is_a_trap(celery_app):
    with pytest.raises(RuntimeError, match="Test depends on current_app"):
        current_app.send_task("x")

def test_the_app_itself_can_be_used(celery_app):
    @celery_app.task(name="one")
    def one():
        return 1

    assert one.apply().get() == 1
"""
INCLUDED = """
from celery import shared_task

@shared_task(name="included.triple")
def triple(x):
    return 3 * x
"""


def _run(pytester: pytest.Pytester, *words: str, before: Sequence[str] = ()) -> dict[str, int]:
    options = ("-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={pytester.path}/tmp")
    result = pytester.run(sys.executable, *before, "-m", "pytest", *options, *words)
    found = result.parseoutcomes()
    found.pop("warnings", None)
    found.pop("warning", None)
    return found


#: how a suite is run, by what `import celery` means in it
HOW = {"celery": (), "qcore": ("-m", "qcore.celery")}


def test_a_suite_for_celerys_fixtures_has_the_same_outcomes(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest('pytest_plugins = ["celery.contrib.pytest"]')
    pytester.makepyfile(test_suite=SUITE, test_trap=TRAP, included_tasks=INCLUDED)

    outcomes = {
        name: [_run(pytester, file, before=how) for file in ("test_suite.py", "test_trap.py")]
        for name, how in HOW.items()
    }

    assert outcomes["celery"] == [{"passed": 5, "failed": 1, "skipped": 1}, {"passed": 2}]
    assert outcomes["qcore"] == outcomes["celery"]


def test_a_worker_of_the_session_has_the_same_outcomes(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest('pytest_plugins = ["celery.contrib.pytest"]')
    pytester.makepyfile(SESSION)

    outcomes = {name: _run(pytester, before=how) for name, how in HOW.items()}

    assert outcomes == {"celery": {"passed": 2}, "qcore": {"passed": 2}}


FIFTY = """
import pytest
from qcore import shared_task

@shared_task
def double(x):
    return 2 * x

@pytest.fixture(scope="session")
def qcore_config():
    return {"result_extended": True}

@pytest.mark.parametrize("x", range(50))
def test_one(x, qcore_app, qcore_worker):
    assert qcore_app.conf.result_extended
    result = double.delay(x)
    assert result.get(timeout=30) == 2 * x
    assert result.name == double.name

@pytest.mark.qcore(task_default_queue="other")
def test_the_marker(qcore_app, qcore_worker):
    assert qcore_app.conf.task_default_queue == "other"
    assert double.delay(1).get(timeout=30) == 2
"""


def test_fifty_tests_each_run_a_task_in_an_app_of_their_own(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(FIFTY)

    assert _run(pytester, "--strict-markers") == {"passed": 51}


def test_the_plug_in_imports_nothing_of_the_engine_before_it_is_used() -> None:
    heavy = "{'qctl', 'msgspec', 'kombu', 'redis', 'qcore.app', 'qcore.tasks', 'qcore.brokers'}"
    lines = f"import sys, qcore.testing.pytest_plugin; print({heavy} & sys.modules.keys())"

    done = subprocess.run([sys.executable, "-c", lines], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


def test_the_examples_of_the_page_work(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    page = (ROOT / "docs" / "testing.md").read_text()
    with_pytest, without = re.findall(r"```python\n(.*?)```", page, re.S)
    pytester.makepyfile(test_page=with_pytest, test_plain=f"def test_plain():\n{indent(without, '    ')}")

    assert _run(pytester, "--strict-markers") == {"passed": 3}
