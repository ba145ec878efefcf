"""Many calls at once: `app.send_many(task, tuples)` sends what as many apply_async() would send."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from qcore import App, signals
from qcore.base.times import new_id
from qcore.brokers.contract.records import Delivery, Settle
from qcore.errors import EncodeError, MessageTooLarge
from qcore.tasks.task import Task
from qcore.testing import in_memory_app, start_worker
from qcore.wire import envelope
from qcore.wire import task as task_wire
from qcore.wire.content import ANYTHING
from tests.contracts.consuming import end, take


@pytest.fixture
def app() -> Iterator[App]:
    with in_memory_app() as app:
        yield app


@pytest.fixture(params=["redis", "rabbit", "sqlite", "memory"])
def each(request: pytest.FixtureRequest) -> Iterator[App]:
    """An app on each broker, with a queue of its own."""
    url = request.getfixturevalue(f"{request.param}_url")
    app = App("many", broker=url, task_default_queue=f"q-{new_id()[:8]}", set_as_current=False)
    yield app
    app.close()


def add_of(app: App, **options: Any) -> Any:
    @app.task(name="many.add", **options)
    def add(x: Any, y: Any = 0, *, more: Any = 0) -> Any:
        return x

    return add


def sent(app: App, count: int) -> list[Delivery]:
    """So many messages of the default queue, which has no others."""
    consumer = app.broker.consumer([app.conf.task_default_queue])
    found = take(consumer, count)
    end(consumer, *found, action=Settle.ACK)
    assert not consumer.claim(1)
    consumer.close()
    return found


def parts(raw: bytes) -> Any:
    """Everything in a message but its id and its tag, which occur where they must."""
    found = envelope.decode(raw)
    task_id = found.headers["id"]
    assert found.properties.correlation_id == task_id == found.headers["root_id"]
    known = json.loads(raw)
    for name in ("id", "root_id"):
        del known["headers"][name]
    for name in ("correlation_id", "delivery_tag"):
        del known["properties"][name]
    return known["headers"], known["properties"], envelope.body_value(found)


WANTED: list[tuple[Any, ...]] = [
    (1, 2),
    ("é % \ud83d\ude00 \x00 %(id)b", [1.5, None, {"a": []}]),
    (2**70, float("inf")),
    ({"__type__": "x"},),
    (["long"] * 2000,),
    (b"bytes", True),
]


def test_the_messages_are_those_of_single_calls(each: App) -> None:
    add = add_of(each)
    options = {"headers": {"of": "us %"}, "time_limit": 7, "expires": "2031-01-01T00:00:00+00:00"}

    many = each.send_many(add, WANTED, {"more": "é"}, **options)
    messages = [d.raw for d in sent(each, len(WANTED))]
    for args in WANTED:
        add.apply_async(args, {"more": "é"}, **options)
    single = [d.raw for d in sent(each, len(WANTED))]

    for one, other in zip(messages, single, strict=True):
        ours, theirs = parts(one), parts(other)
        (ours[1].pop("expiration"), theirs[1].pop("expiration"))  # milliseconds from now
        assert ours == theirs
    assert [envelope.decode(raw).headers["id"] for raw in messages] == [result.id for result in many]
    tags = {envelope.decode(raw).properties.delivery_tag for raw in messages}
    assert len(tags) == len({result.id for result in many}) == len(WANTED)

    each.send_many(add, ((i,) for i in range(2100)))  # three round trips
    found = [task_wire.read_body(task_wire.read(d.raw)).args for d in sent(each, 2100)]
    assert found == [[i] for i in range(2100)]


@pytest.mark.parametrize("name", ["add", "by name", "unknown here"])
def test_a_worker_runs_them(app: App, name: str) -> None:
    add = add_of(app)
    with start_worker(app, pool="threads", concurrency=2):
        if name == "unknown here":
            client = App("other", broker=app.broker_url(), set_as_current=False)
            results = client.send_many("many.add", [(i,) for i in range(50)])
        else:
            results = app.send_many(add if name == "add" else "many.add", [(i,) for i in range(50)])
        assert [result.get(timeout=60) for result in results] == list(range(50))


@pytest.mark.parametrize(
    ("tuples", "words"),
    [
        ([(1,), (1, 2, 3)], "call 2 of many.add: .*too many positional"),
        ([(1,), ()], "call 2 of many.add: missing a required argument: 'x'"),
        ([(1,), "text"], "call 2 of many.add: its arguments are a tuple or list, not 'text'"),
        ([(1,), ({1},)], "call 2 of many.add: a set has no JSON form"),
        ([(1,), ("x" * 17_000_000,)], "call 2 of many.add has .* bytes"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent(app: App, tuples: Any, words: str) -> None:
    add = add_of(app)

    with pytest.raises((TypeError, MessageTooLarge), match=words) as caught:
        app.send_many(add, tuples)

    assert isinstance(caught.value, EncodeError) == ("set" in words)
    assert not app.broker.administration.depth("celery").ready


def test_what_names_one_call_or_nothing_is_refused(app: App) -> None:
    add = add_of(app)

    for options, words in (
        ({"task_id": "x"}, "task_id names one call"),
        ({"idempotency_key": "x"}, "idempotency_key names one call"),
        ({"countdwn": 3}, "did you mean 'countdown'"),
    ):
        with pytest.raises(TypeError, match=words):
            app.send_many(add, [(1,)], **options)
    for calls in (lambda: app.send_many(add), lambda: app.send_many([add.s(1)], [(1,)])):
        with pytest.raises(TypeError, match="signatures alone, or a task"):
            calls()
    assert app.send_many(add, []) == []


def test_options_routes_and_settings_hold(app: App) -> None:
    app.conf.task_routes = {"many.*": {"queue": "sums", "priority": 4}}
    add = add_of(app, ignore_result=True, serializer="pickle")

    (result, _) = app.send_many(add, [(1,), (2,)], countdown=3600)

    assert result.ignored and result.get() is None
    depth = app.broker.administration.depth("sums")
    assert (depth.ready, depth.delayed) == (0, 2)
    ((_, raw), _) = app.broker.administration.delayed("sums")
    message = task_wire.read(raw, ANYTHING)
    assert (message.priority, message.envelope.content_type) == (4, "application/x-python-serialize")


def test_arguments_that_are_to_be_hidden_are_not_shown(app: App) -> None:
    for shown, wanted in (("(***)", ["(***)", "(***)"]), (None, ["(1,)", "('two',)"])):
        app.send_many(add_of(app), [(1,), ("two",)], argsrepr=shown)

        assert [envelope.decode(d.raw).headers["argsrepr"] for d in sent(app, 2)] == wanted


def test_routers_signals_and_names_see_each_call(app: App) -> None:
    asked, heard = [], Counter[str]()

    class Shown(Task):
        def shadow_name(self, args: Any, kwargs: Any, options: Any) -> str:
            return f"add {args[0]}"

    app.conf.task_routes = lambda name, args, kwargs, options, task=None: asked.append(args)
    add = add_of(app, base=Shown)

    def before(headers: Any, **_: Any) -> None:
        heard["before"] += 1
        headers["trace"] = f"t{heard['before']}"

    def after(**_: Any) -> None:
        heard["after"] += 1

    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after)
    try:
        app.send_many(add, [(1,), (2,)])
    finally:
        signals.before_task_publish.disconnect(before)
        signals.after_task_publish.disconnect(after)

    heads = [envelope.decode(d.raw).headers for d in sent(app, 2)]
    assert [(head["shadow"], head["trace"]) for head in heads] == [("add 1", "t1"), ("add 2", "t2")]
    assert heard == {"before": 2, "after": 2} and asked == [(1,), (2,)]


def test_an_overridden_apply_async_is_called_for_each(app: App) -> None:
    class Counted(Task):
        def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:  # type: ignore[override]
            return super().apply_async((args[0] + 1,), kwargs, **options)

    app.send_many(add_of(app, base=Counted), [(1,), (2,)])

    assert [task_wire.read_body(task_wire.read(d.raw)).args for d in sent(app, 2)] == [[2], [3]]


def test_eager_calls_run_here(app: App) -> None:
    app.conf.task_always_eager = True

    assert [result.get() for result in app.send_many(add_of(app), [(1,), (2,)])] == [1, 2]


def test_the_calls_of_a_run_are_its_children(app: App) -> None:
    add = add_of(app)

    @app.task(name="many.parent")
    def parent() -> list[str]:
        return [result.id for result in app.send_many(add, [(1,), (2,)])]

    with start_worker(app, pool="threads", concurrency=1):
        result = parent.delay()
        ids = result.get(timeout=60)
        assert [child.id for child in result.children or ()] == ids
        assert [app.AsyncResult(i).get(timeout=60) for i in ids] == [1, 2]


def test_coroutines_send_many_too(app: App) -> None:
    add = add_of(app)

    async def main() -> list[Any]:
        return [await result for result in await app.asend_many(add, [(1,), (2,)])]

    with start_worker(app, pool="threads", concurrency=1):
        assert asyncio.run(asyncio.wait_for(main(), 60)) == [1, 2]
