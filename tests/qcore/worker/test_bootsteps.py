"""Steps: their order, what they get, their timer. Celery's own bootsteps are asked the same."""

from __future__ import annotations

import importlib
import threading
from types import SimpleNamespace
from typing import Any

import celery.bootsteps as theirs
import pytest

from qcore.celery.app import Celery
from qcore.errors import ConfigError
from qcore.worker.services import bootsteps as ours
from qcore.worker.services import foreign_messages
from qcore.worker.services.step_timer import Timer
from qcore.worker.services.steps import Steps
from tests.support.waiting import wait_for

KINDS = [theirs, ours]


class Parent:
    def __init__(self) -> None:
        self.steps: list[Any] = []


def steps(kind: Any, calls: list[Any]) -> dict[str, Any]:
    """Three steps, each after the one before it; a fourth that is off; a fifth that comes last."""

    class Base(kind.StartStopStep):  # type: ignore[name-defined]
        def __init__(self, parent: Any, **options: Any) -> None:
            calls.append((self.alias, "made", options))

        def start(self, parent: Any) -> None:
            calls.append((self.alias, "start"))

        def stop(self, parent: Any) -> None:
            calls.append((self.alias, "stop"))

        def info(self, parent: Any) -> Any:
            return {self.alias: True}

    class One(Base):
        label = "one"

    class Two(Base):
        requires = (One,)

    class Three(Base):
        name = "the.third"
        requires = (Two,)

    class Off(Base):
        requires = (Three,)
        enabled = False

    class End(Base):
        last = True

    return {"one": One, "two": Two, "three": Three, "off": Off, "end": End}


@pytest.mark.parametrize("kind", KINDS)
def test_a_blueprint_makes_starts_and_stops_in_order(kind: Any) -> None:
    calls: list[Any] = []
    made = steps(kind, calls)
    parent, ended = Parent(), []
    blueprint = kind.Blueprint(
        [made["three"], made["off"], made["end"]], "Print", on_stopped=lambda: ended.append("ended")
    )

    blueprint.apply(parent, colour="red")
    before = blueprint.human_state()
    blueprint.start(parent)
    running = blueprint.human_state()
    blueprint.stop(parent)

    # A required step takes part without being added; Celery's order may differ only before the last one.
    assert calls[:3] == [(name, "made", {"colour": "red"}) for name in ("one", "Two", "third")]
    assert [call for call in calls if call[1] != "made"] == [
        *((name, "start") for name in ("one", "Two", "third", "End")),
        *((name, "stop") for name in ("End", "third", "Two", "one")),
    ]
    assert blueprint.info(parent) == dict.fromkeys(("one", "Two", "third", "End"), True)
    assert (before, running, blueprint.human_state()) == ("initializing", "running", "terminating")
    assert blueprint["the.third"].alias == "third"
    assert ended == ["ended"]


def test_steps_that_require_each_other_are_refused() -> None:
    class Left(ours.Step):
        pass

    class Right(ours.Step):
        requires = (Left,)

    Left.requires = (Right,)

    with pytest.raises(ConfigError, match="require each other: change their `requires`"):
        ours.Blueprint([Left]).ordered()


@pytest.mark.parametrize(
    ("step", "words"),
    [("nowhere:Step", "'nowhere:Step' cannot be loaded"), (int, "is no step; derive it from")],
)
def test_what_is_no_step_is_refused(step: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ours.Blueprint([step]).ordered()


@pytest.mark.parametrize("place", sorted(ours.celerys()))
def test_celerys_steps_may_be_required_by_the_places_that_celery_has(place: str) -> None:
    class Mine(ours.Step):
        requires = (place,)

    assert ours.Blueprint([Mine]).ordered() == [Mine]
    module, _, name = place.partition(":")
    assert hasattr(importlib.import_module(module), name)


class FakeWorker:
    """What Steps reads of a worker before it runs."""

    def __init__(self) -> None:
        self.app, self.node = Celery("steps", broker="memory://steps", set_as_current=False), "w@steps"
        self.loop = SimpleNamespace(was_cold=False)


def test_what_a_step_cannot_have_is_said() -> None:
    service = Steps(FakeWorker(), {"colour": "red"})

    assert service.parent.options == {"colour": "red"}
    assert service.consumer.controller is service.parent
    with pytest.raises(
        AttributeError, match=r"the worker that steps get has no 'semaphore'.*it has app, .*timer"
    ):
        _ = service.parent.semaphore
    with pytest.raises(AttributeError, match="the consumer that steps get has no 'task_buckets'"):
        _ = service.consumer.task_buckets
    with pytest.raises(ConfigError, match=r"uses 'stats' before the worker has started; use it in start\(\)"):
        service.parent.stats()


@pytest.fixture
def timer() -> Any:
    made = Timer()
    yield made
    made.stop()


def test_a_timer_calls_in_the_order_of_times_and_priorities(timer: Timer) -> None:
    found: list[str] = []
    held = threading.Event()
    timer.call_after(0, held.wait)  # the rest is due when this ends

    timer.call_after(0.03, found.append, ("later",))
    timer.call_after(0.01, found.append, ("sooner",))
    dropped = timer.call_after(0.02, found.append, ("dropped",))
    timer.cancel(dropped)
    held.set()
    wait_for(lambda: "later" in found)

    assert found == ["sooner", "later"]
    assert dropped.cancelled


def test_an_error_of_a_timers_function_is_logged_and_it_is_called_again(
    timer: Timer, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def fails(word: str, more: int = 0) -> None:
        calls.append(more)
        raise ValueError(word)

    entry = timer.call_repeatedly(0.01, fails, ("as it should",), {"more": 3})
    wait_for(lambda: len(calls) > 2)
    entry.cancel()

    assert set(calls) == {3}
    assert "as it should" in caplog.text


def test_a_timers_function_ends_the_worker_with_system_exit() -> None:
    exits: list[SystemExit] = []
    timer = Timer(exits.append)

    def leave() -> None:
        raise SystemExit(3)

    timer.call_after(0, leave)
    wait_for(lambda: exits)
    timer.stop()

    assert exits[0].code == 3


class StuckConnection:
    """A connection whose first message has a callback that does not return, and that never closes."""

    connection_errors: tuple[type[BaseException], ...] = (ConnectionError,)
    channel_errors: tuple[type[BaseException], ...] = ()
    connect_timeout = heartbeat = 0

    def __init__(self) -> None:
        self.waits, self.ends = threading.Event(), threading.Event()

    def ensure_connection(self, **_: Any) -> None: ...

    def drain_events(self, timeout: float) -> None:
        self.waits.set()
        self.ends.wait()

    close = collect = drain_events  # type: ignore[assignment]


def test_a_callback_that_does_not_return_does_not_hold_up_the_shutdown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Receives(ours.ConsumerStep):
        def get_consumers(self, channel: Any) -> Any:
            return []

        def start(self, consumer: Any) -> None:
            assert consumer.connection is stuck

    monkeypatch.setattr(foreign_messages, "CLOSE_S", 0.05)
    worker, stuck = FakeWorker(), StuckConnection()
    worker.app.steps["consumer"].add(Receives)
    monkeypatch.setattr(worker.app, "connection_for_read", lambda: stuck)
    service = Steps(worker, {})
    service.include()
    service.start()
    stuck.waits.wait()
    caplog.set_level("WARNING", "qcore.worker")

    service.stop()

    assert "the thread of foreign messages is still busy" in caplog.text
    stuck.ends.set()
