"""The dashboard's window: puts a view on the screen, redraws it from snapshots, acts on keys.

In:  a session.  Out: the terminal, as it was before, when it is left.
Before this: `qctl events`.  Around it: feed.py makes the snapshots, views.py says what is in a table,
verbs.py what a key does to a row.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input, Static

from qctl import exits, theme
from qctl.dashboard import panes as words
from qctl.dashboard.bindings import MAIN, TABLE
from qctl.dashboard.details import page_of
from qctl.dashboard.doing import Did, do
from qctl.dashboard.feed import Feed
from qctl.dashboard.pages import Page, Question, footer
from qctl.dashboard.snapshot import Snapshot, WorkerRow
from qctl.dashboard.table import VirtualTable
from qctl.dashboard.verbs import COSTLY, VERBS, Act
from qctl.dashboard.views import VIEWS, View
from qctl.filters import Filter, FilterError, parse
from qctl.guard import permit
from qctl.output.text import shown

if TYPE_CHECKING:
    from qctl.session import Session

REDRAW_S = 0.25
UNDO_S = 10.0


class Dashboard(App[int]):
    """Header, one or two tables, keys."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { background: ansi_default; color: ansi_default; }
    #header, #rule, #keys, #title { height: 1; width: 100%; }
    #workers { height: auto; max-height: 40%; min-height: 4; scrollbar-size-vertical: 1; }
    #main { height: 1fr; scrollbar-size-vertical: 1; }
    VirtualTable { overflow-x: hidden; background: ansi_default; }
    #filter { height: 1; border: none; padding: 0; display: none; background: ansi_default; }
    #filter.open { display: block; }
    #body { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(k.keys, k.action, k.words) for k in MAIN),
        *(Binding(view.key, f"view('{view.name}')", view.name) for view in VIEWS),
    ]

    def __init__(self, feed: Feed, plain: bool = False, extra: Sequence[str] = ()) -> None:
        """extra: global options for the command lines of verbs."""
        super().__init__(ansi_color=True)
        self.feed, self.panes, self.plain, self.extra = feed, words.Panes(plain), plain, tuple(extra)
        self.picture = Snapshot()
        #: why nothing may be changed here; empty: it may
        self.refusal = ""
        self.frozen_at: int | None = None
        self.pattern = ""
        self.wanted: Filter | None = None
        self.mistake = ""  # why the pattern is no filter
        self.last_act: Act | None = None
        self.view: View = VIEWS[0]
        self.fleet: VirtualTable[WorkerRow] = VirtualTable(
            words.WORKER_FIELDS, lambda w: w.node, self.panes.worker, words.NO_WORKERS, id="workers"
        )
        self.tasks: VirtualTable[Any] = VirtualTable(
            self.view.fields, self.view.id_of, self.view.cells(self.panes), self.view.empty, id="main"
        )
        self.header, self.rule = Static(id="header"), Static(id="rule")

    def compose(self) -> ComposeResult:
        yield self.header
        yield self.fleet
        yield self.rule
        yield self.tasks
        yield Input(placeholder="name:proj.* state:failed, or any part of it", id="filter")
        yield Static(footer(MAIN, " 1-8 views "), id="keys")

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
        rows = self.view.rows(picture)
        if self.pattern:
            rows = [row for row in rows if self._fits(row)]
        rule = self.panes.rule(picture, self.view.name, len(rows), self.pattern, width)
        self.rule.update(Text(shown(rule), style="bold" if faded else "dim", no_wrap=True))
        if self.view is VIEWS[0]:
            self.fleet.styles.height = max(4, min(len(picture.workers) + 1, self.size.height * 2 // 5))
            self.fleet.put(picture.workers, faded)
        self.tasks.put(rows, faded)

    def _fits(self, row: Any) -> bool:
        if self.wanted is not None and hasattr(row, "uuid"):
            from qctl.seen import record_of

            return self.wanted.matches(record_of(row))
        text = " ".join(part.text for part in self.view.cells(self.panes)(row))
        return self.pattern.lower() in text.lower()

    # --- keys: looking

    def action_view(self, name: str) -> None:
        """Show another screen; a filter of tasks stays with the tasks."""
        view = next(v for v in VIEWS if v.name == name)
        if view.rows is not self.view.rows and self.pattern:
            self._close_filter("")
        self.view = view
        self.fleet.display = view is VIEWS[0]
        self.tasks.show(view.fields, view.id_of, view.cells(self.panes), view.empty)
        self.tasks.focus()
        self.draw()

    @property
    def under_cursor(self) -> Any:
        return self.fleet.current if self.focused is self.fleet else self.tasks.current

    def action_details(self) -> None:
        if isinstance(self.focused, Input):
            return
        found = page_of(self.under_cursor)
        if found is not None:
            self.push_screen(Page(*found))

    def on_virtual_table_chosen(self) -> None:
        self.action_details()

    def action_freeze(self) -> None:
        self.frozen_at = self.picture.events if self.frozen_at is None else None
        self.redraw()

    def action_help(self) -> None:
        views = [(view.key, view.name) for view in VIEWS]
        keys = [(k.shown, k.words) for k in (*TABLE, *MAIN)]
        states = [(f"{look.glyph} {look.ascii}", look.word) for look in dict.fromkeys(theme.STATES.values())]
        self.push_screen(Page("Keys", [*keys, ("", ""), *views, ("", ""), *states]))

    def action_copy_id(self) -> None:
        if (row := self.under_cursor) is not None:
            self._copy(self.fleet.key(row) if self.focused is self.fleet else self.view.id_of(row))

    def action_copy_line(self) -> None:
        found = page_of(self.under_cursor)
        if found is not None:
            self._copy(next((value for name, value in found[1] if name.startswith("command")), ""))

    def _copy(self, text: str) -> None:
        """To the terminal's clipboard, and to the eyes: not every terminal takes it."""
        self.copy_to_clipboard(text)
        self.notify(shown(text), title="copied", timeout=4)

    # --- keys: filtering

    def action_filter(self) -> None:
        field = self.query_one("#filter", Input)
        field.add_class("open")
        field.focus()

    def action_clear_filter(self) -> None:
        self._close_filter("")

    def on_input_changed(self, event: Input.Changed) -> None:
        self._set_pattern(event.value)
        self.draw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self._close_filter(event.value)
        if self.mistake:
            self.notify(shown(self.mistake), title="taken as plain text", severity="warning", timeout=6)

    def _set_pattern(self, text: str) -> None:
        """A filter where it reads as one; else part of what is shown."""
        self.pattern, self.wanted, self.mistake = text, None, ""
        if text.strip() and not text.strip().isalnum():  # one word may be part of anything that is shown
            try:
                self.wanted = parse(text)
            except FilterError as exc:
                self.mistake = str(exc)

    def _close_filter(self, pattern: str) -> None:
        field = self.query_one("#filter", Input)
        field.value = pattern
        self._set_pattern(pattern)
        field.remove_class("open")
        self.tasks.focus()
        self.draw()

    # --- keys: doing

    def action_act(self, verb: str) -> None:
        """Do something to what is under the cursor; what is costly only after a question."""
        if isinstance(self.focused, Input):
            return
        act = VERBS[verb](self.under_cursor)
        if self.refusal:
            self.notify(self.refusal, title="not done", severity="warning", timeout=6)
        elif act is None:
            self.notify(f"{verb.replace('_', ' ')} does not go with this row", timeout=3)
        elif act.grade == COSTLY:
            self.push_screen(Question(act), lambda yes: self._do(act) if yes else None)
        else:
            self._do(act)

    def action_undo(self) -> None:
        act, self.last_act = self.last_act, None
        if act is not None and act.undo:
            self._do(Act(act.undo, f"undo: {act.what}", act.grade))

    def _do(self, act: Act) -> None:
        self.notify(act.line, title="running", timeout=3)
        self.run_worker(lambda: self._done(act, do(self.feed.app, act.words, self.extra)), thread=True)

    def _done(self, act: Act, did: Did) -> None:
        def say() -> None:
            self.last_act = act if did.ok and act.undo else None
            more = "\nu undoes it" if self.last_act else ""
            self.notify(
                shown(did.said) + more,
                title=act.line,
                severity="information" if did.ok else "error",
                timeout=UNDO_S,
            )
            self.feed.ask_soon()

        self.call_from_thread(say)

    async def action_quit(self) -> None:
        self.exit(exits.OK)

    def _fatal_error(self) -> None:
        """A bug of ours: leave the terminal as it was; main.py says so in one line."""
        self._close_messages_no_wait()


def run(session: Session, max_tasks: int, plain: bool) -> int:
    """Show the dashboard until it is left; the exit code."""
    if session.options.no_color:
        os.environ["NO_COLOR"] = "1"
    app = session.app
    feed = Feed(app, max_tasks)
    feed.start()
    context = session.context
    extra = ["--context", context.name] if context is not None else []
    if session.options.reason:
        extra += ["--reason", session.options.reason]
    window = Dashboard(feed, plain, extra)
    try:
        permit(session, "qctl control")
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
