"""The same events make the same state here and in Celery."""

from __future__ import annotations

import gc
import pickle
import random
import time
from collections.abc import Iterator
from typing import Any

import celery.events.state
import celery.states
import pytest

from qcore.app.app import App
from qcore.events.api import Dispatcher, Event, Receiver, group_from
from qcore.events.camera import Polaroid
from qcore.events.cluster import State
from qcore.events.observed import Worker, heartbeat_expires
from qcore.tasks import states

NODES = ("w1@a", "w2@a", "w3@b")
NAMES = ("proj.add", "proj.mul")
KINDS = ("sent", "received", "started", "succeeded", "failed", "retried", "revoked", "rejected", "progress")
OF_WORKERS = (
    "hostname",
    "pid",
    "freq",
    "heartbeats",
    "clock",
    "active",
    "processed",
    "sw_ident",
    "alive",
    "id",
)


def events(seed: int, number: int = 120) -> Iterator[dict[str, Any]]:
    """Events of a few workers and tasks, some of them late."""
    chance, now = random.Random(seed), time.time()
    for step in range(number):
        clock = max(step + chance.randint(-4, 4), 0) * 1000 + step
        common = {"hostname": chance.choice(NODES), "timestamp": now + step / 9, "clock": clock}
        common["local_received"] = now + step / 9 + chance.random()
        if chance.random() < 0.25:
            kind = chance.choice(("online", "heartbeat", "heartbeat", "offline"))
            facts = {
                "pid": chance.randint(1, 3),
                "freq": 2.0,
                "active": step,
                "processed": step,
                "sw_ident": "x",
            }
            yield {"type": f"worker-{kind}", **common, **facts}
            continue
        number = chance.randint(1, 12)
        task: dict[str, Any] = {"uuid": f"t{number}", "type": f"task-{chance.choice(KINDS)}"}
        if task["type"] in ("task-sent", "task-received"):
            task |= {"name": NAMES[number % 2], "args": "(1,)", "root_id": f"t{number % 3}", "retries": 0}
            task["parent_id"] = f"t{number + 1}" if number % 4 == 0 else None
        yield {**common, **task}


def seen(state: Any) -> dict[str, Any]:
    """What a program reads of a state."""

    def of(task: Any) -> dict[str, Any]:
        found = task.as_dict()
        worker = found.pop("worker")
        found["children"] = sorted(found["children"])
        return {**found, "on": worker and worker.hostname, "origin": task.origin, "ready": task.ready}

    gc.collect()  # sets of tasks are weak, and tasks of Celery's are in cycles
    tasks = dict(state.itertasks())
    ways = [(limit, reverse) for limit in (None, 5) for reverse in (True, False)]
    nodes = [node for node in NODES if node in state.workers]
    return {
        "counts": (state.event_count, state.task_count),
        "tasks": {uuid: of(task) for uuid, task in tasks.items()},
        "info": {uuid: (task.info(), task.info(["args"], ["uuid"])) for uuid, task in tasks.items()},
        "related": {uuid: (_id(task.parent), _id(task.root)) for uuid, task in tasks.items()},
        "workers": {n: [getattr(w, name) for name in OF_WORKERS] for n, w in sorted(state.workers.items())},
        "by time": [[uuid for uuid, _ in state.tasks_by_time(*way)] for way in ways],
        "by type": {n: [uuid for uuid, _ in state.tasks_by_type(n)] for n in NAMES},
        "by worker": {n: [uuid for uuid, _ in state.tasks_by_worker(n, 3)] for n in nodes},
        "sets": {n: sorted(t.uuid for t in state.tasks_by_type[n]) for n in NAMES},
        "types": state.task_types(),
        "alive": sorted(w.hostname for w in state.alive_workers()),
        "text": [repr(state), *(repr(task) for task in tasks.values())],
    }


def _id(task: Any) -> Any:
    return getattr(task, "uuid", task)


@pytest.mark.parametrize("seed", range(25))
def test_the_same_events_make_the_same_state(seed: int) -> None:
    ours, theirs, sent = State(), celery.events.state.State(), list(events(seed))

    answers = [[_answer(state.event(dict(event))) for event in sent] for state in (ours, theirs)]

    assert answers[0] == answers[1]
    assert seen(ours) == seen(theirs)
    for clear in ("clear_tasks", "clear"):
        for state in (ours, theirs):
            getattr(state, clear)()
        # Celery's tasks keep their parents once they were read, also when those are forgotten.
        unlike = {"related": {}, "sets": {}}
        assert {**seen(ours), **unlike} == {**seen(theirs), **unlike}


def _answer(found: Any) -> Any:
    if found is None:
        return None
    (thing, is_new), subject = found
    return getattr(thing, "uuid", None) or thing.hostname, is_new, subject


