"""The event pipeline under load and with faults: the demonstration's fleet as the source."""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from pathlib import Path

from qcore.events.state import State
from qctl import exits
from qctl.demo_fleet.life import Fleet
from tests.test_cli import qctl

FULL = os.environ.get("QCORE_FAULTS") == "full"


# --- the source


def test_a_fleet_that_is_not_there_lives_as_fast_as_asked_and_ends_all_it_began() -> None:
    fleet, state = Fleet(workers=50, rate=1000, since=1_700_000_000.0), State(max_tasks=100_000)
    for turn in fleet.turns(15):
        state.fold(turn.events, turn.at)
    for turn in fleet.finish(fleet.since + 15):
        state.fold(turn.events, turn.at)

    states = Counter(task.state for task in state.tasks.values())
    names = {task.name for task in state.tasks.values()}
    failed = next(task for task in state.tasks.values() if task.state == "FAILURE")

    assert 14_000 < state.events < 17_000
    assert set(states) == {"SUCCESS", "FAILURE", "REVOKED"}
    assert states["FAILURE"] == fleet.ended["task-failed"] and state.counts["task-retried"] > 0
    assert len(names) == 6 and "Traceback" in failed.traceback
    assert len(state.workers) == 50 and not any(w.missed for w in state.workers.values())


def test_a_worker_of_it_goes_silent_and_comes_back() -> None:
    fleet, last = Fleet(workers=5, rate=50), "w004@demo"
    said = [t.at for t in fleet.turns(60) if t.node == last]

    assert max(b - a for a, b in itertools.pairwise(said)) > 29
    assert said[-1] > 59


def test_the_demonstration_needs_no_broker(tmp_path: Path) -> None:
    done = qctl("-b", "redis://127.0.0.1:1/0", "events", "--demo", "--dump", "--limit", "150", "-o", "ndjson")
    events = [json.loads(line) for line in done.stdout.splitlines()]

    assert done.returncode == exits.OK
    assert len(events) == 150 and not any(e["type"] == "gap" for e in events)
    assert {"worker-online", "task-received", "task-started"} <= {e["type"] for e in events}
