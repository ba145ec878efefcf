"""The dashboard: what events add up to, the feed, and the screen at 80x24."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import pytest

from qcore import App
from qcore.errors import BrokerDown
from qcore.events.recording import Recorder
from qcore.events.state import State
from qcore.wire import event as event_wire
from qcore.wire.schedule import HistoryRecord
from qctl.dashboard.screens.keys import Dashboard
from qctl.dashboard.sources.live import LiveSource
from qctl.dashboard.sources.replay import Replay
from qctl.dashboard.state.failures import seen_failures
from qctl.dashboard.state.schedules import ScheduleBoard, ScheduleRow
from qctl.dashboard.state.snapshot import QueueRow
from qctl.dashboard.views.cells import CellFormatter
from qctl.dashboard.views.columns import TASK_FIELDS
from qctl.dashboard.views.views import VIEWS
from qctl.dashboard.widgets.virtual_table import VirtualTable
from tests.support.processes import Processes
from tests.support.still import entry
from tests.support.waiting import wait_for

START = 1_700_000_000.0


def event(kind: str, uuid: str = "u1", at: float = 0.0, node: str = "w1@host", **more: Any) -> dict[str, Any]:
    return {"type": kind, "hostname": node, "timestamp": START + at, "uuid": uuid, **more}


# --- state


def test_a_task_goes_through_its_states() -> None:
    state, seen = State(), []

    for kind in (
        "task-sent",
        "task-received",
        "task-started",
        "task-retried",
        "task-received",
        "task-succeeded",
    ):
        state.event(event(kind, name="proj.add"))
        seen.append(state.tasks["u1"].state)

    assert seen == ["PENDING", "RECEIVED", "STARTED", "RETRY", "RECEIVED", "SUCCESS"]
    assert state.tasks["u1"].worker == "w1@host"


def test_a_late_event_never_turns_a_state_back() -> None:
    state = State()

    for kind in ("task-succeeded", "task-started", "task-received", "task-sent"):
        state.event(event(kind, name="proj.add", args="(1,)"))

    assert state.tasks["u1"].state == "SUCCESS"
    assert state.tasks["u1"].args == "(1,)"


def test_the_number_of_tasks_is_bounded_and_running_ones_stay() -> None:
    state = State(max_tasks=10)
    state.event(event("task-started", uuid="running"))

    for number in range(50):
        state.event(event("task-succeeded", uuid=f"done{number}"))

    assert len(state.tasks) == 10
    assert "running" in state.tasks
    assert state.forgotten == 41


def test_gaps_in_the_numbers_of_a_worker_are_counted() -> None:
    state = State()

    for seq in (1, 2, 5):
        state.event({"type": "worker-heartbeat", "hostname": "w", "timestamp": START, "seq": seq})

    assert state.workers["w"].missed == 2


def test_a_worker_without_heartbeats_is_not_alive() -> None:
    state = State()
    state.event({"type": "worker-heartbeat", "hostname": "w", "timestamp": START, "freq": 2.0}, now=START)

    assert state.workers["w"].is_alive(START + 5)
    assert not state.workers["w"].is_alive(START + 7)


def test_nonsense_in_fields_does_no_harm() -> None:
    state = State()

    state.event(event("task-received", name=7, args=[1], retries="x", runtime=None, root_id=3))
    state.event({"type": "worker-heartbeat", "hostname": "w", "timestamp": START, "freq": "a", "loadavg": 3})

    assert state.tasks["u1"].args == "[1]"


# --- screen


def say(app: App, kind: str, uuid: str, **more: Any) -> None:
    made = {**event(kind, uuid, **more), "timestamp": time.time()}
    key = event_wire.routing_key(kind)
    app.broker.broadcast("celeryev", key, event_wire.encode(made, "w1@host", key))


@pytest.fixture
def app(memory_url: str) -> App:
    made = App("watched", broker=memory_url)
    made.broker.announce("w1@host", {"version": "0.1.0", "queues": ["celery"]}, 60)
    return made


def play(
    feed: Any, script: Any, size: tuple[int, int] = (80, 24), plain: bool = False, view: str = "3"
) -> Dashboard:
    """Open the dashboard headless at a view, run the script with a pilot, close it."""
    window = Dashboard(feed, plain)

    async def run() -> None:
        async with window.run_test(size=size, notifications=True) as pilot:
            await pilot.press(view)
            await pilot.pause()
            await script(window, pilot)

    asyncio.run(run())
    return window


def screen_text(window: Dashboard) -> list[str]:
    return ["".join(s.text for s in strip) for strip in window.screen._compositor.render_strips()]


async def until(pilot: Any, condition: Any, what: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        await pilot.pause(0.02)


def test_the_screen_at_80x24(app: App) -> None:
    feed = LiveSource(app)
    feed.start()
    wait_for(lambda: feed.take().asked and feed.listening.is_set())
    for number in range(30):
        say(
            app,
            "task-received",
            f"{number:08d}-aaaa",
            name="proj.add",
            args=f"({number}, \x1b[31m2)",
            kwargs="{}",
        )
    say(app, "task-failed", "00000003-aaaa", exception="ValueError('boom')", traceback="Traceback\n  line 1")
    wait_for(lambda: len(feed.take().tasks) == 30)
    pictures: dict[str, list[str]] = {}

    async def script(window: Dashboard, pilot: Any) -> None:
        await until(pilot, lambda: window.table.items, "tasks on the screen")
        pictures["main"] = screen_text(window)
        await pilot.press("G")
        await pilot.pause()
        pictures["end"] = screen_text(window)
        await pilot.press("slash", *"state:failed", "enter")
        await until(pilot, lambda: len(window.table.items) == 1, "the failed task")
        pictures["filtered"] = screen_text(window)
        await pilot.press("enter")
        await pilot.pause()
        pictures["details"] = screen_text(window)
        await pilot.press("escape", "question_mark")
        await pilot.pause()
        pictures["help"] = screen_text(window)
        await pilot.press("q", "2")
        await pilot.pause()
        pictures["workers"] = screen_text(window)
        await pilot.press("q")

    window = play(feed, script)
    feed.stop()

    main = pictures["main"]
    assert len(main) == 24
    assert all(len(line) == 80 for line in main)
    assert "●" in main[0]
    assert "up 0/1" in main[0]
    assert "Tasks 30" in main[1]
    assert "00000029" in main[3]  # the newest first
    assert "\\x1b[31m2" in main[3]
    assert "q quit" in main[23]
    assert any("00000000" in line for line in pictures["end"])
    assert sum("✗ failed" in line for line in pictures["filtered"]) == 1
    assert any("w1@host" in line and "? silent" in line for line in pictures["workers"])
    assert any("ValueError('boom')" in line for line in pictures["details"])
    assert any("line 1" in line for line in pictures["details"])
    assert any("go to a view" in line for line in pictures["help"])
    assert window.return_value == 0


def test_a_broker_that_goes_away_leaves_the_last_picture(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = LiveSource(app)
    feed.start()
    wait_for(lambda: feed.take().asked and feed.listening.is_set())
    say(app, "task-received", "u1", name="proj.add")
    wait_for(lambda: feed.take().tasks)
    broken = True
    ask = type(app.control).ask

    def maybe(self: Any, *args: Any, **options: Any) -> Any:
        if broken:
            raise BrokerDown("redis://:secret@host/0", "connection refused")
        return ask(self, *args, **options)

    monkeypatch.setattr(type(app.control), "ask", maybe)
    feed.ask_soon()

    async def script(window: Dashboard, pilot: Any) -> None:
        nonlocal broken
        await until(pilot, lambda: window.picture.trouble, "trouble")
        await pilot.pause()
        lines = screen_text(window)
        assert "reconnecting" in lines[0]
        assert any("connection refused" in line for line in lines)
        assert not any("secret" in line for line in lines)
        assert any("proj.add" in line for line in lines)
        assert window.table.faded
        broken = False
        await until(pilot, lambda: window.picture.connected, "connected again")

    play(feed, script)
    feed.stop()


def test_frozen_keeps_the_picture_and_counts_what_is_behind(app: App) -> None:
    feed = LiveSource(app)
    feed.fold([event("task-received", "u1", name="proj.add")])

    async def script(window: Dashboard, pilot: Any) -> None:
        await pilot.press("p")
        feed.fold([event("task-received", "u2", name="proj.mul")] * 3)
        await until(pilot, lambda: "3 behind" in screen_text(window)[0], "the count")
        assert len(window.table.items) == 1
        await pilot.press("p")
        await until(pilot, lambda: len(window.table.items) == 2, "the new picture")

    play(feed, script)


def test_an_empty_screen_says_what_to_do(app: App) -> None:
    feed = LiveSource(app)

    async def script(window: Dashboard, pilot: Any) -> None:
        await pilot.pause()
        text = "\n".join(screen_text(window))
        assert "no task has been seen yet" in text
        assert "qctl control enable_events" in text

    play(feed, script)


@pytest.mark.parametrize("size", [(40, 12), (80, 24), (200, 50)])
def test_a_row_never_wraps_at_any_size(app: App, size: tuple[int, int]) -> None:
    feed = LiveSource(app)
    feed.fold([event("task-received", f"u{n}", name="proj." + "x" * 60, args="y" * 300) for n in range(5)])

    async def script(window: Dashboard, pilot: Any) -> None:
        await pilot.pause()
        lines = screen_text(window)
        assert len(lines) == size[1]
        assert sum(line.lstrip("│ ").startswith("○ reserved") for line in lines) == 5

    play(feed, script, size)


def test_plain_characters_only(app: App) -> None:
    feed = LiveSource(app)
    feed.fold([event("task-succeeded", "u1", name="proj.add")])

    async def script(window: Dashboard, pilot: Any) -> None:
        await pilot.pause()
        assert "".join(screen_text(window)).replace("…", "").isascii()

    play(feed, script, plain=True)


def test_columns_that_do_not_fit_are_left_out_by_priority() -> None:
    table: VirtualTable[Any] = VirtualTable(TASK_FIELDS, str, CellFormatter().task)

    shown = {
        room: [f.name for f, w in zip(TASK_FIELDS, table.widths(room), strict=True) if w]
        for room in (50, 80, 140)
    }

    assert shown[50] == ["STATE", "NAME", "ID", "TIME"]
    assert shown[80] == ["STATE", "NAME", "ID", "WORKER", "TIME", "ARGUMENTS, RESULT"]
    assert shown[140] == [f.name for f in TASK_FIELDS]
    assert sum(table.widths(80)) + 5 == 80


# --- an incident


class Incident:
    """A pilot that counts the keys of each path."""

    def __init__(self, window: Dashboard, pilot: Any) -> None:
        self.window, self.pilot, self.pressed = window, pilot, 0

    async def press(self, *keys: str) -> None:
        self.pressed += len(keys)
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def sees(self, *texts: str) -> None:
        def seen() -> bool:
            return all(t in "\n".join(screen_text(self.window)) for t in texts)

        try:
            await until(self.pilot, seen, str(texts))
        except AssertionError as exc:
            raise AssertionError("\n".join([str(exc), *screen_text(self.window)])) from None

    def path(self) -> int:
        """How many keys since the last path."""
        pressed, self.pressed = self.pressed, 0
        return pressed


def test_an_incident_is_run_from_the_keyboard(redis_url: str, processes: Processes) -> None:
    worker = processes.start_qcore_worker(redis_url, "-c", "2", "-E", name="w1@test")
    client = App("client", broker=redis_url, set_as_current=False)
    feed = LiveSource(client, max_tasks=20_000)
    feed.start()
    wait_for(lambda: feed.take().asked and feed.listening.is_set())
    for number in range(10_000):
        feed.fold([event("task-succeeded", f"{number:032x}", name="proj.add", runtime=0.01)])
    client.send_task("proj.fail", ())
    running = client.send_task("proj.nap", (60,))
    wait_for(lambda: {t.state for t in feed.take().tasks} >= {"FAILURE", "STARTED"})
    keys: dict[str, int] = {}

    async def script(window: Dashboard, pilot: Any) -> None:
        hand = Incident(window, pilot)
        await hand.press("5")
        await hand.sees("proj.fail", "ValueError")
        await hand.press("enter")
        await hand.sees("Traceback", "raise ValueError", "qctl failed retry")
        keys["read its traceback"] = hand.path()
        await hand.press("escape", "r")
        await hand.sees("retry 1 failed task", "qctl failed retry")
        await hand.press("y")
        await hand.sees("1 of 1 failed task retried")
        keys["retry it"] = hand.path()
        await hand.press("4", "P")
        await hand.sees("‖ paused")
        keys["pause its queue"] = hand.path()
        assert client.broker.administration.paused() == ["celery"]
        await hand.press("P")
        await until(pilot, lambda: not client.broker.administration.paused(), "resumed", 15)
        keys["resume it"] = hand.path()
        await hand.press("3", "slash", *"nap", "enter")
        await hand.sees("proj.nap", "running")
        await hand.press("t")
        await hand.sees("kill proj.nap")
        await hand.press("y")
        await until(pilot, lambda: window.picture.tasks and running.state == "REVOKED", "killed", 15)
        keys["kill a running task"] = hand.path()
        await hand.press("q")

    play(feed, script)
    feed.stop()
    client.close()

    assert worker.is_running
    assert max(keys.values()) <= 15, keys
    assert sum(keys.values()) <= 25, keys
    print(keys)


def test_nothing_is_done_without_a_yes_or_in_a_read_only_fleet(app: App) -> None:
    feed = LiveSource(app)
    feed.fold([event("task-started", "u1", name="proj.nap")])

    async def script(window: Dashboard, pilot: Any) -> None:
        ran: list[Any] = []
        window._do = ran.append  # type: ignore[method-assign]
        await pilot.press("t", "escape", "x", "enter", "r")
        await pilot.pause()
        window.refusal = "qctl is read-only here"
        await pilot.press("t")
        await until(pilot, lambda: "qctl is read-only here" in "\n".join(screen_text(window)), "the reason")
        await pilot.press("y")
        await pilot.pause()
        assert not ran

    play(feed, script)


def test_every_view_has_columns_and_says_why_it_is_empty(app: App) -> None:
    feed = LiveSource(app)

    async def script(window: Dashboard, pilot: Any) -> None:
        for view in VIEWS:
            await pilot.press(view.key)
            await pilot.pause()
            text = screen_text(window)
            assert all(len(line) == 80 for line in text)
            assert any(sum(name in line for name in NAMES[view.name]) == 2 for line in text)
            assert view.empty.split("\n")[0] in "\n".join(text) or window.table.items

    play(feed, script)


#: two columns of each view, or two panels
NAMES = {view.name: [f.name for f in view.fields[:2]] for view in VIEWS} | {"overview": ["READY", "EMPTY IN"]}


# --- recordings


def test_a_recording_is_gone_through_to_and_fro(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path / "day.ndjson.gz"))
    for number in range(100):
        at = START + number
        recorder.write(
            [{**event("task-failed", f"u{number}", number, exception="KeyError(1)"), "name": "proj.add"}], at
        )
    recorder.close()
    tape = Replay(App("tape", broker="memory://"), recorder.path, 1.0, 1000, None)
    tape.pause(True)
    tape.start()

    async def script(window: Dashboard, pilot: Any) -> None:
        await until(pilot, lambda: len(window.table.items) == 1, "the first task")
        await pilot.press(*["right_square_bracket"] * 5)
        await until(pilot, lambda: len(window.table.items) == 51, "fifty seconds later")
        assert "51% paused" in screen_text(window)[0]
        await pilot.press(*["left_square_bracket"] * 3)
        await until(pilot, lambda: len(window.table.items) == 21, "thirty seconds before")
        await pilot.press("r")
        await until(pilot, lambda: "this is a recording" in "\n".join(screen_text(window)), "refused")
        await pilot.press("5")
        await until(
            pilot,
            lambda: re.search(r"~21 \S+ +proj.add +KeyError", "\n".join(screen_text(window))),
            "group",
        )
        tape.pause(False)
        await pilot.press(*["greater_than_sign"] * 8)
        await until(pilot, lambda: "100% end" in screen_text(window)[0], "the end")

    play(tape, script)
    tape.stop()


# --- a million tasks


def test_the_cursor_stays_with_its_task_while_others_come(app: App) -> None:
    feed = LiveSource(app)
    feed.fold([event("task-received", f"u{n:03}", name="proj.add") for n in range(50)])

    async def script(window: Dashboard, pilot: Any) -> None:
        await pilot.press("j", "j", "space", "k", "k")
        feed.fold([event("task-received", f"v{n:03}", name="proj.add") for n in range(100)])
        await until(pilot, lambda: len(window.table.items) == 150, "more tasks")
        assert window.table.current.uuid == "u048"
        assert set(window.table.marked) == {"u047"}
        assert "u048" in "".join(screen_text(window))
        await pilot.press("f")
        await pilot.pause()
        assert window.table.current.uuid == "v099"

    play(feed, script)


# --- text from elsewhere

HOSTILE = "\x1b[31m\x1b]8;;http://x\x07L\x1b]52;c;eA==\x07\x9b2J\r\n\t\x07\u202edesrever\u200b[red]R[/red][@click=app.quit]q[/]\x1bPq"


def test_text_from_elsewhere_is_shown_as_text_on_every_screen(app: App) -> None:
    feed = LiveSource(app)
    fields = (
        "name",
        "args",
        "kwargs",
        "result",
        "exception",
        "traceback",
        "eta",
        "expires",
        "queue",
        "routing_key",
    )
    about = {field: f"{field}{HOSTILE}" for field in (*fields, "root_id", "parent_id")}
    node = f"w{HOSTILE}@h"
    feed.fold([event(kind, f"u{HOSTILE}", node=node, **about) for kind in ("task-received", "task-failed")])
    feed.fold([{"type": "worker-heartbeat", "hostname": node, "timestamp": time.time(), "sw_ident": HOSTILE}])
    feed.fold(
        [event(f"task-{HOSTILE}", "u2", node=node), event("task-received", "x" * 10, args="A" * 1_000_000)]
    )
    feed._failures = seen_failures(feed.memory.state.table)
    feed._queues = (QueueRow(f"q{HOSTILE}", 3),)
    feed._broker_facts = {f"f{HOSTILE}": HOSTILE}
    odd = entry(
        f"e{HOSTILE}", {"kind": "code", "text": HOSTILE}, HOSTILE, task=HOSTILE, note=HOSTILE, args=[HOSTILE]
    )
    past = (HistoryRecord(1, HOSTILE, 1, HOSTILE, HOSTILE), HistoryRecord(1, "sent", 1, HOSTILE, HOSTILE))
    feed._schedules = ScheduleBoard(
        True,
        trouble=HOSTILE,
        rows=(odd, ScheduleRow(f"x{HOSTILE}", problem=HOSTILE)),
        total=2,
        schedulers=(f"beat{HOSTILE}",),
        history={odd.name: past},
    )
    unsafe = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")

    async def script(window: Dashboard, pilot: Any) -> None:
        async def clean(what: str) -> None:
            await pilot.pause()
            strips = window.screen._compositor.render_strips()
            assert not [s for strip in strips for s in strip if unsafe.search(s.text)], what
            assert not [
                s
                for strip in strips
                for s in strip
                if s.style and (s.style.link or s.style.meta.get("@click"))
            ], what

        window._answer = lambda words, place: HOSTILE  # type: ignore[method-assign]
        for view in VIEWS:
            await pilot.press(view.key)
            await clean(view.name)
            await pilot.press("G", "enter")
            for _ in range(3 if view.name != "tasks" else 7):
                await clean(f"a page of {view.name}")
                await pilot.press("tab")
            await pilot.press("escape", "y")
            await clean(f"copied from {view.name}")
        await pilot.press("3", "G")
        await pilot.pause()
        assert "name\\x1b[31m\\x1b]8;;http://x" in "".join(screen_text(window))
        await pilot.press("r")
        await clean("a question")
        await pilot.press("escape", "slash", *"name:na")
        await clean("a filter")

    play(feed, script, (160, 40))


def test_what_is_no_event_changes_nothing(app: App) -> None:
    feed = LiveSource(app)
    feed.start()
    wait_for(lambda: feed.listening.is_set())
    bad: list[Any] = [
        "x",
        {},
        {"type": "task-received"},
        {"type": "task-started", "hostname": "w", "timestamp": "now"},
    ]
    bad += [{"type": "task-sent", "hostname": "w", "timestamp": float("1e300"), "uuid": "u"}, [1, None, "x"]]
    for value in bad:
        app.broker.broadcast("celeryev", "task.x", event_wire.encode(value, "w", "task.x"))
    app.broker.broadcast("celeryev", "task.x", b"no envelope")
    say(app, "task-received", "good", name="proj.add", utcoffset="x", pid=[1], seq=-3)
    wait_for(lambda: len(feed.take().tasks) == 1)
    feed.stop()

    assert feed.take().tasks[0].uuid == "good"
    assert not feed.take().missed
