"""Tests of a project: apps in memory, workers in a thread, fixtures for pytest (see docs/testing.md).

from qcore.testing import in_memory_app, start_worker

with in_memory_app() as app, start_worker(app): ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qcore.testing.app import in_memory_app as in_memory_app
    from qcore.testing.worker import start_worker as start_worker

__all__ = ["in_memory_app", "start_worker"]
_WHERE = {"in_memory_app": "qcore.testing.app", "start_worker": "qcore.testing.worker"}


def __getattr__(name: str) -> Any:
    """Import names at their first use: pytest loads this package in each project where qcore is installed."""
    import importlib

    if name not in _WHERE:
        raise AttributeError(f"module 'qcore.testing' has no attribute '{name}'")
    return getattr(importlib.import_module(_WHERE[name]), name)
