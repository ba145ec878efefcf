"""Pages over the tables: the details of a row, in tabs; and the output of a command.

In:  a Sheet.  Out: a screen; a tab with a command runs it when it is opened.
"""

from __future__ import annotations

import re
import shlex
import textwrap
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Input, Static

from qctl.dashboard.key_table import footer
from qctl.dashboard.keys import DETAILS
from qctl.dashboard.views.details import Sheet, Tab
from qctl.dashboard.views.pages import LEAST, as_text, page
from qctl.output.text import shown, shown_lines

#: characters; longer text is cut, and the number of missing characters is shown
LONGEST = 200_000

#: runs a command and returns its output
Ask = Callable[[tuple[str, ...]], str]


def facts_text(facts: Sequence[tuple[str, str]], width: int = 0) -> Text:
    """Names and aligned values; width: cells in all, 0: unlimited."""
    facts = [(shown(name), value) for name, value in facts]
    wide = max((len(name) for name, _ in facts), default=0)
    text = Text(overflow="fold")
    for name, value in facts:
        lines = shown_lines(value).split("\n")
        if width:
            lines = [part for line in lines for part in textwrap.wrap(line, max(width - wide - 3, 8)) or [""]]
        text.append(f" {name:<{wide}}  ", style="bold")
        text.append(f"\n {'':<{wide}}  ".join(lines) + "\n")
    return text


def _style(line: str) -> str:
    """The style of a traceback's line: the exception is bold, file lines are dim."""
    if line.startswith("Traceback ") or line.lstrip().startswith('File "'):
        return "dim"
    return "" if line.startswith(" ") else "bold"


