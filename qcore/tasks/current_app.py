"""The current app: what shared tasks, bare signatures and bare results belong to."""

from __future__ import annotations

from typing import Any

from qcore.base import provided

_current: Any = None


def set_current(app: Any) -> None:
    """From now on `app`, an App, is the current one."""
    global _current
    _current = app


def current_app() -> Any:
    """The App made last, or chosen with set_current(); a default one on the embedded broker if none."""
    if _current is None:
        set_current(provided["app"]())
    return _current
