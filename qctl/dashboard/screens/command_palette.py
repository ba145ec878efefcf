"""ctrl-p: every action of the dashboard, by name: views, keys, control commands.

In:  the typed text.  Out: actions.  The control commands come from qcore's command table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

from qcore.control.commands.registry import commands
from qctl.dashboard.key_table import KeyTable, key_shown
from qctl.dashboard.keys import ACT
from qctl.dashboard.own_commands import OwnCommands
from qctl.dashboard.views.views import VIEWS

Do = Callable[[], None]


class CommandTarget(Protocol):
    """The dashboard's interface for the palette."""

    refusal: str
    key_table: KeyTable
    own: OwnCommands

    def action_view(self, name: str) -> None: ...

    def open_command(self, text: str) -> None: ...

    def call_later(self, callback: Callable[..., Any], *args: Any) -> bool: ...

    async def run_action(self, action: str) -> bool: ...


class Everything(Provider):
    """All actions; in a read-only context only those that change nothing."""

    @property
    def _window(self) -> CommandTarget:
        return cast("CommandTarget", self.app)

    def _all(self) -> Iterator[tuple[str, str, Do]]:
        window = self._window
        for view in VIEWS:
            shown = key_shown(window.key_table.views[view.name])
            yield f"view: {view.name}", f"key {shown}", partial(window.action_view, view.name)
        changing = {key.id for key in ACT}
        looking = [key for key in window.key_table.main if key.id not in changing]
        for key in looking:
            if key.action not in ("command_palette", "details") and not key.action.startswith("app."):
                yield key.words, f"key {key.shown}", partial(self._press, key.action)
        for number, own in enumerate(window.own.commands):
            if own.reads_only or not window.refusal:
                shown = f"key {key_shown(own.key)}" if own.key else "own command"
                yield f"own command: {own.name}", shown, partial(self._press, f"own({number})")
        if window.refusal:
            return
        for key in (one for one in window.key_table.main if one.id in changing):
            yield key.words, f"key {key.shown}", partial(self._press, key.action)
        for command in commands():
            if command.visible:
                words = f"{command.kind} {command.name}"
                yield words, command.summary, partial(window.open_command, f"{words} ")

    def _press(self, action: str) -> None:
        window = self._window
        window.call_later(window.run_action, action)

    async def discover(self) -> Hits:
        for name, what, do in self._all():
            yield DiscoveryHit(name, do, help=what)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for name, what, do in self._all():
            score = matcher.match(name)
            if score > 0:
                yield Hit(score, matcher.highlight(name), do, help=what)
