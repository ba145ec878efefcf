"""A Redis in cluster mode: one sentence says what to set, and with that everything works on one slot."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qcore import App
from qcore.brokers.redis.servers import ReplyError, ServerSelector
from qcore.brokers.registry import open_broker
from qcore.errors import ConfigError
from tests.qcore.brokers.test_redis_acl import use_every_step
from tests.support.processes import ROOT, Processes
from tests.support.redis_server import ClusterServer, require_server

CODE = """
from qcore import App
app = App("proj", broker_transport_options={"global_keyprefix": "{fleet}"})

@app.task(name="proj.add")
def add(x, y):
    return x + y
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterServer]:
    server = ClusterServer(require_server())
    yield server
    server.stop()


def qctl(home: Path, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("QCTL_", "CELERY_"))}
    return subprocess.run(
        [sys.executable, "-m", "qctl", "-b", url, *words],
        env={**env, "HOME": str(home), "PYTHONPATH": f"{home}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("call", "proj.add", "--no-check"),
        ("queue", "ls"),
        ("inspect", "ping"),
        ("purge", "-f"),
        ("failed", "ls"),
        ("-A", "examples.proj", "worker"),
    ],
    ids=" ".join,
)
def test_without_a_prefix_in_braces_every_command_says_what_to_set(
    words: tuple[str, ...], cluster: ClusterServer, tmp_path: Path
) -> None:
    ran = qctl(tmp_path, cluster.url, *words)

    assert ran.returncode == 78, ran.stderr
    assert "cluster mode" in ran.stderr
    assert "'global_keyprefix': '{name}'" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_with_a_prefix_in_braces_a_task_runs(
    cluster: ClusterServer, processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "proj.py").write_text(CODE)
    words = ("-A", "proj", "--workdir", str(tmp_path), "-b", cluster.url)
    worker = processes.qctl(*words, "worker", "-n", "w1@cluster", "-c", "1")
    worker.wait_output("w1@cluster ready")

    call = ("-A", "proj", "--workdir", str(tmp_path), "call", "proj.add")
    called = qctl(tmp_path, cluster.url, *call, "-a", "[2, 2]", "--wait", "-t", "20")
    late = qctl(tmp_path, cluster.url, *call, "-a", "[20, 22]", "--countdown", "1", "--wait", "-t", "20")
    status = qctl(tmp_path, cluster.url, "-A", "proj", "--workdir", str(tmp_path), "status")

    assert called.stdout.strip().endswith("4"), called.stderr
    assert late.stdout.strip().endswith("42"), late.stderr
    assert "w1@cluster" in status.stdout, status.stderr


def test_schedule_entries_are_in_the_slot_of_the_prefix(cluster: ClusterServer) -> None:
    stray = open_broker(cluster.url).schedules
    with pytest.raises(ConfigError, match="global_keyprefix"):
        stray.declare("app", {"a": b"1"})
    with pytest.raises(ConfigError, match="global_keyprefix"):
        stray.clock()

    use_every_step(open_broker(cluster.url, {"global_keyprefix": "{fleet}"}).schedules)


def test_a_node_that_does_not_hold_the_keys_names_the_one_that_does(cluster: ClusterServer) -> None:
    app = App("moved", broker=cluster.url, set_as_current=False)
    door: ServerSelector = app.broker._door  # type: ignore[attr-defined]

    with pytest.raises(ConfigError, match=r"redis://10\.0\.0\.2:6379/0"):
        door.fail(ReplyError("MOVED 866 10.0.0.2:6379"))

    app.close()
