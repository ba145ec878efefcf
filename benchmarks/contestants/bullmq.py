"""BullMQ on node: two processes. Calls and workers are bullmq.js; what it has done is read from its keys."""

from __future__ import annotations

from functools import cache

from benchmarks.contestants import QUEUE
from benchmarks.contestants.keys import client
from benchmarks.contestants.parts import in_parts
from benchmarks.contestants.producer import Producer

SETTINGS = (
    "2 node processes, concurrency 100 (10 to 200 are alike, 1 is half), ioredis; calls from a third node "
    "process, timed inside it; bulk = addBulk; results off = removeOnComplete"
)
PACKAGES = ()
TASKS = 8000
AT_ONCE = 1000
#: where a job is until it is completed; one that failed is never done
LISTS, SETS = ("wait", "active", "paused"), ("prioritized", "delayed", "failed", "waiting-children")

producer = Producer("bullmq.js")
spent = producer.spent


def versions() -> dict[str, str]:
    return producer.ask("versions")


def workers(children: int) -> list[list[str]]:
    return [[producer.script, "worker"] for _ in range(children)]


def send(n: int) -> list[str]:
    ids: list[str] = producer.ask("send", n)["ids"]
    return ids


def send_bulk(n: int) -> list[str]:
    ids: list[str] = producer.ask("bulk", n)["ids"]
    return ids


def fill(n: int) -> list[str]:
    return [i for start in range(0, n, AT_ONCE) for i in send_bulk(min(AT_ONCE, n - start))]


@cache
def _listen() -> None:
    producer.ask("listen")


def trip() -> None:
    _listen()
    producer.ask("trip")


def stored(handles: list[str]) -> int:
    scores = (client().zmscore(_key("completed"), part) for part in in_parts(handles))
    return sum(score is not None for part in scores for score in part)


def kept() -> int:
    return int(client().zcard(_key("completed")))


def left() -> int:
    with client().pipeline(transaction=True) as pipe:
        for name in LISTS:
            pipe.llen(_key(name))
        for name in SETS:
            pipe.zcard(_key(name))
        return sum(pipe.execute())


def _key(name: str) -> str:
    return f"bull:{QUEUE}:{name}"
