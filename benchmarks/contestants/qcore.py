"""qcore: prefork, late ack (its default), JSON, results kept by the broker."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from benchmarks.contestants import QUEUE, keeps_results, node, queue, sends_events, url
from benchmarks.contestants.parts import in_parts
from qcore import App, chain, chord, group
from qcore.events.receiver import listen
from qcore.events.state import State

__all__ = ["app", "chain", "chord", "group"]

SETTINGS = "prefork -c 2, late ack, json, results in the broker's own store; otherwise the defaults"
PACKAGES = ("qctl", "redis", "hiredis", "kombu", "amqp", "msgspec")
TASKS = 20_000

# On RabbitMQ results are sent back as messages, by both contestants, and only for the round trip.
_apart = {"result_backend": "rpc://"} if url().startswith("amqp") else {}
app = App("bench", broker=url(), task_default_queue=QUEUE, task_ignore_result=not keeps_results(), **_apart)


@app.task(name="bench.noop")
def noop() -> None:
    """Nothing."""


@app.task(name="bench.late")
def late(due: float) -> float:
    """By how many seconds it starts late."""
    return time.time() - due


@app.task(name="bench.nap")
def nap() -> float:
    """When it started, which it says at once as well."""
    from benchmarks.contestants.keys import STARTED, client

    began = time.time()
    client().incr(STARTED)
    time.sleep(4)
    return began


@app.task(name="bench.step")
def step(i: int) -> int:
    return i + 1


@app.task(name="bench.tally")
def tally(values: list[Any]) -> int:
    return len(values)


def workers(children: int) -> list[list[str]]:
    command = ["-m", "qctl", "-A", "benchmarks.contestants.qcore", "worker", "-P", "prefork"]
    command += ["-c", str(children), "-Q", QUEUE, "-n", node(), "-l", "WARNING"]
    return [command + ["-E"] * sends_events()]


def send(n: int) -> list[str]:
    call, where = noop.apply_async, queue()
    return [call(queue=where).id for _ in range(n)]


def send_bulk(n: int) -> list[str]:
    where = queue()
    return [r.id for r in app.send_many(noop.s().set(queue=where) for _ in range(n))]


def send_tuples(n: int) -> list[str]:
    return [r.id for r in app.send_many(noop, [()] * n, queue=queue())]


def send_due(due: float) -> str:
    return str(late.delay(due).id)


def send_naps(n: int) -> list[str]:
    return [nap.delay().id for _ in range(n)]


def send_later(dues: list[float]) -> list[str]:
    return [late.apply_async((due,), countdown=due - time.time()).id for due in dues]


def trip() -> None:
    noop.delay().get(timeout=60)


def stored(handles: list[str]) -> int:
    return sum(_is_success(meta) for meta in _metas(handles))


def answers(handles: list[str]) -> list[Any]:
    return [meta.result if _is_success(meta) else None for meta in _metas(handles)]


def kept() -> int:
    if url().startswith("sqlite"):
        with sqlite3.connect(url().removeprefix("sqlite:///")) as file:
            return int(file.execute("SELECT count(*) FROM results").fetchone()[0])
    from benchmarks.contestants.keys import count_matching

    return count_matching("celery-task-meta-*")


def left() -> int:
    depth = app.broker.administration.depth(QUEUE)
    return depth.ready + (depth.delayed or 0) + (depth.in_flight or 0)


def ready() -> int:
    return app.broker.administration.depth(QUEUE).ready


def _metas(handles: list[str]) -> list[Any]:
    return [meta for part in in_parts(handles) for meta in app.broker.results_of(part)]


def _is_success(meta: Any) -> bool:
    return meta is not None and meta.status == "SUCCESS"


def watcher(most: int) -> Any:
    """What remembers so many tasks of the batches that it is given."""
    return State(most).fold


def overhear(watch: Any) -> None:
    """Give watch() what the broker says; it ends by raising."""
    with listen(app.broker) as batches:
        for batch in batches:
            if batch:
                watch(batch)
