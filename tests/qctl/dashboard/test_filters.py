"""Filters of the dashboard find in columns what a look at each task would find."""

from __future__ import annotations

import random
import uuid
from typing import Any

import pytest

from qcore import App
from qctl.dashboard.sources.live import LiveSource
from qctl.dashboard.state.lazy_rows import TaskRows
from qctl.dashboard.state.search import Wanted
from qctl.filters import parse
from qctl.fleet.event_record import record_of
from tests.qcore.events.test_events import event


def looked_at(feed: LiveSource) -> list[tuple[str, dict[str, Any]]]:
    """Each task's id with the record that a filter reads."""
    table = feed.memory.state.table
    return [(task.uuid, record_of(task)) for task in map(table.task, table.rows())]


def test_filters_orders_and_far_rows_of_many_tasks() -> None:
    feed = LiveSource(App("many", broker="memory://"), 100_000)
    for number in range(40_000):
        kind = "task-failed" if number % 100 == 7 else "task-succeeded"
        more = {"exception": "KeyError(1)"} if number % 100 == 7 else {"runtime": number / 1000}
        feed.fold(
            [
                event("task-received", f"u{number:06}", name=f"proj.t{number % 3}", args=f"({number},)"),
                event(kind, f"u{number:06}", **more),
            ]
        )
    every = looked_at(feed)

    for text in (
        "state:failed",
        "name:proj.t1 state:failed",
        "args.0=107",
        "runtime>39.5",
        "-state:done",
        "u00012",
        "exc:KeyError or name:*t2",
        'args~"3999"',
    ):
        wanted = parse(text)
        rows = TaskRows(feed.memory.state.table, feed.memory.finder.find(Wanted(wanted)).rows)
        assert [t.uuid for t in rows] == [uuid for uuid, record in every if wanted.matches(record)], text
    found = feed.memory.finder.find(Wanted(parse("-state:failed"), "time"))
    assert found.complete
    assert TaskRows(feed.memory.state.table, found.rows)[0].uuid == "u039999"
    rows = TaskRows(feed.memory.state.table)
    assert [rows[i].uuid for i in (0, 20_000, 39_999)] == ["u039999", "u019999", "u000000"]
    assert rows.find("u019999") == 20_000


@pytest.fixture(scope="module")
def shop() -> tuple[LiveSource, list[tuple[str, dict[str, Any]]]]:
    """20,000 tasks with UUIDs that say things which a search may stumble over."""
    feed, rng = LiveSource(App("shop", broker="memory://"), 100_000), random.Random(3)
    for number in range(20_000):
        task_id = str(uuid.UUID(int=rng.getrandbits(128), version=4)) if number % 100 else f"beef-{number}"
        note = "Zürich" + rng.choice(["", " 1234", "\x1e", "\n"])
        kwargs = f"{{'client_id': {rng.randrange(2000)}, 'note': '{note}'}}"
        feed.fold(
            [
                event("task-received", task_id, name=f"shop.{rng.choice(['cafe', 'charge'])}", kwargs=kwargs),
                event("task-succeeded", task_id, runtime=rng.random(), result=str(number)),
            ]
        )
    return feed, looked_at(feed)


@pytest.mark.parametrize(
    "text",
    [
        *("cafe", "CAFE", "abc-4", "-4", "ab", "dead or beef", "shop.c -cafe", "4bc7d", "nothing"),
        *("kwargs.client_id=1234", "kwargs.client_id=12", "kwargs~1234", "kwargs~ZÜRICH", "result~1999"),
        *("kwargs.client_id>1990 runtime<0.1", "kwargs~zürich result~77", "args~x"),
    ],
)
def test_a_search_in_columns_finds_what_a_look_at_each_task_finds(
    shop: tuple[LiveSource, list[tuple[str, dict[str, Any]]]], text: str
) -> None:
    (feed, every), wanted = shop, parse(text)

    rows = feed.memory.finder.find(Wanted(wanted)).rows

    found = [task.uuid for task in TaskRows(feed.memory.state.table, rows)]
    assert found == [uuid for uuid, record in every if wanted.matches(record)]
