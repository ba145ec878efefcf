"""`qctl events --once`: one screen of the dashboard as text on stdout.

In:  a session, a source, a view, a size.  Out: the screen after the first complete picture, with colours on a
terminal and without any escape sequence elsewhere; the exit code. Before this: start.py makes the window.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from qctl import exit_codes
from qctl.dashboard.screens.main import SCHEDULES, TASKS
from qctl.dashboard.sources.base import started
from qctl.dashboard.start import palette_named, window_for
from qctl.dashboard.views.views import VIEWS, View, view_named

if TYPE_CHECKING:
    from qctl.cli.session import Session
    from qctl.dashboard.screens.keys import Dashboard
    from qctl.dashboard.sources.base import Source

#: the longest wait for the first complete picture of a live fleet without -t, seconds
LIVE_S = 1.2
#: the longest wait for a recording, which has to be read, seconds
RECORDING_S = 600.0
LOOK_S = 0.01
#: size without a terminal
SIZE = (120, 40)


class Wish(NamedTuple):
    """What to print: a view, a pattern for its rows, a size (None: the terminal's), the look."""

    view: View
    pattern: str = ""
    size: tuple[int, int] | None = None
    plain: bool = False
    theme: str | None = None


def view_of(word: str | None) -> View:
    """The view with this name; None: the first. Raises CommandError for an unknown one."""
    found = VIEWS[0] if word is None else view_named(word)
    if found is None:
        names = ", ".join(view.name for view in VIEWS)
        raise exit_codes.CommandError(exit_codes.USAGE, f"no view named '{word}'", f"there are {names}")
    return found


def print_screen(session: Session, feed: Source, wish: Wish) -> int:
    """Print the screen; return the exit code. Raises CommandError when the broker cannot be reached."""
    if wish.pattern and wish.view is VIEWS[0]:
        raise exit_codes.CommandError(
            exit_codes.USAGE, "the overview takes no FILTER", "add --view with the name of a list"
        )
    colour = session.out.colour
    window = window_for(session, feed, wish.plain, palette_named(wish.theme))
    size = wish.size or _size()
    longest_s = RECORDING_S if feed.can_seek else session.options.timeout or LIVE_S
    with started(feed):
        ends = time.monotonic() + longest_s
        while feed.can_seek and not feed.is_complete and time.monotonic() < ends:
            time.sleep(LOOK_S)  # drawing would only slow the reading of a recording
        taken = asyncio.run(_taken(window, feed, wish, size, ends))
    return _told(session, feed, window, f"{_text(taken, colour)}\n")


def _told(session: Session, feed: Source, window: Dashboard, text: str) -> int:
    """Print what was taken, and say what is missing in it."""
    picture = window.picture
    if not feed.can_seek and picture.trouble and not picture.asked:
        raise exit_codes.CommandError(
            exit_codes.UNAVAILABLE, f"cannot reach {picture.broker}: {picture.trouble}"
        )
    sys.stdout.write(text)
    sys.stdout.flush()
    if window.mistake:
        raise exit_codes.CommandError(exit_codes.USAGE, f"not a filter: {window.mistake}")
    if feed.can_seek:
        return exit_codes.OK
    if not picture.up:
        raise exit_codes.CommandError(
            exit_codes.NO_ANSWER,
            "no worker answered",
            "is one running? try `qctl status`",
        )
    if not feed.is_complete:
        session.out.warn(
            "the picture is not complete: what was not read in time is shown as unknown; -t waits longer"
        )
    return exit_codes.OK


def _size() -> tuple[int, int]:
    """The terminal's size, without the line of the next prompt."""
    if not sys.stdout.isatty():
        return SIZE
    found = os.get_terminal_size(sys.stdout.fileno())
    return max(found.columns, 20), max(found.lines - 1, 5)


async def _taken(
    window: Dashboard, feed: Source, wish: Wish, size: tuple[int, int], ends: float
) -> list[Any]:
    """The lines of the screen, as Textual's strips, at the latest at `ends` (monotonic seconds)."""
    strips: list[Any] = []

    async def take(pilot: Any) -> None:
        if wish.view is not VIEWS[0]:
            window.action_view(wish.view.name)
        if wish.pattern:
            window._set_pattern(wish.pattern)
        while not _is_complete(window, feed) and time.monotonic() < ends:
            await asyncio.sleep(LOOK_S)
            window.redraw()
        window.redraw()
        await pilot.pause()
        window.redraw()  # the size of the list is known only after the first layout
        await pilot.pause()
        strips.extend(window.screen._compositor.render_strips())
        window.exit(0)

    await window.run_async(headless=True, size=size, auto_pilot=take)
    failure = getattr(window, "_exception", None)
    if failure is not None:
        raise failure
    return strips


def _is_complete(window: Dashboard, feed: Source) -> bool:
    """Whether the source has read what the view shows, and the window has drawn it."""
    picture = window.picture
    if window.view is SCHEDULES and not picture.schedules.asked:
        return False
    if window.view is TASKS and picture.searched is not None:
        return False
    return feed.is_complete


def _text(strips: list[Any], colour: bool) -> str:
    """The strips as text; blanks at the end of a line are left out unless they have a colour."""
    if not colour:
        return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)
    from rich.console import Console

    console = Console(file=sys.stdout, force_terminal=True, legacy_windows=False)
    system = console._color_system
    lines = []
    for strip in strips:
        parts = [
            segment.style.render(segment.text, color_system=system) if segment.style else segment.text
            for segment in strip
            if not segment.control
        ]
        lines.append("".join(parts))
    return "\n".join(lines)
