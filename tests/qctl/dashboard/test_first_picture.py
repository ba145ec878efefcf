"""What stands between the command and the first picture of the dashboard."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qctl import exit_codes
from qctl.dashboard.first_picture import FirstPicture, draw
from qctl.dashboard.screens.keys import Dashboard
from qctl.dashboard.screens.main import REDRAW_S, MainWindow
from qctl.dashboard.sources.base import startable
from qctl.dashboard.state.search import Wanted
from qctl.dashboard.state.snapshot import Snapshot
from qctl.dashboard.views.cells import CellFormatter, Where
from tests.support.still import NOW, Still
from tests.support.terminal import Terminal, terminal
from tests.support.waiting import wait_for

__all__ = ["terminal"]

#: the most modules of qcore and qctl that the first picture may need
MOST_MODULES = 118
#: what other screens, keys and the requests of the source need
LATER = (
    *("qcore.app", "qcore.tasks", "qcore.settings", "qctl.commands.events.daemon", "hashlib"),
    *("qcore.brokers.sqlite", "qcore.control", "qcore.events.receiver", "qcore.schedules", "qctl.cli.audit"),
    *("qctl.commands.worker.command", "qctl.filters", "qctl.output.yaml"),
    *("qctl.dashboard.accessible", "qctl.dashboard.once", "qctl.dashboard.run_command"),
    *(f"qctl.dashboard.screens.{name}" for name in ("command_palette", "details", "dialogs", "screenshot")),
    *(f"qctl.dashboard.sources.{name}" for name in ("broker_facts", "broker_poll", "schedule_poll")),
    *(f"qctl.dashboard.views.{name}" for name in ("band", "broker", "details", "latest", "pages")),
    *("qctl.dashboard.views.schedules", "qctl.dashboard.views.sentences"),
    *("qctl.dashboard.state.failures", "qctl.dashboard.state.filter_columns", "qctl.dashboard.state.history"),
    *("kombu", "redis", "sqlite3", "ctypes", "aiohttp", "pygments", "markdown_it", "statistics"),
    *("rich.markdown", "rich.syntax", "textual.widgets._data_table", "textual.widgets._markdown"),
)
CODE = """
import json, os, sys
from qctl.dashboard.sources.live import LiveSource
from qctl.main import main

def told(self):
    print(json.dumps(sorted(sys.modules)), flush=True)
    os._exit(0)

LiveSource.start = told
main(["-b", "sqlite:///never-opened.db", "events"])
"""


def test_the_first_picture_needs_nothing_of_other_screens_nor_of_the_broker(tmp_path: Any) -> None:
    """The source starts after it, so what is imported then is what the picture needed."""
    env = {**os.environ, "TEXTUAL_DRIVER": "textual.drivers.headless_driver:HeadlessDriver"}
    line = [sys.executable, "-c", CODE]

    done = subprocess.run(line, env=env, cwd=tmp_path, capture_output=True, text=True)

    found = set(json.loads(done.stdout))
    assert "qctl.dashboard.views.overview" in found, "it was drawn"
    assert [name for name in LATER if name in found] == []
    ours = [name for name in found if name.partition(".")[0] in ("qcore", "qctl")]
    assert len(ours) <= MOST_MODULES, "import what only another screen needs where it is used"
    assert not list(tmp_path.iterdir())


#: loading Textual waits for a file, or fails
SLOW = """
import os, sys, time

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "textual":
            while not os.path.exists("go"):
                time.sleep(0.01)
            if os.path.getsize("go"):
                raise ImportError("it is broken")

sys.meta_path.insert(0, Slow())
with open("pid", "w") as out:
    out.write(str(os.getpid()))
from qctl.__main__ import program
program()
"""


@pytest.fixture
def loading(terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A dashboard on the screen, for which Textual is being loaded."""
    terminal.type(f"cd {tmp_path}\n")
    terminal.run("-c", SLOW, "-b", "memory://loading", "events")
    terminal.sees("asking the workers and the broker", "Throughput", "Queues")
    return terminal


