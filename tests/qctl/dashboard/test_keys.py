"""The keys: none changes its meaning; those of charts and panels do what they say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qctl.dashboard.keys import DETAILS, MAIN, TABLE
from qctl.dashboard.screens.keys import Dashboard
from qctl.dashboard.state.snapshot import Snapshot
from qctl.dashboard.views.views import VIEWS
from qctl.filters import parse as parse_filter
from tests.support.still import NOW, Still

#: the keys of the first edition and their actions; people have them in their fingers
KEPT = {
    "enter": "details", "escape": "leave", "slash": "filter", "colon": "command", "ctrl+p": "command_palette",
    "p": "freeze", "s": "sort", "S": "reverse", "c": "columns", "w": "wide",
    "left_square_bracket": "history(-1)", "right_square_bracket": "history(1)",
    "less_than_sign": "faster(0.5)", "greater_than_sign": "faster(2)", "y": "copy_id", "Y": "copy_all",
    "o": "copy_line", "ctrl+s": "picture", "exclamation_mark": "audit", "m": "mouse", "T": "theme",
    "ctrl+l": "redraw", "ctrl+z": "suspend_process", "question_mark": "help", "q": "quit", "Q": "quit",
    "ctrl+c": "quit", "tab": "app.focus_next", "r": "act('retry')", "x": "act('revoke')",
    "t": "act('terminate')", "P": "act('pause')", "R": "act('resume')", "D": "act('drain')",
    "Z": "act('purge')", "plus": "act('grow')", "minus": "act('shrink')", "e": "act('events_on')",
    "X": "act('shut_down')", "N": "act('run_now')", "E": "edit_schedule", "U": "act('reset')", "u": "undo",
}  # fmt: skip
KEPT_IN_TABLES = {
    "down": "move(1)", "j": "move(1)", "up": "move(-1)", "k": "move(-1)", "pagedown": "page(1)",
    "ctrl+d": "page(1)", "pageup": "page(-1)", "ctrl+u": "page(-1)", "g": "first", "home": "first",
    "G": "last", "end": "last", "f": "follow", "h": "sideways(-1)", "left": "sideways(-1)",
    "l": "sideways(1)", "right": "sideways(1)", "space": "mark", "ctrl+@": "mark_range",
    "asterisk": "app.mark_all",
}  # fmt: skip


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_no_key_has_changed_its_meaning() -> None:
    now = [(key, k.action) for k in MAIN for key in k.keys.split(",")]
    inside = [(key, k.action) for k in TABLE for key in k.keys.split(",")]

    assert KEPT.items() <= dict(now).items()
    assert KEPT_IN_TABLES.items() <= dict(inside).items()
    keys = [key for key, _ in (*now, *inside)] + [view.key for view in VIEWS]
    assert len(keys) == len(set(keys))


def test_the_page_of_the_dashboard_has_every_key() -> None:
    page = (Path(__file__).parents[3] / "docs" / "dashboard.md").read_text()

    rows = {f"| `{k.shown}` | {k.id} | {k.words} |" for k in (*MAIN, *TABLE, *DETAILS)}
    assert rows <= set(page.splitlines())
    assert all(f"| {view.key} | {view.name} |" in page for view in VIEWS)


def screen(window: Dashboard) -> list[str]:
    return ["".join(s.text for s in strip) for strip in window.screen._compositor.render_strips()]


def play(script: Any, size: tuple[int, int] = (120, 40), feed: Still | None = None) -> None:
    async def run() -> None:
        window = Dashboard(feed or Still())
        async with window.run_test(size=size) as pilot:
            await pilot.pause()
            await script(window, pilot)

    asyncio.run(run())


def test_the_range_belongs_to_the_screen() -> None:
    async def script(window: Dashboard, pilot: Any) -> None:
        seen = []
        for key in (
            "1",
            "right_curly_bracket",
            "right_curly_bracket",
            "right_curly_bracket",
            "left_curly_bracket",
        ):
            await pilot.press(key)
            await pilot.pause()
            text = "\n".join(screen(window))
            seen.append([words for words in ("15 MIN", "6 H", "48 H") if words in text])
        assert seen == [["15 MIN"], ["6 H"], ["48 H"], ["48 H"], ["6 H"]]
        await pilot.press("4")
        await pilot.pause()
        assert " 6 h " in screen(window)[1]

    play(script)


def test_the_crosshair_reads_all_charts_and_leads_to_the_tasks_of_that_minute() -> None:
    async def script(window: Dashboard, pilot: Any) -> None:
        await pilot.press(*["comma"] * 20)
        await pilot.pause()
        cross = window.cross
        assert cross is not None
        at = time.strftime("%H:%M:%S", time.localtime(cross))
        assert f"╭ {at} " in "\n".join(screen(window))
        await pilot.press("enter")
        await pilot.pause()
        first = cross // 60 * 60
        wanted = parse_filter(window.pattern)
        assert (wanted.hints.since, wanted.hints.until) == (first, first + 60)
        assert window.view.name == "tasks"
        inside = [
            t
            for t in window.feed.take().tasks
            if first <= (t.ended or t.started or t.received or t.sent) <= first + 60
        ]
        assert {t.uuid for t in window.table.items} == {t.uuid for t in inside}
        await pilot.press("escape", "escape")
        await pilot.pause()
        assert (window.view.name, window.cross) == ("overview", cross)
        await pilot.press("0")
        await pilot.pause()
        assert "╭ Throughput " in "\n".join(screen(window))

    play(script)


def test_one_panel_takes_the_screen_and_gives_it_back() -> None:
    async def script(window: Dashboard, pilot: Any) -> None:
        await pilot.press("tab")
        await pilot.pause()
        assert window.table.current.key.startswith("failure")
        await pilot.press("z")
        await pilot.pause()
        text = "\n".join(screen(window))
        assert (
            "╭ Failures " in text
            and "Throughput" not in text
            and window.table.current.key.startswith("failure")
        )
        await pilot.press("escape")
        await pilot.pause()
        assert "Throughput" in "\n".join(screen(window))

    play(script)


def test_the_band_grows_and_is_shut() -> None:
    async def script(window: Dashboard, pilot: Any) -> None:
        await pilot.press("3")
        await pilot.pause()
        heights = []
        for _ in range(4):
            heights.append(window.band.size.height)
            await pilot.press("b")
            await pilot.pause()
        assert heights == [12, 20, 1, 12]
        assert "╰──" in screen(window)[-2] and "├" in "".join(line[0] for line in screen(window))

    play(script)


def test_a_frozen_screen_stands_still() -> None:
    feed = Still()

    async def script(window: Dashboard, pilot: Any) -> None:
        await pilot.press("p")
        await pilot.pause()
        before = screen(window)
        charts = feed.memory.charts
        for second in range(1, 60):
            charts.ended(NOW + second, "shop.charge", "pay1@fra", 9.0, 1.0, "Timeout", 50)
            charts.sample(NOW + second)
            charts.note(NOW + second, "queue mails paused")
        feed.changes = {"at": NOW + 60, "queues": (), "workers": (), "events_per_s": 9.0}
        window.redraw()
        await pilot.pause()
        assert screen(window) == before
        await pilot.press("p")
        await pilot.pause()
        assert screen(window) != before

    play(script, feed=feed)


def test_no_key_ends_the_dashboard_while_a_list_is_empty() -> None:
    class Nothing(Still):
        def take(self, wanted: Any = None) -> Snapshot:
            rows: dict[str, Any] = {"workers": (), "tasks": (), "queues": (), "failures": ()}
            return msgspec.structs.replace(super().take(wanted), **rows)

    async def script(window: Dashboard, pilot: Any) -> None:
        for view in "12345":
            await pilot.press(view, *"jkGlh", "ctrl+@", "space", "enter", "escape", "escape")
        assert window.is_running and not window.table.marked

    play(script, feed=Nothing())


def test_plain_screens_are_ascii_but_for_names() -> None:
    async def script() -> str:
        window = Dashboard(Still(), True)
        text = ""
        async with window.run_test(size=(120, 40)) as pilot:
            for key in ("1", "2", "4", "5", "9"):
                await pilot.press(key)
                await pilot.pause()
                text += "".join(screen(window))
        return text

    assert {char for char in asyncio.run(script()) if not char.isascii()} <= set("…é日本語")


def test_a_click_selects_the_row_that_it_hits() -> None:
    async def script(window: Dashboard, pilot: Any) -> None:
        lines = screen(window)
        y = next(
            n
            for n, line in enumerate(lines)
            if ("shop.send_mail" in line and "SMTP" in line) or "shop.send_mail  " in line
        )
        await pilot.click(offset=(70, y))
        await pilot.pause()
        assert window.table.current.key.startswith("failure shop.send_mail")

    play(script)


@pytest.mark.parametrize("width", range(60, 241, 20))
def test_no_line_is_too_long_and_folding_and_unfolding_come_back(width: int) -> None:
    async def script(window: Dashboard, pilot: Any) -> None:
        await pilot.press("j", "comma")
        await pilot.pause()
        before, key = screen(window), window.table.current.key
        for size in ((80, 24), (width, 30)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            lines = screen(window)
            assert (len(lines), {len(line) for line in lines}) == (size[1], {size[0]})
        await pilot.resize_terminal(200, 50)
        await pilot.pause()
        await pilot.pause()
        assert window.table.current.key == key
        assert screen(window) == before

    play(script, (200, 50))
