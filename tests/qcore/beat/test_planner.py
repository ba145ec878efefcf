"""Which instants are published: missed ones, overlaps, jitter, start, end, deadline, a clock that jumps."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest

from qcore.beat.planner import NEVER, SKIPPED_AFTER_US, Plan, jitter_us, plan
from qcore.schedules.instants import instants
from qcore.wire.schedule import EntryState, ScheduleEntry

S = 1_000_000
T = 1_750_000_000 * S  # a time


def of(spec: Any, now_s: float, cursor_s: float = 0, is_running: bool = False, **fields: Any) -> Plan:
    """The plan now_s seconds after T for an entry whose cursor is cursor_s after T."""
    if isinstance(spec, int):
        spec = {"kind": "interval", "every_s": float(spec), "relative": False}
    entry = ScheduleEntry("one", "t", spec, **fields)
    return plan(
        entry, instants(spec, UTC), EntryState(T + round(cursor_s * S)), T + round(now_s * S), is_running
    )


def published(found: Plan) -> list[float]:
    return [(us - T) / S for us in found.instants]


def test_a_new_entry_is_due_after_its_first_interval() -> None:
    found = plan(
        ScheduleEntry("one", "t", spec := {"kind": "interval", "every_s": 10.0, "relative": False}),
        instants(spec, UTC),
        EntryState(),
        T,
    )

    assert found == Plan(T + 10 * S, T)


def test_nothing_is_published_before_its_time() -> None:
    assert of(10, 9.9) == Plan(T + 10 * S)


def test_an_instant_is_published_once_and_intervals_do_not_drift() -> None:
    found = of(10, 10.3)

    assert found == Plan(T + 20 * S, T + 10 * S, (T + 10 * S,))


@pytest.mark.parametrize(
    ("policy", "now_s", "sent", "missed"),
    [
        ("once", 45, [40], 3),
        ("all", 45, [10, 20, 30, 40], 0),
        ("skip", 45, [40], 3),
        ("once", 3605, [3600], 359),
        ("skip", 15, [10], 0),
        ("all", 3605, [3510 + 10 * n for n in range(10)], 350),
    ],
)
def test_missed_instants_by_policy(policy: str, now_s: float, sent: list[float], missed: int) -> None:
    found = of(10, now_s, missed=policy, missed_most=10)

    assert (published(found), found.missed) == (sent, missed)
    assert found.cursor_us == T + now_s // 10 * 10 * S


@pytest.mark.parametrize(("late_s", "sent"), [(59, 1), (61, 0)])
def test_skip_leaves_out_a_lone_instant_that_is_too_late(late_s: int, sent: int) -> None:
    found = of(86400, 86400 + late_s, missed="skip")

    assert SKIPPED_AFTER_US == 60 * S
    assert (len(found.instants), found.missed) == (sent, 1 - sent)


def test_nothing_later_than_the_deadline_is_published() -> None:
    found = of(10, 45, missed="all", deadline_s=16)

    assert (published(found), found.missed) == ([30, 40], 2)


def test_an_overlap_is_skipped_or_waits_for_its_turn() -> None:
    assert published(of(10, 25, is_running=True)) == [20]  # overlap="run" is not asked
    skipped = of(10, 25, is_running=True, overlap="skip")
    assert (skipped.cursor_us, skipped.instants, skipped.overlapped) == (T + 20 * S, (), 2)
    assert of(10, 25, is_running=True, overlap="queue") == Plan(T + 26 * S)
    queued = of(10, 25, overlap="queue", missed="all")
    assert (published(queued), queued.overlapped, queued.missed) == ([20], 1, 0)


def test_start_and_end() -> None:
    start, end = T / S + 100, T / S + 125
    spec = {"kind": "interval", "every_s": 10.0, "relative": False}
    entry = ScheduleEntry("one", "t", spec, starts_at=start, ends_at=end)
    first = plan(entry, instants(spec, UTC), EntryState(), T)
    assert (first.wake_us, first.instants) == (T + 100 * S, ())

    state = EntryState(first.cursor_us or 0)
    assert published(plan(entry, instants(spec, UTC), state, T + 100 * S)) == [100]
    last = plan(entry, instants(spec, UTC), EntryState(T + 110 * S), T + 130 * S)
    assert (published(last), last.wake_us) == ([120], NEVER)


def test_a_paused_entry_is_not_looked_at() -> None:
    assert of(10, 100, enabled=False) == Plan(NEVER)


def test_jitter_is_the_same_for_all_schedulers_and_bounded() -> None:
    spec = {"kind": "interval", "every_s": 60.0, "relative": False}
    entry = ScheduleEntry("one", "t", spec, jitter_s=30)
    delays = [jitter_us(entry, T + n * 60 * S) for n in range(1, 200)]

    assert delays == [jitter_us(entry, T + n * 60 * S) for n in range(1, 200)]
    assert 0 <= min(delays) < 3 * S and 27 * S < max(delays) < 30 * S
    due = T + 60 * S + delays[0]
    assert plan(entry, instants(spec, UTC), EntryState(T), due - 1).instants == ()
    assert plan(entry, instants(spec, UTC), EntryState(T), due).instants == (T + 60 * S,)


DAILY = {
    "kind": "crontab",
    "minute": "0",
    "hour": "4",
    "day_of_month": "*",
    "month_of_year": "*",
    "day_of_week": "*",
}


@pytest.mark.parametrize(
    ("spec", "back_s", "is_reset"),
    [(10, 0.5, False), (10, 3600, True), (DAILY, 3600, False), (DAILY, 86400, True)],
)
def test_a_clock_that_went_back_repeats_no_instant_and_silences_no_entry(
    spec: Any, back_s: float, is_reset: bool
) -> None:
    found = of(spec, -back_s)

    assert not found.instants
    assert (found.cursor_us == T - round(back_s * S)) is is_reset
    assert found.wake_us > T - back_s * S
