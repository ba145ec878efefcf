"""The dashboard's main window and its layout: header, one list or picture, the selected row below it, keys.

In:  a source, whose snapshots it draws four times per second.  Out: the screen.
After this: keys.py handles keys.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from rich.text import Text
from textual.app import App, ComposeResult
from textual.containers import Horizontal
from textual.widgets import Input, Static

from qctl.dashboard.first_picture import ASKING, LOW, NARROW
from qctl.dashboard.key_table import KeyTable, footer, key_shown
from qctl.dashboard.keys import SCHEDULE_ONLY
from qctl.dashboard.screens.schedule_panels import NextHour, look_of
from qctl.dashboard.state.removed_rows import RemovedRows
from qctl.dashboard.state.search import Wanted
from qctl.dashboard.state.series import Charts
from qctl.dashboard.state.snapshot import EventRow, Snapshot
from qctl.dashboard.themes import THEMES, Palette, textual_theme
from qctl.dashboard.views import cells as words
from qctl.dashboard.views.episodes import Episode, Episodes
from qctl.dashboard.views.overview import Overview
from qctl.dashboard.views.overview_lists import Link, Panel, link_key
from qctl.dashboard.views.panels import Scene
from qctl.dashboard.views.views import VIEWS, View
from qctl.dashboard.widgets.canvas import Canvas
from qctl.dashboard.widgets.filter_suggester import FilterHints
from qctl.dashboard.widgets.plot import Plot
from qctl.dashboard.widgets.virtual_table import VirtualTable
from qctl.output import state_styles
from qctl.output.text import cut, shown

if TYPE_CHECKING:
    from qctl.dashboard.sources.base import Source
    from qctl.filters import Filter

REDRAW_S = 0.25
NUMBERS = " 1-9 views "
#: seconds for which a remark stays
MESSAGE_S = 10.0
#: cells of the clock and the gap before it, at the end of the header
CLOCK = 10
#: width from which the footer names the views
WIDE = 120
#: the band's share of the height, in the order of its key; 0: shut
BANDS = (0.3, 0.5, 0.0)
#: the most that it gets of what a short list leaves
MOST_BAND = 0.7
#: lines of what an empty list says
EMPTY_LINES = 4
#: lines of the header, the frame, the headings and the keys
AROUND_LIST = 4
#: a lower terminal shows no band
BAND_FROM = 20
#: over which time the rates and shares of a list are, before the range of its trends
RATES = {
    "workers": "RATE: between its replies · TREND: ",
    "queues": "IN FLIGHT: of the slots of its workers · IN/S, OUT/S: since the last look · TREND: ",
    "failures": "TREND: ",
    "types": "rates, shares, percentiles, TREND: ",
}
TASKS = next(v for v in VIEWS if v.name == "tasks")
SCHEDULES = next(v for v in VIEWS if v.name == "schedules")
BROKER = next(v for v in VIEWS if v.name == "broker")


class MainWindow(App[int]):
    """Header, one list or picture, the selected row below it, keys."""

    CSS = """
    Screen { background: $background; color: $foreground; }
    #top { height: 1; width: 100%; }
    #header { height: 1; width: 1fr; }
    #clock { height: 1; width: 10; }
    #rule, #message, #keys, #title, #tabs, #alert { height: 1; width: 100%; text-wrap: nowrap;
                                                  text-overflow: ellipsis; }
    #main { width: 100%; height: 1fr; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 0; }
    #main.framed { border-left: round $frame; border-right: round $frame; padding: 0 0 0 1; }
    #main.ascii { border-left: ascii $frame; border-right: ascii $frame; padding: 0 0 0 1; }
    #band { width: 100%; height: 1; }
    VirtualTable { overflow-x: hidden; background: $background; }
    Input > .input--placeholder { color: $faint; text-style: none; }
    #line, #search { height: 1; border: none; padding: 0; background: $background; }
    #body { height: 1fr; background: $background; scrollbar-size-vertical: 1; }
    """

    def __init__(
        self,
        feed: Source,
        plain: bool = False,
        extra: Sequence[str] = (),
        palette: Palette | None = None,
        where: words.Where | None = None,
    ) -> None:
        """extra: global options for the command lines of actions; where: context and warnings."""
        super().__init__()
        self.feed, self.plain, self.extra = feed, plain, tuple(extra)
        #: starts the sources; it is called after the first picture. None: they run
        self.start: Callable[[], None] | None = None
        self.where = where or words.Where()
        self.panes = words.CellFormatter(plain)
        for one in THEMES.values():
            self.register_theme(textual_theme(one))
        self.removed = RemovedRows()
        self.picture, self.episodes = Snapshot(), Episodes()
        self.key_table = KeyTable(views={view.name: view.key for view in VIEWS})
        #: why changes are refused; empty: they are permitted
        self.refusal: str = feed.refusal
        #: whether a change needs a reason
        self.needs_reason = False
        self.frozen_at: int | None = None
        self.behind: int | None = None  # events since then
        self.pattern, self.wanted = "", None
        self.mistake = ""  # why the pattern is no valid filter, or the typed text no schedule
        self.meaning = ""  # the typed schedule in words
        self.every = False  # all matching rows are marked, displayed or not
        self.view: View = VIEWS[0]
        self.typing = ""  # the purpose of the input line: filter or command
        self.table: VirtualTable[Any] = VirtualTable(
            self.view.fields, self.view.id_of, self.view.cells(self.panes), self.view.empty, id="main"
        )
        self.table.mark = "*" if plain else "▪"
        self.panes.room = self.table.room
        self.use_theme(palette or THEMES["ansi" if plain else "default-dark"])
        self.header, self.rule, self.band = Plot(id="header"), Static(id="rule"), Plot(id="band")
        #: a widget of its own: what changes each second is written without the line that it ends
        self.clock = Plot(id="clock")
        self.overview, self.plan, self._planned = Overview(), list[Panel](), (0, 0)
        self.range_number = 0  # of RANGES
        self.cross: float | None = None  # the moment under the crosshair, epoch seconds
        self.zoom = ""  # the name of the only panel of the overview
        self.band_size = 0  # of BANDS
        self._band_key: tuple[Any, ...] | None = None  # what the band of the broker was drawn for
        self.message_line, self.keys = Static(id="message"), Static(id="keys")
        self.alert, self.hour = Static(id="alert"), NextHour()
        self._message_until = 0.0
        self._shown: dict[str | None, Text] = {}
        self.line = Input(id="line", suggester=FilterHints(self._live))

    wanted: Filter | None

    def compose(self) -> ComposeResult:
        yield Horizontal(self.header, self.clock, id="top")
        yield self.rule
        yield self.alert
        yield self.table
        yield self.hour
        yield self.band
        yield self.line
        yield self.message_line
        yield self.keys

    def on_mount(self) -> None:
        self.message_line.display = self.line.display = False
        self.table.focus()
        self.redraw()
        if self.start is not None:
            self.call_after_refresh(self.start)
        self.set_interval(REDRAW_S, self.redraw)
        self.app_resume_signal.subscribe(self, lambda _: self.paint_all())
        if not self.is_headless:
            for number in (signal.SIGTERM, signal.SIGHUP):
                asyncio.get_running_loop().add_signal_handler(number, self.exit, 128 + number)
            self._follow_stops(asyncio.get_running_loop())
        self.take_keys()

    def take_keys(self) -> None:
        """Bind the user's keys. Textual calls every class's own on_mount(), so there is only one."""
        raise NotImplementedError

    def _follow_stops(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let Textual's handler of SIGCONT take the terminal again after its handler of SIGTSTP only. Else it
        would start a second reader of the keyboard, which keeps a process alive whose terminal is closed: the
        system sends SIGHUP and SIGCONT then."""
        stop: Any = signal.getsignal(signal.SIGTSTP)
        resume: Any = signal.getsignal(signal.SIGCONT)
        stops = []

        def stopped(*about: object) -> None:
            stops.append(True)
            stop(*about)

        def continued(*about: object) -> None:
            if stops:
                stops.clear()
                resume(*about)
            elif sys.__stdin__ is not None and sys.__stdin__.isatty():
                loop.call_soon_threadsafe(self._take_terminal)  # after SIGSTOP, in which a shell had it

        signal.signal(signal.SIGTSTP, stopped)
        signal.signal(signal.SIGCONT, continued)

    def _take_terminal(self) -> None:
        with self.suspend():
            pass
        self.paint_all()

    def on_resize(self) -> None:
        if self.table.painter is None:  # a table with a picture tells when it has its new size
            self.call_after_refresh(lambda: self.draw(self.behind))

    def on_virtual_table_resized(self) -> None:
        self.draw(self.behind)

    def paint_all(self) -> None:
        """Redraw every line, changed or not."""
        self.screen.refresh(layout=True)
        self.table.painting.forget()
        self.band.painting.forget()
        self._band_key = None
        self.header.painting.forget()
        self.clock.painting.forget()
        self.table.refresh()
        self.redraw()

    def use_theme(self, palette: Palette) -> None:
        self.panes.palette = palette
        self.table.highlight, self.table.faint = self.panes.highlight, palette.faint
        self.theme = palette.name

    def speak(self, begun: list[Episode], context: str) -> None:
        raise NotImplementedError

    # --- drawing

    @property
    def selection(self) -> Wanted:
        """The tasks to show, and their order."""
        if self.view is not TASKS:
            return Wanted()
        return Wanted(self.wanted, self.table.order.by, self.table.order.reverse)

    def redraw(self) -> None:
        """Take a snapshot and draw it; while frozen, only count the new events."""
        self.look_at_schedule()
        fresh = self.feed.take(self.selection)
        self.feed.memory.charts.look(fresh)
        begun = self.episodes.update(fresh)
        if self.feed.speaks:
            self.speak(begun, self.where.context)
        fresh = msgspec.structs.replace(fresh, episodes=self.episodes.rows())
        if self.frozen_at is None:
            self.picture = fresh
        self.behind = None if self.frozen_at is None else fresh.events - self.frozen_at
        self.draw(self.behind)

    def look_at_schedule(self) -> None:
        """Tell the source which entries are on the screen; it reads the schedule only for these."""
        look = None
        if self.view is SCHEDULES:
            look = look_of(self.table, self.table.order, self.pattern, self.size.width, self.size.height)
        self.feed.look_at_schedule(look)

    def draw(self, behind: int | None = None) -> None:
        picture, width, height = self.picture, self.size.width, self.size.height
        self.panes.look(picture, self.scene.seconds)
        small = width < NARROW or height < LOW
        faded = bool(picture.trouble)
        header, x = Canvas(width, 1), 0
        for part in self.panes.header(picture, self.where, width, behind):
            x = header.text(x, 0, part.text, part.style)
        self.header.put(header.columns_of(0, width - CLOCK))
        self.clock.put(header.columns_of(width - CLOCK, width))
        is_schedule = self.view is SCHEDULES
        is_picture = self.view is VIEWS[0] and not small
        is_framed = not (small or is_picture)
        self.table.set_class(is_framed, "ascii" if self.plain else "framed")
        self.rule.display = not small or faded
        if (self.table.painter is not None) is not is_picture:
            self.table.painter = self.paint if is_picture else None
            self.table.painting.forget()
        clock = time.monotonic()
        if self.table.painter is not None:
            rows = self._rows(self.removed.restore(picture, link_key, clock))
        else:
            rows = self.removed.splice(self._rows(picture), self.view.id_of, clock)
        self.table.gone = self.removed.gone
        pattern = self.pattern + (" (all marked)" if self.every else "")
        title = alert = ""
        if is_schedule:
            from qctl.dashboard.views import schedules

            title = schedules.title(picture.schedules, len(rows), pattern, self.plain)
            alert = "" if small or faded else schedules.alert(picture.schedules)
        if is_picture and not faded:
            self._put(self.rule, self._alerts(picture, width))
        else:
            rule = self.panes.rule(picture, self.view.name, len(rows), pattern, width, title)
            look = self.panes.style("failed") if faded else self.panes.style("faint")
            if is_framed and not faded:
                self._put(self.rule, self._frame_title(rule, width))
            else:
                self._put(self.rule, Text(shown(rule), look, no_wrap=True))
        self.table.empty = self._why_empty()
        self.table.put(rows, faded)
        self.alert.display = bool(alert)
        self._put(self.alert, Text(f" {shown(alert)}", self.panes.style("failed"), no_wrap=True))
        self.hour.display = is_schedule and not small
        self._draw_band(is_framed)
        if self.message_line.display and time.monotonic() > self._message_until:
            self.message_line.display = self.line.display = False
        self._draw_keys(width)

    def _put(self, where: Static, text: Text) -> None:
        """Update a widget only if its text changed: an idle screen sends almost nothing."""
        before = self._shown.get(where.id)
        if before is None or (before, before.style) != (text, text.style):
            self._shown[where.id] = text
            where.update(text, layout=False)  # its height is fixed

    def _rows(self, picture: Snapshot) -> Sequence[Any]:
        if self.table.painter is not None:
            self._plan(picture)
            return [link for panel in self.plan for link in panel.links]
        if self.view.name == "types":  # these are counted anew every few seconds only
            rows: Sequence[Any] = self.overview.types(picture, self.range_number)
        else:
            rows = self.view.rows(picture, max(self.table.size.height - 1, 3))
        if self.view in (TASKS, SCHEDULES):  # their source selects and sorts them
            return rows
        if self.pattern and self.view is not VIEWS[0]:
            rows = [row for row in rows if self._fits(row)]
        order = self.table.order
        if order.by:
            rows = sorted(rows, key=lambda row: _sort_key(getattr(row, order.by)), reverse=order.reverse)
        return rows

    def _why_empty(self) -> str:
        silent = [w.node for w in self.picture.workers if w.task_events is False]
        if not self.pattern and silent and self.view.name in ("tasks", "events"):
            names = ", ".join(silent[:3]) + (f" and {len(silent) - 3} more" if len(silent) > 3 else "")
            how = "press e to turn them on (qctl control enable_events)"
            return f"{shown(names)}: task events are off\n{how}"
        if self.view is SCHEDULES and not (self.pattern and self.picture.schedules.total):
            from qctl.dashboard.views import schedules

            return schedules.empty(self.picture.schedules, self.size.width - 3)
        if not self.pattern:
            return self.view.empty
        return f"nothing matches {shown(self.pattern)}\nEsc shows all again"

    def _fits(self, row: Any) -> bool:
        words = [part.text for part in self.view.cells(self.panes)(row)]
        if isinstance(row, EventRow):
            words.append(str(row.event.get("uuid", "")))  # the column has the first cells of it
        return self.pattern.lower() in " ".join(words).lower()

    @property
    def scene(self) -> Scene:
        """What charts show."""
        charts = self.picture.charts or Charts()
        return Scene(self.picture, charts, self.panes, self.range_number, self.cross)

    def _plan(self, picture: Snapshot) -> None:
        self._planned = width, height = self.table.size
        self.plan = self.overview.plan(picture, self.range_number, width, height, self.zoom)

    def paint(self) -> Canvas:
        """The overview as a picture."""
        current, size = self.table.current, self.table.size
        if size != self._planned:  # the table is painted before it says that it has this size
            self._plan(self.picture)
        key = str(current.key) if isinstance(current, Link) and self.table.has_focus else ""
        marked = list(self.table.marked)
        return self.overview.paint(
            self.scene, self.plan, (size.width, size.height), key, marked, self.table.gone
        )

    def _alerts(self, picture: Snapshot, width: int) -> Text:
        """The line of what needs a person."""
        text, found = Text(no_wrap=True, overflow="ellipsis"), [e for e in picture.episodes if e.is_open]
        for number, alert in enumerate(found):
            look = state_styles.look("FAILURE")
            signs = (look.ascii, "!") if self.plain else (look.glyph, "▲")
            sign = signs[alert.word != "failed"]
            text.append((" | " if self.plain else " · ") if number else " ", self.panes.style("faint"))
            text.append(shown(f"{sign} {alert.what}"), self.panes.style(alert.word))
            if alert.after and not number:
                text.append(shown(f", began {alert.cause}"), self.panes.style("faint"))
        seen = sum(e.acknowledged is not None for e in picture.episodes)
        if seen:
            text.append(f" ({seen} acknowledged)", self.panes.style("faint"))
        if not (found or seen):
            words = "nothing needs attention" if picture.asked else ASKING
            text.append(f" {words}", self.panes.style("faint"))
        return text

    def _frame_title(self, rule: str, width: int) -> Text:
        """The upper edge of the frame around a list, with its title and the range of its sparklines."""
        left, flat, right = "+-+" if self.plain else ("╭", "─", "╮")
        name, _, rest = shown(rule).strip("─- ").partition(" ")
        words = f" {self.scene.words} " if any(f.name == "TREND" for f in self.table.fields) else ""
        if words and width >= WIDE:
            words = f" {RATES.get(self.view.name, '')}{words.lstrip()}"
            words = words.replace("·", "-") if self.plain else words
        frame = self.panes.style("frame")
        text = Text(no_wrap=True)
        text.append(left, frame)
        text.append(f" {name.capitalize()}", "bold")
        text.append(
            cut(f" {rest.strip()} ", max(width - len(words) - len(name) - 5, 1)), self.panes.style("faint")
        )
        text.append(flat * max(width - text.cell_len - len(words) - 2, 0), frame)
        text.append(words, self.panes.style("faint"))
        text.append(flat + right, frame)
        return text

    def _draw_band(self, is_framed: bool) -> None:
        """The selected row, below the list."""
        self.band.display = is_framed
        if not is_framed:
            return
        height, share = self.size.height, BANDS[self.band_size]
        rows = 1
        if share and height >= BAND_FROM:
            # A short list leaves its room to the band.
            spare = height - AROUND_LIST - (len(self.table.items) or EMPTY_LINES)
            rows = min(max(round(height * share), 7, spare), max(round(height * MOST_BAND), 7))
        if self.hour.display:
            around = height - int(self.alert.display)
            rows = self.hour.draw(self.scene, self.table, self.size.width, around, share)
        if self.band.styles.height is None or self.band.styles.height.value != rows:
            self.band.styles.height = rows
        # What the broker says changes once a second at most; its many charts are not drawn more often.
        key = None
        if self.view is BROKER:
            moment = int(self.picture.at), self.range_number, self.cross
            key = (self.table.current, *moment, self.size.width, rows, self.panes.palette.name)
        if key is None or key != self._band_key:
            from qctl.dashboard.views.band import paint

            self.band.put(paint(self.scene, self.table.current, self.size.width, rows))
        self._band_key = key

    def show_message(self, text: str, word: str = "") -> None:
        """Show a remark above the keys for MESSAGE_S seconds; word: the state whose style it has."""
        line = Text(f" {shown(text)}", self.panes.style(word), no_wrap=True, overflow="ellipsis")
        self.message_line.update(line, layout=False)
        self.message_line.display = True
        self._message_until = time.monotonic() + MESSAGE_S

    def _draw_keys(self, width: int) -> None:
        if self.mistake and self.typing in ("filter", "schedule"):
            text = Text(f" {shown(self.mistake)}", self.panes.style("failed"), no_wrap=True)
            self._put(self.keys, text)
        elif self.typing == "schedule":
            self._put(
                self.keys, Text(f" {shown(self.meaning)}   Enter: change it   Esc: cancel", no_wrap=True)
            )
        else:
            keys = tuple(k for k in self.key_table.main if self._helps(k.action))
            of_view = self.key_table.views
            numbered = [v for v in VIEWS if v.key.isdigit()]
            names = " ".join(f"{key_shown(of_view[v.name])} {v.short or v.name}" for v in numbered)
            if width < WIDE or (self.view is SCHEDULES and footer(keys, names).cell_len > width):
                names = NUMBERS  # the keys of schedules are those that people know least
            self._put(self.keys, footer(keys, names, width))

    def _helps(self, action: str) -> bool:
        """Whether a key has an effect in this view; in a read-only fleet, keys for changes have none."""
        if action in SCHEDULE_ONLY:
            return self.view is SCHEDULES and not self.refusal
        if not action.startswith("act("):
            return True
        fits = {
            "retry": ("tasks", "failures"),
            "revoke": ("tasks",),
            "pause": ("queues", "failures", "tasks", "schedules"),
        }
        name = action[5:-2]
        return not self.refusal and (self.view is VIEWS[0] or self.view.name in fits.get(name, ()))

    def _live(self) -> Mapping[str, Iterable[str]]:
        """Names for completion."""
        table = self.feed.memory.state.table
        return {
            "name": table.names.codes,
            "queue": [*table.queues.codes, *(q.name for q in self.picture.queues)],
            "worker": [w.node for w in self.picture.workers],
        }


def _sort_key(value: Any) -> tuple[bool, Any]:
    """A sort key: numbers in descending order, other values by their text; None last."""
    if isinstance(value, int | float):
        return False, -value
    return value is None, "" if value is None else str(value)
