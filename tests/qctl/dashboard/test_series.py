"""The history behind the charts: slots of time, gaps, percentiles, memory."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any

import msgspec
import pytest

from qcore.base.histogram import FINE_BUCKETS
from qctl.dashboard.state.latency import Durations, HeatMap, add_up, percentile
from qctl.dashboard.state.rings import RANGES, Ring, Series, step_for
from qctl.dashboard.state.series import SLOW, Charts, bar, quantiles, spark_of, sparkline
from qctl.dashboard.state.snapshot import QueueRow, Snapshot, WorkerRow
from qctl.dashboard.views.latest import newest, task_of
from qctl.dashboard.views.overview import Overview
from qctl.dashboard.widgets.fields import Field, widths_of
from tests.support.large_still import LargeStill

START = 1_700_000_000 // 21_600 * 21_600


def test_a_value_stands_in_the_slot_of_its_time() -> None:
    ring = Ring(15, 8)

    ring.put(START, 2.0)
    ring.put(START + 14.9, 4.0)
    ring.put(START + 30, 9.0)

    slot = START // 15
    assert [ring.mean(slot + n, 1) for n in range(-1, 4)] == [None, 3.0, None, 9.0, None]
    assert ring.mean(slot, 3) == 6.0


def test_what_a_ring_has_overwritten_is_unknown() -> None:
    ring = Ring(1, 4)

    for second in range(6):
        ring.put(second, float(second))

    assert [ring.mean(n, 1) for n in range(7)] == [None, None, 2.0, 3.0, 4.0, 5.0, None]


@pytest.mark.parametrize("shares", [False, True])
def test_a_clock_that_is_put_back_leaves_no_value_at_a_wrong_place(shares: bool) -> None:
    ring = Ring(1, 100, shares)
    ring.put(START + 50, 1.0)

    ring.put(START + 48, 0.5)  # a small correction: what is known stays
    assert (ring.mean(START + 48, 1), ring.mean(START + 50, 1)) == (None, 1.0)
    ring.put(START - 86_400, 0.5)

    assert (ring.mean(START + 50, 1), ring.mean(START - 86_400, 1)) == (None, pytest.approx(0.5, abs=0.01))


@pytest.mark.parametrize(("number", "step"), [(0, 10), (1, 300), (2, 2_400)])
def test_a_stop_of_twenty_minutes_is_a_gap_at_its_place_in_every_range(number: int, step: int) -> None:
    series = Series()
    for second in range(0, RANGES[number].seconds, max(1, step // 20)):
        at = START + second
        if not RANGES[number].seconds - 1_500 <= second < RANGES[number].seconds - 300:
            series.put(at, 7.0)
    until, count = START + RANGES[number].seconds - 1, RANGES[number].seconds // step

    columns = series.columns(until, step, count)

    for place, value in enumerate(columns):
        begin = START + place * step
        gap = (START + RANGES[number].seconds - 1_500, START + RANGES[number].seconds - 300)
        inside = gap[0] <= begin and begin + step <= gap[1]
        assert value == (None if inside else 7.0), begin - START


def test_columns_have_the_shortest_step_that_shows_the_range() -> None:
    assert [step_for(900, n) for n in (50, 100, 112, 900)] == [20, 10, 10, 1]
    assert all(step_for(r.seconds, 60) * 60 >= r.seconds for r in RANGES)


def test_percentiles_are_within_five_percent_and_can_be_added_up() -> None:
    chance, values = random.Random(1), []
    parts = [Durations() for _ in range(4)]
    for number in range(4_000):
        value = chance.lognormvariate(-2, 1.5)
        values.append(value)
        parts[number % 4].add(START + number % 800, value)

    whole = add_up(part.within(0, START + 800) for part in parts)

    assert sum(whole) == 4_000 and len(whole) == FINE_BUCKETS
    values.sort()
    for share in (0.5, 0.95, 0.99):
        assert percentile(whole, share) == pytest.approx(values[int(4_000 * share)], rel=0.05)


def test_percentiles_of_few_values_are_unknown() -> None:
    few = Durations()
    for _ in range(19):
        few.add(START, 1.0)

    assert quantiles(few.within(0, START)) is None
    assert percentile([0] * FINE_BUCKETS, 0.5) is None
    few.add(START, 1.0)
    assert quantiles(few.within(0, START)) == pytest.approx((1.0, 1.0, 1.0), rel=0.05)


def test_durations_leave_a_range_when_it_has_passed() -> None:
    durations = Durations()

    durations.add(START, 1.0)
    durations.add(START + 1_800, 2.0)

    assert [sum(durations.within(n, START + 1_800)) for n in range(3)] == [1, 2, 2]


def test_a_heat_map_counts_each_task_once_in_each_range() -> None:
    heat = HeatMap()
    for second in range(900):
        heat.add(START + second, 0.02)
        heat.add(START + second, 5.0)

    for number, step in enumerate((15, 600, 2_400)):
        columns = heat.within(number, START + 899, step, 900 // step or 1)
        rows = [sum(rows) for rows in zip(*(c for c in columns if c), strict=True)]
        assert (rows[3], rows[8]) == (900, 900) if number == 0 else rows[3] == rows[8] > 0


# --- a fleet


def history(seconds: int, **more: Any) -> Charts:
    charts = Charts()
    for second in range(seconds):
        charts.ended(START + second, "shop.charge", "pay1", 0.2, 0.01, "Timeout" if second >= 60 else "", 2)
        charts.sample(START + second + 0.5)
    return charts


def test_rates_come_from_what_ended_between_two_samples() -> None:
    charts = history(120)

    assert charts.series["done"].columns(START + 100, 1, 3) == [2.0] * 3
    assert charts.types["shop.charge"].busy.columns(START + 89, 15, 2) == pytest.approx([0.4, 0.4])
    assert charts.series["in"].columns(START + 100, 1, 3) == [0.0] * 3
    assert charts.groups["shop.charge", "Timeout"].workers == {"pay1": 120}


def test_a_kind_of_failure_was_zero_before_it_began_and_unknown_before_somebody_listened() -> None:
    charts = history(120)

    trend = charts.group("shop.charge", "shop.gateway.Timeout")

    assert trend is not None
    columns = trend.per_s.columns(START + 104, 15, 8)
    assert columns[:1] == [None] and columns[2:4] == [0.0, 0.0] and columns[5:7] == [2.0, 2.0]


def test_a_stop_is_a_gap_and_not_a_mean() -> None:
    charts = history(60)

    charts.ended(START + 300, "shop.charge", "pay1", 0.2, None, count=500)
    charts.sample(START + 300)
    charts.sample(START + 301)

    done = charts.series["done"]
    assert done.columns(START + 299, 60, 4) == [None] * 4
    assert done.columns(START + 58, 1, 2) == [2.0, 2.0]


def test_the_wait_of_nothing_is_unknown() -> None:
    charts = Charts()
    for second in range(5):
        charts.ended(START + second, "a", "w", 1.0, None)
        charts.sample(START + second)

    assert charts.series["wait"].columns(START + 3, 1, 3) == [None] * 3
    assert charts.series["done"].columns(START + 3, 1, 3) == [1.0] * 3


def test_queues_and_workers_are_sampled_and_changes_are_noted() -> None:
    charts = Charts()
    queue = QueueRow("mails", 10, in_per_s=2.0)
    worker = WorkerRow("w1", "online", 2, 4, stats={"uptime": 900})

    def look(at: float, queue: QueueRow, worker: WorkerRow, **more: Any) -> None:
        charts.look(Snapshot(at=at, asked=True, queues=(queue,), workers=(worker,), **more))

    look(START, queue, worker)
    look(START + 15, QueueRow("mails", 30, paused=True), WorkerRow("w1", "online", 4, 8, stats={"uptime": 3}))
    look(START + 30, queue, WorkerRow("w1", "silent", 4, 8))
    look(START + 45, queue, worker, trouble="connection refused")

    assert charts.queues["mails"].columns(START + 45, 15, 4) == [10.0, 30.0, 10.0, None]
    assert charts.workers["w1"].columns(START + 45, 15, 4) == [0.5, 0.5, None, None]
    assert charts.series["published"].columns(START + 15, 15, 2) == [2.0, None]
    assert [change.words for change in charts.changes] == [
        "queue mails paused",
        "worker w1 restarted",
        "worker w1 pool 4 → 8",
        "queue mails resumed",
        "worker w1 silent",
    ]


def test_a_worker_that_reconnects_after_an_outage_of_the_broker_is_no_change() -> None:
    charts, online = Charts(), WorkerRow("w1", "online", 2, 4)

    for after_s, state in ((0, "online"), (20, "silent"), (22, "online"), (40, "silent")):
        worker = msgspec.structs.replace(online, state=state)
        charts.look(Snapshot(at=START + after_s, asked=True, workers=(worker,), back_at=START + 19))

    assert [(change.at, change.words) for change in charts.changes] == [(START + 40, "worker w1 silent")]


def test_a_frozen_history_stands_still() -> None:
    charts = history(120)
    charts.look(Snapshot(at=START + 120, asked=True, queues=(QueueRow("mails", 3),)))
    frozen = charts.frozen()

    def drawn() -> Any:
        one = frozen.types["shop.charge"]
        return (
            one.done.columns(START + 130, 15, 4),
            frozen.queues["mails"].columns(START + 130, 15, 4),
            quantiles(one.run.within(0, START + 130)),
            frozen.heat.within(0, START + 130, 15, 4),
            list(frozen.changes),
        )

    before = drawn()
    for second in range(120, 140):
        charts.ended(START + second, "shop.charge", "pay1", 9.0, 9.0, "Timeout", 5)
        charts.sample(START + second)
        charts.look(Snapshot(at=START + second, asked=True, queues=(QueueRow("mails", 99, paused=True),)))

    assert drawn() == before


def test_a_large_fleet_has_a_history_within_sixty_megabytes() -> None:
    charts = Charts()
    queues = tuple(QueueRow(f"q{n}", n) for n in range(200))
    workers = tuple(WorkerRow(f"w{n}", "online", 1, 4) for n in range(1_000))

    tracemalloc.start()
    for turn in range(3):
        at = START + 15 * turn
        for number in range(500):
            charts.ended(at, f"task{number}", "w1", 0.5, 0.1)
        charts.look(Snapshot(at=at, asked=True, queues=queues, workers=workers))
        charts.sample(at)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert size < 60e6


# --- lines of blocks


def test_a_steady_line_lies_at_half_its_height_and_unknown_is_a_dot() -> None:
    assert sparkline([5, 5, 5, 5]) == "▅▅▅▅"
    assert sparkline([0, 0, None, 9]) == "▁▁·█"
    assert sparkline([0, 1, None, 9], plain=True) == "_.?#"
    assert sparkline([None, None]) == "··"
    assert spark_of(None, START, 900, 4) == "····"


def test_bars() -> None:
    assert [bar(1, 4, width=4), bar(None, 4), bar(9, 4, True, 4), bar(0, 4, width=4)] == [
        "█░░░",
        "",
        "####",
        "░░░░",
    ]


def test_task_types_are_counted_again_when_a_recording_is_read_up_to_its_moment() -> None:
    charts, overview = Charts(), Overview()
    charts.ended(START, "proj.add", "w1@host", 0.5, None)
    early = Snapshot(at=START, charts=charts)
    assert [row.few for row in overview.types(early, 0)] == [1]

    charts.ended(START, "proj.add", "w1@host", 0.5, None)

    assert [row.few for row in overview.types(early, 0)] == [1], "they are counted each 5 s"
    late = Snapshot(at=START, charts=charts, events_per_s=1.0)
    assert [row.few for row in overview.types(late, 0)] == [2]


def test_a_sparkline_wider_than_its_slots_shows_no_more_than_the_range() -> None:
    series = Series(SLOW)
    series.fill(dict.fromkeys(range(60), 1.0), 15)

    assert len(spark_of(series, 60 * 15 + 14.0, 900, 46)) == 46
    assert "·" not in spark_of(series, 60 * 15 + 14.0, 900, 46)


def test_the_newest_tasks_of_a_queue_are_found() -> None:
    picture = LargeStill().take()

    found = newest(picture, "queues", "nightly", 3)
    assert [task.queue for task in found] == ["nightly"] * 3
    starts = [task.started or 0.0 for task in found]
    assert starts == sorted(starts, reverse=True)
    assert newest(picture, "queues", "no such queue", 3) == []
    assert task_of(picture, found[0].uuid) == found[0]


def test_columns_grow_up_to_their_limit() -> None:
    fields = (Field("A", 4, grows=True, most=6), Field("B", 4, grows=True), Field("C", 4, wide_from=30))

    assert widths_of(fields, 21) == [6, 14, 0]
    assert widths_of(fields, 30) == [6, 18, 4]
