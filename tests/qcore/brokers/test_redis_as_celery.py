"""Connections to Redis: options and settings of their checks and time-outs do what they do in Celery."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import celery
import celery.contrib.testing.worker
import pytest
import redis
from kombu.transport.redis import Channel

import qcore.celery.app
import qcore.testing.worker
from qcore.brokers.redis.servers import CHECK_S
from tests.support.redis_server import RedisServer, require_server
from tests.support.waiting import wait_for

KINDS = {"celery": celery, "qcore": qcore.celery.app}
WORKERS = {"celery": celery.contrib.testing.worker, "qcore": qcore.testing.worker}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def app_of(kind: str, url: str, interval_s: float | None) -> Any:
    options = {} if interval_s is None else {"health_check_interval": interval_s}
    app = KINDS[kind].Celery("x", broker=url, set_as_current=False)
    app.conf.update(broker_transport_options=options, worker_hijack_root_logger=False)
    return app


@contextmanager
def pings(url: str) -> Iterator[list[str]]:
    """The connections that send a PING, as they do it."""
    seen: list[str] = []
    with redis.Redis.from_url(url) as client, client.monitor() as monitor:

        def listen() -> None:
            while (said := monitor.next_command())["command"] != "ECHO end":
                if said["command"].partition(" ")[0] == "PING":
                    seen.append(f"{said['client_address']}:{said['client_port']}")

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        yield seen
        client.echo("end")
        listener.join()


@pytest.mark.parametrize(("interval_s", "checked"), [(0.01, True), (100, False), (0, False), (None, False)])
def test_an_idle_connection_is_checked_before_its_next_use(
    kind: str, interval_s: float | None, checked: bool, redis_url: str
) -> None:
    app = app_of(kind, redis_url, interval_s)
    app.send_task("t")  # a connection of kombu sends a PING when it is made

    with pings(redis_url) as sent:
        time.sleep(0.02)
        app.send_task("t")
    app.close()

    assert bool(sent) is checked


@pytest.mark.parametrize("interval_s", [0.1, 0])
def test_a_subscription_of_an_idle_worker_is_checked(kind: str, interval_s: float, redis_url: str) -> None:
    app = app_of(kind, redis_url, interval_s)

    with WORKERS[kind].start_worker(app, perform_ping_check=False), redis.Redis.from_url(redis_url) as client:
        subscribed = wait_for(
            lambda: {one["addr"] for one in client.client_list() if int(one["psub"]) + int(one["sub"])},
            what="a subscription",
        )
        with pings(redis_url) as sent:
            if interval_s:
                wait_for(lambda: len([one for one in sent if one in subscribed]) >= 2, what="checks")
            else:
                assert len(app.control.ping(timeout=10, limit=1)) == 1
    app.close()

    assert bool(subscribed.intersection(sent)) is bool(interval_s)


def test_how_often_is_celerys_default() -> None:
    assert Channel.health_check_interval == CHECK_S


def test_a_call_after_a_connection_was_found_lost_is_sent_once() -> None:
    server = RedisServer(require_server())
    app = app_of("qcore", server.url, 0.01)
    app.send_task("t")
    with server.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        time.sleep(0.02)

        app.send_task("t")

        assert client.llen("celery") == 2
    app.close()
    server.stop()


@pytest.fixture
def timeouts(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """With which time-out each connection is made."""
    connect, seen = socket.socket.connect, list[float | None]()

    def recorded(made: socket.socket, address: Any) -> None:
        seen.append(made.gettimeout())
        connect(made, address)

    monkeypatch.setattr(socket.socket, "connect", recorded)
    return seen


@pytest.mark.parametrize("is_broker", [True, False])
def test_connections_to_results_are_waited_for_as_long_as_the_setting_says(
    kind: str, is_broker: bool, redis_url: str, timeouts: list[float | None]
) -> None:
    app = app_of(kind, redis_url if is_broker else "memory://", None)
    app.conf.update(result_backend=redis_url, redis_socket_connect_timeout=7.5)

    assert app.AsyncResult("x").state == "PENDING"
    app.close()

    assert timeouts == [7.5]


def test_connections_to_the_broker_are_waited_for_as_long_as_the_option_says(
    kind: str, redis_url: str, timeouts: list[float | None]
) -> None:
    app = app_of(kind, redis_url, None)
    app.conf.broker_transport_options = {"socket_connect_timeout": 2.5}

    app.send_task("t")
    app.close()

    assert set(timeouts) == {2.5}
