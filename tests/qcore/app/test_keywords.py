"""Keywords of apps, tasks and calls: a misspelt one is an error, an unknown one goes where Celery puts it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import celery
import pytest
import redis

from qcore import App, chain, group, shared_task, signature


def small_app(**settings: Any) -> App:
    return App("words", broker="memory://keywords", set_as_current=False, **settings)


def add(x: int = 0, y: int = 0) -> int:
    return x + y


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        (lambda app: App("p", brokr="redis://nowhere", set_as_current=False), "broker"),
        (lambda app: App("p", set_as_curent=False), "set_as_current"),
        (lambda app: app.task(retry_bakoff=True)(add), "retry_backoff"),
        (lambda app: app.task(nmae="a.b")(add), "name"),
        (lambda app: shared_task(max_retires=4)(add), "max_retries"),
        (lambda app: app.worker(concurency=3), "concurrency"),
        (lambda app: app.task(add).apply_async((1, 2), conutdown=3), "countdown"),
        (lambda app: app.task(add).apply((1, 2), conutdown=3), "countdown"),
        (lambda app: app.task(add).signature((1, 2), prioritty=3), "priority"),
        (lambda app: app.task(add).s(1, 2).set(exipres=3), "expires"),
        (lambda app: app.send_task("a.b", quue="q"), "queue"),
        (lambda app: signature("a.b", (), app=app, task_idd="x"), "task_id"),
        (lambda app: group([app.task(add).s(1, 2)], app=app).apply_async(countdwon=3), "countdown"),
        (lambda app: chain(app.task(add).s(1, 2), app=app).apply_async(countdwon=3), "countdown"),
    ],
)
def test_a_misspelt_keyword_is_an_error_that_names_what_was_meant(
    call: Callable[[App], Any], meant: str
) -> None:
    with pytest.raises(TypeError, match=f"did you mean '{meant}'"):
        call(small_app())


@pytest.mark.parametrize("name", ["fixups", "loader", "whatever", "amqp"])
def test_a_keyword_that_an_app_does_not_have_is_an_error(name: str) -> None:
    with pytest.raises(TypeError, match=f"no keyword '{name}'"):
        App("p", set_as_current=False, **{name: object()})


def test_a_keyword_that_a_worker_does_not_have_is_an_error() -> None:
    with pytest.raises(TypeError, match="no option 'state_db'"):
        small_app().worker(state_db="x")


def test_options_of_celery_that_ask_for_what_is_done_anyway_are_taken() -> None:
    task = small_app().task(lazy=False, shared=False, pydantic=False)(add)

    assert task(1, 2) == 3


def test_a_filter_gets_the_task_and_its_value_is_what_the_decorator_returns() -> None:
    app = small_app()

    found = app.task(filter=lambda task: ("filtered", task.name))(add)

    assert found[0] == "filtered"
    assert found[1] in app.tasks


def test_an_unknown_task_option_is_an_attribute_of_the_task() -> None:
    task = small_app().task(once={"graceful": True})(add)

    assert task.once == {"graceful": True}


def test_an_unknown_call_option_travels_as_it_does_under_celery(redis_url: str) -> None:
    ours = App("words", broker=redis_url, set_as_current=False)
    theirs = celery.Celery("words", broker=redis_url, set_as_current=False)
    options = {"once": {"graceful": True, "keys": ["a"]}, "user": "äöü"}

    ours.send_task("words.add", queue="ours", **options)
    theirs.send_task("words.add", queue="theirs", **options)

    with redis.Redis.from_url(redis_url) as server:
        mine, reference = (json.loads(server.lpop(q))["properties"] for q in ("ours", "theirs"))
    assert {k: reference[k] for k in options} == options
    assert {k: mine[k] for k in options} == options
    ours.close()
    theirs.close()


def test_an_unknown_call_option_does_not_replace_a_property_that_the_transport_needs(redis_url: str) -> None:
    app = App("words", broker=redis_url, set_as_current=False)

    app.send_task("words.add", queue="q", delivery_tag="mine", body_encoding="none")

    with redis.Redis.from_url(redis_url) as server:
        found = json.loads(server.lpop("q"))["properties"]
    assert found["body_encoding"] == "base64"
    assert found["delivery_tag"] != "mine"
    app.close()


@pytest.mark.parametrize(
    ("call", "given"),
    [
        (lambda app, k: app.AsyncResult("t").get(**k), "timeot"),
        (lambda app, k: app.AsyncResult("t").get(**k), "on_intervall"),
        (lambda app, k: app.GroupResult("g", []).get(**k), "propagat"),
        (lambda app, k: app.events.Receiver(None, **k), "handler"),
        (lambda app, k: app.events.State(**k), "max_task_in_memory"),
        (lambda app, k: app.events.Dispatcher(**k), "host"),
    ],
)
def test_results_and_events_refuse_keywords_that_have_no_effect(
    call: Callable[[App, dict[str, Any]], object], given: str
) -> None:
    app = App("kw", broker="memory://kw", set_as_current=False)

    with pytest.raises(TypeError, match=f"no (keyword|option) '{given}'"):
        call(app, {given: 1})


def test_keywords_of_celery_that_choose_how_it_waits_are_accepted() -> None:
    app = App("kw", broker="memory://kw", set_as_current=False)
    app.store_state("t", "SUCCESS", 3)

    assert app.AsyncResult("t").get(timeout=5, no_ack=True, disable_sync_subtasks=False) == 3


def test_an_option_of_a_call_without_effect_is_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("WARNING", "qcore")
    monkeypatch.setattr("qcore.base.keywords._said", set())
    app = App("t", broker="memory://", set_as_current=False)

    for _ in range(2):
        app.send_task("t.add", (1,), create_sent_event=True, immediate=True, mandatory=True)

    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "the option create_sent_event of a call has no effect",
        "the option immediate of a call has no effect",
    ]
