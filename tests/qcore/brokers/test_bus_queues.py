"""Queues of remote control and of events: the same settings give what they give in Celery."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import celery
import celery.exceptions
import kombu
import pytest
import redis

import qcore.celery.app
from qcore.errors import ConfigError
from tests.support.rabbit_server import RabbitServer

SETTINGS: list[dict[str, Any]] = [
    {},
    {
        "control_queue_ttl": 11,
        "control_queue_expires": 12,
        "event_queue_ttl": 13,
        "event_queue_expires": 14,
        "event_queue_prefix": "mine",
    },
    {"control_queue_ttl": None, "event_queue_ttl": None, "event_queue_expires": None},
    {"control_queue_exclusive": False, "event_queue_exclusive": False},
    {
        "control_queue_exclusive": False,
        "control_queue_durable": True,
        "event_queue_exclusive": False,
        "event_queue_durable": True,
    },
]


@contextmanager
def celerys(url: str, settings: dict[str, Any]) -> Iterator[None]:
    """A worker's queue of requests, a client's of replies, and a receiver's of events."""
    app = celery.Celery("x", broker=url, set_as_current=False)
    app.conf.update(settings)
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        mailbox = app.control.mailbox(connection)
        mailbox.Node("w@h").Consumer(channel=channel)
        mailbox.reply_queue(channel).declare()
        kombu.Consumer(channel, [app.events.Receiver(connection).queue])
        yield


@contextmanager
def ours(url: str, settings: dict[str, Any]) -> Iterator[None]:
    app = qcore.celery.app.Celery("x", broker=url, set_as_current=False)
    app.conf.update(settings)
    with ExitStack() as opened:
        opened.callback(app.close)
        opened.callback(app.broker.subscribe("celery.pidbox", node="w@h").close)
        opened.callback(app.broker.inbox("reply.celery.pidbox", "key").close)
        opened.callback(app.broker.subscribe("celeryev", "#").close)
        yield


def plain(text: str) -> str:
    return re.sub(r"[0-9a-f-]{36}|^key", "ID", text)


@pytest.mark.parametrize("settings", SETTINGS)
def test_rabbitmq_has_the_queues_that_celery_declares(
    settings: dict[str, Any], rabbit_url: str, rabbit_server: RabbitServer
) -> None:
    vhost = rabbit_url.rpartition("/")[2]
    columns = "name, durable, auto_delete, exclusive, arguments"
    found = []
    for kind in (celerys, ours):
        with kind(rabbit_url, settings), kombu.Connection(rabbit_url) as connection:
            rows = rabbit_server.ask_rows(f'rabbit_amqqueue:info_all(<<"{vhost}">>, [{columns}])')
            found.append(sorted([plain(text) for text in row] for row in rows))
            for name, *_ in rows if settings.get("event_queue_exclusive") is False else ():
                connection.default_channel.queue_delete(name)

    assert found[0] == found[1]
    assert len(found[0]) == 3


@pytest.mark.parametrize("expires_s", [None, 10, 7200])
def test_on_redis_replies_are_bound_for_a_time(expires_s: float | None, redis_url: str) -> None:
    """All other settings have no effect there: requests and events are published to channels."""
    settings = {**SETTINGS[1], **SETTINGS[4], "control_queue_expires": expires_s}
    found = []
    for kind in (celerys, ours):
        with redis.Redis.from_url(redis_url, decode_responses=True) as client:
            client.flushdb()
            with kind(redis_url, settings):
                ends = client.zscore("_kombu.binding_deadlines", "reply.celery.pidbox")
                keys = {plain(key): client.ttl(key) for key in client.keys("*reply*")}
                keys.pop("_kombu.binding_permanent.reply.celery.pidbox", None)
                found.append((keys, ends and round((ends / 1000 - time.time()) / 60)))

    assert found[0] == found[1]
    assert found[0] == (
        {"_kombu.binding.reply.celery.pidbox": -1},
        {None: None, 10: 60, 7200: 240}[expires_s],
    )


@pytest.mark.parametrize("kind", [celery.Celery, qcore.celery.app.Celery])
def test_an_exclusive_queue_is_not_durable(kind: Any) -> None:
    app = kind("x", broker="memory://", set_as_current=False)
    app.conf.update(control_queue_durable=True, event_queue_durable=True)
    error = celery.exceptions.ImproperlyConfigured if kind is celery.Celery else ConfigError

    with pytest.raises(error, match="durable"):
        _ = app.control
    with kombu.Connection("memory://") as connection, pytest.raises(error, match="durable"):
        app.events.Receiver(connection)
