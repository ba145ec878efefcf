"""Pages over the tables: facts of one thing, and the question before something costly."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from qctl.dashboard.bindings import ASK, DETAILS, Key
from qctl.dashboard.verbs import Act
from qctl.output.text import shown, shown_lines


def footer(keys: tuple[Key, ...], before: str = "") -> Text:
    """The keys that matter here, on one line."""
    text = Text(before, style="dim", no_wrap=True)
    for key in keys:
        if key.in_footer:
            text.append(f" {key.shown}", "bold")
            text.append(f" {key.words} ", "dim")
    return text


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


class Question(ModalScreen[bool]):
    """What would be done, as a command line; `y` does it, everything else leaves it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding(k.keys, k.action, k.words) for k in ASK]
    CSS = """
    Question { align: center middle; background: transparent; }
    #box { width: 76; max-width: 100%; height: auto; border: solid ansi_yellow; padding: 0 1;
           background: ansi_default; }
    """

    def __init__(self, act: Act) -> None:
        super().__init__()
        self.act = act

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static(Text(shown(self.act.what), style="bold"))
            yield Static(Text(f"\n{shown(self.act.line)}\n", overflow="fold"))
            yield Static(footer(ASK))

    def action_go(self) -> None:
        self.dismiss(True)

    def action_leave(self) -> None:
        self.dismiss(False)
