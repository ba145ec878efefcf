"""How states look: a glyph, a word and a colour for each, never the colour alone.

In:  a state in Celery's words, or 'online', 'silent', 'gone'.  Out: a Look, or ANSI text.
The colours are Okabe and Ito's, readable for colour-blind people; `blue` is lightened for dark
backgrounds. `ascii` glyphs are for terminals without Unicode.
"""

from __future__ import annotations

import os
from typing import NamedTuple, TextIO


class StateStyle(NamedTuple):
    """How one state is drawn."""

    glyph: str
    ascii: str
    word: str
    colour: str  # for the dashboard
    ansi: str  # SGR parameters among the terminal's own 16 colours; empty: nothing special
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
ENDED = StateStyle("?", "?", "ended", "#999999", "90")  # nobody has it any more; how it ended was not heard
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
    """The look of a state; a state of the user's own is shown by its name."""
    return STATES.get(state) or StateStyle("○", "o", state.lower(), "#56B4E9", "36")


def wants_colour(stream: TextIO, refused: bool = False) -> bool:
    """Whether to colour what goes to `stream`: -C and NO_COLOR say no, FORCE_COLOR says yes."""
    if refused or os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR") or os.environ.get("CLICOLOR_FORCE", "0") != "0":
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def paint(text: str, ansi: str, on: bool) -> str:
    """`text` in the given SGR parameters, when colours are on."""
    return f"\x1b[{ansi}m{text}\x1b[0m" if on and ansi else text


def glyph(found: StateStyle, encoding: str | None) -> str:
    """The glyph that a stream of this encoding can show."""
    return found.glyph if (encoding or "").lower().replace("-", "") == "utf8" else found.ascii
