"""repid on Redis streams, with acknowledgements: two processes, asyncio.

It stores no results: where one is waited for (cold start, idle), the actor writes a key. It has no command
for its worker: `-m benchmarks.contestants.repid` is one process.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import uvloop
from redis.asyncio import Redis
from repid import RedisServer, Repid, Router

from benchmarks.contestants import QUEUE, keeps_results, queue, url
from benchmarks.contestants.keys import behind_group, client, count_existing, count_matching
from benchmarks.contestants.loop import run

SETTINGS = (
    "2 processes, uvloop, async actor, tasks_limit 20, batch_size 100 (best of six pairs); "
    "it stores no results: for the cold start the actor writes a key"
)
PACKAGES = ("repid", "redis", "hiredis", "uvloop")
TASKS = 6000
TOGETHER = 100
DONE = "done:"
KEEP_S = 3600

app = Repid(title="bench", version="1")
server = RedisServer(url(), batch_size=100)
app.servers.register_server("bench", server, is_default=True)
router = Router()
_redis = Redis.from_url(url())
_open = False


@router.actor(channel=QUEUE)
async def noop(done: str = "") -> None:
    if done:
        await _redis.set(done, "1", ex=KEEP_S)


app.include_router(router)


def workers(children: int) -> list[list[str]]:
    return [["-m", "benchmarks.contestants.repid"] for _ in range(children)]


async def work() -> None:
    """One worker process, until it is killed."""
    async with server.connection():
        await app.run_worker(tasks_limit=20)


async def _one() -> str:
    global _open
    if not _open:
        _open = True
        await server.connect()
    done: Any = DONE + str(uuid.uuid4()) if keeps_results() and queue() == QUEUE else ""
    await app.send_message_json(
        channel=queue(), payload={"done": done} if done else {}, headers={"topic": "noop"}
    )
    return str(done)


async def _send(n: int) -> list[str]:
    return [await _one() for _ in range(n)]


def send(n: int) -> list[str]:
    return run(_send(n))


async def _send_bulk(n: int) -> list[str]:
    keys: list[str] = []
    for start in range(0, n, TOGETHER):
        keys += await asyncio.gather(*(_one() for _ in range(min(TOGETHER, n - start))))
    return keys


def send_bulk(n: int) -> list[str]:
    return run(_send_bulk(n))


fill = send_bulk


def stored(handles: list[str]) -> int:
    return count_existing(handles)


def kept() -> int:
    return count_matching(DONE + "*")


def left() -> int:
    """Queued, taken, or failed: what failed is in a stream of its own."""
    return behind_group(f"repid:{QUEUE}") + int(client().xlen(f"repid:{QUEUE}:dlq"))


if __name__ == "__main__":
    uvloop.run(work())
