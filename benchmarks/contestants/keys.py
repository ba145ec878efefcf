"""Looking at keys of Redis: what contestants with redis-py count their results with."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import redis

from benchmarks.contestants import url
from benchmarks.contestants.parts import in_parts

#: counts the tasks that have started, where they say so
STARTED = "bench.started"


@cache
def client() -> redis.Redis:
    return redis.Redis.from_url(url())


def count_existing(keys: list[str]) -> int:
    return sum(client().exists(*part) for part in in_parts(keys))


def count_values(keys: list[str], is_good: Callable[[bytes], bool]) -> int:
    """How many of the keys hold a value that is good."""
    return sum(raw is not None and is_good(raw) for part in in_parts(keys) for raw in client().mget(part))


def count_matching(pattern: str) -> int:
    return sum(1 for _ in client().scan_iter(pattern, count=10_000))


def behind_group(stream: str) -> int:
    """Messages that the stream's group has not been given, or has not acknowledged."""
    try:
        groups = client().xinfo_groups(stream)
    except redis.ResponseError:
        return 0
    if not groups:
        return int(client().xlen(stream))
    return int(groups[0]["lag"] or 0) + int(groups[0]["pending"])
