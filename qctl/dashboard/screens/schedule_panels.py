"""What stands between the list of the Schedules screen and its selected entry: the next hour.

In:  a Scene and the list.  Out: a panel, in the room that the screen has. Before this: main.py.
Also the text of a schedule that is being edited, checked with each key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from qctl.dashboard.state.schedules import ScheduleLook, ScheduleRow
from qctl.dashboard.views.panels import Scene
from qctl.dashboard.widgets.fields import Order
from qctl.dashboard.widgets.plot import Plot
from qctl.dashboard.widgets.virtual_table import VirtualTable
from qctl.output.text import shown

#: from this height on the selected entry has at least so many lines inside its frame, and below so many
TALL, TALL_LINES, LOW_LINES, MOST_LINES = 30, 8, 3, 20
#: the lines of the header, the title and the headings of the list, and the keys
FIXED = 4


class NextHour(Plot):
    """The panel between the list and the selected entry."""

    DEFAULT_CSS = "NextHour { width: 100%; height: 1; }"

    def draw(self, scene: Scene, table: VirtualTable[Any], width: int, height: int, share: float) -> int:
        """Draw what has changed, hidden while there is no entry. height: lines of the screen, without
        an alert; share: of the selected entry, 0: shut. Returns the lines of the band of the entry."""
        from qctl.dashboard.views import schedules

        current = table.current
        self.display = isinstance(current, ScheduleRow)
        if not isinstance(current, ScheduleRow):
            return 1
        below = 1
        if share:
            spare = height - FIXED - 2 - 2 * len(table.items)
            most = max(MOST_LINES, round(height * share))
            below = 2 + (min(max(TALL_LINES, spare - 2), most) if height >= TALL else LOW_LINES)
        rows = beside(table, max(1, (height - FIXED - below - 2) // 2))
        if self.styles.height is None or self.styles.height.value != len(rows) + 2:
            self.styles.height = len(rows) + 2
        self.put(schedules.hour(scene, rows, current.name, width))
        return below


def beside(table: VirtualTable[Any], most: int) -> Sequence[ScheduleRow]:
    """The rows of the table from the top of the screen on, at most so many, with the one under the cursor."""
    first = max(table.scroll_offset.y, table.cursor - most + 1)
    return list(table.items[first : first + most])


def look_of(table: VirtualTable[Any], order: Order, pattern: str, width: int, height: int) -> ScheduleLook:
    """What is on the screen."""
    from qctl.dashboard.views.schedules import columns_of

    current = table.current
    selected = current.name if isinstance(current, ScheduleRow) else ""
    return ScheduleLook(
        pattern, order.by, order.reverse, table.scroll_offset.y, height, selected, columns_of(width)
    )


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
