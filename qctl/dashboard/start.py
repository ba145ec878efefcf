"""`qctl events`: run the dashboard.

In:  a session and options.  Out: the exit code; the terminal is restored.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
from typing import TYPE_CHECKING, Any

import click

from qctl import exit_codes
from qctl.cli.read_only import permit
from qctl.dashboard.screens.keys import Dashboard
from qctl.dashboard.sources.base import Source
from qctl.dashboard.themes import THEMES, Palette, chosen
from qctl.dashboard.views.cells import Where

if TYPE_CHECKING:
    from qctl.cli.session import Session

_M_MMAP_THRESHOLD = -3


def _give_memory_back() -> None:
    """Make freed large blocks return to the system at once, wherever they lie (glibc only)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 17)


def _collect_seldom() -> None:
    """Exclude imported objects from garbage collection, and collect rarely: events are freed without a search
    for cycles. With the default limits the collector paused everything for 0.1 s every other second."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def run(session: Session, feed: Source, plain: bool, colours: str | None = None) -> int:
    """Show the dashboard until it is closed; return the exit code."""
    if session.options.no_color:
        os.environ["NO_COLOR"] = "1"
    window = window_for(session, feed, plain, palette_named(colours))
    _give_memory_back()
    _collect_seldom()
    feed.start()
    try:
        code: Any = window.run()
    finally:
        feed.stop()
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
    context = session.context
    extra = ["--context", context.name] if context is not None else []
    if session.options.reason:
        extra += ["--reason", session.options.reason]
    warnings = []
    if context is not None and context.is_prod:
        warnings.append("PROD")
    if session.is_read_only:
        warnings.append("RO")
    where = Where(context.name if context is not None else "", warnings=tuple(warnings))
    window = Dashboard(feed, plain, extra, palette, where)
    context_of_click = click.get_current_context(silent=True)
    window.root_command = context_of_click.find_root().command if context_of_click else None
    window.needs_reason = bool(context is not None and context.is_prod and not session.options.reason)
    try:
        if not window.needs_reason or session.is_read_only:
            permit(session, "qctl control")
    except exit_codes.CommandError as stop:
        window.refusal = window.refusal or f"{stop.message}; {stop.hint}"
    return window
