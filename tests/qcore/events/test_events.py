"""Events: programs that read them, the table of tasks, recordings, `events --dump` with filters."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest

from qcore import App
from qcore.events.camera import Polaroid
from qcore.events.receiver import listen
from qcore.events.recording import Recorder, recorded, replay, span
from qcore.events.sender import EventSender
from qcore.events.state import State
from qcore.events.store.columns import ROWS
from qcore.events.store.ids import Index
from qcore.events.store.table import FAILURE, STARTED
from qctl import exit_codes
from tests.qctl.cli.test_command_line import one_sentence, qctl
from tests.support.processes import Processes
from tests.support.waiting import wait_for

START = 1_700_000_000.0


def event(kind: str, task_id: str, at: float = 0.0, node: str = "w1@host", **more: Any) -> dict[str, Any]:
    return {"type": kind, "hostname": node, "timestamp": START + at, "uuid": task_id, **more}


def life(number: int, name: str = "proj.add", end: str = "task-succeeded") -> list[dict[str, Any]]:
    task_id = str(uuid.UUID(int=number))
    return [
        event("task-received", task_id, number, name=name, args=f"({number}, 2)", kwargs="{'client': 7}"),
        event("task-started", task_id, number + 0.1),
        event(end, task_id, number + 0.2, result="4", runtime=0.1),
    ]


# --- the table


def test_tasks_are_found_by_columns_newest_first() -> None:
    state = State(max_tasks=100_000)
    state.fold(e for n in range(20_000) for e in life(n, f"proj.t{n % 10}"))
    state.fold(e for n in (20_000, 20_001) for e in life(n, "proj.bad", "task-failed"))

    rows = list(state.table.search(states=frozenset(["FAILURE"])))
    named = sum(1 for _ in state.table.search(names=lambda name: name == "proj.t3"))
    (needle,) = state.table.search(needles=("(15000, 2)",))
    late = list(state.table.search(since=START + 19_999))

    assert [state.table.task(r).args for r in rows] == ["(20001, 2)", "(20000, 2)"]
    assert named == 2000
    assert state.table.task(needle).uuid == str(uuid.UUID(int=15_000))
    assert len(late) == 3
    assert state.table.task(state.table.at(0)).name == "proj.bad"
    assert state.table.task(state.table.at(20_001)).args == "(0, 2)"


def test_what_ended_well_is_forgotten_before_what_failed_and_what_runs() -> None:
    most = 3 * ROWS
    state = State(max_tasks=most)
    state.fold([event("task-started", "running")])
    state.fold(e for n in range(1, 100) for e in life(n, end="task-failed"))
    state.fold(e for n in range(100, 2 * most) for e in life(n))

    assert most * 0.6 <= len(state.tasks) <= most
    assert state.tasks["running"].state == "STARTED"
    assert state.table.totals[FAILURE] == 99
    assert len(state.tasks) + state.forgotten == 2 * most
    assert state.tasks[str(uuid.UUID(int=2 * most - 1))].result == "4"
    assert sum(state.table.totals) == len(state.tasks)
    assert all(state.table.row(state.table.id(row)) == row for row in state.table.rows())
    assert len(set(state.tasks)) == len(state.tasks)


def test_the_bytes_of_arguments_are_bounded_too() -> None:
    state = State(max_tasks=1_000_000, max_bytes=30_000_000)

    for n in range(60_000):
        state.fold(
            [
                event("task-received", f"t{n}", n, name="proj.big", args="x" * 900),
                event("task-succeeded", f"t{n}", n, runtime=0.1),
            ]
        )

    assert state.table.size() < 30_000_000 + ROWS * 1000
    assert state.forgotten > 0


def test_what_did_not_end_well_does_not_outgrow_the_bytes_either() -> None:
    state = State(max_tasks=1_000_000, max_bytes=3_000_000)

    state.fold(e for n in range(8 * ROWS) for e in life(n, end="task-failed" if n % 10 else "task-succeeded"))

    assert state.table.size() < 3_000_000 + ROWS * 1000
    assert state.tasks[str(uuid.UUID(int=8 * ROWS - 1))].state == "FAILURE"


def test_many_failures_are_forgotten_before_what_still_runs() -> None:
    state = State(max_tasks=3 * ROWS)
    state.fold(event("task-started", f"running{n}") for n in range(50))

    state.fold(e for n in range(9 * ROWS) for e in life(n, end="task-failed" if n % 2 else "task-succeeded"))

    assert state.table.totals[STARTED] == 50
    assert 0.3 * len(state.tasks) < state.table.totals[FAILURE] < 0.6 * len(state.tasks)


def test_the_few_failures_among_many_tasks_need_few_chunks() -> None:
    state = State(max_tasks=2 * ROWS)

    state.fold(
        e for n in range(20 * ROWS) for e in life(n, end="task-succeeded" if n % 500 else "task-failed")
    )

    assert state.table.totals[FAILURE] == 20 * ROWS // 500 + 1
    assert len(state.table.chunks) <= 4
    failed = [state.table.task(row) for row in state.table.search(states=frozenset(["FAILURE"]))]
    assert [task.args for task in failed[-2:]] == ["(500, 2)", "(0, 2)"]


ODD_IDS = [
    *("import-17", "", "x" * 36, "X" * 36, "💥", "\udc80", "-" * 36, " " * 36),
    *(str(uuid.UUID(int=5)).upper().replace("0", "A"), uuid.UUID(int=6).hex, f"{{{uuid.UUID(int=7)}}}"),
    *("00000000-0000-0000-0000-00000000000 ", "0000000-00000-0000-0000-0000000000ab", "a" * 300),
]


def test_ids_of_every_kind_come_back_as_they_were() -> None:
    state = State(max_tasks=100)
    ids = [*ODD_IDS, str(uuid.uuid4()), str(uuid.UUID(int=0))]

    state.fold(event("task-received", task_id, name="proj.t", args=repr(task_id)) for task_id in ids)
    state.fold(event("task-started", task_id, 1) for task_id in ids)

    assert list(state.tasks) == ids
    assert all(state.tasks[task_id].args == repr(task_id) for task_id in ids)
    assert state.table.totals[STARTED] == len(ids)


def test_the_table_remembers_what_a_dict_would_as_tasks_come_and_go() -> None:
    rng = random.Random(11)
    state, told = State(max_tasks=1500), dict[str, tuple[str, str]]()
    ids = [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(6000)]
    ids[::7] = [f"odd-{n}" for n in range(len(ids[::7]))]
    ends = ("task-succeeded", "task-failed", "task-retried", "task-revoked", "task-started")

    for n, task_id in enumerate(ids):
        for one, kind in (
            (task_id, "task-received"),
            (ids[rng.randint(max(0, n - 900), n)], rng.choice(ends)),
        ):
            if one not in state.tasks:
                told.pop(one, None)
            state.fold([event(kind, one, n, exception=f"E{n}()" if kind == "task-failed" else None)])
            told[one] = state.tasks[one].state, state.tasks[one].exception

        if n % 250 == 0:
            have = {task.uuid: (task.state, task.exception) for task in state.newest()}
            assert have == {one: told[one] for one in have}
            assert len(have) == len(state.tasks) == sum(state.table.totals) <= 1500
            assert all(state.table.row(state.table.id(row)) == row for row in state.table.rows())
            assert not any(one in state.tasks for one in told if one not in have)
    assert state.forgotten > 3000


def test_a_child_process_has_an_index_of_its_own() -> None:
    state = State()
    state.fold(life(1))

    child = os.fork()
    if child == 0:
        state.fold(life(2))
        os._exit(0)
    os.waitpid(child, 0)

    assert state.table.row(str(uuid.UUID(int=2))) is None
    state.fold(life(2))
    assert list(state.tasks) == [str(uuid.UUID(int=n)) for n in (1, 2)]


def test_an_index_that_was_thought_smaller_grows() -> None:
    def holds(row: int, key: bytes) -> bool:
        return keys[row] == key

    index, keys = Index(4), [uuid.uuid4().bytes for _ in range(500)]

    for row, key in enumerate(keys):
        assert index.find_or_add(key, row, holds) == row
    index.remove(keys[::2], range(0, 500, 2))

    found = [index.find(key, holds) for key in keys]
    assert found == [row if row % 2 else None for row in range(500)]


# --- recordings


@pytest.mark.parametrize("name", ["a.ndjson", "a.ndjson.gz", "a.ndjson.zst"])
def test_a_recording_gives_the_same_events_at_a_pace(tmp_path: Path, name: str) -> None:
    path, slept = str(tmp_path / name), list[float]()
    recorder = Recorder(path)
    for n in range(3):
        recorder.write(life(n), START + n * 2)
    recorder.close()

    with replay(path, speed=4, sleep=slept.append) as batches:
        found = list(batches)

    assert found == [life(n) for n in range(3)]
    assert slept == [0.5, 0.5]


@pytest.mark.parametrize("name", ["a.ndjson", "a.ndjson.gz", "a.ndjson.zst"])
def test_what_a_killed_recorder_wrote_can_be_read(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    program = f"""
import os
from qcore.events.recording import Recorder
recorder = Recorder({path!r})
for n in range(1, 300):
    recorder._flush_at = 0 if n % 100 == 0 else float("inf")
    event = {{"type": "task-sent", "uuid": str(n), "hostname": "w@h", "timestamp": {START} + n}}
    recorder.write([event], {START} + n)
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", program], check=False)

    with recorded(path) as batches:
        found = [event["uuid"] for _, batch in batches for event in batch]

    assert found[:200] == [str(n) for n in range(1, 201)]
    assert span(path) == (START + 1, START + len(found))


