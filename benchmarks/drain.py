"""Working off a full queue, results stored: from the go signal until the last result is in Redis.

The queue is filled under another name, by a process that has left when the clock starts. The go
signal renames it, which wakes a waiting worker of either kind; the worker has run tasks before.
"""

from __future__ import annotations

import json
import time
from typing import Any

import redis

from benchmarks.contestants import QUEUE, WAITING

RESULT = "celery-task-meta-"
LOOK_S = 0.002
GIVE_UP_S = 300.0


class WrongResults(Exception):
    """A drain that did not leave exactly one result for each task: its time means nothing."""


def fill(side: Any, n: int) -> list[str]:
    """Queue n tasks where nobody takes them; their ids."""
    return [side.noop.apply_async(queue=WAITING).id for _ in range(n)]


def drain(client: redis.Redis, ids: list[str]) -> dict[str, float]:
    """Give the go signal and wait for the results; tasks a second. Raises WrongResults."""
    keys = [RESULT + i for i in ids]
    if client.llen(WAITING) != len(ids):
        raise WrongResults(f"{client.llen(WAITING)} of {len(ids)} tasks are queued")

    begin = time.perf_counter()
    client.rename(WAITING, QUEUE)
    while client.dbsize() < len(ids) or client.exists(*keys) < len(ids):
        if time.perf_counter() - begin > GIVE_UP_S:
            raise WrongResults(f"{client.exists(*keys)} of {len(ids)} results after {GIVE_UP_S:.0f} s")
        time.sleep(LOOK_S)
    took = time.perf_counter() - begin

    check(client, keys)
    return {"drain": len(ids) / took}


def check(client: redis.Redis, keys: list[str]) -> None:
    """Exactly these results, each a success, and an empty queue."""
    found = {key.decode() for key in client.scan_iter(RESULT + "*", count=10_000)}
    if found != set(keys):
        raise WrongResults(f"{len(set(keys) - found)} results missing, {len(found - set(keys))} too many")
    states = [json.loads(raw)["status"] for raw in client.mget(keys) if raw is not None]
    if set(states) != {"SUCCESS"}:
        raise WrongResults(f"not all tasks succeeded: {sorted(set(states))}")
    if client.llen(QUEUE):
        raise WrongResults(f"{client.llen(QUEUE)} tasks are still queued")
