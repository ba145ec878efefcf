"""Tests of a project: apps in memory, workers in a thread, fixtures for pytest (see docs/testing.md).

from qcore.testing import in_memory_app, start_worker

with in_memory_app() as app, start_worker(app): ...
"""

from __future__ import annotations

from qcore.testing.app import in_memory_app
from qcore.testing.worker import start_worker

__all__ = ["in_memory_app", "start_worker"]
