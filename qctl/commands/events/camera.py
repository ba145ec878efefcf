"""`qctl events -c proj.Camera`: call a camera class with the event state at intervals.

In:  the name of a class like qcore.events.camera.Polaroid.  Out: calls of its on_shutter(state).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from qctl import exit_codes

if TYPE_CHECKING:
    from qctl.cli.session import Session


def run_camera(
    session: Session, name: str, every_s: float, maxrate: str | None, most: int, duration_s: float | None
) -> int:
    """Run until Ctrl-C, or for duration_s; return the exit code. most: tasks in memory."""
    from qcore.events.camera import photograph
    from qcore.events.cluster import State

    session.patient = True
    app = session.app
    state = State(max_tasks_in_memory=most)
    try:
        camera = _find(name)(state, freq=every_s, maxrate=maxrate, app=app)
    except ValueError as exc:  # of --maxrate
        raise exit_codes.CommandError(exit_codes.USAGE, str(exc)) from None
    try:
        photograph(camera, app, duration_s)
    except KeyboardInterrupt:
        pass
    return exit_codes.OK


def _find(name: str) -> Any:
    module, _, attribute = name.replace(":", ".").rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute) if module else None
    except (ImportError, AttributeError) as exc:
        raise exit_codes.CommandError(exit_codes.USAGE, f"cannot load the camera '{name}': {exc}") from None
    if not callable(found) or not hasattr(found, "on_shutter"):
        raise exit_codes.CommandError(
            exit_codes.USAGE,
            f"'{name}' is not a camera: it has no on_shutter(state)",
            "write -c module.Class, a subclass of qcore.events.camera.Polaroid",
        )
    return found