@pytest.mark.parametrize("make", [State, celery.events.state.State])
def test_callbacks_and_handlers(make: Any) -> None:
    heard: list[Any] = []
    state = make(
        callback=lambda state, event: heard.append(event["type"]),
        on_node_join=lambda worker: heard.append(("join", worker.hostname)),
        on_node_leave=lambda worker: heard.append(("leave", worker.hostname)),
    )
    state.handlers["mine"] = lambda subject, event: heard.append((subject, event["n"]))
    for kind in ("worker-online", "worker-heartbeat", "mine-news", "worker-offline", "other"):
        state.event({"type": kind, "hostname": "w1", "timestamp": 1, "local_received": 1, "clock": 1, "n": 7})

    assert heard == [
        *("worker-online", ("join", "w1"), "worker-heartbeat", "mine-news", ("news", 7)),
        *("worker-offline", ("leave", "w1"), "other"),
    ]
    assert list(state.workers) == []
    assert state.freeze_while(lambda x: x + state.event_count, 1, clear_after=True) == 6
    assert state.event_count == 0


@pytest.mark.parametrize("make", [State, celery.events.state.State])
def test_members_for_programs(make: Any) -> None:
    state = make(max_tasks_in_memory=3)
    worker, is_new = state.get_or_create_worker("w1", pid=5)
    again = state.get_or_create_worker("w1", pid=6)
    tasks = [state.get_or_create_task(f"t{n}") for n in (1, 2, 3, 4, 4)]

    assert (worker.id, is_new, again[1], worker.status_string) == ("w1.6", True, False, "OFFLINE")
    assert [new for _, new in tasks] == [True, True, True, True, False]
    assert [uuid for uuid, _ in state.itertasks()] == ["t2", "t3", "t4"]
    assert [uuid for uuid, _ in state.itertasks(limit=2)] == ["t2", "t3"]
    assert worker == type(worker)("w1")
    assert tasks[0][0] != tasks[1][0]
    assert len({worker, type(worker)("w1")}) == 1


def test_a_state_is_pickled_with_its_tasks() -> None:
    state = State()
    for event in events(3):
        state.event(event)

    copy = pickle.loads(pickle.dumps(state))

    assert copy.tasks.keys() == state.tasks.keys()
    assert copy.workers.keys() == state.workers.keys()


def test_a_clock_that_differs_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker("far@away")
    for _ in range(3):
        worker.event("heartbeat", 1000, 2000)

    assert caplog.messages == ["the clock of far@away differs by 1000 s from ours; set both"]
    assert heartbeat_expires(10, 2) == celery.events.state.heartbeat_expires(10, 2)


def test_states_compare_as_in_celery() -> None:
    names = [*states.ALL_STATES, "PROGRESS"]
    for one in names:
        for other in names:
            ours, theirs = states.state(one), celery.states.state(one)
            assert [ours < other, ours <= other, ours > other, ours >= other] == [
                *(theirs < other, theirs <= other, theirs > other, theirs >= other),
            ], (one, other)
        assert states.precedence(one) == celery.states.precedence(one)


def test_a_camera_takes_at_most_so_many_pictures() -> None:
    class Camera(Polaroid):
        clear_after = True

        def on_shutter(self, state: State) -> None:
            taken.append(state.event_count)

        def on_cleanup(self) -> None:
            taken.append("cleaned")

    taken: list[Any] = []
    heard: list[Any] = []
    state = State()

    def hear(sender: Any, **_: Any) -> None:
        heard.append(sender)

    Polaroid.shutter_signal.connect(hear)
    camera = Camera(state, 0.0, "1/h", 0.0)
    for event in events(1, 5):
        state.event(event)
    for _ in range(3):
        camera.tick(time.monotonic() + 1)

    assert taken == ["cleaned", 5, "cleaned", "cleaned"]
    assert heard == [state]
    assert state.event_count == 0


def test_the_classes_are_made_as_celerys(memory_url: str) -> None:
    app, heard = App("x", broker=memory_url, set_as_current=False), list[Any]()
    receiver = Receiver(None, {"task-noticed": heard.append}, app=app, queue_ttl=3)
    with Dispatcher(None, "me", app=app, buffer_limit=2) as dispatcher:
        assert dispatcher.hostname == "me"
    receiver.process("task-noticed", Event("task-noticed", uuid="x"))  # type: ignore[arg-type]

    assert heard[0]["type"] == "task-noticed"
    assert heard[0]["timestamp"] <= time.time()
    assert group_from("task-noticed") == "task"
    with pytest.raises(TypeError, match="queue_ttl"):
        Receiver(None, {}, app=app, queue_tll=3)
