"""streaQ: two processes, asyncio, Redis streams. Its client is coredis, so redis-py is not there."""

from __future__ import annotations

from typing import Any

from streaq import Worker

from benchmarks.contestants import QUEUE, keeps_results, queue, url
from benchmarks.contestants.loop import run
from benchmarks.contestants.parts import in_parts

SETTINGS = (
    "--workers 2, concurrency 16 (default; best of 16, 64, 256), uvloop, silent async task; "
    "results off = ttl 0"
)
PACKAGES = ("streaq", "coredis", "hiredis", "uvloop")
TASKS = 4000
RESULTS = f"streaq:{QUEUE}:task:results:"

worker: Any = Worker(redis_url=url(), queue_name=queue(), anyio_kwargs={"use_uvloop": True})
_open = False


@worker.task(silent=True, ttl=300 if keeps_results() else 0)
async def noop() -> None:
    """Nothing."""


def workers(children: int) -> list[list[str]]:
    return [["-m", "streaq", "run", "benchmarks.contestants.streaq:worker", "--workers", str(children)]]


async def _connect() -> None:
    global _open
    if not _open:
        _open = True
        await worker.__aenter__()  # never left: the process ends with it


async def _send(n: int) -> list[str]:
    await _connect()
    return [RESULTS + (await noop.enqueue()).id for _ in range(n)]


def send(n: int) -> list[str]:
    return run(_send(n))


async def _send_bulk(n: int) -> list[str]:
    await _connect()
    tasks = [noop.enqueue() for _ in range(n)]
    await worker.enqueue_many(tasks)
    return [RESULTS + task.id for task in tasks]


def send_bulk(n: int) -> list[str]:
    return run(_send_bulk(n))


async def _trip() -> None:
    await _connect()
    task = await noop.enqueue()
    result = await task.result(60)
    if not result.success:
        raise RuntimeError(f"streaq: {result}")


def trip() -> None:
    run(_trip())


async def _stored(handles: list[str]) -> int:
    await _connect()
    return sum([await worker.redis.exists(part) for part in in_parts(handles)])


def stored(handles: list[str]) -> int:
    return run(_stored(handles))


async def _kept() -> int:
    await _connect()
    return sum([1 async for _ in worker.redis.scan_iter(match=RESULTS + "*", count=10_000)])


def kept() -> int:
    return run(_kept())


async def _left() -> int:
    await _connect()
    return int(await worker.queue_size())


def left() -> int:
    return run(_left())
