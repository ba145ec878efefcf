"""Flower: what it keeps of events, without its web server."""

from __future__ import annotations

from typing import Any

from flower.events import EventsState

from benchmarks.contestants.celery import overhear, watch_with

SETTINGS = "its state of events with its counters and search index, fed directly or by Celery's receiver"
PACKAGES = ("flower", "celery", "prometheus_client")
TASKS = 1000

__all__ = ["PACKAGES", "SETTINGS", "TASKS", "overhear", "watcher"]


def watcher(most: int) -> Any:
    return watch_with(EventsState(max_tasks_in_memory=most))
