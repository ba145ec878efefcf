"""`qctl events --once`: one screen as text."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest

from qcore import App
from qcore.events.recording import Recorder
from qcore.testing import start_worker
from qctl import exit_codes
from qctl.dashboard.accessible import VIEWS
from qctl.dashboard.run_command import command_of
from qctl.dashboard.screens.keys import Dashboard
from qctl.dashboard.sources.replay import Replay
from qctl.dashboard.state.snapshot import QueueRow
from qctl.dashboard.views.sentences import Speaker
from qctl.main import cli, main
from tests.support.still import Still
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

    with start_worker(app, hostname="w1@test", ping_task_timeout=60):
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


# --- --accessible


def test_nothing_that_is_read_aloud_draws_and_every_change_is_one_line(
    recording: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = "".join(f":{view}\n" for view in VIEWS) + ":queue pause mails\n:explain queues\nwords\n:quit\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))

    code = main(["-b", "memory://aloud", "events", "--replay", recording, "--speed", "0", "--accessible"])

    printed = capsys.readouterr().out
    assert code == exit_codes.OK
    assert not [c for c in printed if "\u2500" <= c <= "\u28ff" or c == "\x1b"]
    assert (
        printed.count("\nproj.add failed at least 20 times with KeyError, last at") == 3
    )  # also in two views
    assert "not done: this is a recording" in printed
    assert "proj.add, 60 ended, 20 failed" in printed and "type a colon and a view" in printed


def test_the_trend_of_a_queue_is_a_sentence() -> None:
    speaker, row = Speaker(), QueueRow("payments", 0, consumers=1)

    said = [
        speaker.queue(QueueRow("payments", 1_004 + 2 * n, oldest_s=197.0, consumers=1), START + n).text
        for n in range(101)
    ]

    since = said[-1].partition(" since ")[2][:8]
    assert said[-1] == f"payments backlog 1,204, rising 2 a second since {since}, oldest 3 min 17 s"
    assert speaker.queue(row, START + 200).text.startswith("payments backlog 0, falling")


def test_a_queue_is_told_with_the_slots_and_the_silent_ones_of_its_workers() -> None:
    said = list(Speaker().view(Still().take(), "queues"))

    assert said[1].endswith("3 in flight of 2 slots, pay2@fra silent")
    assert said[2].endswith("8 in flight of 8 slots")


def test_a_typed_command_is_run_after_a_yes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'broker.sqlite'}"
    monkeypatch.setattr("sys.stdin", io.StringIO(":queue pause celery\nn\n:queue pause mails\ny\n"))

    code = main(["-b", url, "events", "--accessible"])

    app = App("typed", broker=url, set_as_current=False)
    assert code == exit_codes.OK
    assert app.broker.administration.paused() == ["mails"]
    assert "run qctl queue pause mails ? type y or n" in capsys.readouterr().out


TYPED = (
    *("failed retry", "failed rm", "task revoke", "control terminate", "queue pause", "queue resume"),
    *("queue purge", "schedule pause", "control enable_events", "control pool_grow", "control shutdown"),
)


@pytest.mark.parametrize("words", TYPED)
def test_what_keys_do_can_be_typed(words: str) -> None:
    assert getattr(command_of(cli, words.split()), "changes", False)
