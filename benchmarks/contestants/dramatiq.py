"""dramatiq on Redis: two processes of one thread, results by its own middleware."""

from __future__ import annotations

import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.contestants import QUEUE, keeps_results, queue, url
from benchmarks.contestants.keys import client, count_existing, count_matching

SETTINGS = (
    "--processes 2 --threads 1 (best of 1, 2, 8), dramatiq_queue_prefetch=200, default middleware, "
    "Results middleware only when results are on"
)
PACKAGES = ("dramatiq", "redis", "hiredis")
TASKS = 8000
ENVIRON = {"dramatiq_queue_prefetch": "200"}
PREFIX = "bench-results"

broker = RedisBroker(url=url())
_backend = RedisBackend(url=url(), namespace=PREFIX, use_namespace_prefix_keys=True)
if keeps_results():
    broker.add_middleware(Results(backend=_backend, store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=QUEUE)
def noop() -> None:
    """Nothing."""


@dramatiq.actor(queue_name=QUEUE)
def late(due: float) -> float:
    """By how many seconds it starts late."""
    return time.time() - due


broker.declare_queue(queue())


def workers(children: int) -> list[list[str]]:
    module = "benchmarks.contestants.dramatiq"
    return [["-m", "dramatiq", module, "--processes", str(children), "--threads", "1", "-Q", QUEUE]]


def send(n: int) -> list[str]:
    where = queue()
    if where == QUEUE:
        return [_backend.build_message_key(noop.send()) for _ in range(n)]
    return [_backend.build_message_key(noop.send_with_options(queue_name=where)) for _ in range(n)]


def trip() -> None:
    noop.send().get_result(block=True, timeout=60_000)


def stored(handles: list[str]) -> int:
    return count_existing(handles)


def kept() -> int:
    return count_matching(PREFIX + "*")


def left() -> int:
    return int(client().hlen(f"dramatiq:{QUEUE}.msgs"))
