"""The current app: what shared tasks, bare signatures and bare results belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qcore.app.app import App

_current: App | None = None


def set_current(app: App) -> None:
    """From now on `app` is the current one."""
    global _current
    _current = app


def current_app() -> App:
    """The app made last, or chosen with set_current(); a default one on the embedded broker if none."""
    if _current is None:
        from qcore.app.app import App

        set_current(App("default"))
    assert _current is not None
    return _current