class DetailScreen(Screen[None]):
    """A full page over the tables."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding(k.keys, k.action, k.words, id=k.id) for k in DETAILS]

    def __init__(self, sheet: Sheet, ask: Ask | None = None, tab: str = "") -> None:
        """ask: runs a command; it is called in a separate thread. tab: the one to open; empty: the first."""
        super().__init__()
        self.sheet, self.ask, self.at = sheet, ask, sheet.number_of(tab) or 0
        self._answers: dict[int, str] = {}
        self._pattern, self._found = "", -1

    def compose(self) -> ComposeResult:
        yield Static(id="title")
        yield Static(id="tabs")
        with VerticalScroll(id="body"):
            yield Static(id="text")
        yield Input(placeholder="search", id="search")
        keys = getattr(self.app, "key_table", None)
        yield Static(footer(DETAILS if keys is None else keys.details), id="keys")

    def on_mount(self) -> None:
        self.query_one("#search").display = False
        body = self.query_one("#body")
        body.focus()
        if getattr(self.app, "plain", False):
            body.styles.scrollbar_size_vertical = 0  # its glyphs are no ASCII
        self.query_one("#tabs").display = len(self.sheet.tabs) > 1
        self._show()

    @property
    def tab(self) -> Tab:
        return self.sheet.tabs[self.at]

    def _show(self) -> None:
        if not self.query("#tabs"):
            return  # an answer may come while the screen is taken away
        self.query_one("#title", Static).update(self._title())
        names = Text(" ", no_wrap=True)
        for number, tab in enumerate(self.sheet.tabs):
            names.append(f" {tab.name} ", "bold reverse" if number == self.at else "dim")
            names.append(" ")
        words = self.tab.words or self.sheet.words
        command = self.tab.line or (f"qctl {shlex.join(words)}" if words else "")
        self._at_right(names, command)
        self.query_one("#tabs", Static).update(names)
        self.query_one("#text", Static).update(self._content())
        self._found = -1

    def _title(self) -> Text:
        """What the page is about; at the right the fleet, and when the page was made."""
        title = Text(f" {shown(self.sheet.heading)}", style="bold", no_wrap=True)
        picture, where = getattr(self.app, "picture", None), getattr(self.app, "where", None)
        about = [] if where is None else [where.context, *where.warnings]
        if picture is not None and picture.at:
            about += [picture.broker, time.strftime("as of %H:%M:%S", time.localtime(picture.at))]
        self._at_right(title, "  ".join(filter(None, about)))
        return title

    def _at_right(self, line: Text, words: str) -> None:
        """Add words at the right end of a line, if all of them fit."""
        words = shown(words)
        gap = self.size.width - line.cell_len - cell_len(words) - 1
        if words and gap > 1:
            line.append(" " * gap + words, "not bold dim")

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

    def _panels(self) -> Text | None:
        """The first tab as panels; None: it has none, or there is no room for them."""
        scene, room = getattr(self.app, "scene", None), self.query_one("#body").size
        if self.at or self.sheet.row is None or scene is None or room.width < LEAST:
            return None
        rows = self.size.height - 3
        canvas = page(scene, self.sheet.row, self.size.width, rows)
        if canvas is not None and canvas.rows > rows and not scene.panes.plain:  # with a scrollbar
            canvas = page(scene, self.sheet.row, self.size.width - 1, rows)
        return None if canvas is None else as_text(canvas)

    def _content(self) -> Text:
        tab = self.tab
        panels = self._panels()
        if panels is not None:
            return panels
        if tab.facts:
            return facts_text(tab.facts)
        text = self._text()
        plain = Text(overflow="fold")
        for line in shown_lines(text[:LONGEST]).split("\n"):
            plain.append(f" {line}\n", _style(line) if tab.name == "Traceback" else "")
        if len(text) > LONGEST:
            plain.append(f" … {len(text) - LONGEST:,} more characters", "bold")
        return plain

    def _text(self) -> str:
        tab = self.tab
        if tab.facts:
            return "\n".join(f"{name}: {value}" for name, value in tab.facts if name)
        if not tab.words:
            return tab.text
        if self.at not in self._answers:
            self._answers[self.at] = f"{tab.line or 'qctl ' + ' '.join(tab.words)} …"
            if self.ask is not None:
                self.run_worker(lambda at=self.at: self._fetch(at), thread=True)
        return self._answers[self.at]

    def _fetch(self, at: int) -> None:
        words = self.sheet.tabs[at].words
        answer = self.ask(words) if self.ask else ""

        def fill() -> None:
            self._answers[at] = answer or "nothing"
            if self.at == at:
                self._show()

        self.app.call_from_thread(fill)

    # --- keys

    def action_leave(self) -> None:
        field = self.query_one("#search", Input)
        if field.display:
            field.display = False
            self.set_focus(self.query_one("#body"))
        else:
            self.app.pop_screen()

    def action_tab(self, by: int) -> None:
        self.at = (self.at + by) % len(self.sheet.tabs)
        self.query_one("#body").scroll_home(animate=False)
        self._show()

    def action_open_tab(self, name: str) -> None:
        """Go to the tab with this name."""
        number = self.sheet.number_of(name)
        if number is None:
            self.notify(f"this page has no {name.lower()}", timeout=3)
        else:
            self.action_tab(number - self.at)

    def action_scroll(self, by: int) -> None:
        self.query_one("#body").scroll_relative(y=by, animate=False)

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self._text())
        self.notify("copied", timeout=3)

    def action_search(self) -> None:
        field = self.query_one("#search", Input)
        field.display = True
        self.set_focus(field)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._pattern, self._found = event.value, -1
        self.action_leave()
        self.action_next(1)

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()

    def action_next(self, by: int) -> None:
        """Go to the next line that contains the pattern, and highlight it."""
        if not self._pattern:
            return
        content = self._content()
        lines = content.plain.split("\n")
        wanted = re.compile(re.escape(self._pattern), re.IGNORECASE)
        hits = [i for i, line in enumerate(lines) if wanted.search(line)]
        if not hits:
            self.notify(f"no {shown(self._pattern)} here", timeout=3)
            return
        after = [i for i in hits if i > self._found] if by > 0 else [i for i in hits if i < self._found]
        self._found = (after[0] if by > 0 else after[-1]) if after else hits[0 if by > 0 else -1]
        content.highlight_regex(wanted, "reverse")
        self.query_one("#text", Static).update(content)
        self.query_one("#body").scroll_to(y=self._found, animate=False)
