"""The current app: the app of shared tasks, and of signatures and results without an app of their own."""

from __future__ import annotations

from typing import Any

from qcore.base import provided

_current: Any = None


def set_current(app: Any) -> None:
    """Make `app`, an App, the current one."""
    global _current
    _current = app


def current_app() -> Any:
    """The App that was created or set as current last; if none, a default one with the embedded broker."""
    if _current is None:
        set_current(provided["app"]())
    return _current
