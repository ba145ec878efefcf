"""Pool classes that projects wrote for Celery's worker: they run on ours, and are called alike."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from qcore import App
from tests.support.processes import Processes, run_python

TWO = ("-c", "2")
PLACE = "tests.projects.pooled:Threads"


def life(
    kind: str,
    url: str,
    processes: Processes,
    notes: Path,
    *words: str,
    late: int = 0,
    until: str = "",
    **env: str,
) -> list[str]:
    """Run four tasks, and so many that overrun their soft limit, again until a note is there; end.

    Returns what was noted.
    """
    start = processes.qctl if kind == "qcore" else processes.celery
    more = {"BROKER": url, "NOTES": str(notes), **env}
    name = "Q" if kind == "qcore" else "C"
    worker = start("-A", "tests.projects.pooled", "worker", "-n", f"{name}@test", *(words or TWO), env=more)
    client = App("client", broker=url, backend=url, set_as_current=False)
    sent = [client.send_task("pooled.add", (i, i)) for i in range(3)]
    assert [result.get(timeout=60) for result in sent] == [0, 2, 4]
    with pytest.raises(ValueError, match="as it should"):
        client.send_task("pooled.fails").get(timeout=60)
    while True:
        slow = [client.send_task("pooled.late") for _ in range(late)]
        assert [result.get(timeout=60) for result in slow] == [1] * late
        if until in notes.read_text():
            break
    client.close()
    worker.term()
    assert worker.wait() == 0, worker.output()
    return notes.read_text().splitlines()


def test_a_pool_class_of_celerys_kind_is_called_alike(
    redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    custom = {"CELERY_CUSTOM_WORKER_POOL": PLACE}
    words, late = (*TWO, "-P", "custom"), 1
    theirs = life("celery", redis_url, processes, tmp_path / "celery", *words, late=late, **custom)
    ours = life("qcore", redis_url, processes, tmp_path / "qcore", *TWO, "-P", PLACE, late=late)
    by_variable = life("qcore", redis_url, processes, tmp_path / "custom", *words, late=late, **custom)

    assert ours == theirs == by_variable
    assert Counter(ours)["on_apply"] == 5
    assert Counter(ours)["did_start_ok"] == 1


def test_a_pool_that_scales_is_maintained(redis_url: str, processes: Processes, tmp_path: Path) -> None:
    custom = {"CELERY_CUSTOM_WORKER_POOL": "tests.projects.pooled:Growing"}
    words = ("--autoscale", "3,1", "-P", "custom")
    noted = [
        life(kind, redis_url, processes, tmp_path / kind, *words, late=6, until="maintain_pool", **custom)
        for kind in ("celery", "qcore")
    ]

    assert ["maintain_pool" in notes for notes in noted] == [True, True]


def test_a_pool_that_did_not_start_ends_the_worker(
    redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    env = {"BROKER": redis_url, "NOTES": str(tmp_path / "notes"), "STARTS": "no"}

    worker = processes.qctl("-A", "tests.projects.pooled", "worker", "-P", PLACE, env=env)

    assert worker.wait() != 0
    assert "did not start (did_start_ok)" in worker.output()


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
    ran = run_python(
        *("-m", "qctl", "-A", "tests.projects.proj", "worker", "-P", pool),
        env={**os.environ, "QCTL_BROKER_URL": f"sqlite:///{tmp_path}/q.db"},
    )

    assert ran.returncode in (2, 78), ran.stderr
    assert words in ran.stderr
    assert "Traceback" not in ran.stderr
