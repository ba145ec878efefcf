"""Several schedulers, killed, stopped and with clocks apart: each instant is published once."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from qcore import App
from qcore.base.times import epoch
from qcore.wire import task as task_wire
from qcore.wire.identity import sent_at
from tests.faults import FULL, size
from tests.projects.every_second import ENTRIES
from tests.support.processes import Process, Processes
from tests.support.redis_server import RedisServer, require_server
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PROJECT = "tests.projects.every_second"
#: by hand: 600
LASTS_S = float(os.environ.get("QCORE_BEAT_S") or size(40, 60))
KILL_EVERY_S, STOPPED_S = 5.0, min(20.0, LASTS_S / 3)


@pytest.fixture(params=["redis", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/q.sqlite3"
    found: str = request.getfixturevalue("redis_url")
    return found


def start(processes: Processes, url: str, *options: str, project: str = PROJECT, **env: str) -> Process:
    beat = processes.qctl("-A", project, "-b", url, "beat", "-l", "INFO", *options, env=env)
    beat.wait_output("Ready")
    return beat


def sent(url: str, queue: str = "ticks") -> list[tuple[str, float, float]]:
    """(entry, instant, when it was published) of each message that waits."""
    app = App("reader", broker=url, set_as_current=False)
    try:
        found = []
        for waiting in app.broker.administration.waiting(queue):
            message = task_wire.read(waiting.raw)
            headers = message.headers
            name, instant = headers["periodic_task_name"], epoch(headers["qcore_scheduled_for"])
            found.append((name, instant, sent_at(message.id) or 0.0))
        return found
    finally:
        app.close()


@pytest.mark.long
def test_each_instant_is_published_once(url: str, processes: Processes, tmp_path: Path) -> None:
    clocks: list[dict[str, str]] = [{}, {}, {}]
    if url.startswith("redis"):  # the schedulers of an SQLite file share the clock of its host
        for clock, apart in zip(clocks, ("0", "2", "-2"), strict=True):
            path = tmp_path / f"clock{apart}"
            path.write_text(apart)
            clock["QCORE_TEST_CLOCK"] = str(path)
    beats = [start(processes, url, **clock) for clock in clocks]
    wait_for(lambda: len(sent(url)) >= ENTRIES)

    ends, victim, stopped_until = time.monotonic() + LASTS_S, 0, 0.0
    beats[2].stop()
    stopped_until = time.monotonic() + STOPPED_S
    while time.monotonic() < ends:
        time.sleep(KILL_EVERY_S)
        beats[victim].kill9()
        beats[victim] = start(processes, url, **clocks[victim])
        victim = 1 - victim
        if stopped_until and time.monotonic() >= stopped_until:
            beats[2].cont()
            stopped_until = 0.0
    for beat in beats:
        beat.cont()
        beat.term()
        assert beat.wait() == 0

    found = sent(url)
    assert_each_once(found, LASTS_S)
    print(f"{len(found)} messages, lateness in seconds: {lateness(found)}")  # shown by -rP


def assert_each_once(found: list[tuple[str, float, float]], lasts_s: float) -> None:
    doubled = [
        key for key, count in Counter((name, instant) for name, instant, _ in found).items() if count > 1
    ]
    by_name: dict[str, list[float]] = {}
    for name, instant, _ in sorted(found, key=lambda one: one[1]):
        by_name.setdefault(name, []).append(instant)
    holes = [
        (name, before, after)
        for name, instants in by_name.items()
        for before, after in pairwise(instants)
        if round(after - before, 6) != 1.0
    ]

    assert (doubled, holes) == ([], [])
    assert len(by_name) == ENTRIES
    assert all(len(instants) >= lasts_s - 1 for instants in by_name.values())


def lateness(found: list[tuple[str, float, float]]) -> dict[str, Any]:
    """Percentiles, seconds."""
    late = sorted(at - instant for _, instant, at in found)
    return {f"p{p}": round(late[min(len(late) - 1, len(late) * p // 100)], 4) for p in (50, 90, 99)}


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis server that keeps its data."""
    one = RedisServer(require_server(), "--appendonly", "yes", "--appendfsync", "always")
    yield one
    one.stop()


