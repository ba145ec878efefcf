"""The message of the next attempt: the same as Celery's own, option by option."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import celery
import pytest
from celery.worker.request import Request as CeleryRequest

from qcore import App
from qcore.base.times import epoch
from qcore.execution.run import RunContext, run
from qcore.wire import envelope
from qcore.wire import task as task_wire
from qcore.wire.outcome import End, Job, Outcome

ID = "5f2c7b1e-9d3a-4c68-8e21-0123456789ab"
KINDS = frozenset(("json", "yaml"))
OPTIONS: list[dict[str, Any]] = [
    {},
    {"priority": 9},
    {"priority": 0},
    {"expires": 60},
    {"expires": datetime(2100, 1, 2, tzinfo=UTC)},
    {"expires": None},
    {"time_limit": 7, "soft_time_limit": 3},
    {"serializer": "json"},
    {"queue": "elsewhere"},
    {"headers": {"mine": "new"}},
    {"shadow": "other.name"},
    {"countdown": 7.0},
    {"eta": datetime.now(UTC) + timedelta(hours=1)},
    {"args": (5, 6)},
    {"kwargs": {"y": 9}},
    {"args": (5,), "kwargs": {"y": 4}},
    {"ignore_result": True},
    {"link": {"task": "t.then", "args": [], "kwargs": {}, "options": {}}},
    {"exchange": "letters", "routing_key": "a.b"},
]
CALLS: list[dict[str, Any]] = [
    {"args": (1, 2)},
    {
        "args": (1,),
        "kwargs": {"y": 2},
        "priority": 2,
        "expires": 600,
        "time_limit": 50,
        "soft_time_limit": 40,
    },
    {"args": (1, 2), "headers": {"mine": "old", "other": "x"}, "shadow": "shown", "queue": "first"},
]
HEADERS = (
    "task id shadow group group_index retries timelimit argsrepr kwargsrepr ignore_result mine other".split()
)


class Next:
    """A next attempt: what is compared of the next attempt; epoch times are rounded to seconds."""

    def __init__(self, headers: dict[str, Any], properties: Any, body: Any, place: tuple[str, str]) -> None:
        self.headers = {k: headers.get(k) for k in HEADERS}
        self.headers["timelimit"] = list(headers["timelimit"])
        self.times = [
            headers["eta"] and epoch(headers["eta"]),
            headers["expires"] and epoch(headers["expires"]),
        ]
        self.priority = properties.get("priority") or 0
        self.args, self.kwargs = list(body[0]), body[1]
        self.links = [link["task"] for link in body[2]["callbacks"] or ()]
        self.place = place


def by_celery(call: dict[str, Any], options: dict[str, Any]) -> Next:
    """Celery's request runs the task; its next attempt is taken from the producer."""
    app = celery.Celery("t", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.broker_transport_options = {"queue_order_strategy": "sorted"}

    @app.task(name="t.again", bind=True, max_retries=3, shared=False)
    def again(self: Any, x: int, y: int) -> None:
        raise self.retry(**{"countdown": None if "eta" in options else 5.0, **options})

    app.finalize()
    queue = call.get("queue", "celery")
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        app.amqp.queues.select_add(queue)
        bound = app.amqp.queues[queue](channel)
        bound.declare()
        bound.purge()
        sent: list[Any] = []
        app.send_task("t.again", task_id=ID, connection=connection, **call)
        message = bound.get(no_ack=True)
        request = CeleryRequest(message, app=app, task=app.tasks["t.again"], hostname="w@test", eventer=None)
        publish = app.amqp.Producer.publish

        def taken(self: Any, body: Any, **fields: Any) -> None:
            sent.append((body, fields))

        app.amqp.Producer.publish = taken
        try:
            request.execute()
        finally:
            app.amqp.Producer.publish = publish
    (body, fields), *_ = [s for s in sent if s[1]["headers"]["retries"] == 1]
    return Next(fields["headers"], fields, body, (fields["exchange"], fields["routing_key"]))


def by_qcore(
    call: dict[str, Any], options: dict[str, Any], **task_options: Any
) -> tuple[Next | None, Outcome]:
    app = App("t", broker="memory://", set_as_current=False)

    @app.task(name="t.again", bind=True, max_retries=3, **task_options)
    def again(self: Any, x: int, y: int) -> None:
        raise self.retry(**{"countdown": None if "eta" in options else 5.0, **options})

    fields = dict(call)
    args, kwargs = fields.pop("args"), fields.pop("kwargs", {})
    sent = app.message("t.again", args, kwargs, ID, fields, app.tasks["t.again"])
    job = Job(1, sent.raw, queue=call.get("queue", "celery"))
    outcome = run(job, RunContext(app, "w@test", KINDS, None))
    if outcome.end != End.RETRY:
        return None, outcome
    (send,) = outcome.sends
    found = envelope.decode(send.raw)
    body = task_wire.read_body(task_wire.read(send.raw), KINDS)
    properties = {"priority": send.priority}
    assert found.properties.priority == send.priority
    assert send.due_at is not None and abs(send.due_at - epoch(found.headers["eta"])) < 0.001
    place = ("", send.queue) if send.queue else (send.exchange, send.routing_key)
    return Next(found.headers, properties, (body.args, body.kwargs, body.embed), place), outcome


@pytest.mark.parametrize("call", CALLS, ids=["plain", "limited", "headed"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "none")
def test_the_next_attempt_is_the_message_that_celery_sends(
    call: dict[str, Any], options: dict[str, Any]
) -> None:
    if "exchange" in options and call.get("queue"):
        options = {**options, "queue": None}

    theirs, (ours, _) = by_celery(call, options), by_qcore(call, options)

    assert ours is not None
    assert ours.headers == theirs.headers
    assert [ours.args, ours.kwargs, ours.links] == [theirs.args, theirs.kwargs, theirs.links]
    assert ours.priority == theirs.priority
    assert ours.place == theirs.place
    for mine, its in zip(ours.times, theirs.times, strict=True):
        assert (mine is None) == (its is None) and (mine is None or abs(mine - its) < 30)


@pytest.mark.parametrize(
    ("task_options", "options", "expected"),
    [
        ({}, {}, "application/json"),
        ({"serializer": "yaml"}, {}, "application/x-yaml"),
        ({"serializer": "yaml"}, {"serializer": "json"}, "application/json"),
    ],
)
def test_the_next_attempt_has_the_serializer_of_the_task(
    task_options: dict[str, Any], options: dict[str, Any], expected: str
) -> None:
    _, outcome = by_qcore({"args": (1, 2)}, options, **task_options)

    assert envelope.decode(outcome.sends[0].raw).content_type == expected


def test_options_that_cannot_travel_are_a_failure_of_the_task() -> None:
    _, outcome = by_qcore({"args": (1, 2)}, {"expires": "never"})

    assert outcome.end == End.FAILURE
    assert outcome.error is not None and outcome.error[0] == "ValueError"
    assert outcome.sends == [] and outcome.meta is not None
