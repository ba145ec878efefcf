"""The parts of deploy/compose.yaml as processes: what its commands start works together, and is scraped."""

from __future__ import annotations

import shutil
import subprocess
import urllib.error
import urllib.request

import pytest
import yaml

from qcore import App
from tests.qcore.worker.test_metrics_port import scrape
from tests.support.processes import READY, ROOT, Process, Processes
from tests.support.redis_server import free_port
from tests.support.waiting import wait_for

DEPLOY = ROOT / "deploy"


def is_well(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


def test_the_parts_of_the_compose_file_work_together(redis_url: str, processes: Processes) -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    env = {"QCTL_BROKER_URL": redis_url, "QCTL_APP": "tests.projects.proj"}

    def start(service: str, *more: str, **instead: object) -> Process:
        words = [str(instead.get(f"at_{word}", word)) for word in services[service]["command"]]
        return processes.qctl(*words, *more, env=env)

    # Containers have names and ports of their own, processes of one machine need different ones.
    workers = [(free_port(), free_port()) for _ in range(services["worker"]["deploy"]["replicas"])]
    started = [
        start("worker", "-n", f"w{number}@test", at_8080=health, at_9541=metrics)
        for number, (health, metrics) in enumerate(workers)
    ]
    start("beat")
    exporter = free_port()
    start("metrics", "--host", "127.0.0.1", "--port", str(exporter))
    for worker, (health, _) in zip(started, workers, strict=True):
        worker.wait_output(READY)  # one that has ended says why
        wait_for(lambda at=health: is_well(at, "/ready"), 60, "a worker that is ready")
    wait_for(lambda: is_well(exporter, "/metrics"), 60, "the exporter")
    wait_for(lambda: scrape(exporter)["qcore_events_connected",] == 1, 60, "the exporter's ears")

    app = App("composed", broker=redis_url, set_as_current=False)
    calls = [app.send_task("proj.add", (i, i)) for i in range(20)]
    assert [call.get(timeout=60) for call in calls] == [2 * i for i in range(20)]

    done = ("qcore_tasks_total", "proj.add", "succeeded")
    wait_for(lambda: scrape(exporter).get(done) == 20, 60, "the events of all tasks")
    fleet = scrape(exporter)
    assert fleet["qcore_workers", "online"] == len(workers) == 2
    assert fleet["qcore_schedulers",] == 1
    own = ("qcore_worker_tasks_total", "succeeded", "proj.add")
    assert sum(scrape(port).get(own, 0) for _, port in workers) == 20


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_accepts_the_alerts() -> None:
    done = subprocess.run(
        ["promtool", "check", "rules", str(DEPLOY / "prometheus/alerts.yml")], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr
