"""The keys of the user's own making: own commands, and the keys that keys.toml gives to actions.

In:  commands.toml and keys.toml.  Out: programs that run for a row; the bindings of all screens.
Before this: command_keys.py.  After this: keys.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qctl.dashboard.key_table import KeyTable
from qctl.dashboard.own_commands import OwnCommand, OwnCommands
from qctl.dashboard.screens.alert_keys import AlertWindow
from qctl.dashboard.screens.command_keys import Place
from qctl.dashboard.views.overview_lists import Link

if TYPE_CHECKING:
    from qctl.dashboard.row_actions import RowAction
    from qctl.dashboard.run_command import CommandResult

#: what the audit log calls a program that was not started
NOT_STARTED = 127


class PowerWindow(AlertWindow):
    """The main window, with the user's commands and keys."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.own = OwnCommands()

    def use_own(self, keys: KeyTable, own: OwnCommands) -> None:
        """Take the user's keys and commands; call it before the window runs."""
        self.key_table, self.own = keys, own
        for number, command in enumerate(own.commands):
            if command.key:
                self.bind(command.key, f"own({number})", description=command.name)

    def take_keys(self) -> None:
        self.set_keymap(dict(self.key_table.keymap))
        problems = (*self.key_table.problems, *self.own.problems, *self.signals.problems)
        if problems:
            more = f" (and {len(problems) - 1} more: `qctl doctor --local`)" if len(problems) > 1 else ""
            self.show_message(f"{problems[0]}{more}", "failed")

    def action_own_commands(self) -> None:
        """Choose among the own commands for the row under the cursor."""
        from qctl.dashboard import own_commands
        from qctl.dashboard.screens.dialogs import Choice

        if self.focused is self.line:
            return
        row = self.under_cursor
        fitting = {one.name: one for one in self.own.commands if one.fits(row)}
        if not self.own.commands:
            self.show_message(f"there is no own command; {own_commands.file()} can have some")
        elif not fitting:
            self.show_message("no own command is for this row")
        else:
            self.push_screen(
                Choice("own commands", list(fitting)),
                lambda name: self.run_own(fitting[name], row) if name is not None else None,
            )

    def action_own(self, number: int) -> None:
        """Run an own command for the row under the cursor."""
        if self.focused is not self.line:
            self.run_own(self.own.commands[number], self.under_cursor)

    def run_own(self, command: OwnCommand, row: Any) -> None:
        """Ask for an own command if need be, and run it."""
        from qctl.dashboard.own_commands import filled
        from qctl.dashboard.row_actions import REVERSIBLE
        from qctl.dashboard.screens.dialogs import Question

        marked = [r.target if isinstance(r, Link) else r for r in self.table.marked.values()]
        row = marked[0] if len(marked) == 1 else row
        if len(marked) > 1:
            self.show_message(f"{command.name} applies to one row at a time")
        elif not command.fits(row):
            self.show_message(f"{command.name} is for {', '.join(command.scope)}, not for this row")
        elif isinstance(act := filled(command, row), str):
            self.show_message(f"not run: {act}", "failed")
        elif act.reads_only and act.grade == REVERSIBLE:
            self._run_program(act, "")
        elif self.refusal and not act.reads_only:
            self.show_message(f"not done: {self.refusal}", "failed")
        else:
            needs_reason = self.needs_reason and not act.reads_only
            if act.grade == REVERSIBLE and not needs_reason:
                self._run_program(act, "")
                return
            self.push_screen(
                Question(act, None, needs_reason),
                lambda more: self._run_program(act, " ".join(more[1:])) if more is not None else None,
            )

    def _run_program(self, act: RowAction, reason: str) -> None:
        """Show the program's line and run it; its output gets a page, unless it runs in the background."""
        from qctl.dashboard.screens.details import DetailScreen
        from qctl.dashboard.views.details import Sheet, Tab

        place = self.place
        self.table.clear_marks()
        self.show_message(f"{act.line} …")

        def run() -> CommandResult:
            did = self._program(act, place, reason)
            self._done(act, did, place)
            return did

        if act.background:
            self.run_worker(run, thread=True)
            return

        def output(words: tuple[str, ...]) -> str:
            did = run()
            return did.text or did.summary

        page = Sheet(act.own, (Tab("Output", words=act.words, line=act.line),))
        self.push_screen(DetailScreen(page, output))

    def _program(self, act: RowAction, place: Place, reason: str) -> CommandResult:
        """Run the program to its end and log it; called in a thread."""
        from qctl.cli.audit import record_program
        from qctl.dashboard.run_command import CommandResult, Running

        extra = (*place.extra, "--reason", reason) if reason else place.extra
        code, running = NOT_STARTED, None
        try:
            running = Running(place.feed.app, act.words, extra, is_program=True)
            did = self._wait(act, running, place)
            code = NOT_STARTED if running.code is None else running.code
        except (OSError, ValueError) as exc:
            did = CommandResult(False, f"cannot start {act.words[0]}: {getattr(exc, 'strerror', '') or exc}")
        if not did.ok and running is not None:
            did = did._replace(summary=f"exit code {code}: {did.summary}")
        # qctl logs its own changes.
        if not act.reads_only and act.words[0] != "qctl":
            trouble = record_program(place.feed.app, place.context, act.words, code, reason or None)
            if trouble:
                did = did._replace(summary=f"{did.summary}; {trouble}")
        return did
