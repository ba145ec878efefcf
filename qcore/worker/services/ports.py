"""What a worker serves over HTTP: its health, its metrics, or nothing.

In:  the options --health-port and --metrics-port.  Out: the services, and the reporter that counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qcore.events.sender import EventSender
from qcore.worker.services.base import Service
from qcore.worker.services.reporting import TaskReporter
from qcore.worker.services.task_signals import TaskSignals

if TYPE_CHECKING:
    from qcore.worker.loop import Loop


class Ports:
    """The ports of one worker. Raises ConfigError for a malformed address, and for metrics without
    prometheus-client."""

    def __init__(self, health: str | int | None, metrics: str | int | None) -> None:
        self._health = self._metrics = None
        if health is None and metrics is None:
            return
        from qcore.worker.services.http_port import address_of

        self._health = address_of(health) if health is not None else None
        self._metrics = address_of(metrics, "metrics port") if metrics is not None else None
        if self._metrics is not None:
            from qcore.worker.services.metrics_port import check_installed

            check_installed()

    def reporter(self, app: Any, events: EventSender, signals: TaskSignals) -> TaskReporter:
        """The reporter of the worker's tasks; one that counts only if there is a metrics port, one that calls
        requests only if a task has a Request. Raises ConfigError for a wrong one."""
        requests = any(getattr(task, "Request", None) for task in app.tasks.values())
        if self._metrics is None and not requests:
            return TaskReporter(events, signals)
        from qcore.worker.services.requests import reporter_with
        from qcore.worker.services.task_counts import CountingReporter, TaskCounts

        kind = TaskReporter if self._metrics is None else CountingReporter
        found = reporter_with(kind, app, events, signals) if requests else kind(events, signals)
        if isinstance(found, CountingReporter):
            found.counts = TaskCounts()
        return found

    def services(self, loop: Loop, started_at: float) -> dict[str, Service]:
        """By name."""
        found: dict[str, Service] = {}
        if self._health is not None:
            from qcore.worker.services.health_port import health_port

            found["health port"] = health_port(self._health, loop.pulse)
        if self._metrics is not None:
            from qcore.worker.services.metrics_port import metrics_port
            from qcore.worker.services.task_counts import CountingReporter

            assert isinstance(loop.reporter, CountingReporter)
            found["metrics port"] = metrics_port(self._metrics, loop.reporter.counts, loop, started_at)
        return found
