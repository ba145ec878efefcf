"""Commands that the dashboard runs take as long as they take; a frozen picture stands still."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from qcore import App
from qctl.dashboard import run_command
from qctl.dashboard.row_actions import REVERSIBLE, RowAction
from qctl.dashboard.screens.keys import Dashboard
from qctl.dashboard.sources.live import LiveSource
from qctl.dashboard.state.series import Charts

#: they end by themselves after so many seconds, and not before; nobody brings the message
LONG = ("wait", "queue:nowhere depth>0", "-t")


@pytest.fixture
def app(tmp_path: Path) -> App:
    return App("doing", broker=f"sqlite:///{tmp_path}/q.db", set_as_current=False)


async def until(pilot: Any, condition: Any, what: str) -> None:
    for _ in range(600):
        await pilot.pause(0.05)
        if condition():
            return
    raise AssertionError(f"never came: {what}")


def run(app: App, act: RowAction, script: Any) -> None:
    async def go() -> None:
        window = Dashboard(LiveSource(app))
        async with window.run_test(size=(120, 30)) as pilot:
            window._do(act)
            await script(window, pilot)

    asyncio.run(go())


def said(window: Dashboard) -> str:
    return str(window.message_line.render())


def test_a_command_that_changes_something_is_not_ended_after_a_time(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_command, "PATIENCE_S", 0.1)
    monkeypatch.setattr(run_command, "TELL_S", 0.1)
    told: list[str] = []

    async def script(window: Dashboard, pilot: Any) -> None:
        await until(pilot, lambda: " s (Esc cancels it)" in said(window), "how long it has run")
        told.append(said(window))
        await until(pilot, lambda: "…" not in said(window), "its end")
        told.append(said(window))

    run(app, RowAction((*LONG, "1.5"), "wait", REVERSIBLE), script)

    assert "stopped" not in told[1]
    assert "nowhere" in told[1]


def test_escape_cancels_a_command_that_runs(app: App) -> None:
    async def script(window: Dashboard, pilot: Any) -> None:
        await until(pilot, lambda: " s (Esc cancels it)" in said(window), "how long it has run")
        await pilot.press("escape")
        await until(pilot, lambda: "cancelled after" in said(window), "that it was cancelled")
        assert window.works == []

    run(app, RowAction((*LONG, "300"), "wait", REVERSIBLE), script)


def test_an_answer_that_takes_too_long_is_a_sentence(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_command, "PATIENCE_S", 0.3)

    did = run_command.answer(app, (*LONG, "300"))

    assert did == (False, "it ran longer than 0.3 s and was stopped", "")


def test_the_charts_of_a_picture_stand_still(app: App) -> None:
    feed = LiveSource(app)

    picture = feed.take()
    before = picture.charts.series["in"].columns(100, 1, 10)
    feed.memory.charts.series["in"].put(99, 99.0)

    assert feed.memory.charts.series["in"].columns(100, 1, 10) != before
    assert picture.charts.series["in"].columns(100, 1, 10) == before
    assert isinstance(picture.charts, Charts)
