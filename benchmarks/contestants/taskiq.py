"""taskiq on Redis streams, with acknowledgements: two processes, asyncio."""

from __future__ import annotations

import asyncio
from typing import Any

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.contestants import QUEUE, keeps_results, queue, url
from benchmarks.contestants.keys import behind_group, count_existing, count_matching
from benchmarks.contestants.loop import run

SETTINGS = (
    "RedisStreamBroker (acks), 2 workers, max-async-tasks 100, xread_count 100, --no-parse, uvloop, "
    "async task; results off = no result backend; client check_interval 0.005 (default 0.2)"
)
PACKAGES = ("taskiq", "taskiq-redis", "redis", "hiredis", "uvloop", "orjson")
TASKS = 6000
TOGETHER = 100

# The group begins at the start of the stream, so that a task queued before the first worker is found.
broker: Any = RedisStreamBroker(url(), queue_name=queue(), consumer_id="0", xread_count=100)
if keeps_results():
    broker = broker.with_result_backend(
        RedisAsyncResultBackend(url(), prefix_str="bench", result_ex_time=3600)
    )
_open = False


@broker.task(task_name="noop")
async def noop() -> None:
    """Nothing."""


def workers(children: int) -> list[list[str]]:
    command = ["-m", "taskiq", "worker", "benchmarks.contestants.taskiq:broker", "--workers", str(children)]
    return [[*command, "--max-async-tasks", "100", "--no-parse", "--log-level", "ERROR"]]


async def _one() -> Any:
    global _open
    if not _open:
        _open = True
        await broker.startup()
    return await noop.kiq()


async def _send(n: int) -> list[str]:
    return [f"bench:{(await _one()).task_id}" for _ in range(n)]


def send(n: int) -> list[str]:
    return run(_send(n))


async def _send_bulk(n: int) -> list[str]:
    keys = []
    for start in range(0, n, TOGETHER):
        tasks = await asyncio.gather(*(_one() for _ in range(min(TOGETHER, n - start))))
        keys += [f"bench:{task.task_id}" for task in tasks]
    return keys


def send_bulk(n: int) -> list[str]:
    return run(_send_bulk(n))


async def _trip() -> None:
    result = await (await _one()).wait_result(check_interval=0.005, timeout=60)
    if result.is_err:
        raise RuntimeError(f"taskiq: {result.error}")


def trip() -> None:
    run(_trip())


def stored(handles: list[str]) -> int:
    return count_existing(handles)


def kept() -> int:
    return count_matching("bench:*")


def left() -> int:
    """Behind the group, and taken without an acknowledgement."""
    return behind_group(QUEUE)
