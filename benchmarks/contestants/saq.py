"""SAQ on Redis: two processes, asyncio."""

from __future__ import annotations

import asyncio
from typing import Any

from saq import Queue

from benchmarks.contestants import QUEUE, keeps_results, queue, url
from benchmarks.contestants.keys import client, count_matching, count_values
from benchmarks.contestants.loop import run

SETTINGS = (
    "--workers 2, concurrency 50 (better than the default 10), async task; results off = job ttl -1 "
    "(deleted when done); apply poll_interval 0.005 (default 0.5)"
)
PACKAGES = ("saq", "redis", "hiredis", "uvloop")
TASKS = 5000
TOGETHER = 100

_queue = Queue.from_url(url(), name=queue())
_ttl = 600 if keeps_results() else -1


async def noop(ctx: Any) -> None:
    """Nothing."""


settings = {"queue": _queue, "functions": [noop], "concurrency": 50}


def workers(children: int) -> list[list[str]]:
    return [["-m", "saq", "benchmarks.contestants.saq.settings", "--workers", str(children), "-q"]]


async def _send(n: int) -> list[str]:
    return [f"saq:job:{QUEUE}:{(await _queue.enqueue('noop', ttl=_ttl)).key}" for _ in range(n)]


def send(n: int) -> list[str]:
    return run(_send(n))


async def _send_bulk(n: int) -> list[str]:
    keys = []
    for start in range(0, n, TOGETHER):
        calls = (_queue.enqueue("noop", ttl=_ttl) for _ in range(min(TOGETHER, n - start)))
        keys += [f"saq:job:{QUEUE}:{job.key}" for job in await asyncio.gather(*calls)]
    return keys


def send_bulk(n: int) -> list[str]:
    return run(_send_bulk(n))


def trip() -> None:
    run(_queue.apply("noop", timeout=60, poll_interval=0.005))


def stored(handles: list[str]) -> int:
    return count_values(handles, lambda raw: b'"complete"' in raw)


def kept() -> int:
    return count_matching(f"saq:job:{QUEUE}:*")


def left() -> int:
    return int(client().zcard(f"saq:{QUEUE}:incomplete"))
