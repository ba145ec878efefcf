"""Members of an app that subclasses and programs replace: the same lines on Celery's and on ours."""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery
import celery.app.registry
import celery.backends.cache
import pytest

from qcore.app.registry import TaskRegistry
from qcore.app.store_backend import StoreBackend
from qcore.celery.app import Celery
from qcore.signals import beat_init, setup_logging, worker_ready
from qcore.testing.worker import start_worker

each = pytest.mark.parametrize("make", [celery.Celery, Celery])
ALONE: dict[str, Any] = {"broker": "memory://", "set_as_current": False}


def fix(app: Any) -> None:
    fixed.append(app.main)


fixed: list[str] = []


@each
def test_fixups_get_the_app(make: Any) -> None:
    class Mine(make):  # type: ignore[misc]  # one of two classes
        builtin_fixups = frozenset({f"{__name__}:fix"})

    fixed.clear()
    of_class, given = Mine("class", **ALONE), make("given", fixups=[f"{__name__}:fix"], **ALONE)
    none, plain = Mine("none", fixups=[], **ALONE), make("plain", **ALONE)

    assert fixed == ["class", "given"]
    assert (set(of_class.fixups), set(given.fixups), list(none.fixups)) == (
        {f"{__name__}:fix"},
        {f"{__name__}:fix"},
        [],
    )
    assert set(plain.fixups) == set(make.builtin_fixups) == {"celery.fixups.django:fixup"}


@each
def test_a_subclass_prepares_the_settings(make: Any) -> None:
    class Mine(make):  # type: ignore[misc]  # one of two classes
        def prepare_config(self, c: Any) -> Any:
            given = c or {}  # None in Celery without a source
            return {**given, "worker_concurrency": given.get("worker_concurrency", 1) + 1}

    with_source, without = Mine("x", **ALONE), Mine("y", **ALONE)
    with_source.config_from_object({"worker_concurrency": 6, "task_always_eager": True})

    assert (with_source.conf.worker_concurrency, with_source.conf.task_always_eager) == (7, True)
    assert without.conf.worker_concurrency == 2


class OurRegistry(TaskRegistry):
    pass


class TheirRegistry(celery.app.registry.TaskRegistry):
    pass


class OurBackend(StoreBackend):
    pass


@each
def test_a_subclass_has_a_registry_of_its_own(make: Any) -> None:
    kind = OurRegistry if make is Celery else TheirRegistry

    class Mine(make):  # type: ignore[misc]  # one of two classes
        registry_cls = kind

    app = Mine("x", **ALONE)
    app.task(name="x.t")(fix)

    assert type(app.tasks) is app.registry_cls is kind
    assert "x.t" in app.tasks and "celery.chord" in app.tasks


@each
def test_a_subclass_names_its_backend(make: Any) -> None:
    class Mine(make):  # type: ignore[misc]  # one of two classes
        backend_cls = "cache+memory://"

    assert type(Mine("x", backend="redis://", **ALONE).backend).__name__ == (
        "CacheBackend" if make is celery.Celery else "StoreBackend"
    )


@each
def test_whether_an_app_became_the_current_one(make: Any) -> None:
    assert make("x", **ALONE).set_as_current is False


@each
def test_the_class_of_tasks_as_it_was_given(make: Any) -> None:
    name = f"{__name__}:{'OurTask' if make is Celery else 'TheirTask'}"

    assert make("x", **ALONE).task_cls == "celery.app.task:Task"
    assert make("x", task_cls=name, **ALONE).task_cls == name
    assert make("x", task_cls=name, **ALONE).Task.__name__ == ("Task" if make is celery.Celery else "OurTask")


class TheirTask(celery.Task):
    pass


class OurTask(Celery("x", set_as_current=False).Task):  # type: ignore[misc]  # made at run time
    pass


class _Reduced:
    def __reduce_args__(self: Any) -> tuple[Any, ...]:
        return (self.main, {"worker_concurrency": 9}, *[None] * 6, False)


class OurReduced(_Reduced, Celery):
    pass


class TheirReduced(_Reduced, celery.Celery):
    pass


@pytest.mark.parametrize("make", [TheirReduced, OurReduced])
def test_an_app_with_arguments_for_pickle(make: Any) -> None:
    again = pickle.loads(pickle.dumps(make("named", **ALONE)))

    assert (type(again), again.main, again.conf.worker_concurrency) == (make, "named", 9)


# --- programs; run with Celery's they would take a broker and seconds


@pytest.fixture(autouse=True)
def logging_of_the_test() -> Iterator[None]:
    """Workers leave the logging alone that a receiver of this signal sets up."""

    def keep(**about: Any) -> None: ...

    setup_logging.connect(keep)
    yield
    setup_logging.disconnect(keep)


@pytest.mark.parametrize("end", ["stop", "terminate"])
@pytest.mark.parametrize("kind", ["Worker", "WorkController"])
def test_a_worker_in_this_process(kind: str, end: str) -> None:
    app = Celery("x", backend="cache+memory://", **ALONE)
    add = app.task(name="x.add")(lambda x, y: x + y)
    ready = threading.Event()

    def is_ready(sender: Any, **about: Any) -> None:
        ready.set()

    worker_ready.connect(is_ready)
    worker = getattr(app, kind)(hostname="w@h", pool="solo", loglevel="ERROR")
    worker.redirects_output = False
    thread = threading.Thread(target=worker.start)
    thread.start()
    assert ready.wait(20)
    found = add.delay(1, 2).get(timeout=20)
    getattr(worker, end)()
    thread.join(20)
    worker_ready.disconnect(is_ready)

    assert not thread.is_alive()
    assert (found, worker.app, worker.hostname, worker.exitcode) == (3, app, "w@h", 0)


def test_the_text_of_a_value_is_as_long_as_its_task_says(caplog: pytest.LogCaptureFixture) -> None:
    app = Celery("x", backend="cache+memory://", **ALONE)

    def long(size: int) -> str:
        return "a" * size

    short, usual = app.task(name="x.short", resultrepr_maxsize=20)(long), app.task(name="x.usual")(long)
    caplog.set_level(logging.INFO)
    with start_worker(app, perform_ping_check=False):
        assert len(short.delay(5000).get(timeout=20)) == len(usual.delay(5000).get(timeout=20)) == 5000
    texts = [m.partition(": ")[2] for m in caplog.messages if "succeeded in" in m]

    assert [len(text) for text in texts] == [20, celery.Task.resultrepr_maxsize]


def test_a_worker_that_was_stopped_before_it_began() -> None:
    app = Celery("x", **ALONE)
    worker = app.WorkController(pool="solo", loglevel="ERROR")
    worker.redirects_output = False
    worker.stop(exitcode=5)
    worker.start()

    assert worker.exitcode == 5


def test_a_scheduler_in_this_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = Celery("x", **ALONE)
    app.add_periodic_task(0.01, app.signature("x.t"), name="often")
    began: list[Any] = []

    def begin(sender: Any, **about: Any) -> None:
        began.append(sender)
        sender.ended.set()

    beat_init.connect(begin)
    app.Beat(loglevel="ERROR", redirect_stdouts=False, pidfile=str(tmp_path / "pid")).run()
    beat_init.disconnect(begin)

    assert len(began) == 1
    assert "1 entries" in capsys.readouterr().out
