"""The event pipeline under load and with faults: the demonstration's fleet as the source."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from qcore.brokers.registry import open_broker
from qcore.events.recording import replay
from qcore.events.repair import HeldTasks, repair
from qcore.events.state import State
from qcore.events.store.table import ENDED, FAILURE, RECEIVED, STARTED
from qcore.wire import envelope, event
from qctl import exit_codes
from qctl.commands.demo import fleet_incident
from qctl.commands.demo.fleet_events import Fleet
from tests.qctl.cli.test_command_line import qctl
from tests.support.processes import Processes
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for

FULL = os.environ.get("QCORE_FAULTS") == "full"


# --- the source


def test_a_fleet_that_is_not_there_lives_as_fast_as_asked_and_ends_all_it_began() -> None:
    fleet, state = Fleet(workers=50, rate=1000, since=1_700_000_000.0), State(max_tasks=100_000)
    for turn in fleet.turns(15):
        state.fold(turn.events, turn.at)
    for turn in fleet.finish(fleet.since + 15):
        state.fold(turn.events, turn.at)

    states = Counter(task.state for task in state.tasks.values())
    names = {task.name for task in state.tasks.values()}
    failed = next(task for task in state.tasks.values() if task.state == "FAILURE")

    assert 14_000 < state.events < 17_000
    assert set(states) == {"SUCCESS", "FAILURE", "REVOKED"}
    assert states["FAILURE"] == fleet.ended["task-failed"] and state.counts["task-retried"] > 0
    assert len(names) == 6 and "Traceback" in failed.traceback
    assert len(state.workers) == 50 and not any(w.missed for w in state.workers.values())


def test_a_worker_of_it_goes_silent_and_comes_back() -> None:
    fleet, last = Fleet(workers=5, rate=50), "w004@demo"
    said = [t.at for t in fleet.turns(60) if t.node == last]

    assert max(b - a for a, b in itertools.pairwise(said)) > 29
    assert said[-1] > 59


def test_a_deploy_breaks_a_task_until_it_is_repaired() -> None:
    fleet, state = Fleet(workers=5, rate=400, has_incident=True), State(max_tasks=100_000)
    for turn in fleet.turns(119):
        state.fold(turn.events, turn.at)

    failed = [
        t.ended or 0.0 for t in state.tasks.values() if t.name == "shop.charge" and t.state == "FAILURE"
    ]
    broken = [at for at in failed if fleet_incident.is_broken(at)]
    assert len(broken) > 10 * (len(failed) - len(broken)) > 0
    assert fleet.workers[0].deploys == 2 and fleet.workers[0].started_at is not None
    assert fleet.workers[4].deploys == 0


def test_a_queue_grows_while_the_task_is_broken_and_shrinks_afterwards(sqlite_url: str) -> None:
    backlog = fleet_incident.Backlog(sqlite_url)

    def ready() -> int:
        return backlog.app.broker.administration.depth(fleet_incident.QUEUE).ready

    for second in (18, 19, 20, 21, 22):
        backlog.step(second)
    most = ready()
    backlog.step(71)
    some = ready()
    backlog.step(72)
    backlog.app.close()

    assert (most, some) == (5 * fleet_incident.GROWS, 5 * fleet_incident.GROWS - fleet_incident.SHRINKS)


def test_the_demonstration_needs_no_broker(tmp_path: Path) -> None:
    done = qctl("-b", "redis://127.0.0.1:1/0", "events", "--demo", "--dump", "--limit", "150", "-o", "ndjson")
    events = [json.loads(line) for line in done.stdout.splitlines()]

    assert done.returncode == exit_codes.OK
    assert len(events) == 150 and not any(e["type"] == "gap" for e in events)
    assert {"task-received", "task-started"} <= {e["type"] for e in events}


# --- with a server


@pytest.mark.parametrize(
    ("end", "is_stopped"),
    [
        ("ndjson.zst", False),
        ("ndjson.zst", True),
        *((end, False) for end in ("ndjson", "ndjson.gz") if FULL),
    ],
)
def test_a_recording_misses_no_event_under_load(
    redis_server: RedisServer, processes: Processes, tmp_path: Path, end: str, is_stopped: bool
) -> None:
    """A source that is stopped, with events that it has not sent yet, counts those that it has sent."""
    path, url = str(tmp_path / f"all.{end}"), redis_server.url
    recorder = processes.qctl("-b", url, "events", "--record", path, "--type", "the-end", "--limit", "1")
    recorder.wait_output("listening")
    words = ("--workers", "200", "--rate", "10000", *(() if is_stopped else ("--for", "60" if FULL else "1")))
    source = processes.start(sys.executable, "-m", "qctl.commands.demo.fleet_publisher", url, *words)
    if is_stopped:
        source.wait_output("ready")
        time.sleep(0.5)  # so that it waits for the moment of the next ones
        source.term()
    assert source.wait(90) == 0
    sent = json.loads(source.output().splitlines()[-1])
    broker = open_broker(url)
    last = {"type": "the-end", "hostname": "test@h", "timestamp": time.time()}
    broker.broadcast(event.EXCHANGE, event.BATCH_KEY, event.encode(last, "test@h", event.BATCH_KEY))
    broker.close()
    assert recorder.wait() == exit_codes.OK

    state = State(max_tasks=100)
    with replay(path, speed=0) as batches:
        for batch in batches:
            state.fold(batch)

    assert sent["events"] >= 10_000 or is_stopped
    assert state.events == sent["events"] + 1
    assert not any(worker.missed for worker in state.workers.values())


def test_events_that_nobody_reads_and_a_reader_that_is_killed_leave_nothing(
    redis_server: RedisServer, processes: Processes
) -> None:
    fleet = Fleet(200, 10_000, since=time.time())
    with redis_server.client() as client:
        broker = open_broker(redis_server.url)
        before = client.info("memory")["used_memory"]
        keys = set(client.keys())
        tell(broker, fleet, 52 if FULL else 5)
        unread = client.info("memory")["used_memory"] - before
        reader = processes.qctl("-b", redis_server.url, "events", "--dump")
        reader.wait_output("listening")
        tell(broker, fleet, 52 if FULL else 5, kill=reader.kill9)
        left = wait_for(lambda: client.info("memory")["used_memory"] - before < 2**26)
        broker.close()

        assert fleet.events > (1_000_000 if FULL else 100_000) and left
        assert unread < 2**26
        assert set(client.keys()) <= keys and client.pubsub_numpat() == 0


def test_a_monitor_that_hangs_is_let_go_and_says_what_it_missed_when_it_goes_on(
    redis_server: RedisServer, processes: Processes
) -> None:
    fleet = Fleet(200, 10_000, since=time.time())
    with redis_server.client() as client:
        if not FULL:  # else the server's own: 32 MB, or 8 MB for a minute
            client.config_set("client-output-buffer-limit", "pubsub 2mb 1mb 2")
        before = client.info("memory")["used_memory"]
        monitor = processes.qctl("-b", redis_server.url, "events", "--dump")
        monitor.wait_output("listening")
        broker = open_broker(redis_server.url)
        tell(broker, fleet, 1)
        monitor.wait_output("task-started")
        monitor._process.send_signal(signal.SIGSTOP)
        tell(broker, fleet, 52 if FULL else 5)
        wait_for(lambda: client.pubsub_numpat() == 0, 100)
        wait_for(lambda: client.info("memory")["used_memory"] - before < 2**20, 60)
        monitor._process.send_signal(signal.SIGCONT)
        monitor.wait_output("listening again")
        tell(broker, fleet, 1)
        broker.close()
        monitor.wait_output("gap .* reason=the broker was unreachable")
        monitor.wait_output("gap .* missed=")


def test_a_recorder_outlives_its_broker_and_keeps_the_gap(
    redis_server: RedisServer, processes: Processes, tmp_path: Path
) -> None:
    def say(kind: str) -> None:
        broker = open_broker(redis_server.url)
        one = {"type": kind, "hostname": "test@h", "timestamp": time.time()}
        broker.broadcast(event.EXCHANGE, event.BATCH_KEY, event.encode(one, "test@h", event.BATCH_KEY))
        broker.close()

    path = str(tmp_path / "a.ndjson")
    recorder = processes.qctl("-b", redis_server.url, "events", "--dump", "--record", path, "-o", "name")
    recorder.wait_output("listening")
    say("before")
    recorder.wait_output("before")
    redis_server.kill9()
    recorder.wait_output("trying again")
    redis_server.restart()
    recorder.wait_output("listening again")
    say("after")
    recorder.wait_output("after")
    recorder._process.send_signal(signal.SIGTERM)
    code = recorder.wait()
    replayed = qctl("events", "--dump", "--replay", path, "--speed", "0", "-o", "name", "--type", "after")

    assert code == exit_codes.OK
    assert replayed.stdout.split() == ["gap", "after"]


def test_where_no_broker_is_no_recording_is_begun(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"

    done = qctl("-b", "redis://127.0.0.1:1/0", "events", "--record", str(path))

    assert done.returncode == exit_codes.UNAVAILABLE
    assert not path.exists()


def tell(broker: Any, fleet: Fleet, seconds: float, kill: Any = None) -> None:
    for number, turn in enumerate(fleet.turns(seconds)):
        broker.broadcast(
            event.EXCHANGE, event.BATCH_KEY, event.encode(turn.events, turn.node, event.BATCH_KEY)
        )
        if kill is not None and number == 1000:
            kill()


# --- lost events


def test_gaps_are_those_there_were_and_answers_put_the_table_right() -> None:
    chance, since = random.Random(2), 1_700_000_000.0
    fleet, state, lost = Fleet(20, 1000, since=since), State(max_tasks=1_000_000), Counter[str]()
    for turn in fleet.turns(100 if FULL else 5):
        # The first is heard, or there is nothing to count from; the last is added below.
        if fleet.by_node[turn.node].seq > len(turn.events) and chance.random() < 0.05:
            lost[turn.node] += len(turn.events)
        else:
            state.fold(turn.events, turn.at)
    now = turn.at + 1
    for worker in fleet.workers:  # the next sign of life shows what was lost before it
        state.fold([fleet._beat(worker, "worker-heartbeat", turn.at, 2.0)], turn.at)
    wrong = state.table.totals[STARTED] - sum(len(w.running) for w in fleet.workers)
    held = [
        HeldTasks(job.task_id, w.node, runs, job.at, job.name)
        for w in fleet.workers
        for runs, jobs in ((True, w.running), (False, w.held))
        for job in jobs
    ]

    put_right = repair(state, held, list(fleet.by_node), now, lambda ids: {ids[0]: "FAILURE"})
    again = repair(state, held, list(fleet.by_node), now)

    assert {n: w.missed for n, w in state.workers.items() if w.missed} == dict(lost)
    assert wrong > 0 and put_right >= wrong and again == 0
    assert state.table.totals[STARTED] == sum(len(w.running) for w in fleet.workers)
    assert state.table.totals[RECEIVED] == sum(len(w.held) for w in fleet.workers)
    assert state.table.totals[FAILURE] <= fleet.ended["task-failed"] + 1
    assert state.table.totals[ENDED] > 0


def test_what_changed_since_the_question_or_is_of_a_silent_worker_is_left_alone() -> None:
    state = State()
    for task_id, node, at in (("new", "a@h", 20.0), ("silent", "b@h", 5.0), ("old", "a@h", 5.0)):
        state.event({"type": "task-started", "uuid": task_id, "hostname": node, "timestamp": at})

    assert repair(state, [], ["a@h"], 10.0) == 1
    assert {t.uuid: t.state for t in state.newest()} == {
        "new": "STARTED",
        "silent": "STARTED",
        "old": "ENDED",
    }
    state.event({"type": "task-succeeded", "uuid": "old", "hostname": "a@h", "timestamp": 6.0})
    assert state.tasks["old"].state == "SUCCESS"


# --- things that are no events


def test_what_is_no_event_stops_nothing_and_is_counted(
    redis_server: RedisServer, processes: Processes
) -> None:
    def of(kind: str = "task-sent", **more: Any) -> dict[str, Any]:
        return {"type": kind, "hostname": "w@h", "timestamp": 1_700_000_000.0, "uuid": "t", **more}

    def wrapped(value: Any) -> bytes:
        return envelope.wrap(json.dumps(value).encode(), exchange=event.EXCHANGE, routing_key=event.BATCH_KEY)

    unreadable = [b"\x00 no JSON", wrapped({"type": "task-sent"}), wrapped(of(timestamp="soon"))]
    unreadable += [wrapped(of(timestamp=float("nan"))), wrapped(of(timestamp=3e13)), wrapped("text")]
    readable: list[Any] = [
        of("task-started", seq=9), of("task-started", seq=3), of(hostname="a\x1b]0;title\x07\x1b[31m"),
        of("moon-landing", crew=[1, {}]), of("task-received", args="x" * 1_000_000, name=7),
        of(utcoffset="east"), of("worker-online", pid=1), of("worker-online", pid=2, freq="often"),
    ]  # fmt: skip
    reader = processes.qctl("-b", redis_server.url, "events", "--dump")
    reader.wait_output("listening")
    broker = open_broker(redis_server.url)
    for raw in (*unreadable, *map(wrapped, readable), wrapped([1, of(), None, "x"]), wrapped(of("the-last"))):
        broker.broadcast(event.EXCHANGE, event.BATCH_KEY, raw)
    broker.close()
    reader.wait_output("the-last")
    reader._process.send_signal(signal.SIGINT)

    assert reader.wait() == exit_codes.OK
    assert "10 events; 9 unreadable" in reader.output()
    assert "the-last" in reader.output() and "\x1b" not in reader.output()
