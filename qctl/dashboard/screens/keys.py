"""The dashboard's key actions: navigation, selection, input, changes.

In:  keys and clicks.  Out: another view, a page, or a command line that is run.
Before this: main.py draws.  Beside it: row_actions.py maps a key and a row to a command.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, ClassVar

import click
import msgspec
from textual import events
from textual.binding import Binding, BindingType
from textual.widgets import Input

from qctl import exit_codes
from qctl.dashboard.keys import MAIN
from qctl.dashboard.screens.main import SCHEDULES, TASKS
from qctl.dashboard.screens.tabs import TabWindow
from qctl.dashboard.state.lazy_rows import TaskRows
from qctl.dashboard.state.schedules import ScheduleRow
from qctl.dashboard.views.episodes import Episode
from qctl.dashboard.views.overview_lists import TypeRow
from qctl.dashboard.views.views import VIEWS, view_named
from qctl.dashboard.widgets.virtual_table import VirtualTable

if TYPE_CHECKING:
    from textual.command import Provider


def _palette() -> type[Provider]:
    """What ctrl-p offers, imported when it is opened."""
    from qctl.dashboard.screens.command_palette import Everything

    return Everything


class Dashboard(TabWindow):
    """The main window, with key actions."""

    COMMANDS: ClassVar[Any] = {_palette}
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(k.keys, k.action, k.words, id=k.id) for k in MAIN),
        *(Binding(view.key, f"view('{view.name}')", view.name, id=f"view_{view.name}") for view in VIEWS),
    ]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.visited, self.visit = [VIEWS[0]], 0
        self.editing: ScheduleRow | None = None  # the entry whose schedule is typed
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
        self.removed.forget()
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

    def action_details(self) -> None:
        from qctl.dashboard.screens.details import DetailScreen
        from qctl.dashboard.views.details import sheet_of

        if self.focused is self.line:
            return
        row = self.under_cursor
        if self.cross is not None and self.view is VIEWS[0]:
            self._show_tasks(self.tasks_at_cross())
        elif isinstance(row, Episode):
            self.go_to_alert(row)
        elif isinstance(row, TypeRow):
            self._show_tasks(f'name:"{row.name}"')
        elif (sheet := sheet_of(row)) is not None:
            self.push_screen(DetailScreen(sheet, self.asker))

    def _show_tasks(self, pattern: str) -> None:
        self.action_view(TASKS.name)
        self._set_pattern(pattern)
        self.redraw()

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
        from qcore.schedules.specs import text_of

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
        from qctl.dashboard.screens.schedule_panels import checked

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
            from qctl.dashboard.row_actions import edit_schedule

            self.acting = []
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
        from qctl.filters import FilterError, parse

        try:
            self.wanted = parse(text)
        except FilterError as exc:
            self.mistake = " ".join(str(exc).split())

    def _run_line(self, text: str) -> None:
        """Run the typed text: a view's name, or any command of qctl."""
        from qctl.dashboard.row_actions import COSTLY, RowAction
        from qctl.dashboard.run_command import command_of, has_option
        from qctl.dashboard.screens.details import DetailScreen
        from qctl.dashboard.views.details import Sheet, Tab

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
        if line[0] == "at" and self.feed.can_seek:
            self._go_to(" ".join(line[1:]))
            return
        command = command_of(self.root_command, line)
        if getattr(command, "changes", True):
            if has_option(command, "--yes") and "--yes" not in line:
                line = (*line, "--yes")
            self.acting = []
            self._ask_or_do(RowAction(line, "run this", COSTLY, preview=has_option(command, "--dry-run")))
        else:
            self.push_screen(DetailScreen(Sheet(" ".join(line), (Tab("Answer", words=line),)), self.asker))

    def _go_to(self, text: str) -> None:
        """Show a moment of the recording."""
        from qctl.cli.types import Moment

        try:
            self.feed.go(Moment().convert(text, None, None))
        except click.BadParameter as exc:
            self.show_message(f"not a moment: {exc.message}", "failed")

    async def action_quit(self) -> None:
        self.exit(exit_codes.OK)

    def _fatal_error(self) -> None:
        """Handle a bug: restore the terminal; main.py prints one line about it."""
        self._close_messages_no_wait()
