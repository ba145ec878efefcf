"""Pool classes that projects wrote for Celery's worker: they run on ours, and are called alike."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from qcore import App
from tests.support.processes import ROOT, Processes

PLACE = "tests.projects.pooled:Threads"


def life(kind: str, url: str, processes: Processes, notes: Path, *words: str, **env: str) -> list[str]:
    """Run four tasks, end; returns what was noted."""
    start = processes.qctl if kind == "qcore" else processes.celery
    more = {"BROKER": url, "NOTES": str(notes), **env}
    name = "Q" if kind == "qcore" else "C"
    worker = start("-A", "tests.projects.pooled", "worker", "-c", "2", "-n", f"{name}@test", *words, env=more)
    client = App("client", broker=url, backend=url, set_as_current=False)
    sent = [client.send_task("pooled.add", (i, i)) for i in range(3)]
    assert [result.get(timeout=60) for result in sent] == [0, 2, 4]
    with pytest.raises(ValueError, match="as it should"):
        client.send_task("pooled.fails").get(timeout=60)
    client.close()
    worker.term()
    assert worker.wait() == 0, worker.output()
    return notes.read_text().splitlines()


def test_a_pool_class_of_celerys_kind_is_called_alike(
    redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    custom = {"CELERY_CUSTOM_WORKER_POOL": PLACE}
    theirs = life("celery", redis_url, processes, tmp_path / "celery", "-P", "custom", **custom)
    ours = life("qcore", redis_url, processes, tmp_path / "qcore", "-P", PLACE)
    by_variable = life("qcore", redis_url, processes, tmp_path / "custom", "-P", "custom", **custom)

    assert ours == theirs == by_variable
    assert Counter(ours)["on_apply"] == 4


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        ("nowhere:Pool", "the pool 'nowhere:Pool' cannot be loaded"),
        ("pathlib:Path", "'pathlib:Path' is no pool; derive it from"),
        ("custom", "needs the environment variable CELERY_CUSTOM_WORKER_POOL=module:Class"),
        ("gevend", "did you mean 'gevent'"),
    ],
)
def test_what_is_no_pool_is_refused_with_a_sentence(pool: str, words: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "qctl", "-A", "tests.projects.proj", "worker", "-P", pool],
        env={**os.environ, "QCTL_BROKER_URL": f"sqlite:///{tmp_path}/q.db"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.returncode in (2, 78), ran.stderr
    assert words in ran.stderr
    assert "Traceback" not in ran.stderr
