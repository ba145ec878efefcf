"""Periodic tasks that the code adds: `beat_schedule`, add_periodic_task() and the handlers that call it. The
same lines run on Celery's class and on ours."""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Callable
from typing import Any

import celery
import celery.schedules
import pytest

import qcore
import qcore.celery.app
import qcore.schedules

KINDS = {
    "qcore": (qcore.celery.app.Celery, qcore, qcore.schedules.crontab),
    "celery": (celery.Celery, celery, celery.schedules.crontab),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def make_app(kind: str, **options: Any) -> Any:
    return KINDS[kind][0]("project", broker="memory://", set_as_current=False, **options)


def tasks_of(app: Any) -> tuple[Any, Any]:
    @app.task(name="t.add", shared=False)
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="t.note", shared=False, queue="notes")
    def note(*args: Any, **kwargs: Any) -> None: ...

    return add, note


def entries(app: Any) -> dict[str, Any]:
    """What beat would read, in comparable form."""
    return {
        name: {
            **entry,
            "schedule": repr(entry["schedule"]),
            "args": list(entry.get("args") or ()),
            "kwargs": dict(entry.get("kwargs") or {}),
            "options": dict(entry.get("options") or {}),
        }
        for name, entry in (app.conf.beat_schedule or {}).items()
    }


def crons(kind: str) -> Any:
    return KINDS[kind][2]


Adding = Callable[[str, Any, Any, Any], Any]
#: each gets the kind, the app and its two tasks, and returns the name of the entry
TABLE: dict[str, Adding] = {
    "a signature": lambda kind, app, add, note: app.add_periodic_task(10.0, add.s(1, 2)),
    "a name": lambda kind, app, add, note: app.add_periodic_task(10.0, add.s(1, 2), name="sum"),
    "a task": lambda kind, app, add, note: app.add_periodic_task(10.0, note),
    "a task with arguments": lambda kind, app, add, note: app.add_periodic_task(10, add, (1, 2)),
    "keywords": lambda kind, app, add, note: app.add_periodic_task(10, add, kwargs={"x": 1, "y": 2}),
    "more arguments": lambda kind, app, add, note: app.add_periodic_task(10, note.s(2, b=1), (1,), {"c": 3}),
    "none": lambda kind, app, add, note: app.add_periodic_task(10, note.s(2, b=1), (), None),
    "immutable": lambda kind, app, add, note: app.add_periodic_task(10, note.si(2), (1,), {"c": 3}),
    "options": lambda kind, app, add, note: app.add_periodic_task(10, note.s(), queue="q", expires=60),
    "options of the signature": lambda kind, app, add, note: app.add_periodic_task(
        10, note.s().set(queue="a", priority=3), queue="b"
    ),
    "a signature by name": lambda kind, app, add, note: app.add_periodic_task(
        10, app.signature("t.elsewhere", args=("é", None), kwargs={"k": [1]})
    ),
    "a crontab": lambda kind, app, add, note: app.add_periodic_task(
        crons(kind)(hour=7, minute=30, day_of_week="mon"), note.s("Happy Mondays!")
    ),
    "a chain": lambda kind, app, add, note: app.add_periodic_task(10, add.s(1, 2) | note.s(), name="c"),
    "a group": lambda kind, app, add, note: app.add_periodic_task(
        10, KINDS[kind][1].group(add.s(1, 2), add.s(3, 4)), name="g"
    ),
    "a chord": lambda kind, app, add, note: app.add_periodic_task(
        10, KINDS[kind][1].chord([add.s(1, 2)], note.s()), name="h"
    ),
}


