"""An alert is an episode: it speaks once, names the change before it, and is gone when its cause is."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qctl.dashboard import alert_signals
from qctl.dashboard.alert_signals import AlertSignals
from qctl.dashboard.screens.keys import Dashboard
from qctl.dashboard.sources.replay import Replay
from qctl.dashboard.state.series import Charts
from qctl.dashboard.state.snapshot import QueueRow, Snapshot, WorkerRow
from qctl.dashboard.views.episodes import Episodes, lasted
from tests.support.still import NOW, Still

WELL = WorkerRow("w1@host", "online", 1, 4)
NOBODY = QueueRow("mails", 30, in_per_s=0.0, out_per_s=0.0, consumers=0)
EMPTY = msgspec.structs.replace(NOBODY, ready=0, consumers=1)


def moment(second: float, queue: QueueRow = EMPTY, charts: Charts | None = None, **more: Any) -> Snapshot:
    return Snapshot(at=NOW + second, asked=True, workers=(WELL,), queues=(queue,), charts=charts, **more)


def test_an_episode_speaks_once_and_returns_as_another_one_only_after_a_while() -> None:
    episodes = Episodes()
    asked = {0: EMPTY, 20: NOBODY, 21: NOBODY, 30: EMPTY, 50: NOBODY, 60: EMPTY, 200: NOBODY}

    spoke = {second: len(episodes.update(moment(second, queue))) for second, queue in asked.items()}

    assert spoke == {0: 0, 20: 1, 21: 0, 30: 0, 50: 0, 60: 0, 200: 1}


def test_what_is_there_at_the_opening_is_shown_and_does_not_speak() -> None:
    episodes = Episodes()

    assert episodes.update(moment(0, NOBODY)) == [] and episodes.update(moment(20, NOBODY)) == []
    assert [(one.is_open, lasted(one, NOW + 20), one.cause) for one in episodes.rows()] == [
        (True, ">20s", "")
    ]


def test_an_episode_names_the_change_before_it_and_ends_with_its_cause_but_not_with_the_broker() -> None:
    episodes, charts = Episodes(), Charts()
    charts.note(NOW - 400, "queue mails resumed")
    charts.note(NOW + 10, "worker w2@host gone", "gone")
    episodes.update(moment(0))
    episodes.update(moment(50, NOBODY, charts))

    episodes.update(moment(55, trouble="connection refused"))
    during = episodes.rows()
    episodes.update(moment(60))
    after = episodes.rows()

    assert [(one.cause, one.is_open) for one in during] == [("40s after: worker w2@host gone", True)]
    assert [one.ended_at for one in after] == [NOW + 60]


def test_an_acknowledged_alert_is_silent_until_it_has_doubled() -> None:
    episodes = Episodes()
    episodes.update(moment(0, NOBODY))
    seen = []

    episodes.acknowledge(one.name for one in episodes.rows())
    for second, ready in ((1, 31), (2, 59), (3, 60)):
        episodes.update(moment(second, msgspec.structs.replace(NOBODY, ready=ready)))
        seen.append(episodes.rows()[0].is_open)

    assert seen == [False, False, True]


def test_failures_that_have_stopped_are_gone_within_ten_seconds() -> None:
    feed, episodes = Still(), Episodes()
    picture = feed.take()

    def failing(last_ago: float) -> bool:
        first = msgspec.structs.replace(picture.failures[0], last_at=picture.at - last_ago)
        episodes.update(msgspec.structs.replace(picture, failures=(first,)))
        return any(one.name.startswith("failing") and one.is_open for one in episodes.rows())

    assert [failing(seconds) for seconds in (1, 5, 9)] == [True, True, False]


def test_the_list_acknowledges_and_leads_to_the_row() -> None:
    async def go() -> tuple[Any, ...]:
        window = Dashboard(Still())
        async with window.run_test(size=(160, 40)) as pilot:
            before = str(window.rule.render())
            await pilot.press("A", "j", "a")
            await pilot.pause()
            rows = [one.is_open for one in window.table.items]
            await pilot.press("g", "enter")
            await pilot.pause()
            there = (window.view.name, window.table.current.name)
            await pilot.press("1")
            await pilot.pause()
            return before, rows, there, str(window.rule.render())

    before, rows, there, after = asyncio.run(go())

    assert "pay2@fra silent" in before and "pay2@fra silent" not in after and "(1 acknowledged)" in after
    assert (sum(rows), len(rows)) == (4, 5)
    assert there == ("failures", "shop.charge")


def test_an_alert_runs_the_users_program_once_and_a_recording_none(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write = "import sys; open(sys.argv[1], 'a').write(sys.argv[2] + chr(10))"
    signals = AlertSignals(True, False, (sys.executable, "-c", write, str(out), "{context}: {what}"))
    rang: list[bool] = []

    async def go(speaks: bool) -> None:
        feed = Still()
        feed.speaks = speaks
        window = Dashboard(feed)
        window.signals = signals
        window.bell = lambda: rang.append(speaks)  # type: ignore[method-assign]
        async with window.run_test(size=(80, 24)):
            feed.changes = {"at": NOW + 20, "queues": (msgspec.structs.replace(NOBODY, name="; rm $HOME"),)}
            window.redraw()
            window.redraw()
            await window.workers.wait_for_complete()

    asyncio.run(go(True))
    asyncio.run(go(False))

    assert rang == [True]
    assert [line.partition(" (since")[0] for line in out.read_text().splitlines()] == [
        ": ; rm $HOME 30 waiting, nobody takes them"
    ]
    assert not Replay.speaks


def test_a_mistake_in_the_file_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "alerts.toml"
    path.write_text("bell = true\nargv = 'notify-send'\n")

    found = alert_signals.load(path)

    assert (
        found.problems == (f"{path}:2: argv takes a list of words, such as ['notify-send', '{{what}}']",)
        and not found.argv
    )


@pytest.fixture(autouse=True)
def in_no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEXTUAL_DRIVER", raising=False)
