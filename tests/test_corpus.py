"""Whatever bytes a broker holds, the worker lives on, and keeps what it could not run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter

import pytest

from qcore import App
from qcore.brokers.base import Message
from qcore.errors import Malformed
from qcore.wire import task as task_wire
from tests.corpus import TASK, Entry, entries
from tests.processes import Processes
from tests.waiting import wait_for


@pytest.mark.parametrize("entry", list(entries()), ids=lambda e: e.id)
def test_reading_is_total(entry: Entry) -> None:
    try:
        message = task_wire.read(entry.raw)
        task_wire.read_body(message)
        came = "unknown" if message.task != TASK else "task"
    except Malformed as exc:
        came = "malformed"
        assert exc.reason

    assert came == {"quarantine": "malformed", "runs": "task", "delayed": "task"}[entry.expect] or (
        entry.id == "T37" and came == "unknown"
    )


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["redis", "sqlite"])
def test_a_worker_survives_the_corpus(
    kind: str, request: pytest.FixtureRequest, processes: Processes
) -> None:
    url: str = request.getfixturevalue(f"{kind}_url")
    app = App("corpus", broker=url, set_as_current=False)
    worker = processes.start_qcore_worker(url, "-c", "1", "-l", "CRITICAL", name="w1@test")
    app.send_task(TASK, (1, 1)).get(timeout=20)
    slow: dict[str, float] = {}

    for entry in entries():
        app.broker.publish([Message(entry.raw, queue="celery")])
        sent = time.monotonic()
        assert app.send_task(TASK, (2, 3)).get(timeout=20) == 5, entry
        took = time.monotonic() - sent
        if took > 0.5:
            slow[entry.id] = took

    assert worker.is_running
    # The two largest messages take their time on the way; a loaded machine may add one or two.
    assert len(slow) <= 4, slow
    expected = Counter(e.raw for e in entries() if e.expect == "quarantine")
    kept = wait_for(lambda: (q := app.broker.quarantined(500)) and len(q) >= expected.total() and q)
    assert Counter(q.raw for q in kept) == expected
    assert all(q.reason and q.queue == "celery" for q in kept)

    listed = subprocess.run(
        [sys.executable, "-m", "qctl", "-b", url, "-o", "json", "quarantine", "ls", "--limit", "500"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.count('"reason"') == expected.total()
    json.loads(listed.stdout)
    app.close()
