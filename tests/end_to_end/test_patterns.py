"""Patterns of real projects: the same project on Celery's worker and on qcore's does the same."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT, Processes, run_python

PATTERNS = {
    "documents": "documents.celery",
    "store": "store",
    "analytics": "analytics.celery",
    "inbox": "inbox.celery",
}
QUEUES = "celery,exports,events,default"
CLIENT = """
import json, importlib
importlib.import_module("tests.projects.patterns.{app}")
print(json.dumps(importlib.import_module("tests.projects.patterns.{name}.tasks").calls()))
"""


def outcome(kind: str, name: str, url: str, processes: Processes, notes: Path) -> tuple[Any, Counter[str]]:
    """What the client printed, and what the project noted, with this kind of worker and of client."""
    notes.touch()
    env = {"BROKER": url, "NOTES": str(notes)}
    app = PATTERNS[name]
    words = ("-A", f"tests.projects.patterns.{app}", "worker", "-c", "2", "-n", "w@test", "-Q", QUEUES)
    worker = (processes.qctl if kind == "qcore" else processes.celery)(*words, env=env)
    before = "from qcore.celery import install; install()\n" if kind == "qcore" else ""
    done = run_python(
        *("-c", before + CLIENT.format(name=name, app=app)),
        env={**os.environ, **env, "PYTHONPATH": str(ROOT)},
        imports="qctl" if kind == "qcore" else "celery",
        timeout_s=400,
    )
    assert done.returncode == 0, done.stderr
    worker.term()  # it answered the client, so it has begun to work
    assert worker.wait() == 0, worker.output()
    return json.loads(done.stdout), Counter(notes.read_text().splitlines())


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_does_the_same_on_both_workers(
    name: str, redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    theirs, their_notes = outcome("celery", name, redis_url, processes, tmp_path / "celery")
    ours, our_notes = outcome("qcore", name, redis_url, processes, tmp_path / "qcore")

    assert ours == theirs
    assert our_notes == their_notes, f"\nqcore: {our_notes - their_notes}\ncelery: {their_notes - our_notes}"
