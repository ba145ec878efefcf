"""How a project starts: settings that are read late, base classes of tasks, discovery. The same lines run on
Celery, and are compared."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import types
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import celery
import pytest

from qcore import App, Task, shared_task
from qcore.celery.app import Celery as OurCelery
from qcore.errors import ConfigError, UnknownName
from tests.support.processes import ROOT, Processes

BOTH = pytest.mark.parametrize("kind", [App, celery.Celery], ids=["qcore", "celery"])


class LazySettings:
    """As Django's: no attribute of its own before the first look."""

    def __init__(self, **values: Any) -> None:
        object.__setattr__(self, "_hidden", values)

    def __getattr__(self, name: str) -> Any:
        try:
            return object.__getattribute__(self, "_hidden")[name]
        except KeyError:
            raise AttributeError(name) from None

    def __dir__(self) -> list[str]:
        return list(object.__getattribute__(self, "_hidden"))


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    made = types.ModuleType("late_settings")
    monkeypatch.setitem(sys.modules, "late_settings", made)
    return made


def app_of(kind: Any, **options: Any) -> Any:
    return kind("project", set_as_current=False, **options)


# --- settings


@BOTH
def test_lazy_settings_with_a_namespace_are_read(kind: Any, module: Any) -> None:
    module.settings = LazySettings(
        CELERY_TASK_DEFAULT_QUEUE="shop", CELERY_EMAIL_TASK_CONFIG={"a": 1}, DEBUG=True, SECRET_KEY="x"
    )
    app = app_of(kind)
    app.config_from_object("late_settings:settings", namespace="CELERY")

    assert app.conf.task_default_queue == "shop"
    assert app.conf.get("email_task_config") == {"a": 1}


@BOTH
def test_a_source_is_read_when_a_setting_is(kind: Any, module: Any) -> None:
    app = app_of(kind)
    app.config_from_object("late_settings")
    module.task_default_queue = "written later"

    assert app.conf.task_default_queue == "written later"


@BOTH
def test_what_was_set_by_name_first_wins(kind: Any) -> None:
    app = app_of(kind, broker="redis://keyword/0")
    app.conf.result_expires = 5
    app.config_from_object({"broker_url": "redis://object/0", "result_expires": 7, "task_default_queue": "o"})
    assert (app.conf.broker_url, app.conf.result_expires, app.conf.task_default_queue) == (
        "redis://keyword/0",
        5,
        "o",
    )

    app.conf.task_default_queue = "set since"
    app.config_from_object({"task_default_queue": "again"})
    assert app.conf.task_default_queue == "again"


@BOTH
def test_a_missing_module_is_an_error_when_it_is_read(kind: Any) -> None:
    app = app_of(kind)
    app.config_from_object("no.such.module")
    for _ in range(2):
        with pytest.raises((ConfigError, ImportError), match="no"):
            app.conf.task_default_queue  # noqa: B018
    quiet = app_of(kind)
    quiet.config_from_object("no.such.module", silent=True)
    assert quiet.conf.task_default_queue == "celery"


@BOTH
def test_other_names_are_kept_and_defaults_can_be_read(kind: Any) -> None:
    app = app_of(kind)
    app.conf.my_own = 5

    assert app.conf.my_own == 5
    assert app.conf.get("other", 3) == 3
    assert app.conf["CELERY_ALWAYS_EAGER"] is False
    assert app.conf.result_serializer == "json"
    assert app.conf.enable_utc is True
    assert "nothing" not in app.conf
    assert "broker_url" in app.conf
    with pytest.raises(KeyError if kind is celery.Celery else UnknownName):
        app.conf["nothing"]
    with pytest.raises(AttributeError):
        app.conf.nothing  # noqa: B018


def test_a_name_that_nobody_knows_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "qcore.settings"):
        for _ in range(2):
            app_of(App).config_from_object({"CELERY_ODD_ONE": 1}, namespace="CELERY")

    assert [r.getMessage() for r in caplog.records] == [
        "the setting 'odd_one' is none of qcore's or Celery's; it is kept for others, without effect"
    ]


@pytest.mark.parametrize("kind", [OurCelery, celery.Celery], ids=["qcore", "celery"])
def test_defaults_and_words_of_a_command_line(kind: Any) -> None:
    app = app_of(kind, changes={"task_default_queue": "changed"})
    app.add_defaults({"task_default_priority": 4, "task_default_queue": "default"})
    app.add_defaults(lambda: {"mine": 1})
    app.config_from_cmdline(["worker.concurrency=3", "task.default_exchange=cmd"])

    assert (app.conf.task_default_queue, app.conf.task_default_priority, app.conf.mine) == ("changed", 4, 1)
    assert (int(app.conf.worker_concurrency), app.conf.task_default_exchange) == (3, "cmd")
    assert "task_default_queue: 'changed'" in app.conf.humanize()
    app.conf.setdefault("new", 1)
    assert app.conf.first("new", "task_default_queue") == 1


@BOTH
def test_the_single_words_of_a_module_are_settings(kind: Any) -> None:
    app = app_of(kind)
    module = types.ModuleType("celeryconfig")
    vars(module).update(timezone="Europe/Oslo", imports=("json",), include=["colorsys"], json=json, tasks=1)
    app.config_from_object(module)

    assert (app.conf.timezone, tuple(app.conf.imports)) == ("Europe/Oslo", ("json",))
    assert tuple(app.conf.include) == ("colorsys",)


@BOTH
def test_the_namespace_of_an_app(kind: Any) -> None:
    app = app_of(kind, namespace="SHOP")
    app.config_from_object({"SHOP_TASK_DEFAULT_QUEUE": "q"})

    assert app.conf.task_default_queue == "q"


