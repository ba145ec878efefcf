"""The keys, as data: the screen binds them, the footer and the help page list them."""

from __future__ import annotations

from typing import NamedTuple


class Key(NamedTuple):
    """One key, or several for the same thing, separated by commas."""

    keys: str
    action: str
    shown: str
    words: str
    in_footer: bool = False


MAIN = (
    Key("enter", "details", "Enter", "details", True),
    Key("tab", "app.focus_next", "Tab", "next table", True),
    Key("slash", "filter", "/", "filter", True),
    Key("p", "freeze", "p", "freeze", True),
    Key("e", "enable_events", "e", "events on", True),
    Key("question_mark", "help", "?", "help", True),
    Key("q,ctrl+c", "quit", "q", "quit", True),
    Key("escape", "clear_filter", "Esc", "no filter"),
)

#: keys of a table; the table itself acts on them
TABLE = (
    Key("down,j", "move(1)", "j, down", "next row"),
    Key("up,k", "move(-1)", "k, up", "row before"),
    Key("pagedown,ctrl+d", "page(1)", "PgDn, ctrl-d", "next screenful"),
    Key("pageup,ctrl+u", "page(-1)", "PgUp, ctrl-u", "screenful before"),
    Key("g,home", "first", "g, Home", "first row, and stay there as rows come"),
    Key("G,end", "last", "G, End", "last row"),
)

DETAILS = (
    Key("escape,q,enter", "app.pop_screen", "Esc", "back", True),
    Key("j,down", "scroll_down", "j, down", "scroll down"),
    Key("k,up", "scroll_up", "k, up", "scroll up"),
)
