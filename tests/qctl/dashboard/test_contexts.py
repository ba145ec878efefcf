"""Several contexts are tabs: each has its own feed and state, and a verb belongs to the one that is seen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from qcore import App
from qctl.cli.session import Session
from qctl.configuration.directories import config_dir
from qctl.dashboard.screens.keys import Dashboard
from qctl.dashboard.start import open_contexts, window_for
from qctl.dashboard.themes import THEMES

CONTEXTS = """
[contexts.north]
broker = "sqlite:///{folder}/north.db"
[contexts.south]
broker = "sqlite:///{folder}/south.db"
class = "prod"
[contexts.gone]
broker = "redis://127.0.0.1:1/0"
[contexts.wrong]
broker = "env:NOBODY_SETS_THIS"
"""


@pytest.fixture
def fleets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, App]]:
    """Two fleets, each with a queue `mails` that has a message; two contexts that cannot be reached."""
    monkeypatch.setenv("QCTL_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    config_dir().mkdir()
    (config_dir() / "contexts.toml").write_text(CONTEXTS.format(folder=tmp_path))
    made = {
        name: App(name, broker=f"sqlite:///{tmp_path}/{name}.db", set_as_current=False)
        for name in ("north", "south")
    }
    for app in made.values():
        app.send_task("shop.mail", queue="mails")
    yield made
    for app in made.values():
        app.close()


def paused(app: App) -> list[str]:
    return sorted(app.broker.administration.paused())


async def until(pilot: Any, condition: Any, what: str) -> None:
    for _ in range(600):
        await pilot.pause(0.05)
        if condition():
            return
    raise AssertionError(f"never came: {what}")


def header(window: Dashboard) -> str:
    return "".join(s.text for s in window.screen._compositor.render_strips()[0])


def run(names: list[str], script: Any) -> None:
    session = Session()
    with click.Context(click.Command("events"), obj=session):
        others, tabs = open_contexts(session, names, 1000)
        window = window_for(session, tabs[0].feed, False, THEMES["default-dark"])
    window.use_tabs(tabs)

    async def go() -> None:
        async with window.run_test(size=(120, 30)) as pilot:
            await script(window, pilot)

    for tab in tabs:
        tab.feed.start()
    try:
        asyncio.run(go())
    finally:
        for tab in tabs:
            tab.feed.stop()
        for other in others:
            other.close()


def test_a_verb_reaches_only_the_fleet_that_is_seen_and_what_is_down_hurts_no_other(
    fleets: dict[str, App],
) -> None:
    async def script(window: Dashboard, pilot: Any) -> None:
        def is_here(queue: str) -> bool:
            return any(q.name == queue for q in window.picture.queues)

        await pilot.press("4")
        await until(pilot, lambda: is_here("mails"), "the queue of north")
        await until(pilot, lambda: "✗" in header(window), "that another one is down")
        assert "[north]" in header(window) and "south PROD RO" in header(window)
        await pilot.press("slash", *"mails", "enter", "P")
        await until(pilot, lambda: "undoes" in str(window.message_line.render()), "the outcome")
        assert paused(fleets["north"]) == ["mails"]
        await pilot.press("right_parenthesis")
        await until(pilot, lambda: is_here("mails"), "the queue of south")
        assert "[south]" in header(window) and "PROD" in header(window)
        assert (window.view.name, window.pattern) == ("overview", "")
        await pilot.press("4", "P")
        await until(pilot, lambda: "not done" in str(window.message_line.render()), "the refusal")
        await pilot.press("right_parenthesis", "4", "P")
        await pilot.pause()
        assert window.picture.queues == ()  # gone
        await pilot.press("left_parenthesis", "left_parenthesis")
        await pilot.pause()
        assert (window.view.name, window.pattern) == ("queues", "mails")
        await until(pilot, lambda: is_here("mails"), "north still works")

    run(["north", "south", "gone"], script)

    assert (paused(fleets["north"]), paused(fleets["south"])) == (["mails"], [])


def test_a_context_with_a_mistake_says_so_in_its_tab(fleets: dict[str, App]) -> None:
    async def script(window: Dashboard, pilot: Any) -> None:
        await pilot.press("right_parenthesis", "4", "P")
        await pilot.pause()
        assert "NOBODY_SETS_THIS" in str(window.rule.render())
        assert "[wrong]" in header(window)
        await pilot.press("right_parenthesis", "4")
        await until(pilot, lambda: bool(window.picture.queues), "the other fleet")

    run(["north", "wrong"], script)
