"""Draw charts, frames and text into cells of a character and a style. Nothing here knows the screen.

In:  values of columns of time (None: unknown), texts, styles in Rich's notation.  Out: a Canvas of cells.
After this: plot.py shows a canvas. Charts are drawn in braille, in eighths of blocks or in ASCII.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

from qctl.output.text import cut, shown, width

BRAILLE, BLOCKS, ASCII = "braille", "blocks", "ascii"
#: dots of a braille cell from the bottom, and from the top, by their number: left and right column
_RISE = ((0, 0x40, 0x44, 0x46, 0x47), (0, 0x80, 0xA0, 0xB0, 0xB8))
_HANG = ((0, 0x01, 0x03, 0x07, 0x47), (0, 0x08, 0x18, 0x38, 0xB8))
#: single dots, from the bottom
_DOTS = ((0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08))
_EIGHTHS, _HANGING = " ▁▂▃▄▅▆▇█", " ▔▔▀▀▀▀██"
_ASCII, _ASCII_HANGING = " .:#", " '*#"
_SHADES, _ASCII_SHADES = " ░▒▓██", " .:*##"
_FRAMES = {False: tuple("╭╮╰╯─│"), True: tuple("++++-|")}
#: seconds between two labels of a time axis
_TICKS_S = (10, 20, 30, 60, 120, 180, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
#: signs of texts in ASCII
_PLAIN = str.maketrans("·→▲✗✓↑‖", "->!x+^=")
_NICE = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0)

Values = Sequence[float | None]


class Layer(NamedTuple):
    """One filled line of a chart."""

    values: Values
    style: str = ""


class Span(NamedTuple):
    """A part of a Gantt line, from and to in the unit of the scale; glyph: its character."""

    begin: float
    end: float
    glyph: str
    style: str = ""


class Canvas:
    """Cells of a character and a style. What lies outside is left out."""

    def __init__(self, columns: int, rows: int, look: str = BRAILLE) -> None:
        self.columns, self.rows, self.look = columns, rows, look
        self.chars = [[" "] * columns for _ in range(rows)]
        self.styles = [[""] * columns for _ in range(rows)]

    @property
    def is_plain(self) -> bool:
        return self.look == ASCII

    @property
    def per_cell(self) -> int:
        """Values of a chart side by side in one cell."""
        return 2 if self.look == BRAILLE else 1

    def lines(self) -> list[str]:
        """The text, for tests and files."""
        return ["".join(row).rstrip() for row in self.chars]

    def columns_of(self, first: int, end: int) -> Canvas:
        """A canvas of these columns."""
        part = Canvas(max(end - max(first, 0), 0), self.rows, self.look)
        part.chars = [row[max(first, 0) : max(end, 0)] for row in self.chars]
        part.styles = [row[max(first, 0) : max(end, 0)] for row in self.styles]
        return part

    def put(self, x: int, y: int, char: str, style: str = "") -> None:
        if 0 <= y < self.rows and 0 <= x < self.columns:
            self.chars[y][x], self.styles[y][x] = char, style

    def text(self, x: int, y: int, text: str, style: str = "", room: int | None = None) -> int:
        """Write text, made safe, in at most `room` cells; return the column behind it."""
        if not 0 <= y < self.rows:
            return x
        room = self.columns - x if room is None else min(room, self.columns - x)
        if room <= 0:
            return x
        text = cut(shown(text), room)
        if self.is_plain and not text.isascii():
            text = text.translate(_PLAIN)
        if text.isascii() or width(text) == len(text):
            end = x + len(text)
            self.chars[y][x:end] = text
            self.styles[y][x:end] = [style] * len(text)
            return end
        for char in text:
            cells = width(char)
            if not cells:
                self.chars[y][max(x - 1, 0)] += char
                continue
            self.put(x, y, char, style)
            if cells == 2:
                self.put(x + 1, y, "", style)
            x += cells
        return x

    def right(self, end: int, y: int, text: str, style: str = "") -> None:
        """Write text that ends before column `end`."""
        self.text(end - width(shown(text)), y, text, style)

    def restyle(self, x: int, y: int, cells: int, style: str) -> None:
        """Add a style to cells that are drawn."""
        if 0 <= y < self.rows:
            row = self.styles[y]
            for column in range(max(x, 0), min(x + cells, self.columns)):
                row[column] = f"{row[column]} {style}".strip()

    # --- frames

    def frame(
        self, x: int, y: int, cells: int, rows: int, title: str, summary: str, frame: str, bright: str = ""
    ) -> None:
        """A box with its title at the left and its summary at the right of the upper edge."""
        if cells < 4 or rows < 2:
            return
        left, right, below, corner, flat, upright = _FRAMES[self.is_plain]
        edge = [frame] * (cells - 2)
        for row, first, last in ((y, left, right), (y + rows - 1, below, corner)):
            self.put(x, row, first, frame)
            if 0 <= row < self.rows:
                self.chars[row][x + 1 : x + cells - 1] = flat * (cells - 2)
                self.styles[row][x + 1 : x + cells - 1] = edge
            self.put(x + cells - 1, row, last, frame)
        for row in range(y + 1, y + rows - 1):
            self.put(x, row, upright, frame)
            self.put(x + cells - 1, row, upright, frame)
        self.title(x, y, cells, title, summary, bright)

    def title(
        self,
        x: int,
        y: int,
        cells: int,
        title: str,
        summary: str | Sequence[tuple[str, str]],
        bright: str,
        faint: str = "",
    ) -> None:
        """The words in the upper edge of a box; summary: a text, or texts with styles."""
        end = self.text(x + 1, y, f" {title} ", bright, cells - 2) if title else x + 1
        room = cells - 2 - (end - x)
        parts = [(summary, faint)] if isinstance(summary, str) else summary
        text = shown("".join(part[0] for part in parts))
        if not text or room <= 6:
            return
        at, last = x + cells - 3 - min(width(text), room - 2), x + cells - 2
        at = self.text(at, y, " ", faint)
        for words, style in parts:
            at = self.text(at, y, words, style, last - at)
        self.text(at, y, " ", faint, last + 1 - at)

    # --- charts

    def area(self, x: int, y: int, cells: int, rows: int, layers: Sequence[Layer], top: float) -> None:
        """Filled lines from the bottom, the last layer in front; per_cell values in each cell."""
        self._fill(x, y, cells, rows, layers, top, hangs=False)

    def hanging(self, x: int, y: int, cells: int, rows: int, layer: Layer, top: float) -> None:
        """Filled lines from the top, for what is counted below an axis."""
        self._fill(x, y, cells, rows, [layer], top, hangs=True)

    def _fill(
        self, x: int, y: int, cells: int, rows: int, layers: Sequence[Layer], top: float, hangs: bool
    ) -> None:
        per_cell = self.per_cell
        parts = {BRAILLE: 4, BLOCKS: 8, ASCII: 3}[self.look]
        whole = rows * parts
        heights = [[_height(v, top, whole) for v in layer.values] for layer in layers]
        dots = _HANG if hangs else _RISE
        glyphs = (_HANGING if hangs else _EIGHTHS) if parts == 8 else (_ASCII_HANGING if hangs else _ASCII)
        for column in range(cells):
            for row in range(rows):
                below = (row if hangs else rows - 1 - row) * parts
                mask, style, most = 0, "", 0
                for layer, levels in zip(layers, heights, strict=True):
                    own = 0
                    for side in range(per_cell):
                        place = column * per_cell + side
                        level = levels[place] - below if place < len(levels) else 0
                        level = 0 if level <= 0 else min(level, parts)
                        if level:
                            own += level
                            if parts == 4:
                                mask |= dots[side][level]
                            else:
                                mask = max(mask, level)
                    # The layer in front gives the colour where it fills as much as those behind it, or half.
                    if own and own * 2 >= most:
                        style, most = layer.style, max(own, most)
                if mask:
                    char = chr(0x2800 + mask) if parts == 4 else glyphs[mask]
                    self.put(x + column, y + row, char, style)

    def line(self, x: int, y: int, cells: int, rows: int, values: Values, top: float, style: str) -> None:
        """A line of dots, with a gap where values are unknown."""
        per_cell = self.per_cell
        parts = 4 if self.look == BRAILLE else 1
        masks: dict[tuple[int, int], int] = {}
        before: int | None = None
        for place, value in enumerate(values[: cells * per_cell]):
            if value is None:
                before = None
                continue
            level = min(int(value / top * (rows * parts - 1) + 0.5), rows * parts - 1) if top > 0 else 0
            low, high = (level, level) if before is None else (min(before, level), max(before, level))
            if before is not None and high > low:  # join the two, without the dot of the column before
                low, high = (low + 1, high) if level > before else (low, high - 1)
            for dot in range(low, high + 1):
                at = (place // per_cell, rows - 1 - dot // parts)
                bit = _DOTS[place % 2][dot % 4] if parts == 4 else 1
                masks[at] = masks.get(at, 0) | bit
            before = level
        for (column, row), mask in masks.items():
            char = chr(0x2800 + mask) if parts == 4 else "*" if self.is_plain else "•"
            self.put(x + column, y + row, char, style)

    def heat(
        self, x: int, y: int, rows: int, columns: Sequence[Sequence[int] | None], styles: Sequence[str]
    ) -> None:
        """One cell per column and row; the first value of a column lies at the bottom. The shade is by the
        count on a logarithmic scale, so that few are seen beside many."""
        most = max((max(c) for c in columns if c), default=0)
        if not most:
            return
        glyphs = _ASCII_SHADES if self.is_plain else _SHADES
        for number, column in enumerate(columns):
            for row, count in enumerate(column[:rows] if column else ()):
                if count:
                    level = min(max(math.ceil(math.log1p(count) / math.log1p(most) * 5), 1), 5)
                    self.put(x + number, y + rows - 1 - row, glyphs[level], styles[level - 1])

    def strip(self, x: int, y: int, cells: int, parts: Sequence[tuple[int, str, str]]) -> None:
        """A bar of parts: a number of units, the glyph, the style. Each part that is not 0 gets a cell."""
        parts = [part for part in parts if part[0]]
        whole, used, seen = sum(part[0] for part in parts), 0, 0
        for turn, (count, glyph, style) in enumerate(parts):
            seen += count
            left = len(parts) - turn - 1
            end = max(min(round(seen / whole * cells), cells - left), used + 1)
            for column in range(used, end):
                self.put(x + column, y, glyph, style)
            used = end

    def gantt(self, x: int, y: int, cells: int, spans: Sequence[Span], begin: float, end: float) -> None:
        """Spans of time on one line; each is at least one cell."""
        length = max(end - begin, 1e-9)
        for span in spans:
            first = int((span.begin - begin) / length * cells)
            last = max(math.ceil((span.end - begin) / length * cells), first + 1)
            for column in range(max(first, 0), min(last, cells)):
                self.put(x + column, y, span.glyph, span.style)

    # --- axes

    def scale(self, x: int, y: int, rows: int, room: int, top: float, style: str, unit: str = "") -> None:
        """The labels of a vertical axis of `rows` lines: its top and its middle, right-aligned in `room`."""
        tick = "+" if self.is_plain else "┤"
        labels = axis_labels(rows, top, unit)
        for row in range(rows):
            if row in labels:
                self.right(x + room, y + row, labels[row], style)
            self.put(x + room, y + row, tick if row in labels else "|" if self.is_plain else "│", style)

    def time_axis(
        self, x: int, y: int, cells: int, begin: float, end: float, style: str, labels: bool = True
    ) -> None:
        """A line with ticks at even times, and below it the times, with both ends."""
        flat, tick, corner = ("-", "+", "+") if self.is_plain else ("─", "┬", "┼")
        self.put(x - 1, y, corner, style)
        for column in range(cells):
            self.put(x + column, y, flat, style)
        length = max(end - begin, 1e-9)
        form = "%H:%M:%S" if length < 240 else "%H:%M" if length < 100_000 else "%a %H:%M"
        room = len(time.strftime(form, time.localtime(begin))) + 2
        step = next((s for s in _TICKS_S if s / length * cells >= room), _TICKS_S[-1])
        away = time.localtime(begin).tm_gmtoff  # ticks stand at even local times
        if labels:
            self.text(x, y + 1, time.strftime(form, time.localtime(begin)), style)
            self.right(x + cells, y + 1, "now" if length else "", style)
        at = ((begin + away) // step + 1) * step - away
        while at < end:
            column = int((at - begin) / length * cells)
            self.put(x + column, y, tick, style)
            if labels and room <= column <= cells - room - 3:
                self.text(x + column, y + 1, time.strftime(form, time.localtime(at)), style)
            at += step


def _height(value: float | None, top: float, whole: int) -> int:
    """Filled parts for a value; a value above 0 has at least one."""
    if not value or value <= 0 or top <= 0:
        return 0
    return min(max(int(value / top * whole + 0.5), 1), whole)


def nice_top(values: Sequence[float | None], least: float = 1.0) -> float:
    """The smallest round number that is not below any of the values, nor below `least`; 1 if all are 0."""
    most = max((v for v in values if v is not None), default=0.0)
    if most <= least:
        return least if most else max(least, 1.0)
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in _NICE if step * power >= most * 0.999)


def axis_labels(rows: int, top: float, unit: str = "") -> dict[int, str]:
    """The labels of a vertical axis of `rows` lines, by line: its top with the unit, and its middle."""
    values = {0: top, rows // 2: top / 2} if rows >= 4 and not rows % 2 else {0: top}
    return {row: f"{number(value)}{unit if row == 0 else ''}" for row, value in values.items()}


def number(value: float) -> str:
    """A number of an axis in at most four or five characters."""
    for size, word in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{word}"
    return f"{value:.3g}"
