"""The line of alerts and its keys: episodes begin, speak once, are acknowledged, and lead to their row.

In:  episodes.  Out: signals; another view.  Before this: command_keys.py.  After this: power_keys.py.
"""

from __future__ import annotations

import os
from typing import Any

from qctl.dashboard import alert_signals
from qctl.dashboard.alert_signals import AlertSignals
from qctl.dashboard.screens.command_keys import CommandWindow
from qctl.dashboard.views.episodes import Episode, spoken
from qctl.output.text import shown

#: the view with the row that an alert is about, by the first word of its place
VIEW_OF = {"queue": "queues", "worker": "workers", "failure": "failures"}


class AlertWindow(CommandWindow):
    """The main window, with the keys of alerts."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.signals = AlertSignals()

    def speak(self, begun: list[Episode], context: str) -> None:
        """Signal the episodes that have begun: the bell once, the rest for each."""
        if not begun or "TEXTUAL_DRIVER" in os.environ:  # in a browser nobody hears it
            return
        if self.signals.bell:
            self.bell()
        for one in begun:
            if self.signals.osc9:
                self._notify_terminal(one)
            if self.signals.argv:
                fields = {"what": spoken(one), "where": one.where, "context": context}
                self.run_worker(lambda fields=fields: self._run_signal(fields), thread=True)

    def _notify_terminal(self, one: Episode) -> None:
        driver: Any = self._driver
        if driver is not None and not self.is_headless:
            driver.write(f"\x1b]9;{shown(spoken(one))}\x07")

    def _run_signal(self, fields: dict[str, str]) -> None:
        why = alert_signals.run(self.signals.argv, fields)
        if why:
            text = f"the program of alerts.toml failed: {why}"
            self.call_from_thread(self.show_message, text, "failed")

    def action_acknowledge(self) -> None:
        """Acknowledge the alerts under the cursor or marked; on other screens the first of the line."""
        if self.focused is self.line:
            return
        rows = list(self.table.marked.values()) or [self.table.current]
        chosen = [row for row in rows if isinstance(row, Episode)]
        if self.view.name != "alerts":
            chosen = [one for one in self.picture.episodes if one.is_open][:1]
        done = self.episodes.acknowledge(one.name for one in chosen)
        self.table.clear_marks()
        words = "acknowledged until it changes: " + "; ".join(one.what for one in done)
        self.redraw()
        self.show_message(words if done else "there is no open alert here")

    def go_to_alert(self, one: Episode) -> None:
        """Show the row that an alert is about."""
        kind, _, name = one.where.partition(" ")
        if kind not in VIEW_OF:
            self.action_view("workers")
            return
        self.action_view(VIEW_OF[kind])
        for number, row in enumerate(self.table.items):
            if self.view.id_of(row) == name:
                self.table.go(number)
                return
        self.show_message(f"{one.where} is no longer here")

    def action_view(self, name: str, remember: bool = True) -> None:
        raise NotImplementedError
