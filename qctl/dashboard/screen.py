"""The dashboard's window: puts panes on the screen, redraws them from snapshots, acts on keys.

In:  a session.  Out: the terminal, as it was before, when it is left.
Before this: `qctl events`.  Around it: feed.py makes the snapshots, panes.py words them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Input, Static

from qcore.events.table import TaskSeen
from qctl import exits, theme
from qctl.dashboard import panes as words
from qctl.dashboard.bindings import DETAILS, MAIN, TABLE, Key
from qctl.dashboard.feed import Feed
from qctl.dashboard.snapshot import Snapshot, WorkerRow
from qctl.dashboard.table import VirtualTable
from qctl.guard import permit
from qctl.output.text import shown, shown_lines

if TYPE_CHECKING:
    from qctl.session import Session

REDRAW_S = 0.25


class Page(Screen[None]):
    """A full page of facts over the tables."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding(k.keys, k.action, k.words) for k in DETAILS]

    def __init__(self, title: str, facts: list[tuple[str, str]]) -> None:
        super().__init__()
        self.heading, self.facts = title, facts

    def compose(self) -> ComposeResult:
        yield Static(Text(f" {shown(self.heading)}", style="bold"), id="title")
        with VerticalScroll(id="body"):
            yield Static(self._text())
        yield Static(footer(DETAILS), id="keys")

    def on_mount(self) -> None:
        self.query_one("#body").focus()

    def _text(self) -> Text:
        wide = max((len(name) for name, _ in self.facts), default=0)
        text = Text(overflow="fold")
        for name, value in self.facts:
            lines = shown_lines(value).split("\n") or [""]
            text.append(f" {name:<{wide}}  ", style="bold")
            text.append(f"\n {'':<{wide}}  ".join(lines) + "\n")
        return text

    def action_scroll_down(self) -> None:
        self.query_one("#body").scroll_relative(y=1, animate=False)

    def action_scroll_up(self) -> None:
        self.query_one("#body").scroll_relative(y=-1, animate=False)


