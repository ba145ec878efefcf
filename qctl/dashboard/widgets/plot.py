"""Show a canvas: of each line only what changed is painted again.

In:  a Canvas at each frame.  Out: strips of the screen, and the regions that changed.
Before this: canvas.py.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from qctl.dashboard.widgets.canvas import Canvas


class Painting:
    """The canvas that is on the screen."""

    def __init__(self) -> None:
        self._canvas: Canvas | None = None
        self._strips: dict[tuple[int, int, Style], Strip] = {}

    @property
    def size(self) -> tuple[int, int] | None:
        """The columns and rows of the canvas; None without one."""
        return None if self._canvas is None else (self._canvas.columns, self._canvas.rows)

    def put(self, canvas: Canvas) -> list[Region] | None:
        """Take the next canvas; return what changed, None: everything."""
        before, self._canvas = self._canvas, canvas
        if before is None or (before.columns, before.rows) != (canvas.columns, canvas.rows):
            self._strips.clear()
            return None
        changed: list[Region] = []
        rows = set()
        for y in range(canvas.rows):
            if before.chars[y] != canvas.chars[y] or before.styles[y] != canvas.styles[y]:
                rows.add(y)
                changed.append(self._run(before, canvas, y))
        if rows:
            self._strips = {key: strip for key, strip in self._strips.items() if key[0] not in rows}
        return changed

    @staticmethod
    def _run(before: Canvas, canvas: Canvas, y: int) -> Region:
        """From the first cell of a line that changed to the last one. One region a line: for each of them
        Textual writes the line from the widget's left edge to the end of the region."""
        old = zip(before.chars[y], before.styles[y], strict=True)
        new = zip(canvas.chars[y], canvas.styles[y], strict=True)
        changed = [x for x, (was, now) in enumerate(zip(old, new, strict=True)) if was != now]
        return Region(changed[0], y, changed[-1] - changed[0] + 1, 1)

    def strip(self, y: int, room: int, base: Style) -> Strip:
        """A line of the canvas."""
        canvas = self._canvas
        if canvas is None or y >= canvas.rows:
            return Strip.blank(room, base)
        key = (y, room, base)
        found = self._strips.get(key)
        if found is None:
            segments, x, row = [], 0, "".join
            chars = canvas.chars[y]
            for style, cells in groupby(canvas.styles[y]):
                end = x + len(list(cells))
                segments.append(Segment(row(chars[x:end]), base + Style.parse(style) if style else base))
                x = end
            found = self._strips[key] = Strip(segments, canvas.columns).adjust_cell_length(room, base)
        return found

    def forget(self) -> None:
        """Paint everything at the next canvas."""
        self._canvas = None
        self._strips.clear()


class Plot(Widget):
    """A widget that shows a canvas of its own size."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.painting = Painting()

    def put(self, canvas: Canvas) -> None:
        """Show the next canvas."""
        changed = self.painting.put(canvas)
        if changed is None:
            self.refresh()
        elif changed:
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        return self.painting.strip(y, self.size.width, self.rich_style)
