"""Where calls go, as Celery sends them: routes of every form, queues with exchanges, options of a call.

Both say where in before_task_publish, which is sent by Celery's producer and by qcore's sender alike.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from typing import Any

import celery
import celery.signals
import pytest
from kombu import Exchange, Queue
from kombu.common import Broadcast

from qcore import App
from qcore.celery.app import Celery
from qcore.errors import Unroutable
from qcore.signals import before_task_publish

MEDIA = Exchange("media", "topic")
QUEUES = (
    Queue("celery"),
    Queue("pictures", MEDIA, routing_key="m.pictures"),
    Queue("plain", Exchange("plain"), routing_key="p"),
    Queue("soft", Exchange("soft", delivery_mode=1), routing_key="s"),
    Queue("news", Exchange("news", "fanout"), routing_key=""),
    Broadcast("reload"),
)


class Router:
    """The older kind of router."""

    def route_for_task(self, task: str, args: Any = None, kwargs: Any = None) -> Any:
        return {"queue": "of_a_class", "priority": 3} if task.startswith("feeds.") else None


class Odd:
    def __call__(self, name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **_: Any) -> Any:
        if kwargs.get("stop"):
            return {}
        return f"odd_{len(args)}" if task is None or task.name.endswith("add") else None


def by_function(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **_: Any) -> Any:
    return {"queue": "of_a_function", "headers": {"by": name}} if name.startswith("feeds.") else None


HERE = "tests.qcore.app.test_routes_as_celery"
NAMES = ("feeds.add", "feeds.import", "web.add", "web?")
ROUTES: dict[str, Any] = {
    "none": None,
    "mapping": {"feeds.*": "feeds", "web.add": {"queue": "web", "priority": 7}},
    "exact before pattern": {"feeds.*": "other", "feeds.add": "exact"},
    "only a star makes a pattern": {"web?": "literal", "web.add": "w"},
    "a list of pairs in a tuple": ([("feeds.*", {"queue": "feeds"}), (re.compile(r"(web|x)\..*"), "web")],),
    "mappings in a list": [{"feeds.add": "one"}, {"feeds.*": "two"}, {"*": "three"}],
    "a function": by_function,
    "a function, then a mapping": (by_function, {"web.*": {"queue": "w", "routing_key": "r"}}),
    "the name of a function": f"{HERE}.by_function",
    "the name of a class": (f"{HERE}.Router", {"*": "rest"}),
    "an object with route_for_task": Router(),
    "an object that is called": (Odd(), {"*": "rest"}),
    "options": {
        "feeds.*": {
            "queue": "q",
            "serializer": "json",
            "compression": "zlib",
            "delivery_mode": 1,
            "headers": {"x": 1},
            "priority": 2,
        }
    },
    "an exchange": {"feeds.*": {"exchange": "media", "exchange_type": "topic", "routing_key": "m.x"}},
    "an exchange and a key": {"feeds.*": {"exchange": "e", "routing_key": "k"}},
    "a queue with an exchange": {"feeds.*": "pictures", "web.*": {"queue": "pictures", "routing_key": "m.w"}},
    "a queue of kombu": {"feeds.*": {"queue": Queue("own", MEDIA, routing_key="m.own")}},
    "a direct exchange": {"feeds.*": "plain"},
    "a delivery mode of an exchange": {"feeds.*": "soft"},
    "fanout": {"feeds.*": {"queue": "news"}, "web.*": {"queue": "reload"}},
    "a broadcast and its exchange": {"feeds.*": {"queue": "reload", "exchange": "reload"}},
}


class Chosen:
    """A router of one call."""

    def route(
        self, options: Any, name: str, args: Any = (), kwargs: Any = None, task_type: Any = None
    ) -> Any:
        if (kwargs or {}).get("stop"):
            return options
        return {"routing_key": "m.chosen", "exchange": "media", "exchange_type": "topic", **options}


CALLS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "queue": {"queue": "mine"},
    "queue of task_queues": {"queue": "pictures"},
    "key": {"routing_key": "mine"},
    "queue and key": {"queue": "pictures", "routing_key": "m.mine"},
    "queue of kombu": {"queue": QUEUES[1]},
    "exchange of kombu": {"exchange": MEDIA, "exchange_type": "topic", "routing_key": "m.1"},
    "exchange and key": {"exchange": "elsewhere", "routing_key": "k"},
    "priority": {"priority": 1},
    "type without a key": {"queue": "pictures", "exchange_type": "topic"},
    "type of an exchange": {"exchange": "media", "exchange_type": "topic", "routing_key": "m.3"},
    "router": {"router": Chosen()},
    "router and queue": {"router": Chosen(), "queue": "mine", "priority": 5},
    "router without an answer": {"router": Chosen(), "kwargs": {"stop": True}},
    "name for the route": {"route_name": "web.page"},
    "headers": {"headers": {"x": 2, "y": 3}},
    "ends the search": {"kwargs": {"stop": True}},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "queues": {"task_queues": QUEUES},
    "topic by default": {
        "task_queues": (Queue("celery"), Queue("more", routing_key="more.#")),
        "task_default_exchange": "tasks",
        "task_default_exchange_type": "topic",
        "task_default_routing_key": "task.default",
    },
    "topic for missing queues": {"task_create_missing_queue_exchange_type": "topic"},
    "default queue": {"task_default_queue": "standard", "task_default_delivery_mode": "transient"},
}


def of(app: Any, signal: Any, name: str, options: dict[str, Any]) -> Any:
    """What the sender says of one call: its place, its own headers, its properties."""
    found: list[Any] = []

    def note(sender: Any = None, **told: Any) -> None:
        properties, headers = told["properties"], told["headers"]
        own = {k: headers[k] for k in ("x", "y", "by") if k in headers}
        place = getattr(told["exchange"], "name", told["exchange"]), told["routing_key"] or ""
        found.append((*place, own, properties.get("priority")))

    signal.connect(note, weak=False)
    try:
        app.send_task(name, (1, 2), **options)
    except Exception as exc:
        found.append(type(exc).__name__)  # of the broker in memory, which has no such exchange
    finally:
        signal.disconnect(note)
    return found[0] if found else "nothing was sent"


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("routes", ROUTES)
def test_a_call_goes_where_celery_sends_it(settings: str, routes: str) -> None:
    conf = {**SETTINGS[settings], "task_routes": ROUTES[routes], "task_publish_retry": False}
    theirs = celery.Celery("theirs", broker=f"memory://{uuid.uuid4()}", set_as_current=False)
    theirs.conf.update(conf)
    ours = App("ours", broker=f"memory://{uuid.uuid4()}", set_as_current=False, **conf)

    wrong = {}
    for call, options in CALLS.items():
        for name in NAMES:
            expected = of(theirs, celery.signals.before_task_publish, name, options)
            found = of(ours, before_task_publish, name, options)
            if found != expected:
                wrong[call, name] = found, expected
    ours.close()

    assert not wrong, "\n".join(f"{k}: {v[0]}, Celery: {v[1]}" for k, v in wrong.items())


@pytest.mark.parametrize(
    "place",
    [
        {},
        {"queue": "pictures"},
        {"queue": "plain"},
        {"exchange": "media", "routing_key": "m.1"},
        {"exchange": "media", "queue": "pictures"},
    ],
)
@pytest.mark.parametrize("kind", ["direct", "topic", "fanout"])
def test_the_type_of_an_exchange_of_a_task_is_read_nowhere(place: dict[str, Any], kind: str) -> None:
    found = []
    for make, signal in ((celery.Celery, celery.signals.before_task_publish), (Celery, before_task_publish)):
        app = make("x", broker="memory://", set_as_current=False, task_queues=QUEUES)
        name = f"typed.{kind}.{'-'.join(place.values())}"
        app.task(name=name, exchange_type=kind, **place)(nothing)
        found.append(of_task(app, signal, name))

    assert found[0] == found[1]


def nothing() -> None: ...


def of_task(app: Any, signal: Any, name: str) -> Any:
    """Where a task's own call goes."""
    found: list[Any] = []

    def note(sender: Any = None, **told: Any) -> None:
        found.append((getattr(told["exchange"], "name", told["exchange"]), told["routing_key"] or ""))

    signal.connect(note, weak=False)
    with contextlib.suppress(Unroutable):  # the broker in memory has no such exchange
        app.tasks[name].apply_async()
    signal.disconnect(note)
    return found
