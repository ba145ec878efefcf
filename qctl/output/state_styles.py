"""Styles of states: a glyph, a word and a colour for each, never the colour alone.

In:  a state as Celery names it, or 'online', 'silent', 'gone'.  Out: a StateStyle, or ANSI text.
The colours are Okabe and Ito's, readable for colour-blind people; `blue` is lightened for dark
backgrounds. `ascii` glyphs are for terminals without Unicode.
"""

from __future__ import annotations

import os
from typing import NamedTuple, TextIO


class StateStyle(NamedTuple):
    """The style of one state."""

    glyph: str
    ascii: str
    word: str
    colour: str  # for the dashboard
    ansi: str  # SGR parameters from the terminal's 16 colours; empty: default
    bold: bool = False


QUEUED = StateStyle("·", ".", "queued", "#999999", "90")
RESERVED = StateStyle("○", "o", "reserved", "#56B4E9", "36")
RUNNING = StateStyle("▶", ">", "running", "#4DA3DD", "94", True)
DONE = StateStyle("✓", "+", "done", "#009E73", "32")
RETRYING = StateStyle("↻", "~", "retrying", "#E69F00", "33")
FAILED = StateStyle("✗", "x", "failed", "#E8743B", "31", True)
REVOKED = StateStyle("⊘", "-", "revoked", "#CC79A7", "35")
REJECTED = StateStyle("⊘", "-", "rejected", "#CC79A7", "35")
ONLINE = StateStyle("✓", "+", "online", "#009E73", "32")
ENDED = StateStyle("?", "?", "ended", "#999999", "90")  # no worker holds it; no event reported its end
DRAINING = StateStyle("‖", "=", "drains", "#E69F00", "33")  # takes no more tasks
SILENT = StateStyle("?", "?", "silent", "#E8743B", "4;31", True)
GONE = StateStyle("⊘", "-", "gone", "#999999", "90")

STATES: dict[str, StateStyle] = {
    "PENDING": QUEUED,
    "SENT": QUEUED,
    "RECEIVED": RESERVED,
    "STARTED": RUNNING,
    "SUCCESS": DONE,
    "RETRY": RETRYING,
    "FAILURE": FAILED,
    "REVOKED": REVOKED,
    "REJECTED": REJECTED,
    "IGNORED": DONE,
    "ENDED": ENDED,
    "online": ONLINE,
    "draining": DRAINING,
    "silent": SILENT,
    "gone": GONE,
}


def look(state: str) -> StateStyle:
    """The style of a state; a custom state is shown by its name."""
    return STATES.get(state) or StateStyle("○", "o", state.lower(), "#56B4E9", "36")


def wants_colour(stream: TextIO, refused: bool = False) -> bool:
    """Whether to colour output to `stream`: -C and NO_COLOR turn it off, FORCE_COLOR on."""
    if refused or os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR") or os.environ.get("CLICOLOR_FORCE", "0") != "0":
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def paint(text: str, ansi: str, on: bool) -> str:
    """`text` with the given SGR parameters, if colours are on."""
    return f"\x1b[{ansi}m{text}\x1b[0m" if on and ansi else text


def glyph(found: StateStyle, encoding: str | None) -> str:
    """The glyph, or its ASCII form if the encoding lacks it."""
    return found.glyph if (encoding or "").lower().replace("-", "") == "utf8" else found.ascii
