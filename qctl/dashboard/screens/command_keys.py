"""The keys that change something: an action on rows becomes a command line, which is asked for and run.

In:  a RowAction.  Out: a process, its progress and its outcome in the line of remarks.
Before this: list_keys.py.  After this: keys.py.  Beside it: row_actions.py maps a key and a row to a command.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from qctl.dashboard.screens.list_keys import ListWindow
from qctl.dashboard.screens.main import TASKS
from qctl.dashboard.views.overview_lists import Link

if TYPE_CHECKING:
    from qctl.dashboard.row_actions import RowAction
    from qctl.dashboard.run_command import CommandResult, Running
    from qctl.dashboard.sources.base import Source


class Place(NamedTuple):
    """Where a command runs: the fleet that was on the screen when its key was pressed."""

    feed: Source
    extra: tuple[str, ...]
    works: list[Running]
    context: str


class CommandWindow(ListWindow):
    """The main window, with the keys that run command lines."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.acting: list[tuple[str, Any, int]] = []  # the rows of the action that is asked for
        self.last_act: RowAction | None = None
        self.works: list[Running] = []  # running commands that change something

    @property
    def place(self) -> Place:
        """The fleet on the screen."""
        return Place(self.feed, self.extra, self.works, self.where.context)

    @property
    def asker(self) -> Callable[[tuple[str, ...]], str]:
        """Runs commands at the fleet that is on the screen now, whatever is on the screen later."""
        return partial(self._answer, place=self.place)

    def _answer(self, line: tuple[str, ...], place: Place | None = None) -> str:
        """The output of a command; a workflow that is in the event table is drawn without one."""
        from qctl.dashboard.run_command import answer
        from qctl.fleet.event_record import record_of
        from qctl.fleet.task_tree import tree_lines

        feed, extra, _, _ = place or self.place
        if line[:2] == ("task", "tree"):
            family = feed.memory.state.table.family(line[2])
            if len(family) > 1:
                records = [{**record_of(t), "parent_id": t.parent_id or None} for t in family]
                return "\n".join(tree_lines(records))
        did = answer(feed.app, line, extra)
        return did.text or did.summary

    # --- keys: asking

    def action_why(self) -> None:
        """Why the task does not run yet, or what became of it."""
        self._open_tab("Why", "a task")

    def action_stack(self) -> None:
        """Where the task, or the tasks of the worker, are now."""
        self._open_tab("Stack", "a task or worker")

    def _open_tab(self, name: str, of: str) -> None:
        """Open the page of the row at this tab, whose command then runs in the background."""
        from qctl.dashboard.screens.details import DetailScreen
        from qctl.dashboard.views.details import sheet_of

        if self.focused is self.line:
            return
        sheet = sheet_of(self.under_cursor)
        if sheet is None or sheet.number_of(name) is None:
            self.show_message(f"{name.lower()} applies to {of}, not to this row")
        else:
            self.push_screen(DetailScreen(sheet, self.asker, name))

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
        from qctl.dashboard.row_actions import VERBS

        if self.focused is self.line:
            return
        rows = [r.target if isinstance(r, Link) else r for r in self.table.marked.values()]
        if not rows and self.under_cursor is not None:
            rows = [self.under_cursor]
        items = list(self.table.marked.values()) or [self.table.current]
        keys = [self.table.key(item) for item in items if item is not None]
        if self.removed.gone.intersection(keys):
            self.show_message("not done: the row is gone, and shown for a moment only")
            return
        self.acting = [self._held(key, item) for key, item in zip(keys, items, strict=False)]
        act = VERBS[verb](rows, self.pattern if self.every else "")
        if act is None and not self.refusal:
            does_one = len(rows) > 1 and VERBS[verb](rows[:1], "") is not None
            why = "applies to one row at a time" if does_one else "does not apply to this row"
            self.show_message(f"{verb.replace('_', ' ')} {why}")
        elif act is not None or self.refusal:
            self._ask_or_do(act)

    def _held(self, key: str, item: Any) -> tuple[str, Any, int]:
        """What is kept of a row that an action is run for: key, row, and position in its list."""
        if not isinstance(item, Link):
            return key, item, self.table.cursor
        rows = self.picture.failures
        return key, item.target, rows.index(item.target) if item.target in rows else 0

    def _ask_or_do(self, act: RowAction | None) -> None:
        from qctl.dashboard.row_actions import REVERSIBLE
        from qctl.dashboard.screens.dialogs import Question

        if self.picture.trouble and self.picture.asked:
            self.show_message("not done: the broker is unreachable", "failed")
        elif self.refusal or act is None:
            self.show_message(f"not done: {self.refusal}", "failed")
        elif act.grade == REVERSIBLE and not self.needs_reason:
            self._do(act)
        else:
            preview = (*(w for w in act.words if w != "--yes"), "--dry-run")
            asker = self.asker
            ask = (lambda: asker(preview)) if act.preview else None
            self.push_screen(
                Question(act, ask, self.needs_reason),
                lambda more: self._do(act._replace(words=(*act.words, *more))) if more is not None else None,
            )

    def action_undo(self) -> None:
        from qctl.dashboard.row_actions import RowAction

        act, self.last_act = self.last_act, None
        if act is not None and act.undo:
            self._do(RowAction(act.undo, f"undo: {act.what}", act.grade))

    def remember_act(self, place: Place, act: RowAction | None) -> None:
        """Keep the last change of a fleet for `u`."""
        if place.feed is self.feed:
            self.last_act = act

    def _do(self, act: RowAction) -> None:
        self.every, place = False, self.place
        self.removed.hold(self.acting, time.monotonic())
        self.acting = []
        self.table.clear_marks()
        self.show_message(f"{act.line} …")
        self.run_worker(lambda: self._done(act, self._work(act, place), place), thread=True)

    def _work(self, act: RowAction, place: Place) -> CommandResult:
        """Run the command to its end, without a time-out; called in a thread."""
        from qctl.dashboard.run_command import CommandResult, Running

        try:
            running = Running(place.feed.app, act.words, place.extra)
        except OSError as exc:
            return CommandResult(False, f"cannot start Python: {exc.strerror}")
        return self._wait(act, running, place)

    def _wait(self, act: RowAction, running: Running, place: Place) -> CommandResult:
        """Wait for a running command and show how long it has run; called in a thread."""
        place.works.append(running)
        try:
            return running.wait(
                tell=lambda seconds: self.call_from_thread(
                    self.show_message, f"{act.line} … {seconds:.0f} s (Esc cancels it)"
                )
            )
        finally:
            place.works.remove(running)

    def _done(self, act: RowAction, did: CommandResult, place: Place) -> None:
        def show_outcome() -> None:
            undo = act if did.ok and act.undo else None
            self.remember_act(place, undo)
            more = " (u undoes it)" if undo else ""
            where = "" if place.feed is self.feed else f"{place.context}: "
            self.show_message(f"{where}{did.summary}{more}: {act.line}", "done" if did.ok else "failed")
            place.feed.ask_soon()

        self.call_from_thread(show_outcome)
