"""The keys of charts and panels: range, crosshair, zoom, band.

In:  keys.  Out: what the main window draws next.  Before this: main.py draws.  After this: keys.py.
"""

from __future__ import annotations

import time

from qctl.dashboard.screens.main import BANDS, MainWindow
from qctl.dashboard.state.rings import RANGES, step_for
from qctl.dashboard.views.overview import link_at
from qctl.dashboard.views.overview_lists import Link
from qctl.dashboard.views.panels import LABELS
from qctl.dashboard.views.views import VIEWS
from qctl.dashboard.widgets.virtual_table import VirtualTable

#: a crosshair selects the tasks of so many seconds
MINUTE_S = 60


class ChartWindow(MainWindow):
    """The main window, with the keys of its charts."""

    def action_range(self, by: int) -> None:
        """Show a longer or shorter time in all charts."""
        self.range_number = min(max(self.range_number + by, 0), len(RANGES) - 1)
        self.draw_again()
        self.show_message(f"charts show {RANGES[self.range_number].words}")

    def action_crosshair(self, by: int) -> None:
        """Move the crosshair by one cell of the widest chart."""
        seconds = self.scene.seconds
        box = next((p.box for p in self.plan if p.name == "throughput"), None)
        cells = (box.cells if box is not None else self.size.width) - 4 - LABELS
        per_cell = 1 if self.plain else 2
        step = step_for(seconds, max(cells, 1) * per_cell) * per_cell
        at = self.picture.at
        moment = (at if self.cross is None else self.cross) + by * step
        oldest = (at // step - max(cells, 1) + 1) * step
        self.cross = min(max(moment, oldest), at)
        self.draw_again()

    def action_now(self) -> None:
        """Put the crosshair away."""
        self.cross = None
        self.draw_again()

    def action_zoom(self) -> None:
        """Give the panel under the cursor the whole screen, or the chart under the crosshair; and back. On
        other screens: the list alone."""
        if self.view is not VIEWS[0]:
            self.band_size = len(BANDS) - 1 if BANDS[self.band_size] else 0
        elif self.zoom:
            self.zoom = ""
        elif self.cross is not None:
            self.zoom = "throughput"
        else:
            current = self.table.current
            self.zoom = next((p.name for p in self.plan if current in p.links), "throughput")
        self.draw_again()

    def action_band(self) -> None:
        """The next size of the band below the list."""
        self.band_size = (self.band_size + 1) % len(BANDS)
        self.draw_again()

    def action_focus_next(self) -> None:
        """On the overview: to the first line of the next panel; elsewhere the next pane."""
        if self.view is not VIEWS[0] or self.focused is not self.table or self.table.painter is None:
            super().action_focus_next()
            return
        firsts, seen = [], 0
        for panel in self.plan:
            if panel.links:
                firsts.append(seen)
                seen += len(panel.links)
        after = [first for first in firsts if first > self.table.cursor]
        if firsts:
            self.table.go(after[0] if after else firsts[0])

    def tasks_at_cross(self) -> str:
        """The filter for the tasks of the minute under the crosshair."""
        first = int((self.cross or 0) // MINUTE_S * MINUTE_S)
        form = "%Y-%m-%dT%H:%M:%S"
        since, until = (time.strftime(form, time.localtime(at)) for at in (first, first + MINUTE_S))
        return f"since:{since} until:{until}"

    def draw_again(self) -> None:
        """Draw the same picture, with another choice of what it shows."""
        self.draw(self.behind)

    def on_virtual_table_clicked(self, event: VirtualTable.Clicked) -> None:
        found = link_at(self.plan, event.x, event.y)
        items: list[Link] = list(self.table.items)
        if found is not None and found in items:
            self.table.go(items.index(found))
            if event.times == 2:
                self.table.post_message(VirtualTable.Chosen())
