"""`--metrics-port`: the metrics of one worker over HTTP, in OpenMetrics or Prometheus text format.

In:  GET /metrics.  Out: the counts of task_counts.py, and the state of the worker at that moment.
`prometheus-client` writes the formats; it is an optional package. `qctl metrics` has those of a fleet.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qcore.base.histogram import Histogram
from qcore.base.process_facts import resident_kib
from qcore.errors import ConfigError
from qcore.version import __version__
from qcore.worker.services.http_port import Answer, HttpPort
from qcore.worker.services.task_counts import TaskCounts

if TYPE_CHECKING:
    from qcore.worker.loop import Loop

MISSING = "--metrics-port needs the package prometheus-client: pip install 'qctl[metrics]'"


def check_installed() -> None:
    """Raises ConfigError without prometheus-client."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        raise ConfigError(MISSING) from None


def metrics_port(address: tuple[str, int], counts: TaskCounts, loop: Loop, started_at: float) -> HttpPort:
    """The service."""
    from prometheus_client.exposition import choose_encoder

    metrics: Any = WorkerMetrics(counts, loop, started_at)

    def answer(path: str, accept: str) -> Answer:
        if path not in ("/metrics", ""):
            return Answer(404, b"the path is /metrics\n")
        encode, content_type = choose_encoder(accept)
        return Answer(200, encode(metrics), content_type)

    return HttpPort(address, "--metrics-port", "metrics", answer)


class WorkerMetrics:
    """The metrics of a worker, as a collector of prometheus-client."""

    def __init__(self, counts: TaskCounts, loop: Loop, started_at: float) -> None:
        self._counts, self._loop, self._started_at = counts, loop, started_at
        self._started: dict[str, int] = {}
        self._busy_s = 0.0

    def collect(self) -> Iterator[Any]:
        """All families, for prometheus_client's encoders; any thread may call it."""
        from prometheus_client.metrics_core import InfoMetricFamily

        about = {"node": self._loop.node, "pool": self._loop.pool.name, "version": __version__}
        yield InfoMetricFamily("qcore_worker", "the worker: node name, pool, version of qcore", value=about)
        yield from self._of_tasks()
        yield from self._of_worker()

    def _of_tasks(self) -> Iterator[Any]:
        from prometheus_client.metrics_core import CounterMetricFamily

        counts = self._counts
        started = CounterMetricFamily("qcore_worker_tasks_started", "runs that began", labels=["task"])
        for task, number in self._started_runs().items():
            started.add_metric([task], number)
        yield started
        what = "tasks by what became of them; a retried one counts at each attempt"
        ended = CounterMetricFamily("qcore_worker_tasks", what, labels=["task", "state"])
        for (task, state), number in sorted(dict(counts.by_state).items()):
            ended.add_metric([task, state], number)
        yield ended
        yield _histograms("qcore_worker_task_runtime_seconds", "duration of runs", "task", counts.runtimes)
        what = "time from publishing, or from the eta, to the start; only of messages that tell it"
        yield _histograms("qcore_worker_queue_wait_seconds", what, "queue", counts.waits)

    def _started_runs(self) -> dict[str, int]:
        """Runs that ended, and those that are running. A run that has just ended is neither for a moment,
        and a counter must not decrease."""
        found = dict(self._counts.runs)
        for one in self._loop.pool.running():
            if (held := self._loop.held.get(one.number)) is not None:
                task = self._counts.tasks.label(held.message.task)
                found[task] = found.get(task, 0) + 1
        for task, number in found.items():
            self._started[task] = max(number, self._started.get(task, 0))
        return dict(sorted(self._started.items()))

    def _of_worker(self) -> Iterator[Any]:
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        loop, pool, now = self._loop, self._loop.pool, time.monotonic()
        running = pool.running()
        waiting = max(len(loop.held) - len(running), 0)
        self._busy_s = max(self._busy_s, self._counts.busy_s + sum(max(now - r.since, 0.0) for r in running))
        gauges = {
            "running_tasks": ("tasks that run now", len(running)),
            "prefetched_tasks": ("deliveries held that do not run yet", waiting),
            "pool_size": ("slots of the pool", pool.size),
            "start_time_seconds": ("start of the worker, Unix time", self._started_at),
            "broker_up": ("1: the broker answers; 0: it is unreachable", int(not loop.is_away())),
        }
        for name, (what, value) in gauges.items():
            yield GaugeMetricFamily(f"qcore_worker_{name}", what, value)
        counters = {
            "slot_busy_seconds": ("seconds that all slots together have run tasks", self._busy_s),
            "broker_connection_losses": ("connections to the broker that were lost", loop.outages()),
            "refused_outcomes": ("outcomes of runs whose lease had expired; another run counts", loop.stale),
        }
        for name, (what, total) in counters.items():
            yield CounterMetricFamily(f"qcore_worker_{name}", what, total)
        memory = GaugeMetricFamily(
            "qcore_worker_resident_memory_bytes",
            "resident memory of the worker's main process, and the sum of the processes of its pool",
            labels=["process"],
        )
        own, others = os.getpid(), [pid for pid in pool.pids() if pid != os.getpid()]
        memory.add_metric(["main"], resident_kib(own) * 1024)
        if others:
            memory.add_metric(["pool"], sum(map(resident_kib, others)) * 1024)
        yield memory


def _histograms(name: str, what: str, label: str, found: dict[str, Histogram]) -> Any:
    from prometheus_client.metrics_core import HistogramMetricFamily

    family = HistogramMetricFamily(name, what, labels=[label])
    for key, histogram in sorted(found.copy().items()):
        buckets = [
            ("+Inf" if bound == float("inf") else f"{bound:g}", number)
            for bound, number in histogram.cumulated()
        ]
        family.add_metric([key], buckets, histogram.sum_s)
    return family
