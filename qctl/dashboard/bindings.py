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
    Key("slash", "filter", "/", "filter", True),
    Key("p", "freeze", "p", "freeze", True),
    Key("r", "act('retry')", "r", "retry", True),
    Key("x", "act('revoke')", "x", "revoke", True),
    Key("P", "act('pause')", "P", "pause or resume the queue", False),
    Key("R", "act('resume')", "R", "resume the queue", False),
    Key("t", "act('terminate')", "t", "kill the running task", False),
    Key("plus", "act('grow')", "+", "one slot more", False),
    Key("minus", "act('shrink')", "-", "one slot less", False),
    Key("S", "act('shut_down')", "S", "stop the worker", False),
    Key("e", "act('events_on')", "e", "task events on", False),
    Key("u", "undo", "u", "undo", False),
    Key("y", "copy_id", "y", "copy the id", False),
    Key("o", "copy_line", "o", "copy the command line", False),
    Key("question_mark", "help", "?", "help", True),
    Key("q,ctrl+c", "quit", "q", "quit", True),
    Key("escape", "clear_filter", "Esc", "no filter"),
    Key("tab", "app.focus_next", "Tab", "next table"),
)

#: keys of the question before something costly
ASK = (
    Key("y", "go", "y", "do it", True),
    Key("escape,n,q,enter", "leave", "Esc", "leave it", True),
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
