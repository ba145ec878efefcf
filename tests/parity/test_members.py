"""Members of Celery's objects whose values differ from run to run, or that only a call can show."""

from __future__ import annotations

import importlib
import threading
from typing import Any

import celery
import celery.exceptions
import pytest

import qcore.errors
from qcore.app.sources import imported
from qcore.celery.app import Celery, place_of
from tests.parity.reference import pair


@pytest.mark.parametrize("side", [0, 1])
def test_ids_of_an_app(side: int) -> None:
    app = pair("app")[side]
    elsewhere: list[str] = []
    thread = threading.Thread(target=lambda: elsewhere.append(app.thread_oid))
    thread.start()
    thread.join()

    assert app.oid == app.oid
    assert app.thread_oid == app.thread_oid
    assert elsewhere[0] != app.thread_oid


@pytest.mark.parametrize("kind", ["Signature", "chain", "group", "chord", "chunks", "xmap", "xstarmap"])
def test_the_task_of_a_signature(kind: str) -> None:
    theirs, ours = pair(kind)

    assert ours.type.name == theirs.type.name
    assert ours.task == theirs.task
    assert ours.root_id is None
    assert ours.parent_id is None


@pytest.mark.parametrize("side", [0, 1])
def test_entries_of_a_signature_can_be_set(side: int) -> None:
    sig = pair("Signature")[side].clone()
    sig.task, sig.args, sig.kwargs, sig.immutable = "other", (1,), {"y": 2}, True
    sig.append_to_list_option("link", "a")
    sig.append_to_list_option("link", "a")
    sig.extend_list_option("link", ["b", "c"])
    sig.root_id, sig.parent_id = "r", "p"

    assert (sig["task"], tuple(sig["args"]), sig["kwargs"], sig["immutable"]) == (
        "other",
        (1,),
        {"y": 2},
        True,
    )
    assert sig.options["link"] == ["a", "b", "c"]
    assert (sig.options["root_id"], sig.options["parent_id"]) == ("r", "p")


@pytest.mark.parametrize("side", [0, 1])
def test_a_project_registers_a_kind_of_signature(side: int) -> None:
    base = type(pair("Signature")[side])

    @base.register_type("mine")
    class Mine(base):  # type: ignore[misc, valid-type]  # one of two classes
        @classmethod
        def from_dict(cls, d: dict[str, Any], app: Any = None) -> Any:
            return cls(d["task"], app=app)

    found = base.from_dict({"task": "x", "args": (), "kwargs": {}, "options": {}, "subtask_type": "mine"})

    assert type(found) is Mine
    del base.TYPES["mine"]


@pytest.mark.parametrize("side", [0, 1])
def test_an_eager_result_is_revoked_in_place(side: int) -> None:
    task = pair("Task")[side]
    revoked = (celery.exceptions.TaskRevokedError, qcore.errors.TaskRevokedError)[side]
    result = task.apply((1,))
    result.revoke()

    assert (result.state, task.apply((1,)).name) == ("REVOKED", "x.add")
    with pytest.raises(revoked):
        result.get(disable_sync_subtasks=False)


@pytest.mark.parametrize("side", [0, 1])
def test_a_checker_of_arguments(side: int) -> None:
    app = pair("app")[side]

    def three(a: int, b: int = 2, *, c: int = 3) -> None: ...
    def method(self: Any, a: int) -> None: ...

    check, bound = app.type_checker(three), app.type_checker(method, bound=True)

    check(1)
    check(1, 2, c=4)
    bound(1)
    for call in (lambda: check(), lambda: check(1, 2, 3), lambda: bound(1, 2)):
        with pytest.raises(TypeError):
            call()


@pytest.mark.parametrize("side", [0, 1])
def test_the_clock_of_an_app(side: int) -> None:
    clock = pair("app")[side].clock
    before = clock.value

    assert clock.forward() == before + 1
    assert clock.adjust(before + 100) == before + 101
    assert clock.value == before + 101


def test_a_subclass_is_told_that_it_was_made() -> None:
    class Mine(Celery):
        def on_init(self) -> None:
            made.append(self.main)

    made: list[Any] = []
    Mine("mine", set_as_current=False)

    assert made == ["mine"]


@pytest.mark.parametrize("side", [0, 1])
def test_a_method_of_a_task_is_wrapped_once(side: int) -> None:
    class Mine(type(pair("Task")[side])):  # type: ignore[misc]  # one of two classes
        name = "mine"

        def run(self) -> int:
            return 1

    for added in (10, 20):
        Mine.add_around("run", lambda run, added=added: lambda self: run(self) + added)

    assert Mine().run() == 21