def test_a_damaged_recording_and_one_that_is_there_already_are_one_sentence(tmp_path: Path) -> None:
    for name in ("a.gz", "a.zst"):
        (tmp_path / name).write_text("no such compression\n")
        damaged = qctl("events", "--dump", "--replay", str(tmp_path / name))
        again = qctl("events", "--record", str(tmp_path / name))

        assert damaged.returncode == exit_codes.BAD_CONFIG and one_sentence(damaged)
        assert "is damaged" in damaged.stderr
        assert again.returncode == exit_codes.REFUSED and "exists, and is not overwritten" in again.stderr
        assert (tmp_path / name).read_text() == "no such compression\n"


def test_a_replayed_gap_and_a_filter(tmp_path: Path) -> None:
    path = str(tmp_path / "a.ndjson")
    events = [*life(1), *life(2, "proj.mail", "task-failed")]
    for number, one in enumerate(events, 1):
        one["seq"] = number if number < 4 else number + 7
    events[-1]["exception"] = "TimeoutError('slow')"
    Path(path).write_text("".join(json.dumps(e) + "\n" for e in events) + "no event\n")

    lines = qctl("events", "--dump", "--replay", path, "--speed", "0")
    failed = qctl(
        "events", "exc:TimeoutError", "state:failed", "--replay", path, "--speed", "0", "-o", "ndjson"
    )
    bad = qctl("events", "--dump", "name:", "--replay", path)
    missing = qctl("events", "--replay", str(tmp_path / "nosuch"))

    assert lines.returncode == exit_codes.OK
    assert [line.split()[2] for line in lines.stdout.splitlines()].count("gap") == 1
    assert "6 events; 7 lost" in lines.stderr
    kinds = [json.loads(line)["type"] for line in failed.stdout.splitlines()]
    assert kinds == ["gap", "task-failed"]
    assert bad.returncode == exit_codes.USAGE and "^" in bad.stderr
    assert missing.returncode != exit_codes.BUG and one_sentence(missing)


