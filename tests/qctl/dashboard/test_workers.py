"""The workers' screen: what each is doing, whether it sends events, and whose clock is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from qcore import App
from qcore.control.client import Answers
from qcore.events.state import State
from qctl.dashboard.screens.keys import Dashboard
from qctl.dashboard.sources.live import LiveSource
from qctl.dashboard.state.workers import Fleet
from tests.qctl.dashboard.test_dashboard import Incident, play, until
from tests.support.processes import Processes
from tests.support.waiting import wait_for

START = 1_700_000_000.0


def beat(state: State, node: str, sent: float, heard: float) -> None:
    state.event({"type": "worker-heartbeat", "hostname": node, "timestamp": sent}, now=heard)


def test_a_clock_that_is_wrong_is_seen_and_late_messages_are_not() -> None:
    state = State()
    for second in range(0, 120, 2):
        at = START + second
        beat(state, "right@host", at, at + 0.01)
        beat(state, "late@host", at, at + (20.0 if second == 60 else 0.01))
        beat(state, "behind@host", at - 90, at + 0.01)
        beat(state, "set right@host", at + (90 if second < 20 else 0), at)

    clocks = {row.node: row.clock for row in Fleet().rows(state.workers, START + 120)}
    assert clocks == {"right@host": "", "late@host": "", "behind@host": "-90.0s", "set right@host": "+77.5s"}
    for second in range(120, 800, 2):
        beat(state, "set right@host", START + second, START + second)
    assert Fleet().rows({"x": state.workers["set right@host"]}, START + 800)[0].clock == ""


def test_failures_are_counted_for_each_worker() -> None:
    state = State()
    for number in range(6):
        kind = "task-failed" if number % 3 == 0 else "task-succeeded"
        state.event({"type": kind, "hostname": f"w{number % 2}", "timestamp": START, "uuid": f"u{number}"})

    assert {node: seen.failed for node, seen in state.workers.items()} == {"w0": 1, "w1": 1}


def test_a_rate_is_what_a_worker_began_between_two_answers() -> None:
    fleet, state = Fleet(), State()
    rates = []
    for turn, total in enumerate((100, 100, 140, 5)):  # 5: it was started again
        stats = Answers({"w1@host": {"total": {"proj.add": total}}}, [], [], [], None, 0.0)
        fleet.learn(state, stats, [], {}, START + 2.0 * turn)
        rates.append(fleet.rows({}, START)[0].per_s)

    assert rates == [None, 0.0, 10.0, 5.0]


@pytest.mark.parametrize(("began", "worker"), [(START + 5, "q2"), (START - 5, "q1"), (None, "q1")])
def test_a_task_runs_where_it_began_last_also_before_its_event_arrives(
    began: float | None, worker: str
) -> None:
    fleet, state = Fleet(), State()
    state.event({"type": "task-started", "hostname": "q1", "timestamp": START, "uuid": "u"}, START)
    stats, active = (
        Answers({"q2": value}, [], [], [], None, 0.0) for value in ({}, [{"id": "u", "time_start": began}])
    )

    fleet.learn(state, stats, [], {"active": active}, START + 6)

    task = state.tasks.get("u")
    assert task is not None and (task.state, task.worker) == ("STARTED", worker)


def test_a_worker_is_drained_and_its_events_turned_on_and_off(redis_url: str, processes: Processes) -> None:
    processes.start_qcore_worker(redis_url, "-c", "2", name="w1@test")
    processes.start_celery_worker(redis_url, redis_url, "-c", "2", name="c1@test")
    client = App("client", broker=redis_url, set_as_current=False)
    feed = LiveSource(client)
    feed.start()
    wait_for(lambda: feed.take().up == 2 and feed.listening.is_set())

    def events_on() -> bool:
        stats: Any = client.control.ask("stats", destination=["w1@test"]).replies["w1@test"]
        return bool(stats["task_events"])

    async def script(window: Dashboard, pilot: Any) -> None:
        hand = Incident(window, pilot)
        await hand.sees("w1@test: task events are off", "press e")
        await hand.press("e")
        await until(pilot, events_on, "events are on", 15)
        await hand.press("2", "j")
        await until(pilot, lambda: window.under_cursor.task_events, "the dashboard knows it", 15)
        await hand.press("e")
        await until(pilot, lambda: not events_on(), "events are off", 15)
        await hand.press("D")
        await hand.sees("claim no more tasks", "qctl worker drain w1@test")
        await hand.press("y")
        await hand.sees("‖ drains")
        client.send_task("proj.fail")
        await until(pilot, lambda: window.picture.workers[0].failed == 1, "c1 had it", 15)
        await hand.press("enter")
        await hand.sees(
            "draining: claims no more tasks", "MiB at most", "up for", "events", "`e` turns them on"
        )

    play(feed, script, size=(160, 30))
    rows = feed.take().workers
    feed.stop()
    client.close()

    assert [row.node for row in rows] == ["c1@test", "w1@test"]
    assert all(row.memory and row.uptime_s is not None and row.per_s is not None for row in rows)
    assert not any(row.clock for row in rows)


def test_two_workers_of_one_name_lose_nothing_and_one_that_does_is_seen() -> None:
    state = State()

    def said(seq: int, kind: str = "worker-heartbeat", pid: int = 1) -> None:
        state.event(
            {"type": kind, "hostname": "q@host", "timestamp": START + seq, "seq": seq, "pid": pid},
            START + seq,
        )

    said(1, "worker-online")
    for seq in range(2, 900):
        said(seq)
    said(1, "worker-online", pid=2)
    for seq in range(2, 300):
        said(seq, pid=2)
        said(898 + seq)
    assert state.workers["q@host"].missed == 0
    said(1202)  # four of the first worker's are lost
    (row,) = Fleet().rows(state.workers, START + 1202)
    assert (state.workers["q@host"].missed, row.missed) == (4, 4)
    fleet = Fleet()
    fleet.rows(state.workers, START + 1202)
    said(1203)
    assert [r.missed for r in fleet.rows(state.workers, START + 1203)] == [4]
    for seq in range(1204, 2203):
        said(seq)
    assert [r.missed for r in fleet.rows(state.workers, START + 2203)] == [0], "it is long ago"


def test_a_clock_of_which_all_workers_seem_to_be_behind_is_our_own_delay() -> None:
    state = State()
    for second in range(0, 60, 2):
        for node, behind in (("a@host", 0.0), ("b@host", 0.0), ("wrong@host", 30.0)):
            beat(state, node, START + second - behind, START + second + 4.9)

    clocks = {row.node: row.clock for row in Fleet().rows(state.workers, START + 60)}
    assert clocks == {"a@host": "", "b@host": "", "wrong@host": "-30.0s"}
