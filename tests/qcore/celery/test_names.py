"""Names of Celery's modules that few programs import: the same lines on Celery's and on ours."""

from __future__ import annotations

import importlib
import logging
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import celery.exceptions
import pytest

import qcore.errors
from qcore.app.sources import imported
from qcore.celery.app import Celery
from qcore.celery.programs import maybe_patch_concurrency
from qcore.celery.views import views
from qcore.events.camera import Polaroid
from qcore.tasks.current_app import current_or_none, set_current
from tests.parity.reference import pair


class Ours:
    """A module as `import celery` gives it here."""

    def __init__(self, name: str) -> None:
        self._places = views()[name]

    def __getattr__(self, name: str) -> Any:
        return imported(self._places[name])


def module(name: str, side: str) -> Any:
    return importlib.import_module(name) if side == "celery" else Ours(name)


both = pytest.mark.parametrize("side", ["celery", "qcore"])


class Plain(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(a)  # pickle makes it with one argument


class OfValue(Plain, ValueError):
    pass


class WithFile(Exception):
    pass


# --- celery.utils.serialization


@both
def test_an_exception_that_cannot_be_pickled(side: str) -> None:
    kit = module("celery.utils.serialization", side)
    lock = logging.getLogger

    nearest = kit.get_pickleable_exception(OfValue(1, 2))
    fine = ValueError(3)
    wrapped = kit.get_pickleable_exception(WithFile(lock, lambda: 1))
    again = kit.get_pickled_exception(pickle.loads(pickle.dumps(wrapped)))

    assert (type(nearest), nearest.args) == (ValueError, (1,))
    assert kit.get_pickleable_exception(fine) is kit.get_pickled_exception(fine) is fine
    assert (wrapped.exc_cls_name, wrapped.exc_module) == ("WithFile", __name__)
    assert "lambda" in wrapped.exc_args[1] and str(wrapped) == wrapped.text != ""
    assert (type(again).__name__, type(again).__module__) == ("WithFile", __name__)
    assert again.args == wrapped.exc_args


@both
def test_classes_of_exceptions(side: str) -> None:
    kit = module("celery.utils.serialization", side)

    class Local(Exception):
        pass

    one, other = kit.create_exception_cls("One", "here"), kit.subclass_exception("Two", KeyError, "there")

    assert (one.__mro__[1], one.__name__, one.__module__) == (Exception, "One", "here")
    assert (other.__mro__[1], other.__name__, other.__module__) == (KeyError, "Two", "there")
    assert kit.create_exception_cls("Three", "here", OSError).__mro__[1] is OSError
    assert kit.get_pickleable_etype(Local) is Exception
    assert kit.get_pickleable_etype(Plain) is Plain
    assert kit.find_pickleable_exception(Exception(1)) is None
    assert type(kit.find_pickleable_exception(KeyError(1))) is KeyError


# --- celery.local, celery.utils.functional


@both
def test_a_promise_is_kept(side: str) -> None:
    proxy, lazily = module("celery.local", side).PromiseProxy, module("celery.utils.functional", side).mlazy
    made: list[Any] = []

    def make(*items: int) -> list[int]:
        made.append(items)
        return list(items)

    promise, value = proxy(make, (1, 2)), lazily(make, 3)
    promise.__then__(made.append, "then")
    known = promise.__evaluated__(), value.evaluated
    found = [promise[0], len(promise), list(promise), promise + [3], 2 in promise]  # noqa: RUF005
    promise.append(7)
    after = promise.__then__(len, "abc")

    assert known == (False, False)
    assert found == [1, 2, [1, 2], [1, 2, 3], True]
    assert promise == [1, 2, 7] and promise.__evaluated__() and after == 3
    assert module("celery.local", side).maybe_evaluate(promise) == [1, 2, 7]
    assert value() is value.evaluate() and value.evaluated and str(value) == "[3]"
    assert made == [(1, 2), "then", (3,)]


@both
def test_a_promise_that_fails_is_made_again(side: str) -> None:
    calls: list[int] = []

    def make() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise LookupError
        return 5

    promise = module("celery.local", side).PromiseProxy(make)

    with pytest.raises(LookupError):
        int(promise)
    assert int(promise) == int(promise) == 5 and len(calls) == 2


# --- celery.utils.imports, celery.utils.log


@both
def test_a_module_is_imported_anew(side: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kit = module("celery.utils.imports", side)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    file = tmp_path / "reloaded_here.py"
    file.write_text("VALUE = 1\n")
    found = kit.import_from_cwd("reloaded_here")
    file.write_text("VALUE = 22\n")

    again = kit.reload_from_cwd(found)

    assert again is found and found.VALUE == 22
    assert kit.reload_from_cwd(
        json_like := types.ModuleType("x"), lambda m: (m, str(tmp_path) in sys.path)
    ) == (
        json_like,
        True,
    )
    del sys.modules["reloaded_here"]


@both
def test_in_a_handler_of_a_signal_nothing_is_logged(
    side: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    kit = module("celery.utils.log", side)
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    stream = kit.LoggingProxy(logging.getLogger("of-handlers"), "ERROR")

    with kit.in_sighandler():
        stream.write("within")
    kit.set_in_sighandler(True)
    stream.write("again")
    kit.set_in_sighandler(False)
    stream.write("after")

    assert capsys.readouterr().err.split()[:2] == ["within", "again"]
    assert caplog.messages == ["after"]


@both
def test_the_logger_of_billiard(side: str) -> None:
    kit, util = module("celery.utils.log", side), importlib.import_module("billiard.util")

    found = kit.get_multiprocessing_logger()
    kit.reset_multiprocessing_logger()

    assert found.name == util.LOGGER_NAME
    assert util._logger is None


# --- celery, celery.app


@pytest.mark.parametrize(
    ("words", "patched"),
    [
        (["celery", "worker", "-P", "gevent"], ["gevent"]),
        (["celery", "worker", "--pool=mine"], ["mine"]),
        (["celery", "worker", "--pool", "mine", "-c", "2"], ["mine"]),
        (["celery", "worker", "-P", "prefork"], []),
        (["celery", "worker"], []),
    ],
)
@pytest.mark.parametrize("patch", [celery.maybe_patch_concurrency, maybe_patch_concurrency])
def test_a_command_line_names_a_pool_that_needs_patches(
    patch: Any, words: list[str], patched: list[str]
) -> None:
    done: list[str] = []

    patch(words, patches={"gevent": lambda: done.append("gevent"), "mine": lambda: done.append("mine")})

    assert done == patched


@both
def test_old_modules_are_those_of_the_current_app(side: str) -> None:
    app = pair("app")[side == "qcore"]
    app.set_current()

    logs, messages = (module(f"celery.{name}", side) for name in ("log", "messaging"))

    assert logs.get_default_logger().name == app.log.get_default_logger().name
    assert messages.establish_connection("redis://h/3").hostname == "h"
    assert messages.TaskConsumer.__name__ == "TaskConsumer"
    set_current(None)


@both
def test_the_current_task_can_be_set(side: str) -> None:
    kit, task = module("celery.app", side), pair("Task")[side == "qcore"]
    current = module("celery._state", side).get_current_task

    kit.push_current_task(task)
    within = current()
    popped = kit.pop_current_task()

    assert within is popped is task
    assert current() is None and kit.pop_current_task() is None


def test_calls_without_an_app_are_traced(capsys: pytest.CaptureFixture[str]) -> None:
    kit = Ours("celery.app")
    before = current_or_none()
    app = Celery("x", broker="memory://")
    kit.enable_trace()
    try:
        assert kit.app_or_default() is app
        set_current(None)
        with pytest.raises(qcore.errors.ConfigError, match="without an app"):
            kit.app_or_default()
    finally:
        kit.disable_trace()
        set_current(before)
    printed = capsys.readouterr()

    assert "RETURNING TO CURRENT APP" in printed.out
    assert "test_calls_without_an_app_are_traced" in printed.err


class Camera(Polaroid):
    def on_shutter(self, state: Any) -> None:
        raise KeyboardInterrupt

    def on_cleanup(self) -> None:
        seen.append(self.freq)


seen: list[float] = []


def test_a_camera_runs_until_it_is_interrupted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = Celery("x", broker="memory://", set_as_current=False)
    app.log.already_setup = True  # the test's logging stays

    with pytest.raises(SystemExit):
        Ours("celery.events.snapshot").evcam(
            f"{__name__}:Camera", freq=0.01, app=app, pidfile=str(tmp_path / "pid")
        )

    assert "evcam: Taking snapshots" in capsys.readouterr().out
    assert seen == [0.01]
    assert not (tmp_path / "pid").exists()
