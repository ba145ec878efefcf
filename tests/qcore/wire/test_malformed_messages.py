"""Whatever bytes a broker holds, the worker lives on, and keeps what it could not run."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections import Counter

import msgspec
import pytest

from qcore import App
from qcore.brokers.contract.records import Message
from qcore.errors import Malformed
from qcore.wire import task as task_wire
from tests.faults import FULL, size
from tests.support.corpus import TASK, Entry, entries
from tests.support.mutants import mutants
from tests.support.processes import Processes, run_python
from tests.support.waiting import wait_for


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


def read(raw: bytes) -> tuple[str, object]:
    """What became of it: the reason it is no task, or everything the worker decides by."""
    try:
        found = task_wire.read(raw)
        body = task_wire.read_body(found)
    except Malformed as exc:
        return exc.reason, None
    fields = {k: v for k, v in msgspec.structs.asdict(found).items() if k not in ("whole", "raw", "usual")}
    links = {key: value for key, value in body.embed.items() if value is not None}
    return "task", (fields, found.headers, repr(body._replace(embed=links)))


def is_set_aside(raw: bytes) -> bool:
    """Whether it is no task; the bodies of those that have expired are not looked at."""
    try:
        found = task_wire.read(raw)
    except Malformed:
        return True
    return not found.expires and read(raw)[0] != "task"


def test_reading_mutants_is_total_and_the_short_way_reads_them_like_the_long_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count = size(10_000, 20_000)
    found = [read(raw) for raw in mutants(count)]
    assert 0.1 * count < sum(reason == "task" for reason, _ in found) < 0.9 * count

    monkeypatch.setattr(task_wire, "_USUAL_BYTES", -1)

    for raw, short in zip(mutants(count), found, strict=True):
        assert read(raw) == short, raw


@pytest.mark.slow
@pytest.mark.timeout(1800 if FULL else 120)
@pytest.mark.parametrize("kind", ["redis", "sqlite"])
def test_a_worker_survives_mutants(kind: str, request: pytest.FixtureRequest, processes: Processes) -> None:
    url: str = request.getfixturevalue(f"{kind}_url")
    app = App("mutants", broker=url, set_as_current=False)
    worker = processes.start_qcore_worker(url, "-c", "1", "-l", "CRITICAL", name="w1@test")
    app.send_task(TASK, (1, 1)).get(timeout=60)
    raws = list(mutants(20_000 if FULL else 300, seed=2))

    for some in (raws[start : start + 50] for start in range(0, len(raws), 50)):
        app.broker.publish([Message(raw, queue="celery") for raw in some])
        assert app.send_task(TASK, (2, 3)).get(timeout=60) == 5
        bad = Counter(filter(is_set_aside, some))
        wait_for(lambda bad=bad: bad <= Counter(q.raw for q in app.broker.administration.quarantined(200)))

    assert worker.is_running
    app.close()
    worker.term()
    assert worker.wait(60) == 0


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["redis", "sqlite"])
def test_a_worker_survives_the_corpus(
    kind: str, request: pytest.FixtureRequest, processes: Processes
) -> None:
    url: str = request.getfixturevalue(f"{kind}_url")
    app = App("corpus", broker=url, set_as_current=False)
    worker = processes.start_qcore_worker(url, "-c", "1", "-l", "CRITICAL", name="w1@test")
    app.send_task(TASK, (1, 1)).get(timeout=60)
    slow: dict[str, float] = {}

    for entry in entries():
        app.broker.publish([Message(entry.raw, queue="celery")])
        sent = time.monotonic()
        assert app.send_task(TASK, (2, 3)).get(timeout=60) == 5, entry
        took = time.monotonic() - sent
        if took > 0.5:
            slow[entry.id] = took

    assert worker.is_running
    # The two largest messages take their time on the way; a loaded machine may add one or two.
    assert len(slow) <= 4, slow
    expected = Counter(e.raw for e in entries() if e.expect == "quarantine")
    kept = wait_for(
        lambda: (q := app.broker.administration.quarantined(500)) and len(q) >= expected.total() and q
    )
    assert Counter(q.raw for q in kept) == expected
    assert all(q.reason and q.queue == "celery" for q in kept)

    listed = run_python("-m", "qctl", "-b", url, "-o", "json", "quarantine", "ls", "--limit", "500")
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.count('"reason"') == expected.total()
    json.loads(listed.stdout)
    app.close()


#: decides on each message of stdin (base64, a line each): the times, and how much the process has grown
DECIDE = """
import base64, json, re, sys, time
from pathlib import Path
from qcore.errors import Malformed
from qcore.wire import task

def most_kib():  # not ru_maxrss, which begins with the parent's
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

raws = [base64.b64decode(line) for line in sys.stdin]
before = most_kib()
took = []
for raw in raws:
    begun = time.process_time()  # others use this machine too
    try:
        task.read_body(task.read(raw))
    except Malformed:
        pass
    took.append(time.process_time() - begun)
print(json.dumps([took, most_kib() - before]))
"""


def test_bombs_are_refused_before_they_cost_anything() -> None:
    bombs = [e for e in entries() if e.id.startswith(("T09", "T14", "T58", "T68", "T71"))]
    assert len(bombs) >= 8
    lines = b"\n".join(base64.b64encode(e.raw) for e in bombs)

    done = subprocess.run([sys.executable, "-c", DECIDE], input=lines, capture_output=True, check=True)

    took, grown_kib = json.loads(done.stdout)
    assert max(took) < 0.5, dict(zip([e.id for e in bombs], took, strict=True))  # 0.1 s on a quiet machine
    assert grown_kib < 80 * 1024
