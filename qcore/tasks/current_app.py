"""The current app: the app of shared tasks, and of signatures and results without an app of their own."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

from qcore.base import provided
from qcore.errors import ConfigError

#: an environment variable of Celery's: with it the use of an app that nobody made is an error
TRACE = "CELERY_TRACE_APP"
#: further ones, read when this module is imported: any use of the current app is an error, or is printed
STRICT, WARN = (bool(os.environ.get(name)) for name in ("C_STRICT_APP", "C_WARN_APP"))

_current: Any = None


def set_current(app: Any) -> None:
    """Make `app`, an App, the current one; None: none is."""
    global _current
    _current = app


def current_app() -> Any:
    """The App that was created or set as current last; if none, a default one with the embedded broker, or,
    with CELERY_TRACE_APP in the environment, ConfigError with the place of the call. With C_STRICT_APP every
    call raises RuntimeError; with C_WARN_APP every call prints its stack."""
    if STRICT:
        raise RuntimeError(f"{_caller()} uses the current app (C_STRICT_APP is set)")
    if WARN:
        print("-- USES CURRENT_APP", file=sys.stderr)
        traceback.print_stack(file=sys.stderr)
    if _current is None:
        if os.environ.get(TRACE):
            raise ConfigError(f"{_caller()} uses the current app, and there is none ({TRACE} is set)")
        set_current(provided["app"]())
    return _current


def current_or_none() -> Any:
    """The current app, or None; makes none."""
    return _current


def is_set() -> bool:
    """Whether there is a current app without making one."""
    return _current is not None


def _caller() -> str:
    """The file and line of the innermost call outside of qcore."""
    frame: Any = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "qcore":
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
