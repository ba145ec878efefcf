"""A monitor's work: events taken in for each second of CPU time, and the memory of a remembered task.

Fed directly, and through Redis with each one's own receiver; the same events, of a fleet that is not there:
about three events a task, in messages of twenty. Flower takes the events from Celery's receiver, here without
the queue by which it passes them from one thread to another.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.arena import Arena, Invalid
from benchmarks.lineup import Side
from benchmarks.sizes import Sizes
from qcore.wire import event as wire
from qctl.commands.demo.fleet_events import Fleet
from tests.support.waiting import wait_for

SECONDS = 30.0
WORKERS, RATE = 100, 10_000.0
#: of what is taken in, the share that is remembered: to forget is a part of the work
REMEMBERED = 4


def takes(side: Side) -> bool:
    return side.is_both or side.figures == ("events",)


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    """Events a second, bytes a task."""
    with _life(sizes.watched) as (path, batches, tasks):
        most = tasks // REMEMBERED
        found = {
            "events": arena.ask(side, "take_in", path, most)["rate"],
            "event_bytes": arena.ask(side, "remember", path, tasks)["bytes"],
        }
        found["events_redis"] = _through_redis(arena, side, batches, most)
    return found


def _through_redis(arena: Arena, side: Side, batches: list[list[dict[str, Any]]], most: int) -> float:
    arena.empty()
    events = sum(map(len, batches))
    with arena.redis.client() as client:
        # Publishing is not paced, so what waits for the reader must not end its connection.
        client.config_set("client-output-buffer-limit", "pubsub 0 0 0")
        talk = arena.talk(side, "overhear", events, most)
        try:
            wait_for(lambda: client.pubsub_numpat() > 0, timeout_s=30)
            pipe = client.pipeline(transaction=False)
            for number, batch in enumerate(batches, 1):
                raw = wire.encode(batch, batch[0]["hostname"], wire.BATCH_KEY)
                pipe.publish(f"/0.{wire.EXCHANGE}/{wire.BATCH_KEY}", raw)
                if number % 100 == 0:
                    pipe.execute()
            if not all(pipe.execute()):
                raise Invalid("nobody heard the events")
            return float(talk.hear()["rate"])
        finally:
            talk.end()


@contextmanager
def _life(seconds: float) -> Iterator[tuple[Path, list[list[dict[str, Any]]], int]]:
    """A file of batches, the same in memory, and how many tasks they are about."""
    fleet = Fleet(WORKERS, RATE, since=time.time() - seconds)
    batches = [turn.events for turn in (*fleet.turns(seconds), *fleet.finish(time.time()))]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = Path(folder) / "events"
        with path.open("w") as file:
            file.writelines(json.dumps(batch) + "\n" for batch in batches)
        yield path, batches, sum(fleet.ended.values())
