"""`qctl task why` names the cause of each of twelve cases, with real workers."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from qcore import App
from qcore.app.app import App as AppClass
from qcore.events.store.table import TaskSeen
from qcore.wire import identity
from qctl import exit_codes
from qctl.commands.task.history import History, path_for
from qctl.fleet import reasons
from qctl.fleet.reasons import Usual, why
from tests.qctl.cli.test_command_line import here
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_for


class Fleet:
    """One worker of two slots for the queue `work`, and what its tasks wait for."""

    def __init__(self, url: str, folder: Path, processes: Processes) -> None:
        self.url, self.processes = url, processes
        self.app: AppClass = App("asker", broker=url, set_as_current=False)
        self.log, self.release = folder / "log", folder / "release"
        self.log.touch()
        self.worker = self.start("w1@test", "-P", "threads", "-c", "2", "-Q", "work")

    def start(self, node: str, *words: str) -> Process:
        return self.processes.start_qcore_worker(
            self.url, *words, "--heartbeat-interval", "60s", name=node, app="tests.projects.proj"
        )

    def hold(self, queue: str = "work", **options: Any) -> str:
        """The id of a task that runs until the release."""
        before = self.log.read_text().count("started")
        result = self.app.send_task(
            "proj.hold", (str(self.log), "x", str(self.release)), queue=queue, **options
        )
        wait_for(lambda: self.log.read_text().count("started") > before, what="it runs")
        return str(result.id)

    def send(self, queue: str = "work", name: str = "proj.add", **options: Any) -> str:
        return str(self.app.send_task(name, (1, 2), queue=queue, **options).id)

    def becomes(self, task_id: str, cause: str) -> reasons.Reason:
        return wait_for(
            lambda: found if (found := why(self.app, task_id)).cause == cause else None,
            what=f"{cause}; now {why(self.app, task_id)}",
        )


@pytest.fixture
def fleet(redis_url: str, processes: Processes, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(redis_url, tmp_path, processes)
    yield made
    made.app.close()


def test_twelve_causes(fleet: Fleet) -> None:
    app, administration = fleet.app, fleet.app.broker.administration

    # 1. It has expired; no worker has dropped it yet.
    expired = fleet.send("nobody", expires=datetime.now(UTC) - timedelta(seconds=100))
    found = why(app, expired)
    assert found.cause == "expired"
    assert found.sentence.startswith("It expired at ")
    assert found.sentence.endswith("it waits in 'nobody', and the worker that takes it drops it.")

    # 2. Nobody consumes from its queue.
    lonely = fleet.send("wrk")
    found = why(app, lonely)
    assert (found.cause, found.queue, found.name) == ("no_consumer", "wrk", "proj.add")
    assert found.sentence == "No worker consumes from the queue 'wrk'; did you mean 'work'?"
    assert found.evidence == ["it is the next one", "w1@test consumes from work"]

    # 3. Its queue is paused.
    administration.pause("slow", reason="deployment", by="ann")
    paused = fleet.send("slow")
    found = why(app, paused)
    assert (found.cause, found.queue) == ("paused_queue", "slow")
    assert found.sentence.startswith("The queue 'slow' is paused by ann since ")
    assert "the reason given: deployment" in found.evidence

    # 4. It waits for its time, and says so when it is a retry.
    later = fleet.send(countdown=1000)
    found = why(app, later)
    assert found.cause == "waits_for_time"
    assert found.sentence.startswith("It waits for its time: ")
    again = fleet.send(countdown=1000, retries=2)
    assert "it is retry number 2" in why(app, again).evidence

    # 5. It is rate-limited: the first one takes the turn of this minute.
    app.control.rate_limit("proj.mul", "1/m", reply=True)
    first = app.send_task("proj.mul", (2, 3), queue="work")
    assert first.get(timeout=60) == 6
    found = fleet.becomes(fleet.send(name="proj.mul"), "rate_limited")
    assert found.sentence.startswith("It is rate-limited: its turn is at ")
    assert "w1@test starts at most 1/m of proj.mul" in found.evidence

    # From here on it holds nothing ahead: the last task was slow.
    assert app.send_task("proj.nap", (0.1,), queue="work").get(timeout=60) == 0.1

    # 6. It runs: since when, where, and whether that is long.
    running = fleet.hold()
    found = why(app, running)
    assert (found.cause, found.worker, found.queue) == ("running", "w1@test", "work")
    assert found.sentence.startswith("It runs at w1@test since ")
    assert "over its usual" not in found.sentence
    wait_for(lambda: "over its usual time of 0.0s" in why(app, running, lambda _: Usual(0.001, 50)).sentence)
    usual = why(app, running, lambda _: Usual(1000.0, 50))
    assert any(line.startswith("within its usual time") for line in usual.evidence)

    # 7. It is behind others: one more urgent, two older.
    fleet.hold()
    urgent = fleet.send(priority=0)
    older = [fleet.send(priority=3), fleet.send(priority=3)]
    behind = fleet.send(priority=3)
    found = why(app, behind)
    assert found.cause == "behind"
    assert found.sentence == "It is behind 3 messages in 'work': 1 of higher priority and 2 older."
    assert "2 of 2 slots of 1 worker are busy" in found.evidence
    assert any(f"w1@test runs proj.hold {running}, for " in line for line in found.evidence)
    assert why(app, urgent).sentence == "It is the next one in 'work', and waits for a free slot."

    # 8. No worker of its queue has a task of its name: while it waits, and when a worker has set it aside.
    misspelt = fleet.send(name="proj.comput")
    found = why(app, misspelt)
    assert found.cause == "unknown_task"
    words = "No worker of its queue has a task named 'proj.comput'; did you mean 'proj.compute'?"
    assert found.sentence == words

    # 9. It is revoked, and still waits.
    revoked = fleet.send()
    app.control.revoke(revoked)
    found = why(app, revoked)
    assert found.cause == "revoked"
    assert found.sentence == "It is revoked: it waits in 'work', and the worker that takes it drops it."

    # 10. Nobody knows it; an id of ours tells how old it is.
    assert why(app, str(uuid.uuid4())).cause == "unknown_id"
    aged = f"{identity.make()[:24]}{int((time.time() - 5 * 86400) * 1000):012x}"
    found = why(app, aged)
    assert found.cause == "unknown_id"
    assert found.sentence.startswith("It is over: it was sent 5d00h ago, and results are kept for ")

    # What becomes of them: the causes stay right when a worker has acted on them.
    fleet.release.touch()
    for task_id in (*older, behind, urgent, running):
        fleet.becomes(task_id, "finished")
    assert fleet.becomes(misspelt, "unknown_task").sentence.startswith("No worker of its queue had a task")
    assert fleet.becomes(revoked, "revoked").sentence.startswith("It is revoked, and was not started at ")
    administration.move("nobody", "work")
    wait_for(lambda: "before a worker could start it" in why(app, expired).sentence)
    assert why(app, expired).cause == "expired"
    failed = fleet.send(name="proj.fail")
    assert "its error: ValueError('boom')" in fleet.becomes(failed, "finished").evidence

    # 11. It is held by a worker that does not answer.
    fleet.release.unlink()
    held = fleet.hold()
    fleet.worker.stop()
    found = why(app, held)
    assert (found.cause, found.worker, found.queue) == ("silent_worker", "w1@test", "work")
    assert found.sentence.startswith("w1@test holds it and does not answer; its lease ends in ")
    assert any(line.startswith("w1@test did not answer (last heartbeat ") for line in found.evidence)
    uncertain = here("task", "why", str(uuid.uuid4()), QCTL_BROKER_URL=fleet.url)
    assert uncertain.returncode == exit_codes.PARTIAL
    assert "No queue, result or worker that answered knows it; it may be at w1@test." in uncertain.stdout
    fleet.worker.cont()

    # 12. It is prefetched behind a long task.
    fleet.start("solo@test", "-P", "solo", "-Q", "single")
    # It holds messages ahead while tasks are short, so the long one is taken together with those behind it.
    administration.pause("single")
    for _ in range(100):
        fleet.send("single")
    blocker = app.send_task("proj.hold", (str(fleet.log), "y", str(fleet.release)), queue="single")
    prefetched = fleet.send("single")
    for _ in range(100):
        fleet.send("single")
    administration.resume("single")
    wait_for(lambda: "y started" in fleet.log.read_text())
    found = why(app, prefetched)
    assert (found.cause, found.worker) == ("prefetched", "solo@test")
    assert found.sentence.startswith(
        "solo@test has prefetched it and runs proj.hold first, which has run for "
    )
    assert found.evidence[0].startswith(f"solo@test runs proj.hold {blocker.id}, for ")

    # The command prints the same, and a history tells the usual time.
    shown = here("task", "why", prefetched, QCTL_BROKER_URL=fleet.url)
    assert shown.returncode == exit_codes.OK, shown.stderr
    assert shown.stdout.startswith("solo@test has prefetched it and runs proj.hold first")
    past = History(path_for(fleet.url), write=True)
    runs = [TaskSeen(str(uuid.uuid4()), name="proj.hold", state="SUCCESS", runtime=0.01) for _ in range(9)]
    past.keep(one for one in runs)
    past.close()
    whole = json.loads(here("task", "why", blocker.id, "-o", "json", QCTL_BROKER_URL=fleet.url).stdout)
    path_for(fleet.url).unlink()  # the next test has the same server
    assert list(whole) == [
        "schema",
        "version",
        *"id cause sentence evidence name queue worker is_certain".split(),
    ]
    assert (whole["schema"], whole["cause"], whole["is_certain"]) == ("qctl.task.why", "running", True)
    assert "over its usual time of 0.0s" in whole["sentence"]
    nobody = here("task", "why", "no-such-id", QCTL_BROKER_URL=fleet.url)
    assert nobody.returncode == exit_codes.NOT_FOUND
    fleet.release.touch()