class Dashboard(App[int]):
    """Header, workers, tasks, keys."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { background: ansi_default; color: ansi_default; layers: base; }
    #header, #rule, #keys, #title { height: 1; width: 100%; }
    #workers { height: auto; max-height: 40%; min-height: 4; scrollbar-size-vertical: 1; }
    #tasks { height: 1fr; scrollbar-size-vertical: 1; }
    VirtualTable { overflow-x: hidden; background: ansi_default; }
    #filter { height: 1; border: none; padding: 0; display: none; background: ansi_default; }
    #filter.open { display: block; }
    #body { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding(k.keys, k.action, k.words) for k in MAIN]

    def __init__(self, feed: Feed, plain: bool = False) -> None:
        super().__init__(ansi_color=True)
        self.feed, self.panes, self.plain = feed, words.Panes(plain), plain
        self.picture = Snapshot()
        #: why nothing may be changed here; empty: it may
        self.refusal = ""
        self.frozen_at: int | None = None
        self.pattern = ""
        self.fleet: VirtualTable[WorkerRow] = VirtualTable(
            words.WORKER_FIELDS, lambda w: w.node, self.panes.worker, words.NO_WORKERS, id="workers"
        )
        self.tasks: VirtualTable[TaskSeen] = VirtualTable(
            words.TASK_FIELDS, lambda t: t.uuid, self.panes.task, words.NO_TASKS, id="tasks"
        )
        self.header, self.rule = Static(id="header"), Static(id="rule")

    def compose(self) -> ComposeResult:
        yield self.header
        yield self.fleet
        yield self.rule
        yield self.tasks
        yield Input(placeholder="part of a name, id, state, worker or argument", id="filter")
        yield Static(footer(MAIN), id="keys")

    def on_mount(self) -> None:
        self.tasks.focus()
        self.redraw()
        self.set_interval(REDRAW_S, self.redraw)

    def on_resize(self) -> None:
        self.draw()

    # --- drawing

    def redraw(self) -> None:
        """Fetch a picture and draw it; while frozen only count what is behind."""
        fresh = self.feed.take()
        if self.frozen_at is None:
            self.picture = fresh
        self.draw(None if self.frozen_at is None else fresh.events - self.frozen_at)

    def draw(self, behind: int | None = None) -> None:
        picture, width = self.picture, self.size.width
        faded = bool(picture.trouble)
        header = Text(no_wrap=True)
        for part in self.panes.header(picture, width, behind):
            header.append(shown(part.text), part.style)
        self.header.update(header)
        tasks = [t for t in picture.tasks if self._fits(t)] if self.pattern else picture.tasks
        rule = self.panes.rule(picture, len(tasks), self.pattern, width)
        self.rule.update(Text(shown(rule), style="bold" if faded else "dim", no_wrap=True))
        self.fleet.styles.height = max(4, min(len(picture.workers) + 1, self.size.height * 2 // 5))
        self.fleet.put(picture.workers, faded)
        self.tasks.put(tasks, faded)

    def _fits(self, task: TaskSeen) -> bool:
        text = (
            f"{task.name} {task.uuid} {task.state} {task.worker} {task.args} {task.kwargs} {task.exception}"
        )
        text += theme.look(task.state).word
        return self.pattern.lower() in text.lower()

    # --- keys

    def action_details(self) -> None:
        focused = self.focused
        if isinstance(focused, Input):
            return
        if focused is self.fleet and (worker := self.fleet.current) is not None:
            self.push_screen(Page(f"Worker {worker.node}", words.worker_details(worker)))
        elif focused is not self.fleet and (task := self.tasks.current) is not None:
            self.push_screen(Page(f"Task {task.name or task.uuid}", words.task_details(task)))

    def on_virtual_table_chosen(self) -> None:
        self.action_details()

    def action_freeze(self) -> None:
        self.frozen_at = self.picture.events if self.frozen_at is None else None
        self.redraw()

    def action_enable_events(self) -> None:
        if self.refusal:
            self.notify(self.refusal, title="not sent", severity="warning", timeout=6)
            return
        self.feed.tell("enable_events")
        self.notify("qctl control enable_events", title="sent to every worker", timeout=4)

    def action_help(self) -> None:
        keys = [(k.shown, k.words) for k in (*MAIN, *TABLE)]
        states = [(f"{look.glyph} {look.ascii}", look.word) for look in dict.fromkeys(theme.STATES.values())]
        self.push_screen(Page("Keys", [*keys, ("", ""), *states]))

    def action_filter(self) -> None:
        field = self.query_one("#filter", Input)
        field.add_class("open")
        field.focus()

    def action_clear_filter(self) -> None:
        self._close_filter("")

    def on_input_changed(self, event: Input.Changed) -> None:
        self.pattern = event.value
        self.draw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self._close_filter(event.value)

    def _close_filter(self, pattern: str) -> None:
        field = self.query_one("#filter", Input)
        self.pattern = field.value = pattern
        field.remove_class("open")
        self.tasks.focus()
        self.draw()

    async def action_quit(self) -> None:
        self.exit(exits.OK)

    def _fatal_error(self) -> None:
        """A bug of ours: leave the terminal as it was; main.py says so in one line."""
        self._close_messages_no_wait()


def footer(keys: tuple[Key, ...]) -> Text:
    """The keys that matter here, on one line."""
    text = Text(no_wrap=True)
    for key in keys:
        if key.in_footer:
            text.append(f" {key.shown}", "bold")
            text.append(f" {key.words} ", "dim")
    return text


def run(session: Session, max_tasks: int, plain: bool) -> int:
    """Show the dashboard until it is left; the exit code."""
    if session.options.no_color:
        os.environ["NO_COLOR"] = "1"
    app = session.app
    feed = Feed(app, max_tasks)
    feed.start()
    window = Dashboard(feed, plain)
    try:
        permit(session, "qctl control enable_events")
    except exits.Stop as stop:
        window.refusal = f"{stop.message}; {stop.hint}"
    try:
        code: Any = window.run()
    finally:
        feed.stop()
    failure = getattr(window, "_exception", None)
    if failure is not None:
        raise failure
    return code if isinstance(code, int) else exits.OK
