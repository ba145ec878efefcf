"""An unmodified project of Celery with every serializer and compression: as a worker, and as a client, of
either kind. Its settings are in the environment variable WIRED.

    python -c "from tests.projects import wired; wired.main('table')"       # a client; prints what came back
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from typing import Any

import kombu.compression
import kombu.serialization
import zstandard
from celery import Celery, chain, chord

SERIALIZERS = ("json", "yaml", "msgpack", "pickle", "backwards")
COMPRESSIONS = (None, "gzip", "bzip2", "lzma", "brotli", "zstd")
QUEUES = ("of-qcore", "of-celery")

kombu.serialization.register(
    "backwards",
    lambda value: json.dumps(value)[::-1],
    lambda raw: json.loads(raw[::-1]),
    "application/x-backwards",
)
if "qcore.celery" not in sys.modules:  # Celery's own zstd needs another package on this Python
    kombu.compression.register(
        zstandard.ZstdCompressor().compress,
        zstandard.ZstdDecompressor().decompress,
        "application/zstd",
        ["zstd"],
    )

app = Celery("wired")
app.conf.update(json.loads(os.environ["WIRED"]))
if app.conf.task_serializer == "auth":
    app.setup_security()


class Odd(Exception):
    """An exception that only a pickle carries with all that it knows."""

    def __init__(self, what: str, number: int) -> None:
        super().__init__(what)
        self.number = number

    def __reduce__(self) -> Any:
        return type(self), (self.args[0], self.number)


@app.task(name="wired.echo")
def echo(value: Any) -> Any:
    return value


@app.task(name="wired.add")
def add(one: int, other: int) -> int:
    return one + other


@app.task(name="wired.fail")
def fail(what: str, number: int) -> None:
    raise Odd(what, number)


@app.task(name="wired.lose")
def lose(what: str) -> None:
    raise LookupError(what)


@app.task(name="wired.total")
def total(values: list[int]) -> int:
    return sum(values)


def get(result: Any) -> Any:
    try:
        return result.get(timeout=60, interval=0.02)
    except Exception as exc:
        return f"{type(exc).__name__} {exc.args} {getattr(exc, 'number', '')}".strip()


def table() -> dict[str, Any]:
    """Every serializer with every compression, to both workers; then chords over both."""
    sent = {}
    for queue, serializer, compression in itertools.product(QUEUES, SERIALIZERS, COMPRESSIONS):
        value = {"text": "é" * 3000, "list": [1, 2.5, None, True, {"a": "b"}]}
        options = {"queue": queue, "serializer": serializer, "compression": compression}
        sent[f"{queue} {serializer} {compression}"] = (value, echo.apply_async((value,), **options))
    wrong = {name: str(got)[:200] for name, (value, r) in sent.items() if (got := get(r)) != value}
    ends: dict[str, Any] = {"sent": len(sent), "wrong": wrong}
    for queue, other in (QUEUES, QUEUES[::-1]):
        members = [add.s(n, n).set(queue=q) for n, q in enumerate((queue, other, queue))]
        ends[f"chord {queue}"] = get(chord(members, total.s().set(queue=other)).apply_async())
        ends[f"fail {queue}"] = get(fail.apply_async(("odd", 7), queue=queue))
        steps = chain(add.s(1, 2).set(queue=queue), add.s(3).set(queue=other), add.s(4).set(queue=queue))
        ends[f"chain {queue}"] = get(steps.apply_async())
    return ends


def chains() -> dict[str, Any]:
    """Chains that go from one worker to the other."""
    ends: dict[str, Any] = {}
    for queue, other in (QUEUES, QUEUES[::-1]):
        steps = chain(add.s(1, 2).set(queue=queue), add.s(3).set(queue=other), add.s(4).set(queue=queue))
        ends[f"chain {queue}"] = get(steps.apply_async())
        ends[f"fail {queue}"] = get(lose.apply_async(("odd",), queue=queue))
    return ends


def one() -> dict[str, Any]:
    """One call to each worker, whose ids are printed; nobody waits for them."""
    return {queue: add.apply_async((1, 2), queue=queue).id for queue in QUEUES}


def main(what: str) -> None:
    print("ANSWER", json.dumps(globals()[what]()))
