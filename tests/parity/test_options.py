"""Options of calls and tasks, and states: those of Celery by name, default and effect."""

from __future__ import annotations

import json
from typing import Any

import celery
import celery.states
import pytest

from qcore.base import keywords
from qcore.celery.app import Celery
from qcore.tasks import states
from qctl.inventory_page import SAME, Area, areas
from tests.parity.reference import pair


def area(name: str) -> Area:
    return next(one for one in areas() if one.area == name)


def same(name: str) -> list[str]:
    return [row.name for row in area(name).rows if row.status == SAME and not row.test]


OPTIONS = sorted({*same("task_options.apply_async"), *same("task_options.send_task")} - {"router"})


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_of_a_call_is_accepted(name: str) -> None:
    assert name in keywords.CALL | keywords.CALL_OF_CELERY | {"name"}
    assert name not in keywords.CALL_WITHOUT_EFFECT


def nothing() -> None: ...


#: option -> the setting, and a value of it
FROM_SETTINGS: dict[str, tuple[str, Any]] = {
    "serializer": ("task_serializer", "yaml"),
    "rate_limit": ("task_default_rate_limit", "7/m"),
    "priority": ("task_default_priority", 3),
    "time_limit": ("task_time_limit", 77),
    "soft_time_limit": ("task_soft_time_limit", 66),
    "track_started": ("task_track_started", True),
    "acks_late": ("task_acks_late", True),
    "acks_on_failure_or_timeout": ("task_acks_on_failure_or_timeout", False),
    "acks_on_failure": ("task_acks_on_failure", False),
    "acks_on_timeout": ("task_acks_on_timeout", False),
    "reject_on_worker_lost": ("task_reject_on_worker_lost", True),
    "retry_on_worker_lost": ("task_retry_on_worker_lost", True),
    "ignore_result": ("task_ignore_result", True),
    "store_eager_result": ("task_store_eager_result", True),
    "store_errors_even_if_ignored": ("task_store_errors_even_if_ignored", True),
}


@pytest.mark.parametrize("option", FROM_SETTINGS)
@pytest.mark.parametrize("make", [Celery, celery.Celery])
def test_an_option_of_a_task_follows_from_its_setting(make: Any, option: str) -> None:
    setting, value = FROM_SETTINGS[option]
    app = make("x", broker="memory://", set_as_current=False)
    app.conf[setting] = value
    app.task(name="x.t")(nothing)

    assert getattr(app.tasks["x.t"], option) == value


def test_every_such_option_is_compared() -> None:
    rows = area("task_options.from_settings").rows

    assert {row.name for row in rows if row.status == SAME} <= FROM_SETTINGS.keys()


#: option of a task -> a value, where it is in a message, and what is there
OF_TASKS: dict[str, tuple[Any, str, Any]] = {
    "queue": ("elsewhere", "routing_key", "elsewhere"),
    "priority": (6, "priority", 6),
    "expires": (600.0, "expiration", "600000"),
    "serializer": ("yaml", "content-type", "application/x-yaml"),
    "compression": ("zlib", "compression", "application/x-gzip"),
    "routing_key": ("a.key", "routing_key", "a.key"),
    "exchange": ("an-exchange", "exchange", "an-exchange"),
}


@pytest.mark.parametrize("option", same("task_options.publish_from_task"))
def test_a_call_takes_its_options_from_the_task(option: str) -> None:
    value, place, found = OF_TASKS[option]
    app = Celery("x", broker="memory://", set_as_current=False)
    given: dict[str, Any] = {option: value, **({"exchange": "e"} if option == "routing_key" else {})}
    task, plain = app.task(name="x.t", **given)(nothing), app.task(name="x.u")(nothing)

    assert _facts(app, task)[place] == found
    assert _facts(app, plain).get(place) != found


def _facts(app: Any, task: Any) -> dict[str, Any]:
    """What is in the message of a call."""
    message = app.message(task.name, (), {}, "an-id", {}, app.tasks[task.name])
    read = json.loads(message.raw)
    return {**read, **read["headers"], **read["properties"], **read["properties"]["delivery_info"]}


def test_states_are_those_of_celery() -> None:
    for row in area("result_api.states").rows:
        if row.name.isupper():
            ours, theirs = getattr(states, row.name), getattr(celery.states, row.name)
            assert ours == theirs, row.name
    assert list(states.PRECEDENCE) == list(celery.states.PRECEDENCE)


def test_the_examples_are_of_the_pairs() -> None:
    theirs, ours = pair("Task")

    assert theirs.name == ours.name == "x.add"
