"""What a stored result or a body may make the reader do: nothing but become data."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import types
from typing import Any

import pytest

from qcore import App, shared_task
from qcore.control.requests import Inspect
from qcore.errors import Malformed, RemoteError, TaskRevokedError, WorkerLostError
from qcore.wire import content
from qcore.wire.result import exception_from
from tests.support.processes import ROOT

YAML = frozenset(("yaml",))
LAUGHS = "\n".join(["a0: &a0 [x]", *(f"a{i}: &a{i} [{f'*a{i - 1},' * 9}]" for i in range(1, 30))])


class Plain(Exception):
    called = False

    def __init__(self, *arguments: Any) -> None:
        Plain.called = True


class Asking(Exception):
    rebuilt_from_result = True


class AskingMore(Asking):
    pass


class Ends(SystemExit):
    rebuilt_from_result = True


def said(kind: str, module: str, *arguments: Any) -> dict[str, Any]:
    return {"exc_type": kind, "exc_module": module, "exc_message": list(arguments)}


def test_a_class_is_found_and_its_constructor_called_only_when_it_asks_for_that() -> None:
    expected: dict[tuple[str, str], type] = {
        ("Plain", __name__): Plain,
        ("Asking", __name__): Asking,
        ("AskingMore", __name__): AskingMore,
        ("Ends", __name__): WorkerLostError,
        ("ValueError", "builtins"): ValueError,
        ("SystemExit", "builtins"): WorkerLostError,
        ("KeyboardInterrupt", "builtins"): WorkerLostError,
        ("GeneratorExit", "builtins"): WorkerLostError,
        ("print", "builtins"): RemoteError,
        ("object", "builtins"): RemoteError,
        ("Popen", "subprocess"): RemoteError,
        ("TaskRevokedError", "celery.exceptions"): TaskRevokedError,
        ("QcoreError", "qcore.errors"): exception_from(said("QcoreError", "qcore.errors")).__class__,
    }

    found = {key: exception_from(said(*key, "a")) for key in expected}

    assert [key for key, kind in expected.items() if not isinstance(found[key], kind)] == []
    assert {type(one).__name__ for one in found.values()} == {kind.__name__ for kind in expected.values()}
    assert not Plain.called
    assert exception_from(said("Asking", __name__, 1, "b")).args == (1, "b")


def test_no_getattr_of_a_module_or_a_metaclass_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Meta(type):
        def __getattr__(cls, name: str) -> Any:
            asked.append(name)
            return True

    module = types.ModuleType("lazy_module")
    vars(module)["__getattr__"] = asked.append
    vars(module)["Sly"] = Meta("Sly", (Exception,), {})
    monkeypatch.setitem(sys.modules, "lazy_module", module)

    found = [exception_from(said(name, "lazy_module")) for name in ("Anything", "Sly", "__path__")]

    assert [type(f) for f in found] == [RemoteError] * 3
    assert not asked


def test_get_of_a_task_that_left_the_process_raises_an_ordinary_exception() -> None:
    app = App("left", broker="memory://left", set_as_current=False)
    app.store_state("t", "FAILURE", said("SystemExit", "builtins", 3))

    with pytest.raises(WorkerLostError, match="SystemExit"):
        app.AsyncResult("t").get(timeout=5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 2500 + "]" * 2500, ""),
        ("[\n" * 2500 + "]" * 2500, "too_deep"),
        ("- " * 2500 + "a", "too_deep"),
        ("{a: " * 1000 + "1" + "}" * 1000, "too_deep"),
        (
            "\n".join(["a0: &a0 [x]", *(f"a{i}: &a{i} [{f'*a{i - 1},' * 9}]" for i in range(1, 30))]),
            "too_large",
        ),
        ("&a [*a]", "not_yaml"),
        ("!!python/object/apply:os.getcwd []", "not_yaml"),
    ],
)
def test_costly_yaml_is_given_up_before_it_is_built(text: str, reason: str) -> None:
    began = time.process_time()
    with pytest.raises(Malformed) as raised:
        content.loads(text.encode(), "application/x-yaml", YAML)

    assert reason in raised.value.reason
    assert time.process_time() - began < 0.5  # of this process's own time: no load of others counts


def test_ordinary_yaml_with_aliases_is_read() -> None:
    text = content.dumps([[1, "a"], {"k": {"x": [None, True]}}, {}], "yaml")[2]

    assert content.loads(text, "application/x-yaml", YAML) == [[1, "a"], {"k": {"x": [None, True]}}, {}]
    assert content.loads(b"- &a [1, 2]\n- *a\n- *a", "application/x-yaml", YAML) == [[1, 2]] * 3


# --- the app that reads it


def test_hasattr_of_inspect_and_of_a_shared_task_says_no() -> None:
    app = App("asker", broker="memory://hasattr")
    inspect = app.control.inspect()

    @shared_task(name="untrusted.shared")
    def shared() -> int:
        return 3

    assert isinstance(inspect, Inspect)
    assert hasattr(inspect, "active") and not hasattr(inspect, "no_such_thing")
    assert hasattr(shared, "delay") and not hasattr(shared, "no_such_thing")
    with pytest.raises(AttributeError, match="no_such_thing"):
        inspect.no_such_thing()


@pytest.mark.parametrize("main", ["'proj'", "None"])
def test_a_shared_task_of_a_script_is_found(main: str) -> None:
    script = f"""
from qcore import App, shared_task
@shared_task
def early(): return 1
app = App({main}, broker="memory://script")
@shared_task
def late(): return 2
print(early.name, early(), late.name, late(), hasattr(early, "nothing"), repr(early))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )

    name = main.strip("'") if main != "None" else "__main__"
    assert ran.stdout.split("<")[0].split() == [f"{name}.early", "1", f"{name}.late", "2", "False"], (
        ran.stderr
    )


def test_no_two_threads_get_the_same_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    app = App("clock", broker="memory://clock", set_as_current=False)
    found: list[list[int]] = [[] for _ in range(4)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [
            threading.Thread(target=lambda mine=mine: mine.extend(app.tick_clock() for _ in range(20_000)))
            for mine in found
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)

    every = [value for mine in found for value in mine]
    assert len(set(every)) == len(every)


def test_tasks_are_looked_through_once_and_late_ones_are_attached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Access must not cost more with many tasks: what was attached is not looked at again."""
    app = App("many", broker="memory://many", set_as_current=False, task_ignore_result=True)
    for number in range(50):
        app.task(name=f"many.t{number}")(lambda: None)
    assert all(t.ignore_result for t in app.tasks.values() if t.name.startswith("many."))

    walks: list[None] = []
    monkeypatch.setattr(type(app.tasks), "values", lambda tasks: walks.append(None))
    app.task(name="many.late")(lambda: None)

    assert app.tasks["many.late"].ignore_result
    assert not walks