# --- discovery


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"found_{uuid.uuid4().hex}"
    for part in ("with_tasks", "without", "broken"):
        (tmp_path / name / part).mkdir(parents=True)
        (tmp_path / name / part / "__init__.py").write_text("")
    (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / name / "with_tasks" / "tasks.py").write_text("")
    (tmp_path / name / "broken" / "tasks.py").write_text("import not_there_at_all")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def imports(app: Any) -> None:
    app.import_modules() if isinstance(app, App) else app.loader.import_default_modules()


@BOTH
def test_discovery_takes_a_function_and_runs_late(kind: Any, packages: str) -> None:
    app = app_of(kind)
    app.autodiscover_tasks(lambda: [f"{packages}.with_tasks", f"{packages}.without"])
    assert f"{packages}.with_tasks.tasks" not in sys.modules

    imports(app)

    assert f"{packages}.with_tasks.tasks" in sys.modules


@BOTH
def test_forced_discovery_imports_at_once_and_shows_errors(kind: Any, packages: str) -> None:
    app = app_of(kind)
    app.autodiscover_tasks([f"{packages}.with_tasks"], force=True)
    assert f"{packages}.with_tasks.tasks" in sys.modules

    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        app.autodiscover_tasks([f"{packages}.broken"], force=True)


# --- base classes


def base_of(kind: Any) -> Any:
    parent = Task if kind is App else celery.Task

    class Scoped(parent):  # type: ignore[misc,valid-type]
        calls: ClassVar[list[Any]] = []

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            self.calls.append((args, self.request.id))
            return super().__call__(*args, **kwargs)

    return Scoped


@BOTH
def test_an_app_has_a_base_class_for_its_tasks(kind: Any) -> None:
    base = base_of(kind)
    app = app_of(kind, task_cls=base)

    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    class Other(app.Task):  # type: ignore[misc,name-defined]
        name = "other"

        def run(self) -> str:
            return "ran"

    other = app.register_task(Other())
    assert isinstance(add, app.Task)
    assert isinstance(add, base)
    assert isinstance(other, base)
    assert add(1, 2) == 3
    assert base.calls[-1] == ((1, 2), None)
    assert add.apply((3, 4), task_id="i").get() == 7
    assert base.calls[-1][0] == (3, 4)


@BOTH
def test_a_shared_task_is_a_task_with_the_apps_base(kind: Any) -> None:
    base = base_of(kind)
    app = kind("shared", task_cls=base)

    @(shared_task if kind is App else celery.shared_task)
    def twice(x: int) -> int:
        return 2 * x

    assert isinstance(twice, Task if kind is App else celery.Task)
    assert twice.apply((4,)).get() == 8
    assert base.calls[-1][0] == (4,)
    app.close()


def test_a_wrong_base_class_is_refused() -> None:
    app = app_of(App, task_cls=dict)

    with pytest.raises(ConfigError, match="task_cls is <class 'dict'>; it takes a subclass of Task"):
        app.task(lambda: None)


PROJECT = """
import os
import subprocess
import sys
from contextlib import contextmanager
from {package} import {cls}, Task

class Scoped(Task):
    def __call__(self, *args, **kwargs):
        self.scope = "open"
        try:
            return super().__call__(*args, **kwargs)
        finally:
            self.scope = "closed"

app = {cls}("scoped", broker="{url}", backend="{url}", task_cls="scoped_{cls}:Scoped")

@app.task(bind=True)
def inside(self, x):
    return [x, self.scope, self.request.id]

@app.task(bind=True, max_retries=2, autoretry_for=(ValueError,), default_retry_delay=0)
def again(self):
    if self.request.retries < 2:
        raise ValueError
    return [self.scope, self.request.retries]
"""


@pytest.mark.parametrize("cls", ["App", "Celery"])
def test_a_worker_calls_what_wraps_the_run(
    cls: str, redis_url: str, processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = "qcore" if cls == "App" else "celery"
    (tmp_path / f"scoped_{cls}.py").write_text(PROJECT.format(package=package, cls=cls, url=redis_url))
    environment = {"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}
    if cls == "App":
        worker = processes.qctl("-A", f"scoped_{cls}", "worker", "-c", "1", env=environment)
    else:
        worker = processes.celery("-A", f"scoped_{cls}", "worker", "-c", "1", "-l", "INFO", env=environment)
    worker.wait_output(r"\bready\b")
    client = App("client", broker=redis_url, set_as_current=False)

    found = client.send_task(f"scoped_{cls}.inside", (5,))
    assert found.get(timeout=60) == [5, "open", found.id]
    assert client.send_task(f"scoped_{cls}.again").get(timeout=60) == ["open", 2]
    client.close()


FIRST_CALL = """
import sys
import qcore
own = lambda: sum(name.partition(".")[0] == "qcore" for name in sys.modules)
imported = own()
app = qcore.App("first", broker=sys.argv[1])

@app.task(name="first.noop")
def noop(): ...

noop.delay()
print(imported, own(), *sys.modules)
"""


def test_a_first_call_loads_few_modules(tmp_path: Path) -> None:
    """A process that only sends pays for what it loads at each start; a module more is to be noticed."""
    words = [sys.executable, "-c", FIRST_CALL, f"sqlite:///{tmp_path}/q.db"]

    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})

    imported, after, *names = done.stdout.split()
    assert int(imported) <= 3 and int(after) <= 98, done
    assert {*names} & {
        "asyncio",
        "click",
        "http",
        "kombu",
        "redis",
        "rich",
        "ssl",
        "tempfile",
        "textual",
    } == set()
