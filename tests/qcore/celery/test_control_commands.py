"""Control commands of a Celery project, written with celery.worker.control."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest

from qcore.celery import control_commands
from qcore.control.commands.base import _known
from qcore.control.commands.registry import find


def yes_or_no(text: str) -> bool:
    return text == "yes"


def defined(kit: Any) -> None:
    """The lines of a project."""

    @kit.inspect_command(help="Look at the shelf", alias="shelf_alias")
    def shelf(state: Any, **kwargs: Any) -> Any:
        return {"on": state.hostname, "app": state.app.main}

    @kit.control_command(args=[("n", int), ("fresh", yes_or_no)], signature="[N=1] [FRESH]")
    def refill_shelf(state: Any, n: int = 1, fresh: bool = False) -> Any:
        "Put n apples on the shelf."
        return {"ok": [n, fresh]}

    @kit.Panel.register
    def empty_shelf(state: Any) -> Any:
        return state.consumer


@pytest.fixture
def registered() -> Any:
    before = dict(_known)
    defined(control_commands)
    yield
    _known.clear()
    _known.update(before)


def test_the_commands_are_those_of_the_worker(registered: None) -> None:
    worker = SimpleNamespace(app=SimpleNamespace(main="x"), node="w1@a")
    shelf, refill, empty = find("shelf"), find("refill_shelf"), find("empty_shelf")

    assert (shelf.kind, shelf.summary, shelf.alias, shelf.scope) == (
        "inspect",
        "Look at the shelf",
        "shelf_alias",
        "read",
    )
    assert shelf.handler(worker, **shelf.checked({})) == {"on": "w1@a", "app": "x"}
    assert refill.arguments(["3", "yes"]) == {"n": 3, "fresh": "yes"}
    assert refill.handler(worker, **refill.checked({"n": "3", "fresh": "yes"})) == {"ok": [3, True]}
    assert refill.handler(worker, **refill.checked({})) == {"ok": [1, False]}
    assert empty.kind == "control"
    with pytest.raises(AttributeError, match="no consumer object"):
        empty.handler(worker)


def test_celery_registers_the_same() -> None:
    theirs = importlib.import_module("celery.worker.control")
    data, meta = dict(theirs.Panel.data), dict(theirs.Panel.meta)
    defined(theirs)
    info = theirs.Panel.meta["shelf"]

    assert (info.type, info.help, info.alias) == ("inspect", "Look at the shelf", "shelf_alias")
    assert theirs.Panel.meta["empty_shelf"].type == "control"
    theirs.Panel.data.clear()
    theirs.Panel.data.update(data)
    theirs.Panel.meta.clear()
    theirs.Panel.meta.update(meta)
