"""What every pool promises; tests/qcore/pools/test_pools.py runs it for each of them."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import select
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from qcore import App
from qcore.base.times import new_id
from qcore.pools.base import Pool, PoolSetup
from qcore.pools.registry import pools
from qcore.wire import task as task_wire
from qcore.wire.outcome import End, Job, Outcome

app = App("pooltests", broker="memory://pooltests", set_as_current=False)


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def nap(seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, 0.01))
    return "rested"


@app.task
def hold(path: str) -> str:
    """Runs until there is a file of this name."""
    while not os.path.exists(path):
        time.sleep(0.01)
    return "let go"


@app.task
async def rest(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "rested"


@app.task
def note(path: str, word: str, seconds: float = 0.0) -> None:
    fd = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(fd, f"{word}\n".encode())
    os.close(fd)
    time.sleep(seconds)


@app.task
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def leave() -> None:
    raise SystemExit(3)


@app.task
def size_of(text: str) -> int:
    return len(text)


@app.task
def boom() -> None:
    raise ValueError("boom")


class Bench:
    """A pool with its owner: gives jobs, waits for outcomes."""

    def __init__(self, kind: str, concurrency: int = 2, **setup: Any) -> None:
        app.tasks  # noqa: B018 (options are filled in)
        self.pool: Pool = pools.get(kind)(PoolSetup(app, "tests@host", concurrency, **setup))
        self.pool.start()
        self.numbers = itertools.count(1)
        self.outcomes: dict[int, Outcome] = {}
        self.released: list[int] = []
        self.waiting: list[Job] = []

    def job(self, name: str, *args: Any, soft_s: float | None = None) -> Job:
        raw = task_wire.build(f"tests.contracts.pool_contract.{name}", args, {}, task_id=new_id())
        return Job(next(self.numbers), raw, soft_s=soft_s)

    def give(self, *jobs: Job) -> None:
        """As the worker's loop does: as many as there is room for, the rest when there is."""
        self.waiting.extend(jobs)
        self._feed()

    def _feed(self) -> None:
        room = self.pool.room()
        if room > 0 and self.waiting:
            now, self.waiting = self.waiting[:room], self.waiting[room:]
            self.pool.give(now)

    def turn(self) -> None:
        pause = 0.0 if self.pool.wants_turn() else min(self.pool.tick_s(), 0.05)
        fds = self.pool.fds()
        readable, writable, _ = select.select(fds, self.pool.blocked_fds(), [], pause) if fds else ((),) * 3
        for fd in {*readable, *writable}:
            self.pool.ready(fd)
        for outcome in self.pool.collect():
            before = self.outcomes.get(outcome.number)
            assert before is None, f"an outcome came twice: {before} {outcome}"
            self.outcomes[outcome.number] = outcome
        self.released.extend(self.pool.tick())
        self._feed()

    def until(self, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not so after {timeout_s} s; {len(self.outcomes)} outcomes"
            self.turn()

    def all_done(self, count: int, timeout_s: float = 60.0) -> None:
        self.until(lambda: len(self.outcomes) + len(self.released) >= count, timeout_s)


class PoolContract:
    """Inherit and give `kind`."""

    kind: str

    @pytest.fixture
    def make(self) -> Iterator[Callable[..., Bench]]:
        benches: list[Bench] = []

        def make(concurrency: int = 2, **setup: Any) -> Bench:
            benches.append(Bench(self.kind, concurrency, **setup))
            return benches[-1]

        yield make

        for bench in benches:
            bench.pool.stop()

    def test_runs_every_job_once(self, make: Callable[..., Bench]) -> None:
        bench = make()

        bench.give(*(bench.job("add", i, 1) for i in range(500)))
        bench.all_done(500)

        # On a busy machine one may seem slow, and what waits behind it is given back.
        assert sorted([*bench.outcomes, *bench.released]) == list(range(1, 501))
        assert {o.end for o in bench.outcomes.values()} == {End.SUCCESS}
        assert all(o.text == str(number) for number, o in bench.outcomes.items())
        assert bench.pool.busy() == 0

    def test_an_exception_is_an_outcome(self, make: Callable[..., Bench]) -> None:
        bench = make()

        bench.give(bench.job("boom"), bench.job("leave"))
        bench.all_done(2)

        assert [bench.outcomes[n].end for n in (1, 2)] == [End.FAILURE, End.FAILURE]
        assert "ValueError: boom" in bench.outcomes[1].traceback
        assert bench.outcomes[2].text == "WorkerLostError('the task ended its process: SystemExit(3)')"

    def test_coroutines_end_in_every_slot(self, make: Callable[..., Bench]) -> None:
        bench = make()

        bench.give(bench.job("rest", 0.05), bench.job("rest", 60.0, soft_s=0.1))
        bench.all_done(2)

        assert bench.outcomes[1].text == "'rested'"
        assert "SoftTimeLimitExceeded" in bench.outcomes[2].text

    def test_a_malformed_body_is_an_outcome(self, make: Callable[..., Bench]) -> None:
        bench = make()
        job = bench.job("add", 1, 2)
        job.raw = job.raw.replace(b'"body":"', b'"body":"!')

        bench.give(job, bench.job("add", 1, 2))
        bench.all_done(2)

        assert bench.outcomes[1].end == End.MALFORMED
        assert bench.outcomes[2].end == End.SUCCESS

    def test_a_large_job_passes(self, make: Callable[..., Bench]) -> None:
        bench = make()

        bench.give(bench.job("size_of", "x" * 8_000_000), bench.job("add", 1, 2))
        bench.all_done(2)

        assert bench.outcomes[1].text == "8000000"

    def test_running_says_what_runs_since_when(self, make: Callable[..., Bench]) -> None:
        bench = make()
        if bench.pool.name == "solo":
            pytest.skip("a solo pool is looked at from another thread; see test_worker.py")
        before = time.monotonic()

        bench.give(bench.job("nap", 0.5))
        bench.until(lambda: bool(bench.pool.running()))
        (running,) = bench.pool.running()
        bench.all_done(1)

        assert running.number == 1
        assert before - 0.1 < running.since < time.monotonic()
        assert bench.pool.running() == []

    def test_a_running_job_tells_where_it_is(self, make: Callable[..., Bench], tmp_path: Path) -> None:
        bench = make()
        if bench.pool.name == "solo":
            pytest.skip("a solo pool is looked at from another thread; see test_stack.py")
        release, told = tmp_path / "release", list[Any]()

        bench.give(bench.job("hold", str(release)))
        bench.until(lambda: bool(bench.pool.running()))
        soon: list[Callable[[], None]] = []

        def look() -> bool:
            """From another thread, as the control thread does, while this one is the worker's loop."""
            asked = threading.Thread(target=lambda: told.append(bench.pool.stacks([1, 99], soon.append)))
            asked.start()
            while asked.is_alive():
                bench.turn()
                while soon:
                    soon.pop(0)()
            return any(frame.function == "hold" for frame in told[-1][0].frames)

        bench.until(look)
        release.touch()
        bench.all_done(1)

        one, unknown = told[-1]
        assert (one.number, one.problem) == (1, "")
        assert one.frames[0].function == "hold"
        assert one.frames[0].file == __file__
        assert (unknown.number, unknown.frames) == (99, [])
        assert "meanwhile" in unknown.problem
        assert bench.outcomes[1].text == "'let go'"

    def test_the_soft_limit_interrupts(self, make: Callable[..., Bench]) -> None:
        bench = make()

        bench.give(bench.job("nap", 100.0, soft_s=0.2))
        bench.all_done(1)

        assert "SoftTimeLimitExceeded" in bench.outcomes[1].text

    def test_what_is_withdrawn_never_runs(self, make: Callable[..., Bench], tmp_path: Any) -> None:
        bench = make()
        log = str(tmp_path / "log")
        bench.give(*(bench.job("add", i, 1) for i in range(100)))
        bench.all_done(100)

        jobs = [bench.job("note", log, str(i), 0.01) for i in range(40)]
        bench.give(*jobs)
        bench.turn()
        taken = bench.pool.withdraw()
        bench.waiting.clear()
        bench.until(lambda: bench.pool.busy() == 0)
        bench.turn()

        ran = _words(log)
        done = {n for n in bench.outcomes if n > 100}
        assert not done & set(taken)
        assert len(ran) == len(done)


def _words(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.read().split()
    except FileNotFoundError:
        return []


class ManySlots:
    """For pools with more than one slot."""

    def test_quick_jobs_do_not_wait_behind_a_slow_one(
        self, make: Callable[..., Bench], tmp_path: Path
    ) -> None:
        bench = make()
        quick = {job.number: job for job in (bench.job("add", i, 1) for i in range(400))}
        slow = bench.job("hold", str(tmp_path / "release"))

        def all_quick_are_done() -> bool:
            # On a busy machine a quick one may seem slow, and what waits behind it is given back.
            back, bench.released = bench.released, []
            bench.give(*(quick[number] for number in back))
            return len(bench.outcomes) >= len(quick)

        bench.give(*list(quick.values())[:200])
        bench.all_done(200)
        bench.give(slow, *list(quick.values())[200:])
        bench.until(all_quick_are_done)

        assert slow.number not in bench.outcomes
        (tmp_path / "release").touch()
        bench.until(lambda: slow.number in bench.outcomes)

    def test_what_waits_goes_back_when_every_slot_is_stuck(
        self, make: Callable[..., Bench], tmp_path: Path
    ) -> None:
        bench, done = make(), 0
        while bench.pool.room() < 22:  # a machine that holds up the last ones makes short tasks look long
            bench.give(*(bench.job("add", i, 1) for i in range(200)))
            done += 200
            bench.all_done(done)

        stuck = [bench.job("hold", str(tmp_path / "release")) for _ in range(2)]
        bench.give(*stuck, *(bench.job("add", i, 1) for i in range(20)))
        bench.until(lambda: len(bench.released) + len(bench.outcomes) >= done + 20)

        assert bench.released
        assert not {job.number for job in stuck} & {*bench.released, *bench.outcomes}
        (tmp_path / "release").touch()
        bench.until(lambda: bench.pool.busy() == 0)

    def test_grows_and_shrinks(self, make: Callable[..., Bench], tmp_path: Path) -> None:
        bench = make(1)

        bench.pool.grow(2)
        bench.give(*(bench.job("hold", str(tmp_path / "release")) for _ in range(3)))
        bench.until(lambda: len(bench.pool.running()) == 3)
        (tmp_path / "release").touch()
        bench.all_done(3)
        bench.pool.shrink(2)
        bench.give(bench.job("add", 1, 1))
        bench.all_done(4)

        assert bench.pool.size == 1
        with pytest.raises(ValueError, match="the pool has 1 "):
            bench.pool.shrink(2)

    def test_a_pool_without_slots_gets_one_with_its_next_job(self, make: Callable[..., Bench]) -> None:
        bench = make(1)
        bench.give(bench.job("add", 1, 1))
        bench.all_done(1)

        bench.pool.shrink(1)
        assert bench.pool.size == 0
        bench.pool.take([bench.job("add", 2, 2)])
        bench.all_done(2)

        assert bench.pool.size == 1


class Processes:
    """For pools whose slots are processes."""

    def test_a_dead_child_is_reported_and_replaced(self, make: Callable[..., Bench]) -> None:
        bench = make()

        bench.give(bench.job("die"), *(bench.job("add", i, 1) for i in range(50)))
        bench.all_done(51)

        assert bench.outcomes[1].end == End.LOST
        assert "SIGKILL" in bench.outcomes[1].text
        assert sum(o.end == End.SUCCESS for o in bench.outcomes.values()) == 50
        bench.until(lambda: len(bench.pool.pids()) == 2)

    def test_kill_ends_the_running_job_only(self, make: Callable[..., Bench]) -> None:
        bench = make()
        bench.give(bench.job("nap", 30.0), bench.job("nap", 0.3))
        bench.until(lambda: {r.number for r in bench.pool.running()} == {1, 2})

        assert bench.pool.kill(1, End.TIME_LIMIT, signal.SIGKILL)
        bench.all_done(2)

        assert bench.outcomes[1].end == End.TIME_LIMIT
        assert bench.outcomes[2].end == End.SUCCESS
        assert not bench.pool.kill(1, End.TIME_LIMIT, signal.SIGKILL)

    def test_children_are_recycled_between_jobs(self, make: Callable[..., Bench]) -> None:
        bench = make(max_tasks_per_child=7)

        bench.give(*(bench.job("add", i, 1) for i in range(200)))
        bench.all_done(200)

        assert {o.end for o in bench.outcomes.values()} == {End.SUCCESS}
        # A busy machine may make a child look stuck: the owner gets the jobs back that wait behind.
        assert max(Counter(o.pid for o in bench.outcomes.values()).values()) <= 7

    def test_random_interleavings_keep_every_job_in_one_place(
        self, make: Callable[..., Bench], tmp_path: Any
    ) -> None:
        """The take-back protocol under random durations, withdrawals and deaths of children."""
        dice = random.Random(20261122)
        bench = make(3)
        log = str(tmp_path / "log")
        alive: dict[int, Job] = {}
        withdrawn = 0
        words: dict[int, str] = {}

        for step in range(250):
            jobs = []
            for _ in range(dice.randrange(8)):
                seconds = dice.choice((0.0, 0.0, 0.0, 0.001, 0.004, 0.03))
                job = bench.job("note", log, f"w{step}-{len(words)}", seconds)
                words[job.number] = f"w{step}-{len(words)}"
                alive[job.number] = job
                jobs.append(job)
            bench.give(*jobs)
            bench.turn()
            if dice.random() < 0.1:
                taken = bench.pool.withdraw()
                withdrawn += len(taken)
                bench.give(*(alive[n] for n in taken))
            for number in bench.released:
                bench.give(alive[number])
            bench.released.clear()
            if dice.random() < 0.03 and bench.pool.pids():
                with suppress(ProcessLookupError):  # the pool has not seen yet that this child ended
                    os.kill(dice.choice(bench.pool.pids()), signal.SIGKILL)
        deadline = time.monotonic() + 90
        while len(bench.outcomes) < len(words):
            assert time.monotonic() < deadline
            bench.turn()
            back, bench.released = bench.released, []
            bench.give(*(alive[n] for n in back))

        lost = [n for n, o in bench.outcomes.items() if o.end == End.LOST]
        ran = _words(log)
        assert withdrawn > 0
        assert len(ran) == len(set(ran)), "a job ran twice"
        assert {words[n] for n, o in bench.outcomes.items() if o.end == End.SUCCESS} <= set(ran)
        assert len(set(ran)) >= len(words) - len(lost)
