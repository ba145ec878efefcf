"""Task.apply() and task_always_eager: what runs here and what is sent, as with Celery, case by case."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import celery
import celery.signals
import pytest
from celery.app.task import Context

from qcore import App
from qcore import signals as qcore_signals
from qcore.brokers.registry import open_broker
from qcore.tasks import canvas
from qcore.tasks.request import Request
from qcore.wire import task as task_wire

Ran = list[tuple[Any, ...]]


class Bench:
    """An app of either kind with the same tasks, which write down that they ran."""

    def __init__(self, app: Any, kit: Any, **options: Any) -> None:
        self.app, self.kit, self.ran = app, kit, Ran()
        ran = self.ran

        def add(x: int, y: int) -> int:
            ran.append(("add", x, y))
            return x + y

        def bad(*args: Any) -> None:
            ran.append(("bad", *args))
            raise ValueError("bad")

        def brief(task_id: str) -> None:
            ran.append(("brief", type(task_id).__name__))

        def full(request: Any, exc: BaseException, traceback: Any) -> None:
            ran.append(("full", type(exc).__name__))

        def flaky(self: Any) -> int:
            ran.append(("flaky", self.request.retries, self.request.is_eager))
            if self.request.retries < 2:
                raise self.retry(countdown=100)
            return 7

        def stands_in(self: Any) -> Any:
            return self.replace(self.app.tasks["t.add"].s(5, 5))

        for function in (add, bad, brief, full):
            made = app.task(name=f"t.{function.__name__}", **options)(function)
            setattr(self, function.__name__, made)
        for function in (flaky, stands_in):
            made = app.task(name=f"t.{function.__name__}", bind=True, **options)(function)
            setattr(self, function.__name__, made)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def outcome(self, case: Callable[[Any], Any]) -> Any:
        try:
            result = case(self)
            value = result.result
            return result.state, repr(value) if isinstance(value, BaseException) else value
        except ValueError as exc:
            return "raised", repr(exc)


def celery_bench(eager: bool) -> tuple[Bench, Callable[[], list[Any]]]:
    app = celery.Celery("t", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.task_always_eager = eager
    bench = Bench(app, celery, shared=False)
    app.finalize()
    queue = app.amqp.queues["celery"](app.connection_for_write().default_channel)
    queue.declare()
    queue.purge()

    def sent() -> list[Any]:
        found = []
        while (message := queue.get(no_ack=True)) is not None:
            args, _, embed = message.decode()
            found.append((message.headers["task"], args, len(embed.get("chain") or ())))
        return found

    return bench, sent


def qcore_bench(eager: bool) -> tuple[Bench, Callable[[], list[Any]]]:
    url = f"memory://{uuid.uuid4().hex}"
    app = App("t", broker=url, task_always_eager=eager, set_as_current=False)
    bench = Bench(app, canvas)

    def sent() -> list[Any]:
        broker = open_broker(url)
        consumer = broker.consumer(("celery",))
        found = []
        for delivery in consumer.claim(100):
            message = task_wire.read(delivery.raw)
            body = task_wire.read_body(message)
            found.append((message.task, body.args, len(body.embed.get("chain") or ())))
        consumer.close()
        broker.close()
        return found

    return bench, sent


CASES: dict[str, Callable[[Any], Any]] = {
    "a callback": lambda t: t.add.apply((1, 2), link=t.add.s(10)),
    "two callbacks": lambda t: t.add.apply((1, 2), link=[t.add.s(10), t.add.s(20)]),
    "a chain": lambda t: t.add.apply((1, 2), link=t.kit.chain(t.add.s(10), t.add.s(20))),
    "a group": lambda t: t.add.apply((1, 2), link=t.kit.group(t.add.s(10), t.add.s(20))),
    "an immutable callback": lambda t: t.add.apply((1, 2), link=t.add.si(9, 9)),
    "a brief errback": lambda t: t.bad.apply((1,), link_error=t.brief.s()),
    "a full errback": lambda t: t.bad.apply((1,), link_error=t.full.s()),
    "two errbacks": lambda t: t.bad.apply((1,), link_error=[t.full.s(), t.brief.s()]),
    "no callback of a failure": lambda t: t.bad.apply((1,), link=t.add.s(1)),
    "no errback of a success": lambda t: t.add.apply((1, 2), link_error=t.full.s()),
    "thrown": lambda t: t.bad.apply((1,), throw=True, link_error=t.full.s()),
    "retried": lambda t: t.flaky.apply(link=t.add.s(1)),
    "replaced": lambda t: t.stands_in.apply(),
    "a callback that fails": lambda t: t.add.apply((1, 2), link=t.bad.s()),
    "a callback that has an errback": lambda t: t.add.apply((1, 2), link=t.bad.s().on_error(t.full.s())),
}


@pytest.mark.parametrize("eager", [False, True], ids=["apply", "always"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_what_follows_an_eager_run_is_what_celery_does(case: Callable[[Any], Any], eager: bool) -> None:
    (theirs, their_sent), (ours, our_sent) = celery_bench(eager), qcore_bench(eager)

    expected, found = theirs.outcome(case), ours.outcome(case)

    assert found == expected
    assert ours.ran == theirs.ran
    assert our_sent() == their_sent()


def heard(signals: Any, call: Callable[[], Any]) -> list[tuple[str, Any]]:
    """The signals of publications that a call sends, each with its task."""
    found: list[tuple[str, Any]] = []
    kept = []
    for signal in (signals.before_task_publish, signals.after_task_publish):

        def note(sender: Any, signal: Any = None, **about: Any) -> None:
            found.append((signal.name, sender))

        signal.connect(note)
        kept.append((signal, note))
    call()
    for signal, note in kept:
        signal.disconnect(note)
    return sorted(found)  # the messages of a group are published together


@pytest.mark.parametrize("eager", [False, True], ids=["apply", "always"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_signals_tell_only_of_calls_that_are_published(case: Callable[[Any], Any], eager: bool) -> None:
    (theirs, _), (ours, _) = celery_bench(eager), qcore_bench(eager)

    expected = heard(celery.signals, lambda: theirs.outcome(case))
    found = heard(qcore_signals, lambda: ours.outcome(case))

    assert found == expected


@pytest.mark.parametrize("eager", [False, True], ids=["apply", "always"])
def test_an_errback_of_a_chain_is_called_whichever_step_fails(eager: bool) -> None:
    ours, _ = qcore_bench(eager)

    result = canvas.chain(ours.bad.s(1), ours.add.s(2)).apply(link_error=ours.full.s())

    assert result.state == "FAILURE"
    assert ours.ran == [("bad", 1), ("full", "ValueError")]


def test_a_request_has_the_fields_of_celerys_and_no_others() -> None:
    theirs, ours = Context(), Request()
    fields = [k for k in dir(theirs) if not k.startswith("_") and not callable(getattr(theirs, k))]

    assert {k: getattr(ours, k) for k in fields} == {k: getattr(theirs, k) for k in fields}
    assert ours.get("retires", 7) == theirs.get("retires", 7) == 7
    for request in (theirs, ours):
        with pytest.raises(AttributeError, match="retires"):
            request.retires  # noqa: B018
        request.update({"mine": 1})
        assert request.mine == 1


def test_a_task_that_misspells_a_field_of_its_request_fails() -> None:
    app = App("t", broker="memory://misspelt", set_as_current=False)

    @app.task(name="t.misspelt", bind=True)
    def misspelt(self: Any, name: str) -> Any:
        return getattr(self.request, name)

    assert misspelt.apply(("time_limit",), time_limit=7).get() == 7
    assert misspelt.apply(("mine",), headers={"mine": "x"}).get() == "x"
    assert repr(misspelt.apply(("retires",)).result).startswith("AttributeError")


def test_the_traceback_of_a_coroutine_is_its_own() -> None:
    app = App("t", broker="memory://coroutine", set_as_current=False)

    @app.task(name="t.later")
    async def later() -> None:
        raise LookupError("later")

    result = later.apply()

    assert "LookupError: later" in str(result.traceback)
    assert "RuntimeError" not in str(result.traceback)
