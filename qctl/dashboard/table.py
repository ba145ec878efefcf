"""A table that holds no rows of its own: it draws the few that are seen.

In:  a sequence of any length and a function that makes cells of one item.  Out: lines.
Columns that do not fit are left out by their priority; a row never wraps. The cursor stays with its
item when rows move; on the first row it stays on the first row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from qctl.dashboard.bindings import TABLE
from qctl.output.text import cut, cut_middle, pad, shown

T = TypeVar("T")
GAP = 1


class Part(NamedTuple):
    """One cell: text and its style."""

    text: str
    style: str = ""


class Field(NamedTuple):
    """One column."""

    name: str
    width: int  # least width
    priority: int = 0  # the highest number is left out first
    right: bool = False
    grows: bool = False  # takes what is left over
    middle: bool = False  # too long: cut in the middle


class VirtualTable(ScrollView, Generic[T], can_focus=True):
    """Draws `items` through `cells`."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding(k.keys, k.action, k.words, show=False) for k in TABLE]

    class Chosen(Message):
        """Somebody double-clicked a row."""

    def __init__(
        self,
        fields: Sequence[Field],
        key: Callable[[T], str],
        cells: Callable[[T], Sequence[Part]],
        empty: str = "",
        **attributes: Any,
    ) -> None:
        super().__init__(**attributes)
        self.fields, self.key, self.cells, self.empty = tuple(fields), key, cells, empty
        self.items: Sequence[T] = ()
        self.cursor = 0
        self.faded = False
        self._cursor_key: str | None = None
        self._lines: dict[int, tuple[Any, ...]] = {}

    # --- what to show

    def show(
        self,
        fields: Sequence[Field],
        key: Callable[[T], str],
        cells: Callable[[T], Sequence[Part]],
        empty: str = "",
    ) -> None:
        """Hold another kind of items from now on."""
        self.fields, self.key, self.cells, self.empty = tuple(fields), key, cells, empty
        self.items, self.cursor, self._cursor_key = (), 0, None
        self._lines = {}
        self.scroll_to(y=0, animate=False, immediate=True)
        self.refresh()

    def put(self, items: Sequence[T], faded: bool = False) -> None:
        """Show these items from now on."""
        at_top = self.cursor == 0
        self.items = items
        if not at_top and self._cursor_key is not None:
            self._follow()
        self.cursor = max(0, min(self.cursor, len(items) - 1))
        self._remember()
        size = Size(self.size.width, len(items) + 1)
        if size != self.virtual_size:
            self.virtual_size = size
        changed = faded != self.faded
        self.faded = faded
        self._repaint(everything=changed)

    def _follow(self) -> None:
        """Find the cursor's item near where it was; rows mostly move by a few."""
        near = range(max(0, self.cursor - 50), min(len(self.items), self.cursor + 2000))
        for index in near:
            if self.key(self.items[index]) == self._cursor_key:
                moved = index - self.cursor
                self.cursor = index
                if moved and self.scroll_offset.y > 0:
                    self.scroll_relative(y=moved, animate=False)
                return

    def _remember(self) -> None:
        self._cursor_key = self.key(self.items[self.cursor]) if self.items else None

    def _repaint(self, everything: bool = False) -> None:
        """Repaint only the lines whose cells have changed."""
        fresh: dict[int, tuple[Any, ...]] = {}
        for y in range(1, self.size.height):
            index = y - 1 + self.scroll_offset.y
            if index < len(self.items):
                fresh[y] = (index == self.cursor, *self.cells(self.items[index]))
        if everything or fresh.keys() != self._lines.keys():
            self.refresh()
        else:
            regions = [
                Region(0, y, self.size.width, 1) for y, line in fresh.items() if self._lines[y] != line
            ]
            if regions:
                self.refresh(*regions)
        self._lines = fresh

    @property
    def current(self) -> T | None:
        """The item under the cursor."""
        return self.items[self.cursor] if self.items else None

    # --- moving

    def _go(self, index: int) -> None:
        self.cursor = max(0, min(index, len(self.items) - 1))
        self._remember()
        page = max(1, self.size.height - 1)
        top = self.scroll_offset.y
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, immediate=True)
        elif self.cursor >= top + page:
            self.scroll_to(y=self.cursor - page + 1, animate=False, immediate=True)
        self.refresh()

    def action_move(self, by: int) -> None:
        self._go(self.cursor + by)

    def action_page(self, by: int) -> None:
        self._go(self.cursor + by * max(1, self.size.height - 2))

    def action_first(self) -> None:
        self._go(0)

    def action_last(self) -> None:
        self._go(len(self.items) - 1)

    def on_click(self, event: Any) -> None:
        index = event.y - 1 + self.scroll_offset.y
        if event.y >= 1 and index < len(self.items):
            self._go(index)
            if event.chain == 2:
                self.post_message(self.Chosen())

    # --- drawing

    def widths(self, room: int) -> list[int]:
        """The width of each column, 0 for those left out."""
        wide = [f.width for f in self.fields]

        def total() -> int:
            return sum(wide) + GAP * (sum(w > 0 for w in wide) - 1)

        for number in sorted(range(len(wide)), key=lambda n: (-self.fields[n].priority, -n)):
            if total() <= room or self.fields[number].priority == 0:
                break
            wide[number] = 0
        growing = [n for n, f in enumerate(self.fields) if f.grows and wide[n]]
        spare = room - total()
        for turn, number in enumerate(growing):
            wide[number] += max(0, spare // len(growing) + (turn < spare % len(growing)))
        return wide

    def render_line(self, y: int) -> Strip:
        room = self.size.width
        base = self.rich_style
        if y == 0:
            return self._heading(room, base)
        index = y - 1 + self.scroll_offset.y
        if index >= len(self.items):
            text = (
                self.empty.split("\n")[y - 2]
                if not self.items and 2 <= y < 2 + self.empty.count("\n") + 1
                else ""
            )
            return Strip([Segment(pad(cut(f" {text}", room), room), base + Style(dim=True))], room)
        return self._row(self.items[index], index == self.cursor, room, base)

    def _heading(self, room: int, base: Style) -> Strip:
        style = base + Style(bold=True, underline=self.has_focus)
        texts = [
            pad(cut(f.name, w), w, f.right) for f, w in zip(self.fields, self.widths(room), strict=True) if w
        ]
        return Strip([Segment(pad((" " * GAP).join(texts), room), style)], room)

    def _row(self, item: T, under_cursor: bool, room: int, base: Style) -> Strip:
        line = base + Style(reverse=under_cursor and self.has_focus, bold=under_cursor, dim=self.faded)
        segments: list[Segment] = []
        used = 0
        for field, width, part in zip(self.fields, self.widths(room), self.cells(item), strict=True):
            if not width:
                continue
            if segments:
                segments.append(Segment(" " * GAP, line))
                used += GAP
            text = shown(part.text)
            text = cut_middle(text, width) if field.middle else cut(text, width)
            coloured = part.style and not self.faded
            segments.append(
                Segment(pad(text, width, field.right), line + Style.parse(part.style) if coloured else line)
            )
            used += width
        segments.append(Segment(" " * max(0, room - used), line))
        return Strip(segments).crop(0, room)
