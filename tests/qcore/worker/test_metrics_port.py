"""`qctl worker --metrics-port`, read with the parsers of prometheus-client."""

from __future__ import annotations

import math
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import openmetrics, parser
from prometheus_client.openmetrics import parser as open_parser

from qcore import App
from qcore.worker.services.task_counts import OTHERS, Names
from tests.support.processes import Processes
from tests.support.redis_server import free_port
from tests.support.waiting import wait_for

OPEN = "application/openmetrics-text; version=1.0.0"
assert openmetrics


def scrape(port: int, accept: str = "") -> dict[tuple[str, ...], float]:
    """The samples: (name, labels' values in the order of their names) -> value."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=30) as answer:
        text, kind = answer.read().decode(), answer.headers["Content-Type"]
    families: Any
    if accept:
        assert kind.startswith("application/openmetrics-text")
        families = open_parser.text_string_to_metric_families(text)
    else:
        assert kind.startswith("text/plain")
        families = parser.text_string_to_metric_families(text)
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_the_metrics_of_a_worker_are_what_became_of_its_tasks(
    pool: str, redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    app, port = App("measured", broker=redis_url, set_as_current=False), free_port()
    log, release = tmp_path / "log", tmp_path / "release"
    where = ("--metrics-port", f"127.0.0.1:{port}")
    app.send_task("proj.add", (1, 1), expires=-10)
    app.send_task("nobody.knows", ())
    worker = processes.start_qcore_worker(redis_url, "-P", pool, "-c", "1", *where, name="w1@test")

    calls = [app.send_task("proj.add", (1, 1)) for _ in range(3)]
    calls += [app.send_task("proj.fail"), app.send_task("proj.flaky", (str(tmp_path / "flaky"),))]
    for call in calls:
        call.get(timeout=60, propagate=False)
    app.send_task("proj.hold", (str(log), "1", str(release)))
    wait_for(lambda: scrape(port)["qcore_worker_running_tasks",] == 1)
    wait_for(lambda: scrape(port).get(("qcore_worker_tasks_total", "succeeded", "proj.flaky")))
    found, same = scrape(port), scrape(port, OPEN)
    release.touch()
    worker.term()

    assert worker.wait() == 0
    counted = {key[1:]: value for key, value in found.items() if key[0] == "qcore_worker_tasks_total"}
    retried = counted.pop(("retried", "proj.flaky"))
    assert counted == {
        ("expired", "proj.add"): 1,
        ("malformed", OTHERS): 1,
        ("succeeded", "proj.add"): 3,
        ("failed", "proj.fail"): 1,
        ("succeeded", "proj.flaky"): 1,
    }
    assert retried >= 1
    assert found["qcore_worker_tasks_started_total", "proj.hold"] == 1
    assert found["qcore_worker_tasks_started_total", "proj.add"] == 3
    assert found["qcore_worker_task_runtime_seconds_count", "proj.flaky"] == 1 + retried
    assert found["qcore_worker_task_runtime_seconds_bucket", "+Inf", "proj.add"] == 3
    assert found["qcore_worker_queue_wait_seconds_count", "celery"] == 5 + retried
    assert found["qcore_worker_info", "w1@test", pool, app_version()] == 1
    assert found["qcore_worker_pool_size",] == found["qcore_worker_broker_up",] == 1
    assert found["qcore_worker_broker_connection_losses_total",] == 0
    assert 0 < found["qcore_worker_slot_busy_seconds_total",] < math.inf
    assert found["qcore_worker_resident_memory_bytes", "main"] > 1 << 20
    assert (("qcore_worker_resident_memory_bytes", "pool") in found) is (pool == "prefork")
    moving = ("qcore_worker_slot_busy_seconds_total", "qcore_worker_resident_memory_bytes")
    assert found.keys() == same.keys()
    assert not [key for key in found if key[0] not in moving and found[key] != same[key]]
    app.close()


def app_version() -> str:
    from qcore.version import __version__

    return __version__


def test_names_beyond_the_limit_share_one_label() -> None:
    names = Names(most=2)

    found = [names.label(name) for name in ("a", "b", "c", "a", "d")]

    assert found == ["a", "b", OTHERS, "a", OTHERS]


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from qcore.errors import ConfigError

    app = App("bare", broker="memory://", set_as_current=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)

    with pytest.raises(ConfigError) as raised:
        app.worker(metrics_port=9808)

    words = "--metrics-port needs the package prometheus-client: pip install 'qctl[metrics]'"
    assert str(raised.value) == words
