"""W says why a task waits, K where it is now: the answers of `qctl task why` and `qctl task stack`."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

from qcore import App
from qctl.dashboard.screens.details import DetailScreen
from qctl.dashboard.screens.keys import Dashboard
from qctl.dashboard.sources.live import LiveSource
from tests.support.still import Still


async def until(pilot: Any, condition: Any, what: str) -> None:
    for _ in range(600):
        await pilot.pause(0.05)
        if condition():
            return
    raise AssertionError(f"never came: {what}")


def body(window: Dashboard) -> str:
    return str(window.screen.query_one("#text").render())


def test_w_says_why_a_task_waits_in_the_words_of_the_command(tmp_path: Path) -> None:
    app = App("why", broker=f"sqlite:///{tmp_path}/q.db", set_as_current=False)
    task_id = app.send_task("shop.charge", queue="nobody").id
    feed = LiveSource(app)
    told = {"type": "task-sent", "hostname": "me@here", "timestamp": time.time(), "uuid": task_id}
    feed.fold([{**told, "name": "shop.charge", "queue": "nobody"}])
    seen = []

    async def go() -> None:
        window = Dashboard(feed)
        async with window.run_test(size=(120, 30)) as pilot:
            await pilot.press("3", "W")
            await until(pilot, lambda: "nobody" in body(window), "the answer")
            assert isinstance(window.screen, DetailScreen)
            seen.append((window.screen.tab.name, window.screen.tab.words, body(window)))
            await pilot.press("escape")
            assert window.view.name == "tasks"

    asyncio.run(go())

    name, words, text = seen[0]
    assert (name, words) == ("Why", ("task", "why", task_id))
    assert "queue nobody" in text or "'nobody'" in text


def test_an_answer_that_comes_while_its_page_is_taken_away_is_dropped() -> None:
    gone = threading.Event()

    async def go() -> None:
        window = Dashboard(Still())
        window._answer = lambda words, place: gone.wait(60) and "late"  # type: ignore[method-assign, assignment]
        async with window.run_test(size=(120, 30)) as pilot:
            await pilot.press("3", "W")
            await window.screen.query("*").remove()
            gone.set()
            await window.workers.wait_for_complete()

    asyncio.run(go())


def test_the_keys_open_the_answer_of_the_row_and_refuse_rows_without_one() -> None:
    asked: list[tuple[str, ...]] = []

    async def go() -> list[str]:
        said = []
        window = Dashboard(Still())
        window._answer = lambda words, place: asked.append(words) or "it"  # type: ignore[method-assign, func-returns-value]
        async with window.run_test(size=(120, 30)) as pilot:
            await pilot.press("3", "K")
            await window.workers.wait_for_complete()
            await pilot.press("W")
            await window.workers.wait_for_complete()
            await pilot.press("escape", "2", "K")
            await window.workers.wait_for_complete()
            await pilot.press("escape", "4", "W")
            await pilot.pause()
            said.append(str(window.message_line.render()))
        return said

    said = asyncio.run(go())

    assert [words[:2] for words in asked] == [("task", "stack"), ("task", "why"), ("worker", "stack")]
    assert asked[2][2] == "pay2@fra"
    assert said == [" why applies to a task, not to this row"]
