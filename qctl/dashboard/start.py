"""`qctl events`: run the dashboard.

In:  a session and options.  Out: the exit code; the terminal is restored.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from qctl import exit_codes
from qctl.cli.read_only import permit
from qctl.dashboard import alert_signals, key_table, own_commands
from qctl.dashboard.screens.keys import Dashboard
from qctl.dashboard.screens.tabs import FleetTab
from qctl.dashboard.sources.base import BrokenSource, Source, startable
from qctl.dashboard.sources.opening import MOST_BYTES, where_of
from qctl.dashboard.themes import THEMES, Palette, chosen
from qctl.dashboard.views.cells import Where
from qctl.dashboard.views.views import VIEWS

if TYPE_CHECKING:
    from qctl.cli.session import Session
    from qctl.dashboard.first_picture import FirstPicture

_M_MMAP_THRESHOLD = -3


def _give_memory_back() -> None:
    """Make freed large blocks return to the system at once, wherever they lie (glibc only)."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 17)


def _collect_seldom() -> None:
    """Exclude imported objects from garbage collection, and collect rarely: events are freed without a search
    for cycles. With the default limits the collector paused everything for 0.1 s every other second."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()


def run(
    session: Session,
    feed: Source,
    plain: bool,
    colours: str | None,
    start: Callable[[], None],
    first: FirstPicture | None = None,
) -> int:
    """Show the dashboard of a source until it is closed; return the exit code. start() starts the source; it
    is called after Textual's first picture. first: the picture that is on the screen."""
    window = window_for(session, feed, plain, palette_named(colours))
    if first is not None:
        window.driver_class = first.handed_to(window.driver_class)
    return _run(session, window, start)


def run_contexts(
    session: Session, names: Sequence[str], max_tasks: int, plain: bool, colours: str | None = None
) -> int:
    """Show the fleets of these contexts, each in a tab, until the dashboard is closed; return the code."""
    palette = palette_named(colours)
    others, tabs = open_contexts(session, names, max_tasks)
    try:
        with startable(*(tab.feed for tab in tabs)) as start:
            window = window_for(session, tabs[0].feed, plain, palette)
            window.use_tabs(tabs)
            return _run(session, window, start)
    finally:
        for other in others:
            other.close()


def open_contexts(
    session: Session, names: Sequence[str], max_tasks: int
) -> tuple[list[Session], list[FleetTab]]:
    """A session and a tab for each context; a context with a mistake has a tab that says so."""
    from qctl.dashboard.sources.live import LiveSource

    others, tabs = [], []
    for name in names:
        feed: Source
        try:
            other = session.in_context(name)
            other.options.reason = session.options.reason
            feed = LiveSource(other.app, max_tasks, MOST_BYTES // len(names))
            others.append(other)
            tabs.append(tab_for(other, feed))
        except Exception as exc:
            stop = exit_codes.explain(exc)
            if stop is None:
                raise
            tabs.append(FleetTab(BrokenSource(stop.message), ["--context", name], Where(name)))
    return others, tabs


def _run(session: Session, window: Dashboard, start: Callable[[], None]) -> int:
    if session.options.no_color:
        os.environ["NO_COLOR"] = "1"
    _collect_seldom()

    def begin() -> None:
        start()
        _give_memory_back()

    window.start = begin
    code: Any = window.run()
    failure = getattr(window, "_exception", None)
    if failure is not None:
        raise failure
    return code if isinstance(code, int) else exit_codes.OK


def palette_named(name: str | None) -> Palette:
    """The theme with this name. Raises CommandError for an unknown one."""
    try:
        return chosen(name)
    except KeyError as exc:
        words = f"no theme named {exc}"
        raise exit_codes.CommandError(exit_codes.USAGE, words, f"there are {', '.join(THEMES)}") from None


def window_for(session: Session, feed: Source, plain: bool, palette: Palette) -> Dashboard:
    """The window for a session, with the context's name and whether changes are permitted."""
    tab = tab_for(session, feed)
    window = Dashboard(feed, plain, (), palette)
    window.use_tabs([tab])
    context_of_click = click.get_current_context(silent=True)
    window.root_command = context_of_click.find_root().command if context_of_click else None
    keys = key_table.load([(view.name, view.key) for view in VIEWS])
    window.use_own(keys, own_commands.load(keys))
    window.signals = alert_signals.load()
    return window


def tab_for(session: Session, feed: Source) -> FleetTab:
    """The fleet of a session: its context's name, and whether changes are permitted."""
    context = session.context
    extra = ["--context", context.name] if context is not None else []
    if session.options.reason:
        extra += ["--reason", session.options.reason]
    needs_reason = bool(context is not None and context.is_prod and not session.options.reason)
    refusal = feed.refusal
    try:
        if not needs_reason or session.is_read_only:
            permit(session, "qctl control")
    except exit_codes.CommandError as stop:
        refusal = refusal or f"{stop.message}; {stop.hint}"
    return FleetTab(feed, extra, where_of(session), refusal, needs_reason)
