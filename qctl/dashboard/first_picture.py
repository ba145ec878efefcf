"""The first picture of the dashboard, drawn while Textual is still being loaded: most of a start is that.

In:  a source that has not been started.  Out: the overview before the first answer, on the alternate screen
of the terminal. Textual takes the screen over, and draws the same picture again.
Before this: the command.  After this: start.py.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import termios
from contextlib import suppress
from itertools import groupby
from types import TracebackType
from typing import Any

from rich.color import ColorSystem
from rich.style import Style

from qctl.dashboard.sources.base import Source
from qctl.dashboard.state.search import Wanted
from qctl.dashboard.state.series import Charts
from qctl.dashboard.themes import Palette, chosen
from qctl.dashboard.views.cells import CellFormatter, Where
from qctl.dashboard.views.overview import Overview
from qctl.dashboard.views.panels import Scene
from qctl.dashboard.widgets.canvas import Canvas

#: a narrower or lower terminal shows only one list and the keys
NARROW, LOW = 60, 15
ASKING = "asking the workers and the broker …"
#: the header and the line below it; the line of the keys, which depend on more than is known here
ABOVE, BELOW = 2, 1
_KEYBOARD = 0
_ENTER, _HIDE_CURSOR = "\x1b[?1049h", "\x1b[?25l"
_LEAVE = "\x1b[?25h\x1b[?1049l"


class FirstPicture:
    """The alternate screen until Textual has it; what is typed meanwhile is not echoed. Leaving the block
    before that restores the terminal."""

    def __init__(self, feed: Source, plain: bool, theme: str | None, where: Where, has_colours: bool) -> None:
        self._feed, self._plain, self._theme, self._where = feed, plain, theme, where
        self._colours = _colour_system() if has_colours else None
        self._is_open = False
        self._modes: list[Any] | None = None  # of the terminal, as they were

    def __enter__(self) -> FirstPicture:
        size, screen = shutil.get_terminal_size(), sys.__stderr__
        if screen is None or not (screen.isatty() and screen.encoding.lower().startswith("utf")):
            return self
        if size.columns < NARROW or size.lines < LOW:
            return self
        try:
            palette = chosen(self._theme)
        except KeyError:
            return self  # start.py says so
        for number in (signal.SIGTERM, signal.SIGHUP):  # until the window has handlers of its own
            signal.signal(number, _exit)
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        canvas = draw(self._feed, CellFormatter(self._plain, palette), self._where, size.columns, size.lines)
        lines = ansi_lines(canvas, palette, self._colours)
        text = "".join(f"\x1b[{row};1H{line}" for row, line in enumerate(lines, 1))
        screen.write(f"{_ENTER}{_HIDE_CURSOR}{text}")
        screen.flush()
        self._is_open = True
        self._take_keys()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_open and sys.__stderr__ is not None:
            self._restore_modes()
            sys.__stderr__.write(_LEAVE)
            sys.__stderr__.flush()

    def _take_keys(self) -> None:
        try:
            modes = termios.tcgetattr(_KEYBOARD)
            self._modes, modes[3] = list(modes), modes[3] & ~(termios.ECHO | termios.ICANON)
            termios.tcsetattr(_KEYBOARD, termios.TCSANOW, modes)
        except termios.error:
            pass  # no terminal: nothing is typed

    def _restore_modes(self) -> None:
        if self._modes is not None:
            with suppress(termios.error):
                termios.tcsetattr(_KEYBOARD, termios.TCSANOW, self._modes)
            self._modes = None

    def handed_to(self, driver: Any) -> Any:
        """The class of a driver of Textual that takes this screen, which entering it again would clear."""
        if not self._is_open:
            return driver
        first = self

        class Driver(driver):  # type: ignore[misc]
            def write(self, data: str) -> None:
                if first._is_open and data == _ENTER:
                    first._restore_modes()
                    first._is_open = False
                    return
                super().write(data)

        return Driver


def draw(feed: Source, panes: CellFormatter, where: Where, columns: int, rows: int) -> Canvas:
    """The screen of a source that has not answered yet."""
    picture = feed.take(Wanted())
    scene = Scene(picture, picture.charts or Charts(), panes)
    panes.look(picture, scene.seconds)
    canvas, x = Canvas(columns, rows, scene.look), 0
    for part in panes.header(picture, where, columns, None):
        x = canvas.text(x, 0, part.text, part.style)
    if not picture.asked:
        canvas.text(1, 1, ASKING, panes.style("faint"))
    overview, size = Overview(), (columns, rows - ABOVE - BELOW)
    shown = overview.paint(scene, overview.plan(picture, 0, *size), size, "")
    canvas.chars[ABOVE:-BELOW], canvas.styles[ABOVE:-BELOW] = shown.chars, shown.styles
    return canvas


def ansi_lines(canvas: Canvas, palette: Palette, colours: ColorSystem | None) -> list[str]:
    """The lines with the codes of their styles; colours: those that the terminal has, None: no styles."""
    base = Style() if palette.ansi else Style.parse(f"{palette.text} on {palette.ground}")
    lines = []
    for chars, styles in zip(canvas.chars, canvas.styles, strict=True):
        line, x = "", 0
        for style, run in groupby(styles):
            end = x + len(list(run))
            look = base + Style.parse(style) if style else base
            line += look.render("".join(chars[x:end]), color_system=colours)
            x = end
        lines.append(line)
    return lines


def _colour_system() -> ColorSystem:
    """How many colours the terminal has, as Rich finds out."""
    if os.environ.get("COLORTERM", "").strip().lower() in ("truecolor", "24bit"):
        return ColorSystem.TRUECOLOR
    depth = os.environ.get("TERM", "").strip().lower().rpartition("-")[2]
    return ColorSystem.EIGHT_BIT if depth == "256color" else ColorSystem.STANDARD


def _exit(number: int, frame: object) -> None:
    sys.exit(128 + number)
