"""`qctl events --once`: one screen as text."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from qcore import App
from qcore.events.recording import Recorder
from qcore.testing import start_worker
from qctl import exit_codes
from qctl.dashboard.screens.keys import Dashboard
from qctl.dashboard.sources.replay import Replay
from qctl.main import main
from tests.support.waiting import wait_for

START = 1_700_000_000.0


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sixty tasks, of which every third failed."""
    recorder = Recorder(str(tmp_path_factory.mktemp("tape") / "minute.ndjson.gz"))
    for number in range(60):
        at = START + number
        life = {"uuid": f"u{number}", "hostname": "w1@host", "timestamp": at, "name": "proj.add"}
        end = (
            {"type": "task-failed", "exception": "KeyError(1)"}
            if number % 3 == 0
            else {"type": "task-succeeded", "runtime": 0.5}
        )
        recorder.write([{**life, "type": "task-received"}, {**life, **end}], at)
    recorder.close()
    return recorder.path


@pytest.mark.parametrize("view", ["overview", "tasks", "failures"])
def test_one_screen_in_a_pipe_equals_the_interactive_one(
    recording: str, view: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(
        ["-b", "memory://once", "events", "--replay", recording, "--once", "--view", view, "--size", "100x30"]
    )
    printed = capsys.readouterr().out

    tape = Replay(App("tape", broker="memory://once", set_as_current=False), recording, 0.0, 1_000_000, None)
    window = Dashboard(tape)
    shown: list[str] = []

    async def look() -> None:
        async with window.run_test(size=(100, 30)) as pilot:
            tape.start()
            while not tape.is_complete:
                await pilot.pause(0.01)
            window.action_view(view)
            await pilot.pause()
            window.redraw()
            await pilot.pause()
            shown.extend(strip.text.rstrip() for strip in window.screen._compositor.render_strips())

    asyncio.run(look())
    tape.stop()
    assert code == exit_codes.OK
    assert "\x1b" not in printed
    assert printed.splitlines() == shown
    assert len(shown) == 30 and any("proj.add" in line for line in shown)


def test_a_filter_chooses_the_rows_of_one_screen(recording: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "-b",
        "memory://once",
        "events",
        "--replay",
        recording,
        "--once",
        "--view",
        "tasks",
        "state:failed",
    ]

    code = main(words)

    printed = capsys.readouterr().out
    assert code == exit_codes.OK
    assert "/state:failed/ 20" in printed and "KeyError" in printed and "proj.add" in printed


def test_one_screen_with_a_worker_is_complete_and_without_one_its_code_is_5(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'broker.sqlite'}"
    words = ["-b", url, "-t", "30s", "events", "--once", "--view"]
    app = App("once", broker=url, set_as_current=False)
    app.conf.worker_redirect_stdouts = False
    alone = main([*words, "workers"])
    without = capsys.readouterr()

    with start_worker(app, hostname="w1@test"):
        wait_for(lambda: app.control.ask("ping", timeout_s=1.0).replies)
        code = main([*words, "queues"])
    with_one = capsys.readouterr()

    assert alone == exit_codes.NO_ANSWER
    assert "no worker answered" in without.err and "no worker" in without.out
    assert code == exit_codes.OK
    assert "up 1/1" in with_one.out and "celery" in with_one.out


def test_options_that_have_no_effect_with_one_screen_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "--once", "--limit", "3"]) == exit_codes.USAGE
    assert main(["events", "--view", "tasks"]) == exit_codes.USAGE
    assert main(["-b", "memory://once", "events", "--once", "--view", "nothing"]) == exit_codes.USAGE
    assert "there are overview, workers" in capsys.readouterr().err
