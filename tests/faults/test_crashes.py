"""Nothing accepted is lost when workers are killed: storms with real processes and real brokers."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from qcore import App
from qcore.brokers.base import DEFAULT_LEASE_S
from qcore.brokers.contract.records import Message
from tests.faults import size
from tests.support.processes import Processes
from tests.support.waiting import wait_for

LEASE_S = 2.0
TASKS = size(1200, 2000)
KILLS = size(3, 5)


class History:
    """What tests.projects.proj.log_start wrote down: starts and ends, in order."""

    def __init__(self, path: Path) -> None:
        text = path.read_text() if path.exists() else ""
        lines = text[: text.rfind("\n") + 1].splitlines()  # the last one may just be written
        self.done = Counter(line.split()[1] for line in lines if line.startswith("done "))
        self.starts: dict[str, list[bool]] = {}
        for line in lines:
            if not line.startswith("done "):
                ident, redelivered, _ = line.split()
                self.starts.setdefault(ident, []).append(redelivered == "True")

    @property
    def unflagged_reruns(self) -> list[str]:
        return [ident for ident, flags in self.starts.items() if not all(flags[1:])]

    @property
    def reruns(self) -> int:
        return sum(len(flags) - 1 for flags in self.starts.values())


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["sqlite", "redis", "rabbit"])
def test_kill9_of_the_whole_worker_group_loses_nothing(
    kind: str, request: pytest.FixtureRequest, processes: Processes, tmp_path: Path
) -> None:
    url: str = request.getfixturevalue(f"{kind}_url")
    log = tmp_path / "history"
    app = App("storm", broker=url, set_as_current=False)
    app.broker.consumer(["celery"]).close()  # the queue exists before anything is sent to it
    calls = [
        app.message("proj.log_start", (str(log), str(i), 0.01), {}, f"storm-{i}", {"ignore_result": True})
        for i in range(TASKS)
    ]
    dice = random.Random(7)
    env = {"QCTL_LEASE": str(LEASE_S)}

    for kill in range(KILLS):
        # A share for each round, so that every kill comes in the middle of work, however fast it is.
        share = TASKS // KILLS
        app.broker.publish(calls[kill * share : (kill + 1) * share])
        worker = processes.start_qcore_worker(url, "-c", "2", "-l", "WARNING", env=env)
        before = sum(History(log).done.values())
        wait_for(lambda before=before: sum(History(log).done.values()) > before + 40, 60)
        time.sleep(dice.random() * 0.2)
        worker.kill9()
        assert len(History(log).done) < (kill + 1) * share, f"kill {kill} came too late to mean anything"
        last_kill = time.monotonic()
    processes.start_qcore_worker(url, "-c", "2", "-l", "WARNING", env=env)
    cut = {i for i in History(log).starts if i not in History(log).done}
    wait_for(lambda: cut <= set(History(log).done), 60, f"re-run of {cut}")
    rerun_after = time.monotonic() - last_kill
    wait_for(lambda: len(History(log).done) == TASKS, 60, "all tasks done")
    app.close()

    history = History(log)
    assert len(history.done) == TASKS, "lost"
    assert not history.unflagged_reruns
    # A run that was cut, or one whose end was not settled: at most what was in flight at each kill.
    assert history.reruns <= KILLS * (2 * 64 + 2)
    # Starting the new worker is part of it. The usual lease would take longer.
    assert rerun_after < DEFAULT_LEASE_S * 0.8
    print(f"{kind}: {history.reruns} re-runs, all flagged; re-run {rerun_after:.2f} s after the last kill")


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_task_that_kills_its_workers_is_set_aside(
    kind: str, request: pytest.FixtureRequest, processes: Processes
) -> None:
    url: str = request.getfixturevalue(f"{kind}_url")
    app = App("poison", broker=url, set_as_current=False)
    processes.start_qcore_worker(url, "-c", "2", app="tests.projects.poison")

    poisons = [app.send_task("poison.die") for _ in range(3)]
    good = [app.send_task("poison.add", (i, 1)) for i in range(100)]

    assert [r.get(timeout=60) for r in good] == [i + 1 for i in range(100)]
    for poison in poisons:
        with pytest.raises(Exception, match="3 times"):
            poison.get(timeout=60)
    assert [q.reason for q in app.broker.administration.quarantined()] == ["crashed_too_often"] * 3
    app.close()


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_stopped_worker_is_fenced(
    kind: str, request: pytest.FixtureRequest, processes: Processes, tmp_path: Path
) -> None:
    """A worker that hangs beyond its lease finishes later; its outcome must not replace the newer."""
    url: str = request.getfixturevalue(f"{kind}_url")
    log = tmp_path / "history"
    app = App("fence", broker=url, set_as_current=False)
    env = {"QCTL_LEASE": "1"}
    first = processes.start_qcore_worker(url, "-c", "1", env=env, name="first@test")
    app.broker.publish([app.message("proj.log_start", (str(log), "a", 1.0), {}, "fenced", {})])
    wait_for(lambda: "a" in History(log).starts)

    first.stop()
    processes.start_qcore_worker(url, "-c", "1", env=env, name="second@test")
    assert app.AsyncResult("fenced").get(timeout=60) == "a"
    done = app.AsyncResult("fenced").date_done
    first.cont()
    first.wait_output("the lease of this worker expired", 60)
    wait_for(lambda: History(log).done["a"] >= 2)
    time.sleep(0.3)

    assert app.AsyncResult("fenced").date_done == done
    assert History(log).starts["a"] == [False, True]
    app.close()


def test_bytes_in_flight_come_back_byte_for_byte(redis_url: str, processes: Processes) -> None:
    app = App("bytes", broker=redis_url, set_as_current=False)
    worker = processes.start_qcore_worker(redis_url, "-c", "1", env={"QCTL_LEASE": "1"})
    message = app.message("proj.nap", (100,), {}, "nap", {})
    app.broker.publish([Message(message.raw, queue="celery")])
    wait_for(lambda: any((app.control.inspect(timeout=60).active() or {}).values()))

    worker.kill9()
    consumer = app.broker.consumer(["celery"])
    wait_for(lambda: consumer.reap() or app.broker.administration.depth("celery").ready, 60)

    assert app.broker.administration.peek("celery") == [message.raw]
    consumer.close()
    app.close()