AWAY_S = float(os.environ.get("QCORE_BEAT_AWAY_S", "4"))


def test_the_policies_hold_for_what_was_missed_while_the_broker_was_away(
    server: RedisServer, processes: Processes, tmp_path: Path
) -> None:
    app = App("reader", broker=server.url, set_as_current=False)
    names = ("once", "all", "skip")
    for name in names:
        app.schedules.add(name, "t", 0.5, missed=name, missed_most=1000, options={"queue": name})
    beats = [start(processes, server.url, project="tests.projects.proj") for _ in range(2)]
    wait_for(lambda: min(app.schedules.get(name).state.runs for name in names) > 1)

    before = {name: app.schedules.get(name).state for name in names}
    server.kill9()
    time.sleep(AWAY_S)
    server.restart()
    wait_for(
        lambda: min(app.schedules.get(n).state.cursor_us - before[n].cursor_us for n in names) > AWAY_S * 1e6
    )
    for beat in beats:
        assert beat.is_running
        beat.term()
        assert beat.wait() == 0

    for name in names:
        state, first = app.schedules.get(name).state, before[name]
        passed = (state.cursor_us - first.cursor_us) // 500_000
        assert (state.runs - first.runs) + (state.missed - first.missed) == passed
        assert state.missed - first.missed >= (0 if name == "all" else AWAY_S * 2 - 3)
        instants = [instant for _, instant, _ in sent(server.url, name)]
        assert len(instants) == len(set(instants)) == state.runs
    assert app.schedules.get("all").state.missed == 0
    app.close()


JUMPS = size(1, 20)


def cpu_s(process: Process) -> float:
    user, system = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@pytest.mark.timeout(120 if not FULL else 3600)
@pytest.mark.parametrize("jump_s", [3600, -3600, 86400, -86400])
def test_a_clock_that_jumps_repeats_no_instant_and_stops_no_entry(
    jump_s: int, processes: Processes, tmp_path: Path
) -> None:
    """On SQLite, where the schedulers' clock is the host's."""
    url, clock = f"sqlite:///{tmp_path}/q.sqlite3", tmp_path / "clock"
    clock.write_text("0")
    beat = start(processes, url, QCORE_TEST_CLOCK=str(clock))
    app = App("reader", broker=url, set_as_current=False)
    wait_for(lambda: app.schedules.get("tick-0").state.runs > 1)

    for number in range(JUMPS):
        set_clock = tmp_path / "new"
        set_clock.write_text(str(jump_s * (number + 1)))
        set_clock.rename(clock)  # it is read all the time
        wait_for(lambda number=number: beat.output().count("the clock moved by") > number, 60)
        runs = app.schedules.get("tick-0").state.runs
        wait_for(lambda runs=runs: app.schedules.get("tick-0").state.runs > runs + 2, 120)
    if FULL:
        used, runs = cpu_s(beat), app.schedules.get("tick-0").state.runs
        wait_for(lambda: app.schedules.get("tick-0").state.runs >= runs + 20)
        used = cpu_s(beat) - used
        print(f"{JUMPS} jumps of {jump_s} s; {used:.2f} s of CPU in 20 s after them")
        assert used < 0.05 * 20
    beat.term()
    assert beat.wait() == 0

    keys = [(name, instant) for name, instant, _ in sent(url)]
    assert len(keys) == len(set(keys))
    state = app.schedules.get("tick-0").state
    assert state.runs + state.missed >= max(0, jump_s * JUMPS)
    assert state.runs <= (1000 + 60) * JUMPS  # missed_most, and what was due besides
    app.close()
