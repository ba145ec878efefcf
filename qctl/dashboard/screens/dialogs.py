"""Dialogs over the tables: confirmations and choices.

In:  a RowAction, or choices.  Out: the answer; None when the dialog is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from qctl.dashboard.key_table import footer
from qctl.dashboard.keys import ASK
from qctl.dashboard.row_actions import IRREVERSIBLE, RowAction
from qctl.output.text import shown, shown_lines

#: lines of a preview at most
PREVIEW_LINES = 9
BOX = """
Question, Choice { align: center middle; background: transparent; }
#box { width: 76; max-width: 100%; height: auto; max-height: 100%; border: solid $warning; padding: 0 1;
       background: $background; }
#box Input { height: 1; border: none; padding: 0; background: $background; }
"""


class Answer(tuple[str, ...]):
    """A confirmation; the items are additional words for the command, such as --reason."""


class Question(ModalScreen[Answer | None]):
    """A confirmation with the command line and a preview of its effect.

    `y` confirms; for an irreversible action its name must be typed, and in a production context a reason is
    required.
    """

    CSS = BOX
    BINDINGS: ClassVar[list[BindingType]] = [Binding(k.keys, k.action, k.words) for k in ASK]

    def __init__(
        self, act: RowAction, preview: Callable[[], str] | None = None, needs_reason: bool = False
    ) -> None:
        super().__init__()
        self.act, self.preview, self.needs_reason = act, preview, needs_reason
        self.typed = act.grade == IRREVERSIBLE

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static(Text(shown(self.act.what), style="bold"))
            yield Static(Text(f"\n{shown(self.act.line)}\n", overflow="fold"))
            yield Static(id="preview")
            if self.needs_reason:
                yield Input(placeholder="reason, for the audit log", id="reason")
            if self.typed:
                yield Input(placeholder=f"type {self.act.name} to continue", id="name")
            if self.typed or self.needs_reason:
                yield Static(Text(" Enter: do it   Esc: cancel", style="dim"))
            else:
                yield Static(footer(ASK))

    def on_mount(self) -> None:
        self.query_one("#preview").display = False
        if self.preview is not None:
            self.run_worker(self._look_ahead, thread=True)

    def _look_ahead(self) -> None:
        text = self.preview() if self.preview is not None else ""
        self.app.call_from_thread(self._show_preview, text)

    def _show_preview(self, text: str) -> None:
        if not self.query("#preview") or not text.strip():  # an answer may come while the box is taken away
            return
        lines = shown_lines(text.strip()).split("\n")
        if len(lines) > PREVIEW_LINES:
            lines = [*lines[: PREVIEW_LINES - 1], f"… {len(lines) - PREVIEW_LINES + 1} more lines"]
        found = self.query_one("#preview", Static)
        found.update(Text("\n".join(lines) + "\n", no_wrap=True, overflow="ellipsis"))
        found.display = True

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        fields = {field.id: field.value.strip() for field in self.query(Input)}
        if self.needs_reason and not fields["reason"]:
            self.query_one("#reason", Input).focus()
            return
        if self.typed and fields["name"] != self.act.name:
            self.query_one("#name", Input).focus()
            return
        self.dismiss(Answer(("--reason", fields["reason"]) if self.needs_reason else ()))

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()

    def action_go(self) -> None:
        if not (self.typed or self.needs_reason):
            self.dismiss(Answer())

    def action_leave(self) -> None:
        self.dismiss(None)


class Choice(ModalScreen[str | None]):
    """A choice among a few names, each with its own key; `chosen` are marked."""

    CSS = BOX
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "back")]

    def __init__(self, title: str, names: Sequence[str], chosen: Sequence[str] = ()) -> None:
        super().__init__()
        self.title_text, self.keys, self.marked = title, letters(names), set(chosen)

    def compose(self) -> ComposeResult:
        text = Text()
        for key, name in self.keys.items():
            text.append(f" {key}", "bold")
            text.append(f"  {'*' if name in self.marked else ' '} {shown(name)}\n")
        with Vertical(id="box"):
            yield Static(Text(self.title_text, style="bold"))
            yield Static(text)
            yield Static(Text(" Esc: cancel", style="dim"))

    def on_key(self, event: events.Key) -> None:
        if event.character in self.keys:
            event.stop()
            self.dismiss(self.keys[event.character])

    def action_leave(self) -> None:
        self.dismiss(None)


def letters(names: Sequence[str]) -> dict[str, str]:
    """A key for each name: its first unused letter, or a digit."""
    found: dict[str, str] = {}
    for number, name in enumerate(names):
        free = [c for c in name.lower() if c.isalpha() and c not in found]
        found[free[0] if free else str(number % 10)] = name
    return found
