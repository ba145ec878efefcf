"""What stands around the table of the Schedules screen: an alert, the next hour, the selected entry.

In:  a ScheduleBoard and the table.  Out: lines, in the room that the screen has. Before this: main.py.
Also the text of a schedule that is being edited, checked with each key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from qctl.dashboard.state.schedules import ScheduleBoard, ScheduleLook, ScheduleRow
from qctl.dashboard.views import schedules
from qctl.dashboard.views.cells import CellFormatter
from qctl.dashboard.widgets.virtual_table import Order, Part, VirtualTable
from qctl.output.text import shown

#: from this height on the selected entry has so many lines (more if there is room), and below so many
TALL, TALL_LINES, LOW_LINES, MOST_LINES = 30, 9, 4, 18
#: the lines of the header, the rule, the headings of the table and of the time line, and the keys
FIXED = 5


class SchedulePanels(Vertical):
    """The next hour, and the selected entry; below the table."""

    DEFAULT_CSS = """
    SchedulePanels { height: auto; }
    SchedulePanels Static { height: auto; width: 100%; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._hour, self._entry = Static(), Static()
        self._drawn: dict[Static, Text] = {}

    def compose(self) -> ComposeResult:
        yield self._hour
        yield self._entry

    def draw(
        self, board: ScheduleBoard, table: VirtualTable[Any], panes: CellFormatter, width: int, height: int
    ) -> None:
        """Draw what has changed; hidden while there is no entry."""
        current = table.current
        self.display = isinstance(current, ScheduleRow)
        if not isinstance(current, ScheduleRow):
            return
        below, spare = LOW_LINES, height - FIXED - 2 - 2 * len(table.items)
        if height >= TALL:
            below = min(max(TALL_LINES, spare), MOST_LINES)
        rows = beside(table, max(1, (height - FIXED - below) // 2))
        hour = schedules.timeline(panes, rows, current.name, width, columns_of(width))
        self._put(self._hour, hour)
        self._put(self._entry, schedules.about(panes, current, board, width, below))

    def _put(self, where: Static, lines: Sequence[Iterable[Part]]) -> None:
        text = Text("\n", no_wrap=True, overflow="ellipsis").join(text_of(line) for line in lines)
        before = self._drawn.get(where)
        if before is None or (before.plain, before.spans) != (text.plain, text.spans):
            self._drawn[where] = text
            where.update(text)


def columns_of(width: int) -> int:
    """The columns of the time line in a terminal of this width."""
    return max(12, width - schedules.NAMES)


def beside(table: VirtualTable[Any], most: int) -> Sequence[ScheduleRow]:
    """The rows of the table from the top of the screen on, at most so many, with the one under the cursor."""
    first = max(table.scroll_offset.y, table.cursor - most + 1)
    return list(table.items[first : first + most])


def look_of(table: VirtualTable[Any], order: Order, pattern: str, width: int, height: int) -> ScheduleLook:
    """What is on the screen."""
    current = table.current
    selected = current.name if isinstance(current, ScheduleRow) else ""
    return ScheduleLook(
        pattern, order.by, order.reverse, table.scroll_offset.y, height, selected, columns_of(width)
    )


def text_of(parts: Iterable[Part]) -> Text:
    text = Text(no_wrap=True)
    for part in parts:
        text.append(part.text, part.style)
    return text


class CheckedText(NamedTuple):
    """A schedule as it is typed: what is wrong with it, or what it means."""

    mistake: str = ""
    words: str = ""


def checked(text: str, timezone: str) -> CheckedText:
    """What is wrong with a text of a schedule, in one sentence, or when it is due."""
    from qcore.errors import BadSchedule
    from qcore.schedules.specs import parse
    from qcore.schedules.words import words

    try:
        return CheckedText(words=words(parse(text), timezone))
    except BadSchedule as exc:
        where = f"character {exc.position + 1}: " if text.strip() else ""
        return CheckedText(f"{where}{shown(str(exc))}")
