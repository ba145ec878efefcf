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
    name: str = ""  # of the action in keys.toml, where it differs from the action

    @property
    def id(self) -> str:
        """The name of the action in keys.toml."""
        return self.name or self.action.removeprefix("app.").removeprefix("act('").removesuffix("')")


#: keys that change nothing at the broker
LOOK = (
    Key("enter", "details", "Enter", "open", True),
    Key("escape", "leave", "Esc", "back: clear marks, clear filter, previous view"),
    Key("slash", "filter", "/", "filter", True),
    Key("colon", "command", ":", "go to a view, or run any command"),
    Key("ctrl+p", "command_palette", "ctrl-p", "command palette"),
    Key("p", "freeze", "p", "freeze the display; events are still counted"),
    Key("s", "sort", "s", "sort by a column"),
    Key("S", "reverse", "S", "reverse the sort order"),
    Key("c", "columns", "c", "show or hide a column"),
    Key("w", "wide", "w", "all columns; h and l scroll sideways"),
    Key(
        "left_square_bracket",
        "history(-1)",
        "[",
        "previous view; in a recording: 10 s back",
        name="history_back",
    ),
    Key(
        "right_square_bracket",
        "history(1)",
        "]",
        "next view; in a recording: 10 s forward",
        name="history_forward",
    ),
    Key("less_than_sign", "faster(0.5)", "<", "in a recording: half the speed", name="slower"),
    Key("greater_than_sign", "faster(2)", ">", "in a recording: double the speed", name="faster"),
    Key("y", "copy_id", "y", "copy the id"),
    Key("Y", "copy_all", "Y", "copy the row as JSON"),
    Key("o", "copy_line", "o", "copy the command line that shows it"),
    Key("ctrl+s", "picture", "ctrl-s", "save the screen as SVG and text"),
    Key("exclamation_mark", "audit", "!", "audit log: changes and their users"),
    Key("m", "mouse", "m", "mouse on or off (off: the terminal selects text)"),
    Key("T", "theme", "T", "choose the colour theme"),
    Key("ctrl+l", "redraw", "ctrl-l", "redraw"),
    Key("ctrl+z", "suspend_process", "ctrl-z", "suspend; fg in the shell resumes"),
    Key("question_mark", "help", "?", "keys: all of them", True),
    Key("q,Q,ctrl+c", "quit", "q", "quit", True),
    Key("tab", "app.focus_next", "Tab", "next pane"),
    Key("left_curly_bracket", "range(-1)", "{", "charts: shorter range", name="range_shorter"),
    Key(
        "right_curly_bracket",
        "range(1)",
        "{ }",
        "range: charts show 15 min, 6 h or 48 h",
        True,
        name="range_longer",
    ),
    Key(
        "comma",
        "crosshair(-1)",
        ",",
        "charts: crosshair earlier; Enter there: the tasks of that minute",
        name="crosshair_earlier",
    ),
    Key("full_stop", "crosshair(1)", ".", "charts: crosshair later", name="crosshair_later"),
    Key("0", "now", "0", "charts: back to now"),
    Key("W", "why", "W", "why: what a task waits for, or what became of it"),
    Key("K", "stack", "K", "stack: where a task, or a worker's tasks, are now"),
    Key("semicolon", "own_commands", ";", "own commands: those of commands.toml for this row"),
    Key("a", "acknowledge", "a", "acknowledge the alert until it changes; A lists alerts"),
    Key("left_parenthesis", "context(-1)", "(", "previous context, of several", name="context_previous"),
    Key("right_parenthesis", "context(1)", ")", "next context, of several", name="context_next"),
    Key("z", "zoom", "z", "the focused panel alone, or all again"),
    Key("b", "band", "b", "the selected row below the list: larger, shut, back"),
)

