"""`qctl metrics` and `qctl bench`: numbers for monitors, and for people who choose a broker."""

from __future__ import annotations

import json
import re
import sqlite3
import time
import urllib.request
from pathlib import Path

from qcore import App
from qcore.base.histogram import BOUNDS, Histogram
from qcore.brokers.contract.records import Message
from qcore.brokers.registry import open_broker
from qctl import exit_codes
from qctl.commands.metrics.collector import Collector
from tests.contracts.consuming import put
from tests.qctl.cli.test_command_line import one_sentence, qctl
from tests.support.processes import Processes
from tests.support.waiting import wait_for

START = time.time()


def test_a_histogram_counts_every_duration_once() -> None:
    histogram = Histogram()

    for seconds in (-1.0, 0.0005, 0.003, 0.003, 5.0, 1e9):
        histogram.add(seconds)

    rows = dict(histogram.cumulated())
    assert histogram.count == 6 and rows[float("inf")] == 6
    assert (rows[0.001], rows[0.004], rows[BOUNDS[-1]]) == (2, 4, 5)


def test_metrics_over_http(redis_url: str, processes: Processes) -> None:
    put(open_broker(redis_url), "mails", "a", "b")
    server = processes.qctl("metrics", "serve", "--port", "0", "-b", redis_url)
    url = server.wait_output(r"serving (http://\S+);")[1]
    processes.start_qcore_worker(redis_url, "-P", "threads", "-E", name="w1@test")
    app = App("client", broker=redis_url, set_as_current=False)

    def scraped() -> dict[str, float]:
        text = urllib.request.urlopen(url, timeout=60).read().decode()
        return {m[1]: float(m[2]) for m in re.finditer(r"(?m)^(\w[^ \n]*) ([\d.e+]+)$", text)}

    wait_for(lambda: scraped().get("qcore_events_total", 0) > 0)
    for _ in range(3):
        app.send_task("proj.add", (1, 2)).get(timeout=60)
    app.send_task("proj.fail", ())
    seen = wait_for(
        lambda: (now := scraped()).get('qcore_tasks_total{name="proj.fail",state="failed"}') and now
    )

    assert seen['qcore_queue_messages{queue="mails",state="ready"}'] == 2
    assert seen['qcore_workers{state="online"}'] == 1
    assert seen['qcore_queue_consumers{queue="celery"}'] == 1
    assert seen['qcore_tasks_total{name="proj.add",state="succeeded"}'] == 3
    assert seen['qcore_task_runtime_seconds_count{name="proj.add"}'] == 3
    assert seen['qcore_task_wait_seconds_bucket{name="proj.add",le="+Inf"}'] == 3
    assert seen["qcore_broker_up"] == 1


def test_ten_thousand_names_leave_few_series(memory_url: str) -> None:
    collector = Collector(App("watched", broker=memory_url, set_as_current=False))

    for number in range(10_000):
        about = {"hostname": f"w{number}@h", "timestamp": START, "uuid": f"t{number}"}
        collector.fold(
            [
                {"type": "task-received", "name": f"proj.t{number}", **about},
                {"type": "task-started", **about},
                {"type": "task-succeeded", "runtime": 0.1, **about},
            ]
        )

    broker = collector._app.broker
    broker.publish([Message(b"{}", queue=f"q{number:05}") for number in range(300)])
    put(broker, "zzz", "a", "b")

    lines = [line for line in collector.text().splitlines() if not line.startswith("#")]
    assert len(lines) <= 2000
    assert 'qcore_queue_messages{queue="zzz",state="ready"} 2' in lines
    assert 'qcore_queue_messages{queue="(others)",state="ready"} 201' in lines
    assert any(line.startswith('qcore_queue_oldest_seconds{queue="zzz"} ') for line in lines)
    assert sum('name="(others)",state="succeeded"} 99' in line for line in lines) == 1


def test_a_bench_leaves_nothing_behind(sqlite_url: str, tmp_path: Path) -> None:
    put(open_broker(sqlite_url), "mails", "a")
    results = f"sqlite:///{tmp_path}/results.sqlite3"

    done = qctl(
        *("bench", "--tasks", "200", "--trips", "20", "-c", "1", "-b", sqlite_url, "-o", "json"),
        *("--result-backend", results),
    )
    put(open_broker(sqlite_url), "qctl.bench", "b")
    refused = qctl("bench", "-b", sqlite_url)

    figures = {i["figure"]: i["value"] for i in json.loads(done.stdout)["items"]}
    assert done.returncode == exit_codes.OK
    assert len(figures) == 6 and all(value > 0 for value in figures.values())
    assert open_broker(sqlite_url).administration.depth("mails").ready == 1
    assert refused.returncode == exit_codes.FAILED and one_sentence(refused)
    with sqlite3.connect(tmp_path / "results.sqlite3") as file:
        assert file.execute("SELECT count(*) FROM results").fetchone() == (0,)


def test_a_bench_of_a_fleet_in_production_is_asked_about(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "contexts.toml").write_text(f'[contexts.live]\nbroker = "{sqlite_url}"\nclass = "prod"\n')
    words = (
        "bench",
        "--context",
        "live",
        "--tasks",
        "10",
        "--trips",
        "1",
        "-c",
        "1",
        "--reason",
        "new disks",
    )

    careful = qctl(*words, QCTL_CONFIG=str(tmp_path))
    unasked = qctl(*words, "--read-write", QCTL_CONFIG=str(tmp_path))

    assert careful.returncode == unasked.returncode == exit_codes.REFUSED
    assert "read-only" in careful.stderr and "--yes" in unasked.stderr
