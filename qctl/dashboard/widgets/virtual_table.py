"""A virtual table: it stores no rows and draws only the visible items.

In:  a sequence of any length and a function that makes cells of one item.  Out: lines.
Columns that do not fit are left out by priority, or with `wide` reached by scrolling; a row never wraps.
A column of numbers is as wide as the widest that was shown in it, so it does not move with each of them.
The cursor stays on its item when rows move; while the table follows, it stays on the first row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from qctl.dashboard.keys import TABLE
from qctl.dashboard.widgets.canvas import Canvas
from qctl.dashboard.widgets.fields import GAP, Field, Order, Part, widths_of
from qctl.dashboard.widgets.plot import Painting
from qctl.output.text import cut, cut_middle, pad, shown

T = TypeVar("T")
#: rows before and after the last position that are searched for the item, if the list has no find()
NEAR_BEFORE, NEAR_AFTER = 50, 2000


class VirtualTable(ScrollView, Generic[T], can_focus=True):
    """Draws `items` through `cells`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(k.keys, k.action, k.words, show=False, id=k.id) for k in TABLE
    ]

    class Chosen(Message):
        """The user double-clicked a row."""

    class Moved(Message):
        """The cursor moved to another row."""

    class Resized(Message):
        """The table has another size, so its picture must be planned anew."""

    class Clicked(Message):
        """The user clicked a cell of the picture."""

        def __init__(self, x: int, y: int, times: int) -> None:
            super().__init__()
            self.x, self.y, self.times = x, y, times

    class Sort(Message):
        """The user clicked a column's heading."""

        def __init__(self, by: str) -> None:
            super().__init__()
            self.by = by

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
        #: the width of each column that is shown, by its name, for cells that depend on it
        self.room: dict[str, int] = {}
        self.items: Sequence[T] = ()
        self.cursor = 0
        self.follows = True
        self.faded = self.wide = False
        self.order = Order()
        self.hidden: set[str] = set()  # names of hidden columns
        self.marked: dict[str, T] = {}
        self.mark = "▪"
        self.gone: Collection[str] = ()  # keys of items that were removed, and are struck through
        self.faint = "dim"  # style of everything while it is faded, and of what an empty table says
        self.highlight = ""  # style of the row under the cursor; empty: reversed
        #: draws the items as parts of a picture of the whole screen, instead of rows; None: rows
        self.painter: Callable[[], Canvas] | None = None
        self.painting = Painting()
        self._cursor_key: str | None = None
        self._lines: dict[int, tuple[Any, ...]] = {}
        self._needed: dict[str, int] = {}  # cells of the widest value so far, by column

    # --- what to show

    def show(
        self,
        fields: Sequence[Field],
        key: Callable[[T], str],
        cells: Callable[[T], Sequence[Part]],
        empty: str = "",
    ) -> None:
        """Switch to another kind of items."""
        self.fields, self.key, self.cells, self.empty = tuple(fields), key, cells, empty
        self.items, self.cursor, self._cursor_key, self.follows = (), 0, None, True
        self.order, self.hidden, self.marked = Order(), set(), {}
        self._lines, self._needed, self.painter = {}, {}, None
        self.painting.forget()
        self.scroll_to(0, 0, animate=False, immediate=True)
        self.refresh()

    def keep(self) -> tuple[Any, ...]:
        """The state of the table besides its items, for restore()."""
        place = self.cursor, self._cursor_key, self.follows, self.scroll_offset.y
        return (*place, self.order, self.hidden, self.marked, self.wide)

    def restore(self, kept: tuple[Any, ...]) -> None:
        """Take the state of keep(); call show() before and put() after it."""
        self.cursor, self._cursor_key, self.follows, top, *rest = kept
        self.order, self.hidden, self.marked, self.wide = rest
        self.call_after_refresh(self.scroll_to, y=top, animate=False)

    def put(self, items: Sequence[T], faded: bool = False) -> None:
        """Show these items."""
        self.items = items
        moved = 0
        if self.follows:
            self.cursor = 0
        elif self._cursor_key is not None:
            moved = self._follow()
        self.cursor = max(0, min(self.cursor, len(items) - 1))
        self._remember()
        size = Size(self._room, len(items) + 1)
        if self.painter is not None:
            size, moved = self.size, 0
        if size != self.virtual_size:
            self.virtual_size = size
        if moved:
            # Scroll along, so that the rows under the cursor stay in place.
            self.scroll_to(y=self.scroll_offset.y + moved, animate=False, immediate=True)
        changed = faded != self.faded
        self.faded = faded
        self._repaint(everything=changed or bool(moved))

    def _follow(self) -> int:
        """Move the cursor to its item's new row; return the number of rows moved."""
        before, key = self.cursor, self._cursor_key
        find = getattr(self.items, "find", None)
        if find is not None:
            found = find(key)
        else:
            near = range(max(0, before - NEAR_BEFORE), min(len(self.items), before + NEAR_AFTER))
            found = next((i for i in near if self.key(self.items[i]) == key), None)
        if found is None:
            return 0
        self.cursor = found
        return int(found) - before

    def _remember(self) -> None:
        self._cursor_key = self.key(self.items[self.cursor]) if self.items else None

    def _repaint(self, everything: bool = False) -> None:
        """Repaint only the lines, or the cells of a picture, that changed."""
        if self.painter is not None:
            self.repaint_picture(everything)
            return
        fresh = self._visible()
        if self._measure(fresh.values()):  # a column is wider, and others have less room
            fresh, everything = self._visible(), True
        if everything or fresh.keys() != self._lines.keys():
            self.refresh()
        else:
            regions = [
                Region(0, y, self.size.width, 1) for y, line in fresh.items() if self._lines[y] != line
            ]
            if regions:
                self.refresh(*regions)
        self._lines = fresh

    def _visible(self) -> dict[int, tuple[Any, ...]]:
        """What the lines on the screen depend on: the cursor, the sign, and the cells of each."""
        fresh: dict[int, tuple[Any, ...]] = {}
        self.widths(self._room)
        for y in range(1, self.size.height):
            index = y - 1 + self.scroll_offset.y
            if index < len(self.items):
                item = self.items[index]
                fresh[y] = (index == self.cursor, self._sign(self.key(item)), *self.cells(item))
        return fresh

    def _measure(self, lines: Iterable[tuple[Any, ...]]) -> bool:
        """Note the cells that values need; whether some need more than any before."""
        numbers = [(place, f.name) for place, f in enumerate(self.fields, 2) if f.right or f.fits]
        needed, more = self._needed, False
        for line in lines:
            for place, name in numbers:
                length = len(line[place].text)
                if length > needed.get(name, 0):
                    needed[name], more = length, True
        return more

    def repaint_picture(self, everything: bool = False) -> None:
        """Draw the picture anew, and show what changed."""
        if self.painter is None or not self.size:  # it has no size before its first layout
            return
        regions = self.painting.put(self.painter())
        if everything or regions is None:
            self.refresh()
        elif regions:
            self.refresh(*regions)

    @property
    def current(self) -> T | None:
        """The item under the cursor."""
        return self.items[self.cursor] if 0 <= self.cursor < len(self.items) else None

    @property
    def columns(self) -> list[Field]:
        """The columns that are not hidden; those of numbers are as wide as these and the heading need."""
        found = [f for f in self.fields if f.name not in self.hidden]
        return [f._replace(width=self._least(f)) if f.right or f.fits else f for f in found]

    def _least(self, field: Field) -> int:
        heading = len(field.name) + (bool(field.order) and field.order == self.order.by)
        return max(heading, min(self._needed.get(field.name, 0), field.width * (2 if field.right else 1)))

    # --- moving

    def go(self, index: int) -> None:
        """Put the cursor on a row."""
        self.cursor = max(0, min(index, len(self.items) - 1))
        self.follows = self.cursor == 0
        self._remember()
        if self.painter is not None:
            self.repaint_picture()
            self.post_message(self.Moved())
            return
        page = max(1, self.size.height - 1)
        top = self.scroll_offset.y
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, immediate=True)
        elif self.cursor >= top + page:
            self.scroll_to(y=self.cursor - page + 1, animate=False, immediate=True)
        self.refresh()
        self.post_message(self.Moved())

    def action_move(self, by: int) -> None:
        self.go(self.cursor + by)

    def action_page(self, by: int) -> None:
        self.go(self.cursor + by * max(1, self.size.height - 2))

    def action_first(self) -> None:
        self.go(0)

    def action_last(self) -> None:
        self.go(len(self.items) - 1)

    def action_sideways(self, by: int) -> None:
        """With `wide`: scroll the columns sideways."""
        if self.wide:
            self.scroll_relative(x=by * 16, animate=False)

    def action_follow(self) -> None:
        """Start or stop following the newest row."""
        if self.follows:
            self.follows = False
        else:
            self.go(0)

    # --- marking

    def action_mark(self) -> None:
        """Toggle the mark of the row, and go to the next."""
        if (item := self.current) is not None:
            key = self.key(item)
            if self.marked.pop(key, None) is None:
                self.marked[key] = item
            self.go(self.cursor + 1)

    def action_mark_range(self) -> None:
        """Mark from the nearest marked row above to the cursor."""
        if not self.items:
            return
        start = next(
            (i for i in range(self.cursor, -1, -1) if self.key(self.items[i]) in self.marked), self.cursor
        )
        for index in range(start, self.cursor + 1):
            self.marked[self.key(self.items[index])] = self.items[index]
        self.refresh()

    def clear_marks(self) -> None:
        self.marked = {}
        self._repaint(everything=True)

    def on_resize(self) -> None:
        if self.painter is not None:
            self.post_message(self.Resized())

    # --- mouse

    def on_click(self, event: Any) -> None:
        if self.painter is not None:
            self.post_message(self.Clicked(event.x, event.y, event.chain))
            return
        if event.y == 0:
            self._click_heading(event.x + self.scroll_offset.x)
            return
        index = event.y - 1 + self.scroll_offset.y
        if index < len(self.items):
            self.go(index)
            if event.chain == 2:
                self.post_message(self.Chosen())

    def _click_heading(self, x: int) -> None:
        start = self._gutter
        for field, width in zip(self.columns, self.widths(self._room), strict=True):
            if width and start <= x < start + width + GAP and field.order:
                self.post_message(self.Sort(field.order))
            start += width + GAP if width else 0

    # --- drawing

    @property
    def _gutter(self) -> int:
        return 2 if self.marked or self.gone else 0

    @property
    def mark_gone(self) -> str:
        return "x" if self.mark == "*" else "✗"

    def _sign(self, key: str) -> str:
        """What stands before a row: that it is gone, or marked."""
        return self.mark_gone if key in self.gone else self.mark if key in self.marked else " "

    @property
    def _room(self) -> int:
        """The cells of a row: what the scroll bar leaves, or all columns."""
        room = self.scrollable_size.width
        return max(room, self._natural()) if self.wide else room

    def _natural(self) -> int:
        """The width of the table with all columns, growing ones at twice their minimum."""
        return sum(f.width * (2 if f.grows else 1) + GAP for f in self.columns) + self._gutter

    def widths(self, room: int) -> list[int]:
        """The width of each visible column, 0 for those left out."""
        found = widths_of(self.columns, room - self._gutter)
        self.room.clear()
        self.room.update((f.name, width) for f, width in zip(self.columns, found, strict=True) if width)
        return found

    def render_line(self, y: int) -> Strip:
        left, room = self.scroll_offset.x, self.scrollable_size.width
        base = self.rich_style
        if self.painter is not None:
            if self.painting.size != self.size:  # it was just laid out
                self.painting.put(self.painter())
            strip, faint = self.painting.strip(y, room, base), Style.parse(self.faint)
            if not self.faded:
                return strip
            return Strip([Segment(s.text, (s.style or base) + faint) for s in strip], strip.cell_length)
        if y == 0:
            return self._heading(base).crop(left, left + room)
        index = y - 1 + self.scroll_offset.y
        if index < len(self.items):
            return self._row(self.items[index], index == self.cursor, base).crop(left, left + room)
        lines = [] if self.items else self.empty.split("\n")
        text = lines[y - 2] if 2 <= y < 2 + len(lines) else ""
        return Strip([Segment(pad(cut(f" {text}", room), room), base + Style.parse(self.faint))], room)

    def _heading(self, base: Style) -> Strip:
        room = self._room
        style = base + Style(bold=True, underline=self.has_focus)
        texts = []
        for field, width in zip(self.columns, self.widths(room), strict=True):
            if width:
                sign = ("v" if self.order.reverse else "^") if self.order.by == field.order else ""
                name = field.name + sign if field.order else field.name
                texts.append(pad(cut(name, width), width, field.right))
        text = " " * self._gutter + (" " * GAP).join(texts)
        return Strip([Segment(pad(text, room), style)], room)

    def _row(self, item: T, under_cursor: bool, base: Style) -> Strip:
        room = self._room
        chosen = under_cursor and self.has_focus
        line = base + Style(reverse=chosen and not self.highlight, bold=under_cursor)
        if self.faded:
            line += Style.parse(self.faint)
        if chosen and self.highlight:
            line += Style.parse(self.highlight)
        segments: list[Segment] = []
        sign, used = self._sign(self.key(item)), self._gutter
        if sign == self.mark_gone:
            line += Style(strike=True)
        if used:
            segments.append(Segment(pad(sign, used), line + Style(bold=True, strike=False)))
        first, widths = True, self.widths(room)
        cells = [c for f, c in zip(self.fields, self.cells(item), strict=True) if f.name not in self.hidden]
        for field, width, part in zip(self.columns, widths, cells, strict=True):
            if not width:
                continue
            if not first:
                segments.append(Segment(" " * GAP, line))
                used += GAP
            first = False
            text = shown(part.text)
            text = cut_middle(text, width) if field.middle else cut(text, width)
            plain = self.faded or not part.style or (chosen and not self.highlight)
            style = line if plain else line + Style.parse(part.style)
            segments.append(Segment(pad(text, width, field.right), style))
            used += width
        segments.append(Segment(" " * max(0, room - used), line))
        return Strip(segments).crop(0, room)
