"""Connections to RabbitMQ: the settings of logins and heartbeats do what they do in Celery."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import amqp
import celery
import pytest
from celery.worker.loops import _enable_amqheartbeats

import qcore.celery.app
from tests.support.rabbit_server import RabbitServer
from tests.support.waiting import wait_for


def app_of(kind: Any, url: str, settings: dict[str, Any]) -> Any:
    app = kind("x", broker=url, set_as_current=False)
    app.conf.update(settings)
    return app


@pytest.mark.parametrize(
    "settings",
    [{}, {"broker_login_method": "AMQPLAIN", "broker_heartbeat": 7}, {"broker_heartbeat": 0}],
)
def test_rabbitmq_sees_the_login_and_the_heartbeat_of_celery(
    settings: dict[str, Any], rabbit_url: str, rabbit_server: RabbitServer
) -> None:
    vhost = rabbit_url.rpartition("/")[2]

    def seen() -> list[list[str]]:
        rows = rabbit_server.ask_rows(
            "rabbit_networking:connection_info_all([vhost, auth_mechanism, timeout])"
        )
        found = [row[1:] for row in rows if row[0] == vhost]
        return found if len(found) == 1 else []  # the one before may still be there

    theirs = app_of(celery.Celery, rabbit_url, settings)
    with theirs.connection_for_read(heartbeat=theirs.conf.broker_heartbeat) as connection:
        connection.connect()
        there = wait_for(seen, 10, "a connection")
    ours = app_of(qcore.celery.app.Celery, rabbit_url, settings)
    listener = ours.broker.subscribe("celeryev", "#")
    here = wait_for(seen, 10, "a connection")
    listener.close()
    ours.close()

    assert here == there


@pytest.mark.parametrize("rate", [3.0, 6.0])
def test_heartbeats_are_sent_and_checked_as_often_as_in_celery(
    rate: float, rabbit_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"broker_heartbeat": 12, **({} if rate == 3.0 else {"broker_heartbeat_checkrate": rate})}
    ticks: list[float] = []
    monkeypatch.setattr(amqp.Connection, "heartbeat_tick", lambda self, rate=2: ticks.append(rate))
    pauses: list[float] = []

    def call_repeatedly(pause_s: float, function: Any, args: Any) -> None:
        pauses.append(pause_s)
        function(*args)

    theirs = app_of(celery.Celery, rabbit_url, settings)
    with theirs.connection_for_read(heartbeat=theirs.conf.broker_heartbeat) as connection:
        connection.connect()
        timer = SimpleNamespace(call_repeatedly=call_repeatedly)
        _enable_amqheartbeats(timer, connection, theirs.conf.broker_heartbeat_checkrate)
    ours = app_of(qcore.celery.app.Celery, rabbit_url, settings)
    consumer = ours.broker.consumer(["q"])
    consumer.renew()
    consumer.close()
    ours.close()

    assert ticks == [rate, rate]
    assert ours.broker.lease_s / 3 == pauses[0]  # qcore/worker/services/lease.py renews so often
