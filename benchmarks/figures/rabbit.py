"""RabbitMQ, both with publisher confirms and late ack: publish, drain (results off), round trip (rpc)."""

from __future__ import annotations

import time
import uuid

from benchmarks.arena import Arena, Invalid
from benchmarks.contestants import QUEUE, WAITING
from benchmarks.figures.drain import WARM
from benchmarks.lineup import Side
from benchmarks.sizes import Sizes
from tests.support.rabbit_server import RabbitServer

SECONDS = 18.0
GIVE_UP_S = 120.0


def takes(side: Side) -> bool:
    return side.is_both


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    """Tasks a second, milliseconds; nothing where RabbitMQ is not installed. Raises Invalid."""
    server = arena.rabbit
    if server is None:
        return {}
    n = min(arena.tasks(side, sizes.tasks), 10_000)
    vhost = f"bench{uuid.uuid4().hex[:8]}"
    env = {"BENCH_URL": server.add_vhost(vhost), "BENCH_FIGURE": "rabbit"}
    try:
        with arena.workers(side, **env):
            trips = arena.ask(side, "trips", sizes.trips, sizes.trips_s, **env)
        env["BENCH_RESULTS"] = "off"
        publish = arena.ask(side, "publish", n, BENCH_QUEUE=WAITING, **env)
        rate = _drain(arena, side, server, vhost, n, env)
    finally:
        server.delete_vhost(vhost)
    return {"rabbit_publish": publish["rate"], "rabbit_drain": rate, "rabbit_p50": trips["p50"]}


def _drain(arena: Arena, side: Side, server: RabbitServer, vhost: str, n: int, env: dict[str, str]) -> float:
    """As the other drains; what is queued or held is asked of the server itself."""
    with arena.workers(side, **env) as fleet:
        arena.ask(side, "fill", WARM, **env)
        _wait_empty(server, vhost)
        fleet.pause()
        arena.ask(side, "fill", n, **env)
        if (queued := _count(server, vhost)) != n:
            raise Invalid(f"{side.name}: {queued} of {n} tasks are queued")
        begin = time.monotonic()
        fleet.resume()
        _wait_empty(server, vhost)
        return n / (time.monotonic() - begin)


def _wait_empty(server: RabbitServer, vhost: str) -> None:
    stop = time.monotonic() + GIVE_UP_S
    while left := _count(server, vhost):
        if time.monotonic() > stop:
            raise Invalid(f"{left} messages are left after {GIVE_UP_S:.0f} s")


def _count(server: RabbitServer, vhost: str) -> int:
    """Messages ready and unacknowledged."""
    name = f'rabbit_misc:r(<<"{vhost}">>, queue, <<"{QUEUE}">>)'
    said = server.ask(
        f"(fun() -> case rabbit_amqqueue:lookup({name}) of {{ok, Found}} -> "
        "proplists:get_value(messages, rabbit_amqqueue:info(Found, [messages])); _ -> 0 end end)()"
    )
    return int(said)
