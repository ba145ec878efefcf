"""on_ready, throw(), barriers and graphs of results: the same lines on Celery's and on ours."""

from __future__ import annotations

import io
import sys
import types
import uuid
from typing import Any

import celery
import celery.result
import celery.utils.graph
import pytest
import vine

from qcore.celery.app import Celery

each = pytest.mark.parametrize("make", [celery.Celery, Celery])


def app_of(make: Any) -> Any:
    return make("x", broker="memory://", backend="cache+memory://", set_as_current=False)


def ended(app: Any, value: Any = 3) -> Any:
    """A result whose final state was stored, and not read yet."""
    task_id = str(uuid.uuid4())
    app.backend.store_result(task_id, value, "SUCCESS")
    return app.AsyncResult(task_id)


@each
def test_a_promise_is_fulfilled_when_the_result_is_read(make: Any) -> None:
    result, seen = ended(app_of(make)), []
    result.then(lambda r: seen.append(("first", r.result)))
    result.on_ready.then(lambda r: seen.append(("second", r.result)))
    result.then(lambda r: seen.append(("third", r.result)))
    before = list(seen), result.on_ready.ready

    assert result.get(timeout=5) == 3
    result.then(lambda r: seen.append(("late", r.result)))

    assert before == ([], False) and result.on_ready.ready
    assert seen == [("first", 3), ("second", 3), ("third", 3), ("late", 3)]


@each
def test_a_promise_that_is_made_to_fail(make: Any) -> None:
    result, errors, seen = app_of(make).AsyncResult("an-id"), [], []
    result.then(seen.append, errors.append)
    error = KeyError("x")

    with pytest.raises(KeyError):
        result.throw(error)

    assert (seen, errors, result.on_ready.failed) == ([], [error], True)


class RemoteTraceback:
    """A stand-in for tblib.Traceback: a real traceback, of a function that is named in the text."""

    def __init__(self, text: str) -> None:
        self._name = text.split()[-1]

    from_string = classmethod(lambda cls, text: cls(text))

    def as_traceback(self) -> Any:
        found: dict[str, Any] = {}
        exec(f"def {self._name}(): raise ValueError", found)
        try:
            found[self._name]()
        except ValueError as exc:
            assert exc.__traceback__ is not None
            return exc.__traceback__.tb_next


@each
@pytest.mark.parametrize("is_asked", [True, False])
def test_a_remote_traceback_is_that_of_the_exception(
    make: Any, is_asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    library: Any = types.ModuleType("tblib")
    library.Traceback = RemoteTraceback
    monkeypatch.setitem(sys.modules, "tblib", library)
    monkeypatch.setattr(celery.result, "tblib", library)
    app, task_id = app_of(make), str(uuid.uuid4())
    app.conf.task_remote_tracebacks = is_asked
    app.backend.store_result(task_id, KeyError("k"), "FAILURE", traceback="in far_away")

    for read in (lambda r: r.get(timeout=5), lambda r: r.maybe_throw()):
        with pytest.raises(KeyError) as caught:
            read(app.AsyncResult(task_id))

        assert (caught.traceback[-1].name == "far_away") == is_asked
        assert not hasattr(caught.value, "__notes__")


@each
def test_an_eager_result_is_ready_at_once(make: Any) -> None:
    app, seen = app_of(make), []
    result = app.task(name="x.add")(add).apply((1, 2))
    result.then(lambda r: seen.append(r.get()))

    assert result.on_ready.ready
    assert seen == [3]
    assert result.supports_native_join is False


def add(x: int, y: int) -> int:
    return x + y


@each
def test_the_promise_of_a_set(make: Any) -> None:
    app, seen = app_of(make), []
    results = app.ResultSet([ended(app, n) for n in (1, 2)])
    results.on_ready.then(lambda r: seen.append(r.get()))

    assert seen == []
    assert results.get(timeout=5) == [1, 2]
    # Celery calls what waits for a set only where its backend is told of results
    assert seen == [[1, 2]] or not app.backend.is_async


@each
def test_a_set_with_a_barrier_of_its_own(make: Any) -> None:
    app, seen, ends = app_of(make), [], vine.barrier()
    one, other = ended(app, 1), vine.promise()
    ends.add(other)
    results = app.ResultSet([one], ready_barrier=ends)
    results.then(lambda r: seen.append(len(r)))
    ends.finalize()
    results.get(timeout=5)
    before = list(seen)
    other()

    assert before == [] and ends.ready and (seen == [1] or not app.backend.is_async)


@each
def test_a_graph_is_drawn_with_the_given_formatter(make: Any) -> None:
    class Formatter(celery.utils.graph.GraphFormatter):  # type: ignore[misc]  # kombu has no types
        def label(self, obj: Any) -> str:
            return "none" if obj is None else f"task {obj.id}"

    task = app_of(make).task(name="x.add")(add)
    result = task.apply((1, 2), task_id="an-id")
    given, own = io.StringIO(), io.StringIO()

    result.build_graph(formatter=Formatter(shape="star")).to_dot(given)
    result.build_graph().to_dot(own, formatter=Formatter(shape="star"))

    assert given.getvalue() == own.getvalue()
    assert '"task an-id" [shape="star"' in given.getvalue()
    assert given.getvalue().startswith("digraph dependencies {") and given.getvalue().endswith("}\n")
