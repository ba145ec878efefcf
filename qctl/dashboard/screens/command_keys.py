"""The keys that change something: an action on rows becomes a command line, which is asked for and run.

In:  a RowAction.  Out: a process, its progress and its outcome in the line of remarks.
Before this: list_keys.py.  After this: keys.py.  Beside it: row_actions.py maps a key and a row to a command.
"""

from __future__ import annotations

from typing import Any

from qctl.dashboard.row_actions import REVERSIBLE, VERBS, RowAction
from qctl.dashboard.run_command import CommandResult, Running, answer
from qctl.dashboard.screens.details import DetailScreen
from qctl.dashboard.screens.dialogs import Question
from qctl.dashboard.screens.list_keys import ListWindow
from qctl.dashboard.screens.main import TASKS
from qctl.dashboard.views.details import sheet_of
from qctl.dashboard.views.overview_lists import Link
from qctl.fleet.event_record import record_of
from qctl.fleet.task_tree import tree_lines


class CommandWindow(ListWindow):
    """The main window, with the keys that run command lines."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.last_act: RowAction | None = None
        self.works: list[Running] = []  # running commands that change something

    def _answer(self, line: tuple[str, ...]) -> str:
        """The output of a command; a workflow that is in the event table is drawn without one."""
        if line[:2] == ("task", "tree"):
            family = self.feed.memory.state.table.family(line[2])
            if len(family) > 1:
                records = [{**record_of(t), "parent_id": t.parent_id or None} for t in family]
                return "\n".join(tree_lines(records))
        did = answer(self.feed.app, line, self.extra)
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
        if self.focused is self.line:
            return
        sheet = sheet_of(self.under_cursor)
        if sheet is None or sheet.number_of(name) is None:
            self.show_message(f"{name.lower()} applies to {of}, not to this row")
        else:
            self.push_screen(DetailScreen(sheet, self._answer, name))

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
