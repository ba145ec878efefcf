"""Own commands do what commands.toml says, whatever a task is called; changed keys agree everywhere."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest

from qcore import App
from qctl.cli.audit import local_lines
from qctl.cli.session import Session
from qctl.configuration.directories import config_dir
from qctl.dashboard import key_table, run_command
from qctl.dashboard.own_commands import OwnCommand, filled
from qctl.dashboard.screens.command_palette import Everything
from qctl.dashboard.screens.keys import Dashboard
from qctl.dashboard.sources.live import LiveSource
from qctl.dashboard.start import window_for
from qctl.dashboard.state.snapshot import QueueRow, WorkerRow
from qctl.dashboard.themes import THEMES
from qctl.dashboard.views.views import VIEWS
from qctl.main import main
from tests.support.still import Still

HOSTILE = "; rm -rf ~ $(touch x) 'a' \"b\" {id}\n--yes \x1b[2J `id`"
#: a program that writes its arguments into a file
WRITE = "import sys, json; open(sys.argv[1], 'a').write(json.dumps(sys.argv[2:]) + chr(10)); print('written')"


@pytest.fixture(autouse=True)
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCTL_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    config_dir().mkdir()


def commands(*tables: tuple[str, dict[str, Any]]) -> None:
    lines = []
    for name, values in tables:
        lines += [f"[commands.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    (config_dir() / "commands.toml").write_text("\n".join(lines))


def opened(feed: Any, **given: Any) -> Dashboard:
    session = Session()
    session.options.given = {"broker": "memory://", **given}
    with click.Context(click.Command("events"), obj=session):
        return window_for(session, feed, False, THEMES["default-dark"])


async def until(pilot: Any, condition: Any, what: str) -> None:
    for _ in range(600):
        await pilot.pause(0.05)
        if condition():
            return
    raise AssertionError(f"never came: {what}")


def said(window: Dashboard) -> str:
    return str(window.message_line.render())


class Hostile(Still):
    """A fleet whose queue and worker have names that a shell would obey."""

    def take(self, wanted: Any = None) -> Any:
        self.changes = {
            "queues": (QueueRow(HOSTILE, 3),),
            "workers": (WorkerRow(HOSTILE, "online", 1, 4),),
        }
        return super().take(wanted)


def test_own_commands_get_the_fields_of_a_row_as_they_are(
    tmp_path: Path, memory_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_command, "TELL_S", 0.01)  # so that it says that each of them still runs
    out = tmp_path / "out"
    write = [sys.executable, "-c", WRITE, str(out), "--"]
    commands(
        ("trace", {"key": "f5", "scope": "tasks", "argv": [*write, "task", "{name}|{id}"], "confirm": False}),
        ("drop", {"scope": ["queues"], "argv": [*write, "{queue}"]}),
        ("note", {"key": "f6", "scope": "workers", "argv": [*write, "{worker}"], "background": True,
                  "confirm": False}),
    )  # fmt: skip
    feed = LiveSource(App("own", broker=memory_url, set_as_current=False))
    told = {"type": "task-sent", "hostname": "w@h", "timestamp": time.time(), "uuid": "u1", "name": HOSTILE}
    feed.fold([told])
    hostile = Hostile()
    feed.take = lambda wanted=None: _with(LiveSource.take(feed, wanted), hostile.take())  # type: ignore[method-assign]

    async def go() -> None:
        window = opened(feed)
        async with window.run_test(size=(120, 30)) as pilot:
            await pilot.press("3", "f5")
            await until(
                pilot, lambda: "written" in str(window.screen.query_one("#text").render()), "its output"
            )
            await pilot.press("escape", "4", "semicolon", "d")
            await pilot.pause()
            assert not out.read_text().count("\n") > 1  # it asks first
            box = "\n".join(str(one.render()) for one in window.screen.query("Static"))
            assert "rm -rf" in box and "\x1b" not in box
            await pilot.press("y")
            await until(pilot, lambda: out.read_text().count("\n") == 2, "the confirmed one")
            await pilot.press("escape", "2", "f6")
            await until(pilot, lambda: "written" in said(window), "the one in the background")

    asyncio.run(go())

    assert [json.loads(line)[1:] for line in out.read_text().splitlines()] == [
        ["task", f"{HOSTILE}|u1"],
        [HOSTILE],
        [HOSTILE],
    ]
    logged = [json.loads(line) for line in local_lines()]
    assert len(logged) == 3 and all(one["code"] == 0 and "rm -rf" in one["command"] for one in logged)


def _with(picture: Any, other: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(picture, queues=other.queues, workers=other.workers)


def test_a_read_only_fleet_runs_only_what_says_that_it_reads(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "print('written')"]
    commands(
        ("drop", {"key": "f5", "argv": argv, "confirm": False}),
        ("look", {"key": "f6", "argv": argv, "reads_only": True}),
    )

    async def go() -> None:
        window = opened(Still(), read_only=True)
        async with window.run_test(size=(120, 30)) as pilot:
            await pilot.press("f5")
            await pilot.pause()
            assert "not done" in said(window) and "read-only" in said(window)
            await pilot.press("f6")
            await until(
                pilot, lambda: "written" in str(window.screen.query_one("#text").render()), "its output"
            )

    asyncio.run(go())

    assert list(local_lines()) == []


def test_a_field_is_never_taken_for_an_option() -> None:
    row = QueueRow("--all", 1)

    refused = filled(OwnCommand("drop", ("rm", "{queue}"), ("queues",)), row)
    allowed = filled(OwnCommand("drop", ("rm", "--", "{queue}"), ("queues",)), row)

    assert isinstance(refused, str) and "--all" in refused and "'--'" in refused
    assert not isinstance(allowed, str) and allowed.words == ("rm", "--", "--all")


KEYS = """[keys]
retry = "f5"
why = ["ctrl+w", "F"]
filter = "g"
quit = "ctrl+q"
row_down = "n"
view_queues = "4"
help = "x"
retyr = "y"
sort = "hyper+s"
row_first = "I"
"""


def test_changed_keys_agree_in_the_footer_the_help_the_palette_and_the_hand() -> None:
    (config_dir() / "keys.toml").write_text(KEYS)

    async def go() -> tuple[Any, ...]:
        window = opened(Still())
        async with window.run_test(size=(200, 50)) as pilot:
            remark = said(window)
            footer = str(window.keys.render())
            palette = dict(entry[:2] for entry in Everything(window.screen)._all())
            await pilot.press("5", "n", "n")
            moved = window.table.cursor
            await pilot.press("f5")
            await pilot.pause()
            asked = type(window.screen).__name__
            await pilot.press("escape", "r")
            await pilot.pause()
            free = type(window.screen).__name__
            await pilot.press("question_mark")
            await pilot.pause()
            table = "\n".join(str(one.render()) for one in window.screen.query("Static"))
            await pilot.press("escape", "g")
            return remark, footer, palette, moved, asked, free, table, window.typing

    remark, footer, palette, moved, asked, free, table, typing = asyncio.run(go())

    retry = "retry: a task, a group, or the marked rows"
    assert "F5 retry" in footer and "ctrl-q quit" in footer and "g filter" in footer and " / " not in footer
    assert palette[retry] == "key F5" and palette["filter"] == "key g"
    assert "F5 " in table and "ctrl-w, F" in table and "ctrl-q" in table
    assert (moved, asked, free, typing) == (2, "Question", "Screen", "filter")
    assert "keys.toml:9" in remark and "2 more" in remark


def test_mistakes_of_both_files_are_told_by_the_doctor_without_a_broker(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (config_dir() / "keys.toml").write_text(KEYS)
    argv = ["true"]
    commands(
        ("a", {"key": "F", "argv": argv}),
        ("b", {"argv": ["sh", "-c", "echo {name}"], "scope": "tasks"}),
        ("c", {"argv": ["echo", "{id}"], "scope": "queues"}),
        ("d", {"argv": argv, "confrim": True}),
    )

    code = main(["doctor", "--local", "-o", "json", "-b", "redis://nowhere.invalid/0"])

    found = json.loads(capsys.readouterr().out)["items"]
    assert code == 6
    words = [item["what"].partition(": ")[2] for item in found]
    assert words == [
        "no action named 'retyr'; did you mean 'retry'?",
        "no key named 'hyper+s'; a character, f5, ctrl+r, enter, pagedown",
        "x is the key of revoke; help keeps ?",
        "F is the key of why; `;` lists 'a'",
        "a shell would read the fields again; write ['sh', '-c', 'less \"$1\"', 'sh', '{name}']",
        "{id} is no field of the scope queues; its fields: {queue}, {name}",
        "no key named 'confrim'; there are argv, scope, key, confirm, background, reads_only",
    ]


def test_every_action_has_a_name_of_its_own() -> None:
    made = key_table.load([(view.name, view.key) for view in VIEWS])
    names = [key.id for key in (*made.main, *made.rows, *made.details)]

    assert len(names) == len(set(names))
    assert all(name.isidentifier() for name in names)
    assert all(key_table.key_name(key) == key for k in made.main for key in k.keys.split(","))
