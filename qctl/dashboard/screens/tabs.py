"""Several fleets in one window: each is a tab with its own source, permissions and state of the screen.

In:  FleetTabs, `(` and `)`.  Out: the window shows another fleet; the others are sampled meanwhile.
Before this: power_keys.py.  After this: keys.py.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qctl.dashboard.screens.command_keys import Place
from qctl.dashboard.screens.power_keys import PowerWindow
from qctl.dashboard.sources.base import Source
from qctl.dashboard.state.removed_rows import RemovedRows
from qctl.dashboard.state.snapshot import Snapshot
from qctl.dashboard.views.cells import TabLabel, Where
from qctl.dashboard.views.episodes import Episodes
from qctl.dashboard.views.overview import Overview
from qctl.dashboard.views.views import VIEWS

if TYPE_CHECKING:
    from qctl.dashboard.row_actions import RowAction

#: how often the fleets that are not on the screen are sampled, seconds
SAMPLE_S = 1.0


class FleetTab:
    """One fleet. kept: the attributes of the window that belong to it, while it is not on the screen."""

    def __init__(
        self,
        feed: Source,
        extra: Sequence[str] = (),
        where: Where | None = None,
        refusal: str = "",
        needs_reason: bool = False,
    ) -> None:
        self.name = where.context if where is not None else ""
        self.is_down = self.has_alert = False
        self.table: tuple[Any, ...] | None = None  # of VirtualTable.keep()
        self.kept: dict[str, Any] = {
            "feed": feed,
            "extra": tuple(extra),
            "where": where or Where(),
            "refusal": refusal or feed.refusal,
            "needs_reason": needs_reason,
            "works": [],
            "last_act": None,
            "picture": Snapshot(),
            "episodes": Episodes(),
            "frozen_at": None,
            "behind": None,
            "pattern": "",
            "wanted": None,
            "mistake": "",
            "meaning": "",
            "every": False,
            "view": VIEWS[0],
            "visited": [VIEWS[0]],
            "visit": 0,
            "cross": None,
            "zoom": "",
            "overview": Overview(),
            "plan": [],
            "editing": None,
            "removed": RemovedRows(),
            "acting": [],
        }

    @property
    def feed(self) -> Source:
        """Its source."""
        feed: Source = self.kept["feed"]
        return feed


class TabWindow(PowerWindow):
    """The main window, with a tab for each fleet."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.tabs: list[FleetTab] = []
        self.tab_number = 0
        self._sampled = 0.0

    def use_tabs(self, tabs: Sequence[FleetTab]) -> None:
        """Show these fleets, the first one now; call it before the window runs."""
        self.tabs = list(tabs)
        self._take_over(self.tabs[0])

    def _take_over(self, tab: FleetTab) -> None:
        for name, value in tab.kept.items():
            setattr(self, name, value)

    def action_context(self, by: int) -> None:
        """Show the fleet of the next or previous tab."""
        if len(self.tabs) < 2:
            self.show_message("one fleet is open; `qctl events --all-contexts` opens all")
            return
        if len(self.screen_stack) > 1 or self.typing:
            return  # what is open belongs to the fleet on the screen
        before = self.tabs[self.tab_number]
        before.kept = {name: getattr(self, name) for name in before.kept}
        before.table = self.table.keep()
        self.tab_number = (self.tab_number + by) % len(self.tabs)
        tab = self.tabs[self.tab_number]
        self._take_over(tab)
        view = self.view
        self.table.show(view.fields, view.id_of, view.cells(self.panes), view.empty)
        if tab.table is not None:
            self.table.restore(tab.table)
        self.redraw()

    def remember_act(self, place: Place, act: RowAction | None) -> None:
        super().remember_act(place, act)
        for tab in self.tabs:
            if tab.feed is place.feed and place.feed is not self.feed:
                tab.kept["last_act"] = act

    def redraw(self) -> None:
        """Take a snapshot of the fleet on the screen; of the others once a second, for charts and alerts."""
        if len(self.tabs) > 1:
            if time.monotonic() - self._sampled >= SAMPLE_S:
                self._sampled = time.monotonic()
                for tab in self.tabs:
                    if tab.feed is not self.feed:
                        self._sample(tab)
            self.where = self.where._replace(tabs=self._labels())
        super().redraw()

    def _sample(self, tab: FleetTab) -> None:
        feed, episodes = tab.feed, tab.kept["episodes"]
        picture = feed.take()
        feed.memory.charts.look(picture)
        begun = episodes.update(picture)
        if feed.speaks:
            self.speak(begun, tab.name)
        tab.is_down = bool(picture.trouble)
        tab.has_alert = any(one.is_open for one in episodes.rows())

    def _labels(self) -> tuple[TabLabel, ...]:
        labels = []
        for number, tab in enumerate(self.tabs):
            is_seen = number == self.tab_number
            warnings = () if is_seen else tab.kept["where"].warnings  # the header has those of the seen one
            state = "" if is_seen else "down" if tab.is_down else "alert" if tab.has_alert else ""
            labels.append(TabLabel(" ".join((tab.name, *warnings)), is_seen, state))
        return tuple(labels)
