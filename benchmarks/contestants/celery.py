"""Celery, prefork or threads: late ack, JSON, results in the same Redis.

The prefetch multiplier is 128: with its default of 4 a worker is starved by round trips, and the
comparison should be with Celery at its best. No gossip, mingle, heartbeat or rate limits.
"""

from __future__ import annotations

import time
from typing import Any

from celery import Celery, chain, chord, group
from kombu import Queue

from benchmarks.contestants import QUEUE, keeps_results, kind, queue, sends_events, url
from benchmarks.contestants.keys import client, count_matching, count_values
from benchmarks.contestants.parts import in_parts

__all__ = ["app", "chain", "chord", "group"]

SETTINGS = {
    "threads": "two nodes, threads -c 8 each, otherwise as celery-prefork",
}.get(
    kind(),
    "one node, prefork -c 2, prefetch multiplier 128, late ack, rate limits off, json, -O fair (default), "
    "gossip/mingle/heartbeat off, log level WARNING; results off = task_ignore_result",
)
PACKAGES = ("celery", "kombu", "amqp", "billiard", "redis", "hiredis")
TASKS = 3000

_on_rabbit = url().startswith("amqp")
app = Celery("bench", broker=url(), backend="rpc://" if _on_rabbit else url())
app.conf.update(
    task_default_queue=QUEUE,
    task_queues=[Queue(QUEUE, routing_key=QUEUE)],
    task_create_missing_queues=True,
    task_acks_late=True,
    task_ignore_result=not keeps_results(),
    worker_prefetch_multiplier=128,
    worker_disable_rate_limits=True,
    broker_connection_retry_on_startup=True,
)
if _on_rabbit:
    app.conf.broker_transport_options = {"confirm_publish": True}


@app.task(name="bench.noop")
def noop() -> None:
    """Nothing."""


@app.task(name="bench.late")
def late(due: float) -> float:
    """By how many seconds it starts late."""
    return time.time() - due


@app.task(name="bench.step")
def step(i: int) -> int:
    return i + 1


@app.task(name="bench.tally")
def tally(values: list[Any]) -> int:
    return len(values)


def workers(children: int) -> list[list[str]]:
    command = ["-m", "celery", "-A", "benchmarks.contestants.celery", "worker", "-Q", QUEUE, "-l", "WARNING"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat", *["-E"] * sends_events()]
    if kind() == "threads":
        return [[*command, "-P", "threads", "-c", "8", "-n", f"{node}@bench"] for node in ("one", "two")]
    return [[*command, "-P", "prefork", "-c", str(children), "-n", "one@bench"]]


def send(n: int) -> list[str]:
    call, where = noop.apply_async, queue()
    return [call(queue=where).id for _ in range(n)]


def send_bulk(n: int) -> list[str]:
    where = queue()
    return [r.id for r in group(noop.s().set(queue=where) for _ in range(n)).apply_async().results]


def send_due(due: float) -> str:
    return str(late.delay(due).id)


def send_later(dues: list[float]) -> list[str]:
    return [late.apply_async((due,), countdown=due - time.time()).id for due in dues]


def trip() -> None:
    noop.delay().get(timeout=60)


def stored(handles: list[str]) -> int:
    return count_values([f"celery-task-meta-{h}" for h in handles], lambda raw: b'"SUCCESS"' in raw)


def answers(handles: list[str]) -> list[Any]:
    keys = [f"celery-task-meta-{h}" for h in handles]
    metas = [app.backend.decode(raw) for part in in_parts(keys) for raw in client().mget(part) if raw]
    return [meta["result"] if meta["status"] == "SUCCESS" else None for meta in metas]


def kept() -> int:
    return count_matching("celery-task-meta-*")


def left() -> int:
    return ready() + int(client().hlen("unacked"))


def ready() -> int:
    return int(client().llen(QUEUE))


def watcher(most: int) -> Any:
    """What remembers so many tasks of the batches that it is given."""
    return watch_with(app.events.State(max_tasks_in_memory=most))


def watch_with(state: Any) -> Any:
    """The receiver adds its own time to each event; without it there is no state."""

    def watch(batch: list[dict[str, Any]]) -> None:
        for event in batch:
            if "local_received" not in event:
                event["local_received"] = event["timestamp"]
            state.event(event)

    return watch


def overhear(watch: Any) -> None:
    """Give watch() what the broker says; it ends by raising."""
    with app.connection() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": lambda event: watch([event])})
        receiver.capture(limit=None, timeout=60, wakeup=False)