#: keys that change something; each runs a command line
ACT = (
    Key("r", "act('retry')", "r", "retry: a task, a group, or the marked rows", True),
    Key("x", "act('revoke')", "x", "revoke: a task, or the marked rows", True),
    Key("t", "act('terminate')", "t", "kill the running task"),
    Key("P", "act('pause')", "P", "pause: the queue or schedule entry, or resume it", True),
    Key("R", "act('resume')", "R", "resume the queue or schedule entry"),
    Key("D", "act('drain')", "D", "drain: stop a worker's claims, or check a queue"),
    Key("Z", "act('purge')", "Z", "delete the waiting messages of the queue"),
    Key("plus", "act('grow')", "+", "add a slot to the pool"),
    Key("minus", "act('shrink')", "-", "remove a slot from the pool"),
    Key("e", "act('events_on')", "e", "turn task events on or off"),
    Key("X", "act('shut_down')", "X", "stop the worker"),
    Key("N", "act('run_now')", "N", "run now: send the task of the schedule entry", True),
    Key("E", "edit_schedule", "E", "edit: when the schedule entry is due", True),
    Key("U", "act('reset')", "U", "reset: the schedule entry, as its code declares it", True),
    Key("u", "undo", "u", "undo the last change, if possible"),
)

MAIN = (*LOOK, *ACT)
#: actions that the footer shows on the Schedules screen only
SCHEDULE_ONLY = ("act('run_now')", "edit_schedule", "act('reset')")

#: keys of a confirmation
ASK = (
    Key("y", "go", "y", "do it", True),
    Key("escape,n,q,enter", "leave", "Esc", "cancel", True),
)

#: keys of a table; the table itself handles them
TABLE = (
    Key("down,j", "move(1)", "j, down", "next row", name="row_down"),
    Key("up,k", "move(-1)", "k, up", "previous row", name="row_up"),
    Key("pagedown,ctrl+d", "page(1)", "PgDn, ctrl-d", "next page", name="screen_down"),
    Key("pageup,ctrl+u", "page(-1)", "PgUp, ctrl-u", "previous page", name="screen_up"),
    Key("g,home", "first", "g, Home", "first row, and stay there as rows arrive", name="row_first"),
    Key("G,end", "last", "G, End", "last row", name="row_last"),
    Key("f", "follow", "f", "follow the newest row, on or off"),
    Key("h,left", "sideways(-1)", "h, left", "with w: scroll left", name="scroll_left"),
    Key("l,right", "sideways(1)", "l, right", "with w: scroll right", name="scroll_right"),
    Key("space", "mark", "space", "mark the row"),
    Key("ctrl+@", "mark_range", "ctrl-space", "mark up to here"),
    Key("asterisk", "app.mark_all", "*", "mark all matching rows"),
)

DETAILS = (
    Key("escape,q,enter", "leave", "Esc", "back", True, name="page_close"),
    Key("tab,l,right", "tab(1)", "Tab", "next tab", True, name="page_tab_next"),
    Key("shift+tab,h,left", "tab(-1)", "h", "previous tab", name="page_tab_previous"),
    Key("W", "open_tab('Why')", "W", "why a task waits, or what became of it", name="page_why"),
    Key("K", "open_tab('Stack')", "K", "the stack of the task, or of a worker's tasks", name="page_stack"),
    Key("j,down", "scroll(1)", "j, down", "scroll down", name="page_down"),
    Key("k,up", "scroll(-1)", "k, up", "scroll up", name="page_up"),
    Key("pagedown,ctrl+d,space", "scroll(20)", "PgDn", "page down", name="page_screen_down"),
    Key("pageup,ctrl+u", "scroll(-20)", "PgUp", "page up", name="page_screen_up"),
    Key("g,home", "scroll(-1000000)", "g", "top", name="page_top"),
    Key("G,end", "scroll(1000000)", "G", "end", name="page_end"),
    Key("slash", "search", "/", "search", True, name="page_search"),
    Key("n", "next(1)", "n", "next match", name="page_match_next"),
    Key("N", "next(-1)", "N", "previous match", name="page_match_previous"),
    Key("y", "copy", "y", "copy this tab", True, name="page_copy"),
    Key("Q", "app.quit", "Q", "quit", name="page_quit"),
)
