"""Every screen at three sizes, dark, light and plain, as kept pictures.

A picture is the terminal's text with its colours: `cat tests/qctl/dashboard/pictures/*` shows it. After a
wanted change:
QCORE_PICTURES=write python -m pytest tests/qctl/dashboard/test_pictures.py, and look at them.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.segment import Segment
from textual.widgets import Input

from qctl.dashboard.screens import main
from qctl.dashboard.screens.keys import Dashboard
from qctl.dashboard.themes import THEMES
from qctl.dashboard.views.cells import Where
from tests.qctl.dashboard.test_themes import contrast
from tests.support.ansi_cells import Cell, blank_share, cells_of
from tests.support.large_still import LargeStill
from tests.support.still import NOW

FOLDER = Path(__file__).parent / "pictures"
SIZES = ((80, 24), (120, 40), (200, 50))
LOOKS = {"dark": ("default-dark", False), "light": ("default-light", False), "plain": ("ansi", True)}
#: name -> the keys that lead there
SCREENS: dict[str, tuple[str, ...]] = {
    "overview": ("1",),
    "workers": ("2",),
    "tasks": ("3",),
    "queues": ("4",),
    "failures": ("5",),
    "schedules": ("6",),
    "schedules-chosen": ("6", "j", "j"),
    "events": ("7",),
    "broker": ("8",),
    "types": ("9",),
    "task": ("3", "G", "k", "enter"),
    "group": ("5", "enter"),
    "filtered": ("3", "slash", *"-state:failed", "enter", "j"),
    "marked": ("3", "space", "space"),
    "question": ("4", "Z"),
    "keys": ("question_mark",),
}
AWAY = {
    "connected": False,
    "trouble": "connection refused",
    "tries": 4,
    "next_try_s": 3.0,
    "as_of": NOW - 62,
}


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setattr(main, "REDRAW_S", 3_600.0)  # nothing changes between two keys
    monkeypatch.delenv("NO_COLOR", raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


async def pictures(look: str, size: tuple[int, int]) -> dict[str, str]:
    """Each of the screens, in one window; at last the overview without a broker."""
    theme, plain = LOOKS[look]
    feed, taken = LargeStill(), {}
    window = Dashboard(feed, plain, (), THEMES[theme], Where("shop", "", ("PROD",)))
    window._answer = lambda words, place=None: f"what `qctl {' '.join(words)}` says"  # type: ignore[method-assign]
    async with window.run_test(size=size) as pilot:
        for name, keys in SCREENS.items():
            await pilot.press(*keys)
            for field in window.screen.query(Input):
                field.cursor_blink = False  # the picture has the cursor
            await window.workers.wait_for_complete()
            window.redraw()
            await pilot.pause()
            taken[name] = painted(window, size)
            if len(window.screen_stack) > 1:
                await pilot.press("escape")
        feed.changes |= AWAY
        await pilot.press("1")
        window.redraw()
        await pilot.pause()
        taken["away"] = painted(window, size)
    return taken


def painted(window: Dashboard, size: tuple[int, int]) -> str:
    """The screen as a terminal gets it."""
    out = io.StringIO()
    console = Console(
        file=out,
        force_terminal=True,
        color_system="standard" if window.plain else "truecolor",
        width=size[0],
        legacy_windows=False,
    )
    for strip in window.screen._compositor.render_strips():
        segments = list(strip) if not window.plain else [Segment(s.text) for s in strip]
        console.print(*[_text(segments)], end="\n", soft_wrap=True)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _text(segments: list[Segment]) -> Any:
    from rich.text import Text

    text = Text(no_wrap=True)
    for segment in Segment.simplify(segments):
        text.append(segment.text, segment.style)
    return text


#: what is drawn with other characters in ASCII: blocks, braille, frames, signs
_DRAWN = re.compile(r"\x1b\[[0-9;]*m|[^\w@.,:/%'()\s-]|_{2,}|-{2,}|\.{2,}")


def words_of(path: Path) -> set[str]:
    words = (word.strip(",") for word in _DRAWN.sub(" ", path.read_text()).split())
    return {word for word in words if len(word) > 2 and word[0].isalnum()}


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_a_plain_picture_says_all_that_a_coloured_one_says(size: tuple[int, int]) -> None:
    for name in SCREENS:
        dark, plain = (
            words_of(FOLDER / f"{name}-{size[0]}x{size[1]}-{look}.ansi") for look in ("dark", "plain")
        )
        # The charts of the two have columns of other lengths, so their times and means differ.
        missing = {word for word in dark - plain if not re.search(r"\d", word)}
        assert len(missing) <= 2, (name, missing)


#: The most of a screen of 120 by 40 that may show nothing, in percent: what each reaches with this fleet,
#: whose lists are full.
MOST_BLANK = {
    "overview": 24, "away": 24, "tasks": 22, "marked": 25, "filtered": 24, "types": 23, "failures": 22,
    "workers": 24, "events": 17, "task": 24, "group": 24, "schedules": 25, "schedules-chosen": 25,
    "queues": 25, "broker": 25,
}  # fmt: skip


def cells_in(name: str, look: str, size: tuple[int, int] = (120, 40)) -> list[list[Cell]]:
    return cells_of((FOLDER / f"{name}-{size[0]}x{size[1]}-{look}.ansi").read_text(), *size)


def test_a_screen_shows_something_in_most_of_its_cells() -> None:
    ground = THEMES["default-dark"].ground
    shares = {name: 100 * blank_share(cells_in(name, "dark"), ground) for name in MOST_BLANK}

    assert {name: share for name, share in shares.items() if share > MOST_BLANK[name]} == {}
    assert set(MOST_BLANK) == {*SCREENS, "away"} - {"question", "keys"}, "these are texts"


@pytest.mark.parametrize("look", ["dark", "light"])
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_what_is_drawn_can_be_read(look: str, size: tuple[int, int]) -> None:
    """Text has a contrast of 4.5 to 1; lines, blocks and braille have 3 to 1. The shades of the heat map have
    less between two steps, and a glyph and a ground for each."""
    theme = THEMES[LOOKS[look][0]]
    heat, low = {*theme.heat}, dict[tuple[str, str, bool], str]()
    for name in (*SCREENS, "away"):
        for cell in (cell for row in cells_in(name, look, size) for cell in row):
            ink, ground = cell.ink or theme.text, cell.ground or theme.ground
            if not cell.char.strip() or ink in heat or ground in heat:
                continue
            is_text = cell.char.isalnum() or cell.char.isascii()
            if contrast(ink, ground) < (4.5 if is_text else 3.0):
                low.setdefault((ink, ground, is_text), f"{name}: {cell.char}")
    assert low == {}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_every_screen_looks_as_it_did(look: str, size: tuple[int, int]) -> None:
    taken = asyncio.run(pictures(look, size))
    changed = []
    for name, picture in taken.items():
        path = FOLDER / f"{name}-{size[0]}x{size[1]}-{look}.ansi"
        if os.environ.get("QCORE_PICTURES") == "write":
            path.write_text(picture)
        elif not path.exists() or path.read_text() != picture:
            changed.append(f"{path.name}\n{picture}")
    assert not changed, "look at these, then write them anew:\n" + "\n".join(changed)
