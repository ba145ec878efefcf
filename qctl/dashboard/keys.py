"""The keys, as data: screens bind them, the footer and the help page list them."""

from __future__ import annotations

from typing import NamedTuple


class Key(NamedTuple):
    """One key, or several for the same action, separated by commas."""

    keys: str
    action: str
    shown: str
    words: str
    in_footer: bool = False


#: keys that change nothing at the broker
LOOK = (
    Key("enter", "details", "Enter", "open", True),
    Key("escape", "leave", "Esc", "back: marks, filter, the view before"),
    Key("slash", "filter", "/", "filter", True),
    Key("colon", "command", ":", "go to a view, or run any command"),
    Key("ctrl+p", "command_palette", "ctrl-p", "everything by name"),
    Key("p", "freeze", "p", "freeze the picture; events are still counted"),
    Key("s", "sort", "s", "order by a column"),
    Key("S", "reverse", "S", "the other way round"),
    Key("c", "columns", "c", "show or hide a column"),
    Key("w", "wide", "w", "all columns, beyond the edge (h, l go there)"),
    Key("left_square_bracket", "history(-1)", "[", "the view before; in a recording: 10 s back"),
    Key("right_square_bracket", "history(1)", "]", "the view after; in a recording: 10 s on"),
    Key("less_than_sign", "faster(0.5)", "<", "a recording: half as fast"),
    Key("greater_than_sign", "faster(2)", ">", "a recording: twice as fast"),
    Key("y", "copy_id", "y", "copy the id"),
    Key("Y", "copy_all", "Y", "copy all of it as JSON"),
    Key("o", "copy_line", "o", "copy the command line that shows it"),
    Key("ctrl+s", "picture", "ctrl-s", "save the screen as SVG and text"),
    Key("exclamation_mark", "audit", "!", "what was changed, by whom"),
    Key("m", "mouse", "m", "mouse off, so that the terminal selects; or on"),
    Key("T", "theme", "T", "other colours"),
    Key("ctrl+l", "redraw", "ctrl-l", "draw again"),
    Key("ctrl+z", "suspend_process", "ctrl-z", "to the shell; fg comes back"),
    Key("question_mark", "help", "?", "all keys", True),
    Key("q,Q,ctrl+c", "quit", "q", "quit", True),
    Key("tab", "app.focus_next", "Tab", "next pane"),
)

#: keys that change something; each runs a command line
ACT = (
    Key("r", "act('retry')", "r", "retry: a task, a group, what is marked", True),
    Key("x", "act('revoke')", "x", "revoke: it will not start", True),
    Key("t", "act('terminate')", "t", "kill the running task"),
    Key("P", "act('pause')", "P", "pause: the queue; or resume it", True),
    Key("R", "act('resume')", "R", "resume the queue"),
    Key("D", "act('drain')", "D", "drain: the worker takes no more; the queue empties"),
    Key("Z", "act('purge')", "Z", "delete what waits in the queue"),
    Key("plus", "act('grow')", "+", "one slot more"),
    Key("minus", "act('shrink')", "-", "one slot less"),
    Key("e", "act('events_on')", "e", "task events on; of a worker whose are on: off"),
    Key("X", "act('shut_down')", "X", "stop the worker"),
    Key("u", "undo", "u", "undo the last change that can be"),
)

MAIN = (*LOOK, *ACT)

#: keys of a confirmation
ASK = (
    Key("y", "go", "y", "do it", True),
    Key("escape,n,q,enter", "leave", "Esc", "leave it", True),
)

#: keys of a table; the table itself handles them
TABLE = (
    Key("down,j", "move(1)", "j, down", "next row"),
    Key("up,k", "move(-1)", "k, up", "row before"),
    Key("pagedown,ctrl+d", "page(1)", "PgDn, ctrl-d", "next screenful"),
    Key("pageup,ctrl+u", "page(-1)", "PgUp, ctrl-u", "screenful before"),
    Key("g,home", "first", "g, Home", "first row, and stay there as rows come"),
    Key("G,end", "last", "G, End", "last row"),
    Key("f", "follow", "f", "follow the newest row, or stop it"),
    Key("h,left", "sideways(-1)", "h, left", "with w: to the left"),
    Key("l,right", "sideways(1)", "l, right", "with w: to the right"),
    Key("space", "mark", "space", "mark the row"),
    Key("ctrl+@", "mark_range", "ctrl-space", "mark up to here"),
    Key("asterisk", "app.mark_all", "*", "mark all that match"),
)

DETAILS = (
    Key("escape,q,enter", "leave", "Esc", "back", True),
    Key("tab,l,right", "tab(1)", "Tab", "next part", True),
    Key("shift+tab,h,left", "tab(-1)", "h", "part before"),
    Key("j,down", "scroll(1)", "j, down", "scroll down"),
    Key("k,up", "scroll(-1)", "k, up", "scroll up"),
    Key("pagedown,ctrl+d,space", "scroll(20)", "PgDn", "a screenful down"),
    Key("pageup,ctrl+u", "scroll(-20)", "PgUp", "a screenful up"),
    Key("g,home", "scroll(-1000000)", "g", "top"),
    Key("G,end", "scroll(1000000)", "G", "end"),
    Key("slash", "search", "/", "search", True),
    Key("n", "next(1)", "n", "next match"),
    Key("N", "next(-1)", "N", "match before"),
    Key("y", "copy", "y", "copy this part", True),
    Key("Q", "app.quit", "Q", "quit"),
)