def test_the_first_picture_is_there_before_textual_is_loaded(loading: Terminal, tmp_path: Path) -> None:
    assert loading.is_alternate
    loading.type("xyz")
    loading.press("C-z")
    (tmp_path / "go").touch()

    loading.sees("Throughput", "quit", not_this=["xyz"])
    loading.press("2")
    loading.sees("╭ Workers", not_this=["Throughput"])
    loading.press("q")
    wait_for(lambda: not loading.is_alternate)
    loading.type("stty -a\n")
    loading.sees(" echo ", " icanon ", not_this=["-icanon", "xyz"])


@pytest.mark.parametrize(
    ("end", "said", "code"),
    [("broken", "it is broken", 70), ("kill", "", 143), ("C-c", "", exit_codes.INTERRUPTED)],
)
def test_the_terminal_is_as_it_was_when_textual_was_not_reached(
    end: str, said: str, code: int, loading: Terminal, tmp_path: Path
) -> None:
    if end == "broken":
        (tmp_path / "no").write_text("no")
        (tmp_path / "no").rename(tmp_path / "go")  # never there and empty
    elif end == "kill":
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    else:
        loading.press(end)

    wait_for(lambda: not loading.is_alternate)
    loading.type("echo ended $?; stty -a\n")
    loading.sees(said, f"ended {code}", " echo ", " icanon ", not_this=["-icanon"])


def test_an_unknown_theme_is_said_without_a_picture(tmp_path: Path) -> None:
    picture = FirstPicture(Still(), False, "nope", Where(), True)

    with picture as first:
        assert first.handed_to(object) is object


class Unasked(Still):
    """A source that has no answer yet."""

    def take(self, wanted: Wanted | None = None) -> Snapshot:
        return Snapshot(broker="redis://host", at=NOW)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
@pytest.mark.parametrize("plain", [False, True])
def test_the_first_picture_is_that_of_the_window(plain: bool, size: tuple[int, int]) -> None:
    """But for the line of the keys, which appears when they have an effect."""
    feed = Unasked()

    async def play() -> list[str]:
        window = Dashboard(feed, plain)
        async with window.run_test(size=size) as pilot:
            await pilot.pause()
            strips = window.screen._compositor.render_strips()
            return ["".join(s.text for s in strip).rstrip() for strip in strips]

    drawn = draw(feed, CellFormatter(plain), Where(), *size).lines()

    assert drawn[:-1] == asyncio.run(play())[:-1]


def test_the_source_starts_after_the_first_picture_and_the_screen_is_drawn_four_times_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[str] = []
    painted, every = MainWindow.paint, MainWindow.set_interval
    monkeypatch.setattr(MainWindow, "paint", lambda self: steps.append("painted") or painted(self))

    def set_interval(self: Any, seconds: float, *rest: Any, **more: Any) -> Any:
        steps.append(f"every {seconds} s")
        return every(self, seconds, *rest, **more)

    monkeypatch.setattr(MainWindow, "set_interval", set_interval)

    async def play() -> None:
        window = Dashboard(Still())
        window.start = lambda: steps.append("started")
        async with window.run_test(size=(80, 24)) as pilot:
            await pilot.pause()

    asyncio.run(play())

    assert steps.count(f"every {REDRAW_S} s") == steps.count("started") == 1
    assert "painted" in steps[: steps.index("started")]


def test_a_source_that_was_not_started_is_not_stopped() -> None:
    steps: list[str] = []

    class Noted(Still):
        def start(self) -> None:
            steps.append("start")

        def stop(self) -> None:
            steps.append("stop")

    with startable(Noted()):
        pass
    with startable(Noted()) as start:
        start()
        start()

    assert steps == ["start", "stop"]


def test_an_app_that_cannot_be_made_after_the_first_picture_is_one_sentence(tmp_path: Any) -> None:
    env = {
        **os.environ,
        "TEXTUAL_DRIVER": "textual.drivers.headless_driver:HeadlessDriver",
        "QCTL_LEASE": "abc",
    }
    code = "from qctl.main import main; raise SystemExit(main(['-b', 'sqlite:///no.db', 'events']))"

    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == exit_codes.BAD_CONFIG
    assert done.stderr == "qctl: the setting worker_lease takes int or float or timedelta, not str ('abc')\n"