# --- programs


class Camera(Polaroid):
    """Notes what it saw; used by name."""

    def on_shutter(self, state: State) -> None:
        print(f"seen {len(state.tasks)} {sorted(state.workers)}", flush=True)


def test_programs_receive_dispatch_and_take_pictures(redis_url: str, processes: Processes) -> None:
    processes.start_qcore_worker(redis_url, "-P", "threads", "-E", name="w1@test")
    app = App("watcher", broker=redis_url, set_as_current=False)
    camera = processes.qctl(
        "-b", redis_url, "events", "-c", "tests.qcore.events.test_events.Camera", "-F", "0.1"
    )
    done: list[Any] = []
    news: list[Any] = []
    state = app.events.State()
    handlers = {"task-succeeded": done.append, "my-news": news.append, "*": state.event}
    receiver = app.events.Receiver(app, handlers=handlers)
    thread = threading.Thread(target=lambda: receiver.capture(timeout=30), daemon=True)
    thread.start()
    wait_for(lambda: "w1@test" in state.workers)  # capture woke the worker, so it listens
    camera.wait_output("w1@test")

    app.send_task("proj.add", (2, 2)).get(timeout=60)
    with app.events.Dispatcher() as dispatcher:
        dispatcher.send("my-news", text="hello")
    wait_for(lambda: done and news)
    camera.wait_output(r"seen [1-9].*w1@test")
    receiver.should_stop = True
    thread.join(5)

    assert not thread.is_alive()
    assert done[0]["hostname"] == "w1@test"
    assert state.task_count == 1


def test_a_camera_that_is_none_is_one_sentence() -> None:
    done = qctl("events", "-c", "json.loads")

    assert done.returncode == exit_codes.USAGE
    assert "is not a camera" in done.stderr


def test_events_are_sent_in_the_order_of_their_numbers(memory_url: str) -> None:
    app = App("sender", broker=memory_url)
    sender = EventSender(app, "w1@test", dict, True, None)
    with listen(app.broker) as batches:
        sender._broker = app.broker
        for number in range(3):
            sender.note(lambda n: [{"type": "task-started", "uuid": f"u{n}", "timestamp": 1.0}], number)
            sender.send("worker-heartbeat")
        sender._flush()
        heard = [event["seq"] for _, batch in zip(range(6), batches, strict=False) for event in batch]

    assert heard == [1, 2, 3, 4, 5, 6]
