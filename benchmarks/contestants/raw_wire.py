"""A roof for what speaks Celery's formats: raw.py with its envelope, its body and its results.

The envelope and the body are decoded in the worker, the result is `celery-task-meta-<id>` JSON, stored
and published as Celery does. What no queue of that format can beat in Python, done this plainly.
"""

from __future__ import annotations

import base64
import json
import sys
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import redis

from benchmarks.contestants import queue, url
from benchmarks.contestants.keys import client, count_matching, count_values
from benchmarks.contestants.raw import BATCH, KEEP_S, PACKAGES, fork, left, push

__all__ = ["BATCH", "PACKAGES", "left"]

SETTINGS = (
    "2 worker processes; as raw, with Celery's message envelope and body, celery-task-meta-<id> JSON, "
    "SETEX + PUBLISH per result"
)
TASKS = 30_000
RESULT = "celery-task-meta-"
_ENDS: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_ORIGIN = "bench@localhost"


def message(task_id: str) -> bytes:
    """One call of a task without arguments, as Celery queues it."""
    body = json.dumps(((), {}, _ENDS)).encode()
    headers = {
        "lang": "py",
        "task": "bench.noop",
        "id": task_id,
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": task_id,
        "parent_id": None,
        "argsrepr": "()",
        "kwargsrepr": "{}",
        "origin": _ORIGIN,
        "ignore_result": False,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    properties = {
        "correlation_id": task_id,
        "reply_to": "8d9c1e6a-6f4e-3a60-93c9-3c7d1f6f2a11",
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": queue()},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": str(uuid.uuid4()),
    }
    envelope = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": properties,
    }
    return json.dumps(envelope).encode()


def workers(children: int) -> list[list[str]]:
    return [["-m", "benchmarks.contestants.raw_wire", str(children)]]


def send(n: int) -> list[str]:
    lpush, where = client().lpush, queue()
    ids = [str(uuid.uuid4()) for _ in range(n)]
    for task_id in ids:
        lpush(where, message(task_id))
    return [RESULT + i for i in ids]


def send_bulk(n: int) -> list[str]:
    ids = [str(uuid.uuid4()) for _ in range(n)]
    push([message(i) for i in ids])
    return [RESULT + i for i in ids]


fill = send_bulk


def trip() -> None:
    """Publish, then wait for the result's announcement."""
    task_id = str(uuid.uuid4())
    channel = RESULT + task_id
    _ears.subscribe(channel)
    client().lpush(queue(), message(task_id))
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        said = _ears.get_message(timeout=60)
        if said is not None and said["type"] == "message":
            _ears.unsubscribe(channel)
            return
    raise TimeoutError("raw-wire: no result within 60 s")


_ears = redis.Redis.from_url(url()).pubsub()


def stored(handles: list[str]) -> int:
    return count_values(handles, lambda raw: b'"SUCCESS"' in raw)


def kept() -> int:
    return count_matching(RESULT + "*")


def answer(pipe: Any, raw: bytes, storing: bool) -> None:
    envelope = json.loads(raw)
    json.loads(base64.b64decode(envelope["body"]))
    task_id = envelope["headers"]["id"]
    if not storing:
        return
    meta = {
        "status": "SUCCESS",
        "result": None,
        "traceback": None,
        "children": [],
        "date_done": datetime.now(UTC).isoformat(),
        "task_id": task_id,
    }
    kept = json.dumps(meta).encode()
    pipe.setex(RESULT + task_id, KEEP_S, kept)
    pipe.publish(RESULT + task_id, kept)


if __name__ == "__main__":
    fork(int(sys.argv[1]), answer)
