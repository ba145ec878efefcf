"""The Schedules screen: what it says, its keys, and what it costs."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from qcore import App
from qcore.wire.schedule import ScheduleEntry, encode
from qctl.commands.demo.fleet_schedule import FleetSchedule
from qctl.dashboard.screens.keys import Dashboard
from qctl.dashboard.sources.live import LiveSource
from qctl.dashboard.sources.schedule_poll import ROTATED, SchedulePoll
from qctl.dashboard.state.schedules import ScheduleBoard, ScheduleLook
from qctl.dashboard.state.series import Charts
from qctl.dashboard.state.snapshot import Snapshot
from qctl.dashboard.views.cells import CellFormatter
from qctl.dashboard.views.panels import Scene
from qctl.dashboard.views.schedules import QUARTER_S, hour, title
from tests.qctl.dashboard.test_dashboard import play, screen_text, until
from tests.support.large_still import LargeStill
from tests.support.processes import Processes
from tests.support.still import NOW, SCHEDULES, Still, entry
from tests.support.waiting import wait_for

BERLIN = {"timezone": "Europe/Berlin"}


@pytest.fixture
def app(memory_url: str) -> App:
    return App("shop", broker=memory_url, set_as_current=False)


def declare(app: App, count: int, schedule: dict[str, Any]) -> None:
    entries = {f"e{n:05}": encode(ScheduleEntry(f"e{n:05}", "shop.poll", schedule)) for n in range(count)}
    app.schedules.store.declare("shop", entries)


def text_after(feed: Any, *keys: str, size: tuple[int, int] = (120, 40), plain: bool = False) -> str:
    """The screen after these keys."""
    seen = []

    async def script(window: Dashboard, pilot: Any) -> None:
        await pilot.press(*keys)
        await pilot.pause()
        seen.append("\n".join(screen_text(window)))

    play(feed, script, size, plain, "6")
    return seen[0]


# --- what it says


def test_the_title_counts_what_was_missed_and_names_the_scheduler() -> None:
    board = msgspec.structs.replace(SCHEDULES, total=4, paused=0, broken=0, schedulers=("beat@ops",))

    assert title(board, 4, "", False) == "schedules  4 entries · 1 missed · beat@ops alive"
    assert title(board, 2, "poll", True) == "schedules  4 entries  /poll/ 2, 1 missed, beat@ops alive"
    assert title(ScheduleBoard(), 0, "", False) == "schedules"


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_what_is_unknown_is_no_zero(size: tuple[int, int]) -> None:
    lines = text_after(Still(), size=size).splitlines()

    code = next(line for line in lines if line.startswith("│ tides"))
    torn = next(line for line in lines if line.startswith("│ torn"))
    assert code.split()[3:7] == ["code", "?", "-", "-"]
    assert torn.split("broken")[1].strip("│ ").split() == ["?"] * (4 if size[0] == 80 else 8)
    report = next(line for line in lines if line.startswith("│ nightly-report"))
    assert "?" in report.split() or size[0] == 80, "nobody knows the state of its last task"


def test_without_a_scheduler_a_line_says_so() -> None:
    feed = Still(schedules=msgspec.structs.replace(SCHEDULES, schedulers=()))

    assert "no scheduler is running: nothing is published; `qctl -A proj beat` starts one" in text_after(feed)


def test_a_broker_that_keeps_no_entries_says_what_to_set() -> None:
    app = App("far", broker="amqp://guest@localhost:1//", set_as_current=False)
    poll = SchedulePoll(app)
    poll.read(ScheduleLook())

    text = text_after(Still(schedules=poll.board(ScheduleLook())), size=(80, 24))

    said = " ".join(text.replace("│", "").split())
    assert "set schedule_store to the URL of a Redis server, an SQLite file or an SQL database" in said
    assert "Next hour" not in text and "no scheduler is running" not in text


def test_the_selected_entry_is_told_with_its_history() -> None:
    text = text_after(Still(), "j", "j")

    about = text[text.index("├ nightly-report") :]
    assert 'shop.nightly("résumé", 7, password="********")' in about, "secrets are masked"
    assert "(Europe/Berlin)" in about and "queue reports" in " ".join(about.split())
    assert "missed (3)" in about and "beat@ops:71" in about


def test_a_recording_says_that_it_holds_no_schedule(tmp_path: Any) -> None:
    from qcore.events.recording import Recorder
    from qctl.dashboard.sources.replay import Replay

    path = str(tmp_path / "day.ndjson")
    recorder = Recorder(path)
    recorder.write([{"type": "worker-heartbeat", "hostname": "w", "timestamp": NOW}], NOW)
    recorder.close()

    feed = Replay(App("x", broker="memory://", set_as_current=False), path, 0, 100, None)

    assert "a recording holds events only, not the schedule" in text_after(feed)


def test_only_ascii_is_drawn_where_nothing_else_can_be() -> None:
    text = text_after(Still(), "j", plain=True)

    below = text[text.index("Next hour") : text.index("1-9 views")]
    assert not set(below) - {"é", "…"} - {chr(code) for code in range(128)}, "the rest is text that was cut"


def test_the_history_of_an_entry_says_what_became_of_its_tasks() -> None:
    text = text_after(LargeStill())

    about = text[text.index("├ backup-orders") :]
    newest = next(line for line in about.splitlines() if line.startswith("│ 22:"))
    assert newest.split()[2:7] == ["sent", "0.1s", "✓", "done", "1.9s"]
    assert "OSError('no space" in about and "overlap run" in about


# --- the next hour


def test_a_mark_stands_in_the_column_of_its_instant() -> None:
    scene = Scene(Snapshot(), Charts(), CellFormatter())
    scene.panes.store_now = 1_700_000_100.0
    begin = scene.panes.store_now // 60 * 60
    row = entry("a", {}, "", upcoming=(begin + 61, begin + 3599))
    paused = entry("b", {}, "", status="paused", upcoming=(begin + 61,))

    scene = scene._replace(picture=Snapshot(schedules=ScheduleBoard(True, rows=(row, paused))))

    assert "next: a in 1m01s" in hour(scene, [row, paused], "a", 80).lines()[0]
    assert "nothing known is due of those shown" in hour(scene, [paused], "a", 80).lines()[0]
    axis, lane, other = (line.strip("│")[17:] for line in hour(scene, [row, paused], "a", 80).lines()[1:])

    assert [column for column, char in enumerate(lane) if char == "●"] == [1, 59]
    assert [column for column, char in enumerate(other) if char == "○"] == [1]
    assert [column for column, char in enumerate(lane) if char == "┊"] == [
        column for column in range(60) if (begin + 60 * column) % QUARTER_S == 0
    ]
    assert axis.startswith("now")


@pytest.mark.parametrize("columns", [20, 60, 184])
def test_the_marks_are_those_of_the_schedule(app: App, columns: int) -> None:
    for name, text in (
        ("dense", "1s"),
        ("sparse", "*/7 * * * *"),
        ("never", "0 0 30 2 *"),
        ("yearly", "@yearly"),
    ):
        if name != "never":
            app.schedules.add(name, "shop.poll", text)
    poll, look = SchedulePoll(app), ScheduleLook(columns=columns)
    poll.read(look)
    rows = {row.name: row for row in poll.board(look).rows}
    begin = time.time() // look.step_s * look.step_s

    assert columns - 2 <= len(rows["dense"].upcoming) <= columns
    assert rows["yearly"].upcoming == () or rows["yearly"].upcoming[0] < begin + 3600
    exact = [at for at in app.schedules.next("sparse", 20) if at < begin + 3600]
    steps = list(dict.fromkeys(at // look.step_s for at in exact))
    assert [at // look.step_s for at in rows["sparse"].upcoming][-len(steps) :] == steps


# --- its keys


def lines_run(keys: Sequence[str], **changes: Any) -> list[Any]:
    """The actions that are done after these keys on the first entry."""
    done: list[Any] = []

    async def script(window: Dashboard, pilot: Any) -> None:
        window._do = done.append  # type: ignore[method-assign]
        for name, value in changes.items():
            setattr(window, name, value)
        await pilot.press(*keys)
        await pilot.pause()

    play(Still(), script, (120, 40), view="6")
    return done


def test_pausing_and_resuming_are_done_at_once_and_can_be_undone() -> None:
    (resume,) = lines_run(["P"])
    (pause,) = lines_run(["j", "P"])

    assert (resume.words, resume.undo) == (
        ("schedule", "resume", "cleanup"),
        ("schedule", "pause", "cleanup"),
    )
    assert (pause.words, pause.undo) == (
        ("schedule", "pause", "invoices"),
        ("schedule", "resume", "invoices"),
    )


def test_running_now_and_resetting_are_asked_about_first() -> None:
    assert lines_run(["N", "escape", "U", "escape"]) == []
    assert [act.words for act in lines_run(["N", "y"])] == [("schedule", "run", "cleanup")]
    assert [act.words for act in lines_run(["U", "y"])] == [("schedule", "reset", "cleanup")]
    assert lines_run(["j", "U", "y"]) == [], "there is nothing to reset"


def test_a_schedule_is_typed_and_checked_with_each_key() -> None:
    said = text_after(Still(), "j", "E", *["backspace"] * 9, *"61 * * * *")
    wrong = lines_run(["j", "E", *["backspace"] * 9, *"61 * * * *", "enter"])
    (act,) = lines_run(["j", "E", *["backspace"] * 9, *"*/5 * * * *", "enter"])

    assert "character 1: " in said and "61" in said.splitlines()[-1]
    assert wrong == []
    assert act.words == ("schedule", "edit", "invoices", "--schedule", "*/5 * * * *")
    assert act.undo == ("schedule", "reset", "invoices")


def test_what_is_typed_is_said_in_words() -> None:
    assert "every hour" in text_after(Still(), "j", "E").splitlines()[-1]


def test_nothing_is_changed_in_a_read_only_fleet() -> None:
    keys = ["P", "N", "y", "U", "y", "E", "enter"]

    assert lines_run(keys, refusal="qctl is read-only here") == []
    assert [type(act.words) for act in lines_run(["P"], needs_reason=True)] == []


# --- what it costs


def test_nothing_is_read_while_the_screen_is_closed(app: App) -> None:
    declare(app, 3, {"kind": "interval", "every_s": 60.0})
    feed = LiveSource(app)
    reads: list[float] = []
    clock = app.schedules.store.clock

    def counted() -> tuple[float, int]:
        reads.append(time.monotonic())
        return clock()

    app.schedules.store.clock = counted
    feed.start()
    try:
        wait_for(lambda: feed.take().asked)
        assert not reads
        feed.look_at_schedule(ScheduleLook())
        wait_for(lambda: len(reads) >= 3)
        feed.look_at_schedule(None)
    finally:
        feed.stop()

    assert all(later - earlier > 1.9 for earlier, later in itertools.pairwise(reads))


def test_a_poll_of_ten_thousand_entries_reads_few_of_them(app: App) -> None:
    declare(app, 10_000, {"kind": "crontab", "minute": "*/5"})
    poll, look = SchedulePoll(app), ScheduleLook(first=5_000, lines=40)
    poll.read(look)
    asked: list[int] = []
    named = app.schedules.store.named
    app.schedules.store.named = lambda names: asked.append(len(names)) or named(names)

    for _ in range(3):
        poll.read(look)
    board = poll.board(look)

    assert max(asked) <= ROTATED + 41
    assert (board.total, len(board.rows)) == (10_000, 10_000)
    assert sum(row.item is not None for row in board.rows) < 200
    assert board.rows[5_020].item is not None


def test_a_change_elsewhere_is_seen_at_the_next_poll(app: App) -> None:
    declare(app, 2, {"kind": "interval", "every_s": 60.0})
    poll, look = SchedulePoll(app), ScheduleLook()
    poll.read(look)
    app.schedules.pause("e00001")
    app.schedules.add("by-hand", "shop.poll", "30s")

    poll.read(look)
    rows = {row.name: row for row in poll.board(look).rows}

    assert {name: row.status for name, row in rows.items()} == {
        "by-hand": "on",
        "e00000": "on",
        "e00001": "paused",
    }
    app.schedules.remove("by-hand")
    poll.read(look)
    assert [row.name for row in poll.board(look).rows] == ["e00000", "e00001"]


def test_entries_are_filtered_and_sorted_by_what_is_seen(app: App) -> None:
    for name, when in (("a", "0 4 1 1 *"), ("b", "30s"), ("c", "*/5 * * * *")):
        app.schedules.add(name, f"shop.{name}", when)
    app.schedules.pause("c")
    app.schedules.run("a")
    poll = SchedulePoll(app)

    def names(**look: Any) -> list[str]:
        poll.read(ScheduleLook(**look))
        return [row.name for row in poll.board(ScheduleLook(**look)).rows]

    assert names(pattern="PAUSED") == ["c"] and names(pattern="shop.b") == ["b"]
    assert names(order="runs")[0] == "a" and names(order="next_at")[:2] == ["b", "a"]
    assert names(order="name", reverse=True) == ["c", "b", "a"]


def test_an_entry_that_cannot_be_read_hides_no_other(app: App) -> None:
    app.schedules.add("good", "shop.poll", "30s")
    app.schedules.store.declare("shop", {"torn": b"[1"})
    poll = SchedulePoll(app)

    poll.read(ScheduleLook())
    rows = {row.name: row for row in poll.board(ScheduleLook()).rows}

    assert rows["good"].status == "on" and rows["torn"].status == "broken"
    assert "torn" in rows["torn"].problem


@pytest.mark.parametrize(
    "fields",
    [
        {"spec": {}},
        {"spec": {"kind": "moon"}},
        {"spec": {"kind": "interval", "every_s": "often"}},
        {"spec": {"kind": "interval", "every_s": -1}},
        {"spec": {"kind": "crontab", "minute": "99"}},
        {"spec": {"kind": "solar", "event": "sunset", "lat": "north", "lon": None}},
        {"spec": {"kind": "interval", "every_s": 60.0}, "starts_at": 1e30, "ends_at": -1e30},
        {"spec": {"kind": "interval", "every_s": 1e-6}, "jitter_s": 1e300, "options": {"queue": [1]}},
        {"spec": {"kind": "crontab"}, "timezone": "Nowhere/Land"},
        {"task": 7},
    ],
)
def test_odd_values_hide_no_other_entry(app: App, fields: dict[str, Any]) -> None:
    odd = {"name": "odd", "task": "shop.poll", "spec": {"kind": "crontab"}, **fields}
    app.schedules.store.declare("shop", {"odd": msgspec.json.encode(odd)})
    app.schedules.add("good", "shop.poll", "30s")
    poll = SchedulePoll(app)
    for order in ("", "next_at", "status", "late_s"):
        poll.read(ScheduleLook(order=order, selected="odd"))
        board = poll.board(ScheduleLook(order=order, selected="odd"))

    text = text_after(
        Still(schedules=board), "s", "escape", "G", "enter", "escape", "g", "enter", "escape", "E"
    )

    assert {row.name: row.status for row in board.rows}["good"] == "on"
    assert "good" in text and "odd" in text


def test_a_verb_for_one_entry_says_so_when_many_are_marked() -> None:
    assert "pause applies to one row at a time" in text_after(Still(), "space", "space", "P")


# --- with a scheduler


def test_the_demonstration_has_a_schedule_with_a_story(sqlite_url: str) -> None:
    schedule = FleetSchedule(sqlite_url)
    schedule.start()
    app = App("client", broker=sqlite_url, set_as_current=False)
    poll = SchedulePoll(app)

    def seen() -> ScheduleBoard | None:
        poll.read(ScheduleLook(selected="nightly-report"))
        board = poll.board(ScheduleLook(selected="nightly-report"))
        return board if board.schedulers else None

    board = wait_for(seen)
    schedule.stop()

    assert (board.total, board.missed, board.paused) == (5, 1, 1)
    assert [record.outcome for record in board.history["nightly-report"]] == ["missed"] * 3


def test_a_schedule_is_watched_and_changed_from_the_keyboard(redis_url: str, processes: Processes) -> None:
    beat = processes.qctl("-A", "tests.projects.scheduled", "-b", redis_url, "beat")
    beat.wait_output("Ready")
    client = App("client", broker=redis_url, set_as_current=False)
    feed = LiveSource(client)
    feed.start()

    async def script(window: Dashboard, pilot: Any) -> None:
        def text() -> str:
            return "\n".join(screen_text(window))

        def row(name: str) -> str:
            return next((line for line in text().splitlines() if line.startswith(f"│ {name}")), "")

        def runs(name: str) -> int:
            items = [one.item for one in window.picture.schedules.rows if one.name == name and one.item]
            return items[0]["runs"] if items else 0

        await until(pilot, lambda: "alive" in text() and "often" in text(), "the entries and their scheduler")
        await until(pilot, lambda: runs("often") > 2, "runs")
        assert "?" in row("lazy").split(), "the code of the project computes it"
        await pilot.press("G")  # rarely
        await until(pilot, lambda: "├ rarely" in text(), "the last entry is selected")
        await pilot.press("N", "y")
        await until(pilot, lambda: "by hand" in text(), "it ran by hand, and its history says so")
        await pilot.press("P")
        await until(pilot, lambda: "paused" in row("rarely"), "it is paused")
        await pilot.press("U", "y")
        await until(pilot, lambda: "paused" not in row("rarely") and "rarely *" not in text(), "it is reset")
        await until(pilot, lambda: getattr(window.under_cursor, "item", None), "it was read since")
        await pilot.press("E")
        await until(pilot, lambda: window.typing == "schedule", "its schedule can be typed")
        await pilot.press(*["backspace"] * 20, *"0 4 * * *", "enter")
        await until(pilot, lambda: "04:00" in row("rarely"), "it is due at another time")
        assert client.schedules.get("rarely").edited == ("spec",)
        beat.term()
        beat.wait()
        await until(pilot, lambda: "no scheduler is running" in text(), "its scheduler has ended")

    try:
        play(feed, script, (120, 40), view="6")
    finally:
        feed.stop()
        client.close()
