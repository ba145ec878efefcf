"""A roof: the least that a queue on Redis can do, with redis-py, pipelines and one script.

Two processes take 100 tiny messages at a time by a script that moves them to an in-flight list, and
answer with a pipeline of SETEX and one DEL. There are no tasks, no retries, and nobody returns what a
dead process held. raw_wire.py is the same with Celery's formats.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import redis

from benchmarks.contestants import QUEUE, keeps_results, queue, url
from benchmarks.contestants.keys import client, count_existing, count_matching
from benchmarks.contestants.parts import in_parts

SETTINGS = (
    "2 worker processes, redis-py+hiredis, batches of 100: script pop to an in-flight list, pipelined "
    "SETEX + one DEL per batch"
)
PACKAGES = ("redis", "hiredis")
TASKS = 50_000
BATCH = 100
KEEP_S = 3600
POP = """
local got = redis.call('RPOP', KEYS[1], ARGV[1])
if got then redis.call('LPUSH', KEYS[2], unpack(got)) end
return got or {}
"""

#: reads one message and adds to the pipeline what keeps its result, when results are kept
Answer = Callable[[Any, bytes, bool], None]


def workers(children: int) -> list[list[str]]:
    return [["-m", "benchmarks.contestants.raw", str(children)]]


def send(n: int) -> list[str]:
    push, where = client().lpush, queue()
    ids = []
    for _ in range(n):
        ids.append(str(uuid.uuid4()))
        push(where, ids[-1])
    return ["r:" + i for i in ids]


def send_bulk(n: int) -> list[str]:
    ids = [str(uuid.uuid4()) for _ in range(n)]
    push(ids)
    return ["r:" + i for i in ids]


fill = send_bulk


def push(messages: list[Any]) -> None:
    """Pipelined, 1,000 messages a command."""
    with client().pipeline(transaction=False) as pipe:
        for part in in_parts(messages, 1000):
            pipe.lpush(queue(), *part)
        pipe.execute()


def trip() -> None:
    (key,) = send(1)
    give_up = time.monotonic() + 60
    while not client().exists(key):
        if time.monotonic() > give_up:
            raise TimeoutError("raw: no result within 60 s")


def stored(handles: list[str]) -> int:
    return count_existing(handles)


def kept() -> int:
    return count_matching("r:*")


def left() -> int:
    return int(client().llen(QUEUE)) + sum(int(client().llen(k)) for k in client().keys("in-flight:*"))


def answer(pipe: Any, message: bytes, storing: bool) -> None:
    if storing:
        pipe.setex(b"r:" + message, KEEP_S, b"1")


def work(answer: Answer) -> None:
    """One worker process, until it is killed."""
    server = redis.Redis.from_url(url())
    mine = f"in-flight:{os.getpid()}"
    pop = server.register_script(POP)
    storing = keeps_results()
    batch: list[bytes] = []
    while True:
        if not batch:
            # Sleeps until there is something, and holds it where a script would have put it.
            first = server.blmove(QUEUE, mine, 5, "RIGHT", "LEFT")
            if first is None:
                continue
            batch = [first]
        with server.pipeline(transaction=False) as pipe:
            for message in batch:
                answer(pipe, message, storing)
            pipe.delete(mine)
            pop(keys=[QUEUE, mine], args=[BATCH], client=pipe)
            batch = pipe.execute()[-1]


def fork(children: int, answer: Answer) -> None:
    """This process is the first worker."""
    for _ in range(children - 1):
        if not os.fork():
            break
    work(answer)


if __name__ == "__main__":
    fork(int(sys.argv[1]), answer)
