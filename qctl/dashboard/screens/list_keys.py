"""The keys of lists and of what is on the screen: order, columns, colours, copies, pages of help.

In:  keys.  Out: what the main window draws next.  Before this: chart_keys.py.  After this: command_keys.py.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from textual.command import SearchIcon

from qctl.dashboard.key_table import key_shown
from qctl.dashboard.screens.chart_keys import ChartWindow
from qctl.dashboard.themes import THEMES
from qctl.dashboard.views.overview_lists import Link
from qctl.dashboard.views.views import VIEWS
from qctl.dashboard.widgets.fields import Order
from qctl.dashboard.widgets.virtual_table import VirtualTable
from qctl.output import state_styles


class ListWindow(ChartWindow):
    """The main window, with the keys of its lists."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._read_theme = self.theme  # the stylesheet is read with its colours from the start
        self.stylesheet.set_variables(self.get_css_variables())

    @property
    def under_cursor(self) -> Any:
        row = self.table.current
        return row.target if isinstance(row, Link) else row

    @property
    def asker(self) -> Callable[[tuple[str, ...]], str]:
        """Runs a command and returns its output."""
        raise NotImplementedError

    def action_help(self) -> None:
        from qctl.dashboard.screens.details import DetailScreen
        from qctl.dashboard.views.details import Sheet, Tab

        table = self.key_table
        views = [(key_shown(table.views[view.name]), view.name) for view in VIEWS]
        keys = [(k.shown, k.words) for k in table.main]
        moving = [(k.shown, k.words) for k in table.rows]
        inside = [(k.shown, k.words) for k in table.details]
        states = [
            (f"{look.glyph} {look.ascii}", look.word) for look in dict.fromkeys(state_styles.STATES.values())
        ]
        marks = [("~", "seen: counted from events since the dashboard started; otherwise exact")]
        tabs = (
            Tab("Keys", [*keys, ("", ""), *views]),
            Tab("Rows", moving),
            Tab("Pages", inside),
            Tab("Signs", [*states, *marks]),
            Tab("Filters", words=("help", "filters")),
            Tab("Names", [(k.id, k.words) for k in (*table.main, *table.rows, *table.details)]),
        )
        self.push_screen(DetailScreen(Sheet("Keys", tabs), self.asker))

    def action_audit(self) -> None:
        from qctl.dashboard.screens.details import DetailScreen
        from qctl.dashboard.views.details import Sheet, Tab

        tab = Tab("Audit", words=("audit", "--limit", "100"))
        self.push_screen(DetailScreen(Sheet("Audit log", (tab,)), self.asker))

    # --- keys: columns, order, colours

    def action_sort(self) -> None:
        names = {f.name.strip("~").lower(): f.order for f in self.table.fields if f.order}
        if names:
            now = [n for n, by in names.items() if by == self.table.order.by]
            self._choose("order by", names, now, self._sort_by)

    def _sort_by(self, by: str) -> None:
        same = self.table.order.by == by
        self.table.order = Order() if same and self.table.order.reverse else Order(by, same)
        self.table.follows = True
        self.redraw()

    def on_virtual_table_sort(self, event: VirtualTable.Sort) -> None:
        self._sort_by(event.by)

    def action_reverse(self) -> None:
        order = self.table.order
        if order.by:
            self.table.order = Order(order.by, not order.reverse)
            self.redraw()

    def action_columns(self) -> None:
        names = {f.name.strip("~").lower(): f.name for f in self.table.fields}
        self._choose(
            "columns (* shown)",
            names,
            [n for n, f in names.items() if f not in self.table.hidden],
            self._toggle_column,
        )

    def _toggle_column(self, name: str) -> None:
        hidden = self.table.hidden ^ {name}
        if len(hidden) < len(self.table.fields):
            self.table.hidden = hidden
            self.table.refresh()

    def action_wide(self) -> None:
        self.table.wide = not self.table.wide
        self.table.scroll_to(x=0, animate=False)
        self.draw()
        self.table.refresh()

    def refresh_css(self, animate: bool = True) -> None:
        """Read the stylesheet anew if the theme is another one; Textual calls this at the start too."""
        if self.theme == self._read_theme:
            self.stylesheet.update(self, animate=animate)
        else:
            self._read_theme = self.theme
            super().refresh_css(animate)

    def action_theme(self) -> None:
        names = {name: name for name in THEMES}
        self._choose("colours", names, [self.panes.palette.name], lambda n: self._set_theme(n))

    def _set_theme(self, name: str) -> None:
        self.use_theme(THEMES[name])
        self.redraw()
        self.table.refresh()

    def _choose(self, title: str, names: Mapping[str, str], now: Sequence[str], then: Any) -> None:
        from qctl.dashboard.screens.dialogs import Choice

        self.push_screen(
            Choice(title, list(names), now), lambda name: then(names[name]) if name is not None else None
        )

    def action_mouse(self) -> None:
        """Turn mouse support off, so that the terminal can select text; or on again."""
        driver: Any = self._driver
        on = not getattr(self, "_mouse_off", False)
        self._mouse_off = on
        switch = getattr(driver, "_disable_mouse_support" if on else "_enable_mouse_support", None)
        if switch is not None:
            switch()
        self.show_message(f"mouse {'off: the terminal selects' if on else 'on'}")

    def action_redraw(self) -> None:
        self.paint_all()

    def action_command_palette(self) -> None:
        super().action_command_palette()
        # Terminals differ in the width of its default icon.
        self.call_after_refresh(self._plain_icon)

    def _plain_icon(self) -> None:
        for found in self.screen.query(SearchIcon):
            found.icon = ":"

    # --- keys: copying

    def action_copy_id(self) -> None:
        if (row := self.under_cursor) is not None:
            self._copy(_id_of(row))

    def action_copy_all(self) -> None:
        from qctl.dashboard.views.details import sheet_of

        sheet = sheet_of(self.under_cursor)
        if sheet is not None:
            raw = [t.text for t in sheet.tabs if t.name == "Raw"]
            facts = {k: v for k, v in sheet.tabs[0].facts if k}
            self._copy(raw[0] if raw else msgspec.json.encode(facts).decode())

    def action_copy_line(self) -> None:
        from qctl.dashboard.views.details import sheet_of

        sheet = sheet_of(self.under_cursor)
        if sheet is not None:
            self._copy("qctl " + shlex.join(sheet.words))

    def action_picture(self) -> None:
        from qctl.dashboard.screens.screenshot import save

        try:
            message, word = save(self), ""
        except OSError as exc:
            message, word = f"not saved in this folder: {exc.strerror}", "failed"
        if len(self.screen_stack) > 1:  # a page hides the line for remarks
            self.notify(message, timeout=3)
        else:
            self.show_message(message, word)

    def _copy(self, text: str) -> None:
        """Copy to the terminal's clipboard and show the text: not every terminal supports it."""
        self.copy_to_clipboard(text)
        self.show_message(f"copied: {text}")


def _id_of(row: Any) -> str:
    for name in ("uuid", "node", "name"):
        if getattr(row, name, ""):
            return str(getattr(row, name))
    return str(getattr(row, "event", row))