@pytest.mark.parametrize("is_configured", [False, True])
@pytest.mark.parametrize("adding", TABLE)
def test_entries_are_those_of_celery(adding: str, is_configured: bool) -> None:
    found = {}
    for kind in KINDS:
        app = make_app(kind)
        add, note = tasks_of(app)
        if is_configured:
            assert app.conf.timezone is None or app.conf.timezone
        name = TABLE[adding](kind, app, add, note)
        found[kind] = name, entries(app)
        assert list(found[kind][1]) == [name]

    mine, theirs = found["qcore"], found["celery"]
    if adding in ("a chain", "a group", "a chord"):
        for one in (mine, theirs):
            (entry,) = one[1].values()
            inner = entry["kwargs"].pop("tasks", None) or entry["kwargs"].pop("header")
            entry["inner"] = [s["task"] for s in (inner if isinstance(inner, list | tuple) else inner.tasks)]
            body = entry["kwargs"].pop("body", None)
            entry["body"] = body and body["task"]
            entry.pop("kwargs"), entry.pop("options")
    assert mine == theirs


def test_what_was_added_early_is_beside_what_the_settings_have(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("periodic_settings")
    module.beat_schedule = {"of the settings": {"task": "t.add", "schedule": 5}}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "periodic_settings", module)
    app = make_app(kind)
    app.config_from_object("periodic_settings")
    _, note = tasks_of(app)

    app.add_periodic_task(10.0, app.signature("t.add", args=(1, 2)), name="early")
    assert app.conf.beat_schedule
    app.add_periodic_task(10.0, note.s(), name="late")

    assert sorted(entries(app)) == ["early", "late", "of the settings"]


def test_handlers_add_entries(kind: str) -> None:
    app = make_app(kind)
    add, note = tasks_of(app)
    order: list[str] = []

    def on_configure(sender: Any, **kwargs: Any) -> None:
        order.append("configure")
        sender.add_periodic_task(10.0, add.s(1, 2), name="configured")

    def on_finalize(sender: Any, **kwargs: Any) -> None:
        order.append("finalize")
        sender.add_periodic_task(20.0, note.s(), name="finalized")

    app.on_after_configure.connect(on_configure)
    app.on_after_finalize.connect(on_finalize)

    app.finalize()
    found = entries(app)

    assert sorted(found) == ["configured", "finalized"] and sorted(order) == ["configure", "finalize"]


def test_the_second_of_two_without_names_replaces_the_first_and_is_logged(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(kind)
    add, _ = tasks_of(app)
    assert app.conf.timezone is None or app.conf.timezone

    with caplog.at_level(logging.WARNING):
        for every in (10.0, 20.0):
            app.add_periodic_task(every, add.s(1, 2))
        before = len(caplog.records)
        for every in (10.0, 20.0):
            app.add_periodic_task(every, add.s(1, 2), name="named")

    assert (before, len(caplog.records)) == (1, 1)
    assert "t.add(1, 2)" in caplog.text
    assert {name: entry["schedule"] for name, entry in entries(app).items()} == {
        "t.add(1, 2)": "20.0",
        "named": "20.0",
    }


def test_entries_may_be_put_into_the_setting_itself(kind: str) -> None:
    one, other = make_app(kind), make_app(kind)

    one.conf.beat_schedule["direct"] = {"task": "t.add", "schedule": 5}
    one.conf.beat_schedule.update({"more": {"task": "t.add", "schedule": 6}})
    one.add_periodic_task(10.0, one.signature("t.add"), name="added")

    assert list(entries(one)) == ["direct", "more", "added"]
    assert one.conf["beat_schedule"] is one.conf.beat_schedule
    assert entries(other) == {} and entries(make_app(kind)) == {}


def test_a_misspelt_option_is_an_error() -> None:
    app = make_app("qcore")
    add, _ = tasks_of(app)

    with pytest.raises(TypeError, match="countdown"):
        app.add_periodic_task(10.0, add.s(1, 2), countdwn=5)


def test_what_is_no_task_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"add_periodic_task\(\) takes a task or a signature, not 't.add'"):
        make_app("qcore").add_periodic_task(10.0, "t.add")


def test_the_entries_of_one_app_are_not_those_of_another(kind: str) -> None:
    one, other = make_app(kind), make_app(kind)
    add, _ = tasks_of(one)

    one.add_periodic_task(10.0, add.s(1, 2))

    assert list(entries(one)) == ["t.add(1, 2)"] and entries(other) == {}
