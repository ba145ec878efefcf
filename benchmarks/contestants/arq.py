"""arq: two worker processes, asyncio."""

from __future__ import annotations

import asyncio
from typing import Any

from arq import create_pool, func
from arq.connections import RedisSettings

from benchmarks.contestants import QUEUE, keeps_results, queue, url
from benchmarks.contestants.keys import client, count_existing, count_matching
from benchmarks.contestants.loop import run

SETTINGS = (
    "2 processes, max_jobs 100, poll_delay 0.005 (worker and client; default 0.5), logging off; "
    "results off = keep_result 0"
)
PACKAGES = ("arq", "redis", "hiredis", "uvloop")
TASKS = 5000
TOGETHER = 100
QUIET = {"version": 1, "disable_existing_loggers": True}

_redis = RedisSettings.from_dsn(url())
_pool: Any = None


async def noop(ctx: Any) -> None:
    """Nothing."""


class WorkerSettings:
    functions = [func(noop, name="noop", keep_result=3600 if keeps_results() else 0)]  # noqa: RUF012
    redis_settings = _redis
    queue_name = QUEUE
    max_jobs = 100
    poll_delay = 0.005


def workers(children: int) -> list[list[str]]:
    settings = "benchmarks.contestants.arq.WorkerSettings"
    quiet = "benchmarks.contestants.arq.QUIET"
    return [["-m", "arq", settings, "--custom-log-dict", quiet] for _ in range(children)]


async def _one() -> Any:
    global _pool
    if _pool is None:
        _pool = await create_pool(_redis)
    return await _pool.enqueue_job("noop", _queue_name=queue())


async def _send(n: int) -> list[str]:
    return [f"arq:result:{(await _one()).job_id}" for _ in range(n)]


def send(n: int) -> list[str]:
    return run(_send(n))


async def _send_bulk(n: int) -> list[str]:
    keys = []
    for start in range(0, n, TOGETHER):
        jobs = await asyncio.gather(*(_one() for _ in range(min(TOGETHER, n - start))))
        keys += [f"arq:result:{job.job_id}" for job in jobs]
    return keys


def send_bulk(n: int) -> list[str]:
    return run(_send_bulk(n))


async def _trip() -> None:
    await (await _one()).result(timeout=60, poll_delay=0.005)


def trip() -> None:
    run(_trip())


def stored(handles: list[str]) -> int:
    return count_existing(handles)


def kept() -> int:
    return count_matching("arq:result:*")


def left() -> int:
    return int(client().zcard(QUEUE))
