"""Draw the results file as bars: python -m benchmarks.charts writes docs/pictures/benchmarks.svg.

In:  benchmarks/RESULTS.md, of which the tables with one line a contestant are read. Left out is `raw`, which
     has no format to keep and would make all other bars short.
Out: an SVG, a panel for each figure of PANELS, the best contestant first.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import NamedTuple

from benchmarks.goals import VALUES
from benchmarks.lineup import OURS, SIDES

RESULTS = Path(__file__).parent / "RESULTS.md"
PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "benchmarks.svg"

PANELS = ("publish", "bulk", "drain", "drain_off", "p50", "cold", "stop", "pss")
WIDTH, BAR, HEAD, COLUMNS = 460, 18, 34, 2
NAMES_END, BARS_END = 120, 350
FONT = 'font-family="sans-serif" font-size="12"'
INK, DIM, GROUND = "#1c2126", "#5c6773", "#ffffff"
COLOURS = {"ours": "#0072b2", "celery": "#d55e00", "peer": "#9aa4ae", "roof": "#d9dee3"}


class Bar(NamedTuple):
    """One contestant: the median, and the least and the most of the rounds as they are written."""

    name: str
    median: float
    words: str


def tables(text: str) -> dict[str, list[Bar]]:
    """The tables of contestants, by their title in lower case."""
    found = {}
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, _, rest = part.partition("\n")
        rows = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in rest.splitlines()
            if line[:1] == "|"
        ]
        if rows and rows[0][:2] == ["contestant", "median (min - max)"]:
            found[title.lower()] = [
                Bar(name, float(words.split()[0].replace(",", "")), words)
                for name, words, *_ in rows[2:]
                if name != "raw" and float(words.split()[0].replace(",", "")) > 0  # 0: not measured
            ]
    return found


def picture(text: str) -> str:
    """The SVG of a results file."""
    of = tables(text)
    words = {value.key: value.words for value in VALUES}
    panels = [(words[key], of[words[key].lower()]) for key in PANELS if words[key].lower() in of]
    heights = [HEAD + BAR * len(bars) + 16 for _, bars in panels]
    rows = [max(heights[i : i + COLUMNS]) for i in range(0, len(heights), COLUMNS)]
    size = f"{WIDTH * COLUMNS} {sum(rows)}"
    lines = [
        f'<svg viewBox="0 0 {size}" xmlns="http://www.w3.org/2000/svg" {FONT}>',
        f'<rect width="100%" height="100%" fill="{GROUND}"/>',
    ]
    for number, (title, bars) in enumerate(panels):
        row, column = divmod(number, COLUMNS)
        lines.append(f'<g transform="translate({column * WIDTH + 10} {sum(rows[:row])})">')
        lines += [*_panel(title, bars), "</g>"]
    return "\n".join([*lines, "</svg>", ""])


def _panel(title: str, bars: list[Bar]) -> list[str]:
    roles = {side.name: side.role for side in SIDES}
    most = max(bar.median for bar in bars) or 1
    lines = [_text(0, 22, title, "start", INK, title=True)]
    for number, bar in enumerate(bars):
        y = HEAD + number * BAR
        end = NAMES_END + max((BARS_END - NAMES_END) * bar.median / most, 1)
        place = f'x="{NAMES_END}" y="{y + 2}" width="{end - NAMES_END:.1f}" height="{BAR - 5}"'
        lines += [
            _text(NAMES_END - 6, y + 12, bar.name, "end", INK, title=bar.name == OURS),
            f'<rect {place} fill="{COLOURS[roles[bar.name]]}"/>',
            _text(end + 5, y + 12, bar.words.split()[0], "start", DIM),
        ]
    return lines


def _text(x: float, y: int, words: str, anchor: str, ink: str, title: bool = False) -> str:
    weight = "bold" if title else "normal"
    look = f'text-anchor="{anchor}" font-weight="{weight}" fill="{ink}"'
    return f'<text x="{x:.1f}" y="{y}" {look}>{escape(words)}</text>'


if __name__ == "__main__":
    PICTURE.write_text(picture(RESULTS.read_text()))
    print(PICTURE)