@pytest.mark.parametrize("side", [0, 1])
def test_options_of_a_request(side: int) -> None:
    request = type(pair("Context")[side])()
    facts = {
        "id": "i",
        "timelimit": (9, 4),
        "stamps": {"a": 1, "b": 2},
        "stamped_headers": ["a"],
        "retries": 2,
    }
    request.update(facts)
    options = {name: value for name, value in request.as_execution_options().items() if value is not None}
    request.clear()

    assert options == {
        "task_id": "i",
        "time_limit": 9,
        "soft_time_limit": 4,
        "headers": {},
        "retries": 2,
        "replaced_task_nesting": 0,
        "stamped_headers": ["a"],
        "a": 1,
    }
    assert request.id is None
    assert request.get("id", "none") is None


class Part:
    """Stands for a part of an app."""

    def __init__(self, app: Any) -> None:
        self.app = app


@pytest.mark.parametrize("name", ["amqp", "control", "events", "loader", "log"])
@pytest.mark.parametrize("make", [Celery, celery.Celery])
def test_classes_of_parts_are_replaced(make: Any, name: str) -> None:
    class Mine(make):  # type: ignore[misc]  # one of two classes
        pass

    setattr(Mine, f"{name}_cls", Part)
    of_class = Mine("x", set_as_current=False)
    given: dict[str, Any] = {name: "tests.parity.test_members:Part"}
    of_keyword = make("x", set_as_current=False, **given)

    for app in (of_class, of_keyword):
        part = getattr(app, name)
        assert type(part) is Part
        assert part.app is app
        assert getattr(app, name) is part


@pytest.mark.parametrize("side", [0, 1])
def test_classes_of_events_are_replaced(side: int) -> None:
    theirs = ("receiver:EventReceiver", "dispatcher:EventDispatcher", "state:State")
    kinds = [
        _import(f"celery.events.{name}") if side == 0 else imported(place_of(f"celery.events.{name}"))
        for name in theirs
    ]
    receiver, dispatcher, state = (type("Mine", (kind,), {}) for kind in kinds)
    base = type(pair("app.events")[side])

    class Mine(base):  # type: ignore[misc, valid-type]  # one of two classes
        receiver_cls, dispatcher_cls, state_cls = receiver, dispatcher, state

    events = Mine(pair("app")[side])

    assert isinstance(events.State(max_tasks_in_memory=3), state)
    assert isinstance(events.Dispatcher(None, enabled=False), dispatcher)
    if side == 1:  # Celery's opens a connection
        assert isinstance(events.Receiver(None, handlers={}), receiver)


def _import(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("make", [Celery, celery.Celery])
def test_annotations_of_a_task(make: Any) -> None:
    def add(x: int) -> int:
        return x

    class Base(make("x", set_as_current=False).Task):  # type: ignore[misc]  # one of two classes
        def greet(self) -> str:
            return "own"

    app = make("x", broker="memory://", set_as_current=False)
    app.conf.task_annotations = {
        "annotated.add": {
            "rate_limit": "3/m",
            "@greet": lambda method: lambda self: f"around {method(self)}",
        }
    }
    app.task(name="annotated.add", base=Base)(add)
    task = app.tasks["annotated.add"]
    before = task.rate_limit, task.greet()
    app.conf.task_annotations = {"*": {"rate_limit": "9/m"}}
    vars(app).pop("annotations", None)
    task.annotate()

    assert before == ("3/m", "around own")
    assert task.rate_limit == "9/m"


@pytest.mark.parametrize("side", [0, 1])
def test_the_stack_of_requests_of_a_task(side: int) -> None:
    task, context = pair("Task")[side], type(pair("Context")[side])
    stack = task.request_stack
    before = stack.top, len(stack), stack.pop()
    with pytest.raises(RuntimeError):
        stack().id  # noqa: B018  Celery's raises when it is read

    stack.push(context(id="a"))
    stack.push(context(id="b"))
    within = stack.top.id, task.request.id, stack().id, [r.id for r in stack.stack], len(stack)
    ended = stack.pop().id, stack.top.id, stack.pop().id

    assert before == (None, 0, None)
    assert within == ("b", "b", "b", ["a", "b"], 2)
    assert ended == ("b", "a", "a")
    assert stack.top is None
