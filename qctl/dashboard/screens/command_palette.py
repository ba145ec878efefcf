"""ctrl-p: every action of the dashboard, by name: views, keys, control commands.

In:  the typed text.  Out: actions.  The control commands come from qcore's command table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

from qcore.control.commands.registry import commands
from qctl.dashboard.keys import ACT, LOOK
from qctl.dashboard.views.views import VIEWS

Do = Callable[[], None]


class CommandTarget(Protocol):
    """The dashboard's interface for the palette."""

    refusal: str

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
            yield f"view: {view.name}", f"key {view.key}", partial(window.action_view, view.name)
        for key in LOOK:
            if key.action not in ("command_palette", "details") and not key.action.startswith("app."):
                yield key.words, f"key {key.shown}", partial(self._press, key.action)
        if window.refusal:
            return
        for key in ACT:
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
