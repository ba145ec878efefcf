"""The dashboard's key actions: navigation, selection, input, changes.

In:  keys and clicks.  Out: another view, a page, or a command line that is run.
Before this: main.py draws.  Beside it: row_actions.py maps a key and a row to a command.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec
from textual import events
from textual.binding import Binding, BindingType
from textual.command import SearchIcon
from textual.widgets import Input

from qcore.schedules.specs import text_of
from qctl import exit_codes
from qctl.dashboard.keys import DETAILS, MAIN, TABLE
from qctl.dashboard.row_actions import COSTLY, REVERSIBLE, VERBS, RowAction, edit_schedule
from qctl.dashboard.run_command import CommandResult, Running, answer, command_of, has_option
from qctl.dashboard.screens.chart_keys import ChartWindow
from qctl.dashboard.screens.command_palette import Everything
from qctl.dashboard.screens.details import DetailScreen
from qctl.dashboard.screens.dialogs import Choice, Question
from qctl.dashboard.screens.main import SCHEDULES, TASKS
from qctl.dashboard.screens.schedule_panels import checked
from qctl.dashboard.screens.screenshot import save
from qctl.dashboard.state.lazy_rows import TaskRows
from qctl.dashboard.state.schedules import ScheduleRow
from qctl.dashboard.themes import THEMES
from qctl.dashboard.views.details import Sheet, Tab, sheet_of
from qctl.dashboard.views.overview_lists import Link, TypeRow
from qctl.dashboard.views.views import VIEWS, view_named
from qctl.dashboard.widgets.virtual_table import Order, VirtualTable
from qctl.filters import FilterError, parse
from qctl.fleet.event_record import record_of
from qctl.fleet.task_tree import tree_lines
from qctl.output import state_styles


class Dashboard(ChartWindow):
    """The main window, with key actions."""

    COMMANDS: ClassVar[Any] = {Everything}
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(k.keys, k.action, k.words) for k in MAIN),
        *(Binding(view.key, f"view('{view.name}')", view.name) for view in VIEWS),
    ]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.visited, self.visit = [VIEWS[0]], 0
        self.last_act: RowAction | None = None
        self.editing: ScheduleRow | None = None  # the entry whose schedule is typed
        self.works: list[Running] = []  # running commands that change something
        #: click's root command, to look up typed commands
        self.root_command: Any = None

    async def on_event(self, event: events.Event) -> None:
        """Handle a table's keys at once, in order: the next key may be for the page that this one opens."""
        if isinstance(event, events.Key) and isinstance(self.focused, VirtualTable):
            active = self.screen.active_bindings.get(event.key)
            if active is not None and active.enabled:
                await self.run_action(active.binding.action, active.node)
                return
        await super().on_event(event)

    # --- keys: looking

    def action_view(self, name: str, remember: bool = True) -> None:
        """Show another view."""
        view = next(v for v in VIEWS if v.name == name)
        if view is not self.view:
            self._set_pattern("")
            if remember:
                self.visited = [*self.visited[: self.visit + 1], view][-50:]
                self.visit = len(self.visited) - 1
        self.view, self.every = view, False
        self.table.show(view.fields, view.id_of, view.cells(self.panes), view.empty)
        self._leave_line()
        self.redraw()

    def action_history(self, by: int) -> None:
        if self.feed.can_seek:
            self.feed.step(by * 10.0)
            self.redraw()
        elif 0 <= self.visit + by < len(self.visited):
            self.visit += by
            self.action_view(self.visited[self.visit].name, remember=False)

    def action_faster(self, factor: float) -> None:
        self.feed.faster(factor)

    @property
    def under_cursor(self) -> Any:
        row = self.table.current
        return row.target if isinstance(row, Link) else row

    def action_details(self) -> None:
        if self.focused is self.line:
            return
        row = self.under_cursor
        if self.cross is not None and self.view is VIEWS[0]:
            self._show_tasks(self.tasks_at_cross())
        elif isinstance(row, TypeRow):
            self._show_tasks(f'name:"{row.name}"')
        elif (sheet := sheet_of(row)) is not None:
            self.push_screen(DetailScreen(sheet, self._answer))

    def _show_tasks(self, pattern: str) -> None:
        self.action_view(TASKS.name)
        self._set_pattern(pattern)
        self.redraw()

    def _answer(self, line: tuple[str, ...]) -> str:
        """The output of a command; a workflow that is in the event table is drawn without one."""
        if line[:2] == ("task", "tree"):
            family = self.feed.memory.state.table.family(line[2])
            if len(family) > 1:
                records = [{**record_of(t), "parent_id": t.parent_id or None} for t in family]
                return "\n".join(tree_lines(records))
        did = answer(self.feed.app, line, self.extra)
        return did.text or did.summary

    def on_virtual_table_chosen(self) -> None:
        self.action_details()

    def on_virtual_table_moved(self) -> None:
        self._draw_band(self.band.display)
        if self.view is SCHEDULES:
            self.look_at_schedule()
            self.draw()

    def action_freeze(self) -> None:
        self.feed.pause(self.frozen_at is None)
        if self.frozen_at is None:
            self.frozen_at = self.picture.events
            if self.picture.charts is not None:
                frozen = self.picture.charts.frozen()
                self.picture = msgspec.structs.replace(self.picture, charts=frozen)
            if isinstance(self.picture.tasks, TaskRows):
                self.picture.tasks.pin(self.table.cursor)
        else:
            self.frozen_at = None
        self.redraw()

    def action_help(self) -> None:
        views = [(view.key, view.name) for view in VIEWS]
        keys = [(k.shown, k.words) for k in MAIN]
        moving = [(k.shown, k.words) for k in TABLE]
        inside = [(k.shown, k.words) for k in DETAILS]
        states = [
            (f"{look.glyph} {look.ascii}", look.word) for look in dict.fromkeys(state_styles.STATES.values())
        ]
        marks = [("~", "seen: counted from events since the dashboard started; otherwise exact")]
        tabs = (
            Tab("Keys", [*keys, ("", ""), *views]),
            Tab("Rows", moving),
            Tab("Pages", inside),
            Tab("Signs", [*states, *marks]),
            Tab("Filters", words=("help", "filters")),
        )
        self.push_screen(DetailScreen(Sheet("Keys", tabs), self._answer))

    def action_audit(self) -> None:
        tab = Tab("Audit", words=("audit", "--limit", "100"))
        self.push_screen(DetailScreen(Sheet("Audit log", (tab,)), self._answer))

    # --- keys: columns, order, colours

    def action_sort(self) -> None:
        names = {f.name.strip("~").lower(): f.order for f in self.table.fields if f.order}
        if names:
            now = [n for n, by in names.items() if by == self.table.order.by]
            self._choose("order by", names, now, self._sort_by)

    def _sort_by(self, by: str) -> None:
        same = self.table.order.by == by
        self.table.order = Order() if same and self.table.order.reverse else Order(by, same)
        self.table.follows = True
        self.redraw()

    def on_virtual_table_sort(self, event: VirtualTable.Sort) -> None:
        self._sort_by(event.by)

    def action_reverse(self) -> None:
        order = self.table.order
        if order.by:
            self.table.order = Order(order.by, not order.reverse)
            self.redraw()

    def action_columns(self) -> None:
        names = {f.name.strip("~").lower(): f.name for f in self.table.fields}
        self._choose(
            "columns (* shown)",
            names,
            [n for n, f in names.items() if f not in self.table.hidden],
            self._toggle_column,
        )

    def _toggle_column(self, name: str) -> None:
        hidden = self.table.hidden ^ {name}
        if len(hidden) < len(self.table.fields):
            self.table.hidden = hidden
            self.table.refresh()

    def action_wide(self) -> None:
        self.table.wide = not self.table.wide
        self.table.scroll_to(x=0, animate=False)
        self.draw()
        self.table.refresh()

    def action_theme(self) -> None:
        names = {name: name for name in THEMES}
        self._choose("colours", names, [self.panes.palette.name], lambda n: self._set_theme(n))

    def _set_theme(self, name: str) -> None:
        self.use_theme(THEMES[name])
        self.redraw()
        self.table.refresh()

    def _choose(self, title: str, names: Mapping[str, str], now: Sequence[str], then: Any) -> None:
        self.push_screen(
            Choice(title, list(names), now), lambda name: then(names[name]) if name is not None else None
        )

    def action_mouse(self) -> None:
        """Turn mouse support off, so that the terminal can select text; or on again."""
        driver: Any = self._driver
        on = not getattr(self, "_mouse_off", False)
        self._mouse_off = on
        switch = getattr(driver, "_disable_mouse_support" if on else "_enable_mouse_support", None)
        if switch is not None:
            switch()
        self.show_message(f"mouse {'off: the terminal selects' if on else 'on'}")

    def action_redraw(self) -> None:
        self.paint_all()

    def action_command_palette(self) -> None:
        super().action_command_palette()
        # Terminals differ in the width of its default icon.
        self.call_after_refresh(self._plain_icon)

    def _plain_icon(self) -> None:
        for found in self.screen.query(SearchIcon):
            found.icon = ":"

    # --- keys: copying

    def action_copy_id(self) -> None:
        if (row := self.under_cursor) is not None:
            self._copy(_id_of(row))

    def action_copy_all(self) -> None:
        sheet = sheet_of(self.under_cursor)
        if sheet is not None:
            raw = [t.text for t in sheet.tabs if t.name == "Raw"]
            facts = {k: v for k, v in sheet.tabs[0].facts if k}
            self._copy(raw[0] if raw else msgspec.json.encode(facts).decode())

    def action_copy_line(self) -> None:
        sheet = sheet_of(self.under_cursor)
        if sheet is not None:
            self._copy("qctl " + shlex.join(sheet.words))

    def action_picture(self) -> None:
        try:
            message, word = save(self), ""
        except OSError as exc:
            message, word = f"not saved in this folder: {exc.strerror}", "failed"
        if len(self.screen_stack) > 1:  # a page hides the line for remarks
            self.notify(message, timeout=3)
        else:
            self.show_message(message, word)

    def _copy(self, text: str) -> None:
        """Copy to the terminal's clipboard and show the text: not every terminal supports it."""
        self.copy_to_clipboard(text)
        self.show_message(f"copied: {text}")

    # --- keys: typing

    def action_filter(self) -> None:
        self._open_line("filter", self.pattern, "name:proj.* state:failed, or part of a name")

    def action_command(self) -> None:
        self.open_command("")

    def open_command(self, text: str) -> None:
        """Open the command line with this text."""
        self._open_line("command", text, "a view, or a command without `qctl`: queue peek mails")

    def action_edit_schedule(self) -> None:
        """Type another schedule for the entry under the cursor."""
        row = self.under_cursor
        if self.focused is self.line or not isinstance(row, ScheduleRow) or row.item is None:
            self.show_message("edit does not apply to this row")
        elif self.refusal:
            self.show_message(f"not done: {self.refusal}", "failed")
        else:
            self.editing = row
            self._open_line("schedule", text_of(row.item["spec"]), "*/5 * * * mon-fri, or every 30s")
            self._check_schedule(self.line.value)

    def _check_schedule(self, text: str) -> None:
        zone = self.editing.item["timezone"] if self.editing and self.editing.item else ""
        self.mistake, self.meaning = checked(text, zone)
        self.draw()

    def _open_line(self, what: str, text: str, hint: str) -> None:
        self.typing = what
        self.line.select_on_focus = what != "schedule"  # its text is changed, seldom replaced
        self.line.placeholder = hint
        self.line.value = text
        self.line.display = True
        self.screen.set_focus(self.line)  # at once, since the next key may arrive already
        self.line.cursor_position = len(text)

    def _leave_line(self) -> None:
        self.typing = ""
        self.line.display = False
        self.screen.set_focus(self.table)

    def action_leave(self) -> None:
        """Close what was opened last: the input line, a running command, marks, the filter, the view."""
        if self.typing:
            if self.typing == "filter":
                self._set_pattern("")
            self.mistake = ""
            self._leave_line()
        elif self.works:
            self.works[-1].cancel()
        elif self.table.marked or self.every:
            self.every = False
            self.table.clear_marks()
        elif self.pattern:
            self._set_pattern("")
        elif self.zoom and self.view is VIEWS[0]:
            self.zoom = ""
        elif self.cross is not None and self.view is VIEWS[0]:
            self.cross = None
        elif self.visit > 0 and not self.feed.can_seek:
            self.action_history(-1)
            return
        self.redraw()

    def on_input_changed(self, event: Input.Changed) -> None:
        if self.typing == "filter":
            self._set_pattern(event.value)
            self.redraw()
        elif self.typing == "schedule":
            self._check_schedule(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        what, text = self.typing, event.value.strip()
        if what == "schedule" and self.mistake:
            return  # the line of the keys says what is wrong
        self._leave_line()
        if what == "schedule" and self.editing is not None:
            self._ask_or_do(edit_schedule(self.editing, text))
        elif what == "command":
            self._run_line(text)
        elif self.mistake:
            self.show_message(f"not a filter: {self.mistake}", "failed")
        self.redraw()

    def _set_pattern(self, text: str) -> None:
        """Set the pattern: for tasks a filter, elsewhere a substring of the row. While the filter is invalid,
        the last valid one stays in effect."""
        self.pattern, self.mistake, self.every = text, "", False
        self.table.follows = True
        if self.view is not TASKS or not text.strip():
            self.wanted = None
            return
        try:
            self.wanted = parse(text)
        except FilterError as exc:
            self.mistake = " ".join(str(exc).split())

    def _run_line(self, text: str) -> None:
        """Run the typed text: a view's name, or any command of qctl."""
        view = view_named(text)
        if view is not None:
            self.action_view(view.name)
            return
        try:
            line = tuple(shlex.split(text))
        except ValueError as exc:
            self.show_message(f"not run: {exc}", "failed")
            return
        if line[:1] == ("qctl",):
            line = line[1:]
        if not line:
            return
        command = command_of(self.root_command, line)
        if getattr(command, "changes", True):
            if has_option(command, "--yes") and "--yes" not in line:
                line = (*line, "--yes")
            self._ask_or_do(RowAction(line, "run this", COSTLY, preview=has_option(command, "--dry-run")))
        else:
            self.push_screen(DetailScreen(Sheet(" ".join(line), (Tab("Answer", words=line),)), self._answer))

    # --- keys: doing

    def action_mark_all(self) -> None:
        """Mark all rows that match; for tasks also those beyond the screen."""
        if self.view is TASKS:
            if self.wanted is None:
                self.show_message("type a filter first: * marks all rows that match it")
                return
            self.every = True
        else:
            self.table.marked = {self.view.id_of(row): row for row in self.table.items}
            self.table.refresh()
        self.redraw()

    def action_act(self, verb: str) -> None:
        """Run an action on the marked rows or the current one; costly ones need confirmation."""
        if self.focused is self.line:
            return
        rows = [r.target if isinstance(r, Link) else r for r in self.table.marked.values()]
        if not rows and self.under_cursor is not None:
            rows = [self.under_cursor]
        act = VERBS[verb](rows, self.pattern if self.every else "")
        if act is None and not self.refusal:
            does_one = len(rows) > 1 and VERBS[verb](rows[:1], "") is not None
            why = "applies to one row at a time" if does_one else "does not apply to this row"
            self.show_message(f"{verb.replace('_', ' ')} {why}")
        elif act is not None or self.refusal:
            self._ask_or_do(act)

    def _ask_or_do(self, act: RowAction | None) -> None:
        if self.picture.trouble and self.picture.asked:
            self.show_message("not done: the broker is unreachable", "failed")
        elif self.refusal or act is None:
            self.show_message(f"not done: {self.refusal}", "failed")
        elif act.grade == REVERSIBLE and not self.needs_reason:
            self._do(act)
        else:
            preview = (*(w for w in act.words if w != "--yes"), "--dry-run")
            ask = (lambda: self._answer(preview)) if act.preview else None
            self.push_screen(
                Question(act, ask, self.needs_reason),
                lambda more: self._do(act._replace(words=(*act.words, *more))) if more is not None else None,
            )

    def action_undo(self) -> None:
        act, self.last_act = self.last_act, None
        if act is not None and act.undo:
            self._do(RowAction(act.undo, f"undo: {act.what}", act.grade))

    def _do(self, act: RowAction) -> None:
        self.every = False
        self.table.clear_marks()
        self.show_message(f"{act.line} …")
        self.run_worker(lambda: self._done(act, self._work(act)), thread=True)

    def _work(self, act: RowAction) -> CommandResult:
        """Run the command to its end, without a time-out; called in a thread."""
        try:
            running = Running(self.feed.app, act.words, self.extra)
        except OSError as exc:
            return CommandResult(False, f"cannot start Python: {exc.strerror}")
        self.works.append(running)
        try:
            progress = f"{act.line} … {{:.0f}} s (Esc cancels it)"
            return running.wait(
                tell=lambda seconds: self.call_from_thread(self.show_message, progress.format(seconds))
            )
        finally:
            self.works.remove(running)

    def _done(self, act: RowAction, did: CommandResult) -> None:
        def show_outcome() -> None:
            self.last_act = act if did.ok and act.undo else None
            more = " (u undoes it)" if self.last_act else ""
            self.show_message(f"{did.summary}{more}: {act.line}", "done" if did.ok else "failed")
            self.feed.ask_soon()

        self.call_from_thread(show_outcome)

    async def action_quit(self) -> None:
        self.exit(exit_codes.OK)

    def _fatal_error(self) -> None:
        """Handle a bug: restore the terminal; main.py prints one line about it."""
        self._close_messages_no_wait()


def _id_of(row: Any) -> str:
    for name in ("uuid", "node", "name"):
        if getattr(row, name, ""):
            return str(getattr(row, name))
    return str(getattr(row, "event", row))
