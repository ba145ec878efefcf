"""Workers that are stopped for longer than their lease: what they say afterwards is refused and counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.faults import size
from tests.faults.fleet import Fleet, no_surprises
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LEASE_S = 0.7


def stats_of(fleet: Fleet, node: str) -> dict[str, Any]:
    answers = fleet.app.control.inspect(destination=[node], timeout=5).stats() or {}
    return dict(answers.get(node, {}))


@pytest.mark.parametrize("fleet", ["redis", "sqlite"], indirect=True)
def test_what_a_stopped_worker_says_later_is_refused_and_counted(fleet: Fleet) -> None:
    rounds = size(4, 30)
    app = fleet.app
    first = fleet.worker("-c", "1", "-n", "first@test", lease_s=LEASE_S)
    second = None
    done_at: Callable[[str], Any] = lambda ident: app.AsyncResult(ident).date_done  # noqa: E731

    for number in range(rounds):
        name = f"stale{number}"
        then = app.signature("faults.work", (str(fleet.path), f"after-{name}"), immutable=True)
        if second is not None:
            second.term()
            second.wait(60)
        message = fleet.work(name, 0.5, ignore_result=False, link=then)
        fleet.publish({name: message})
        wait_for(lambda name=name: name in fleet.history.tasks and fleet.history.tasks[name].started)
        first.stop()
        second = fleet.worker("-c", "1", lease_s=LEASE_S)
        wait_for(lambda name=name: fleet.history.tasks[name].finished, what="the newer run has ended")
        wait_for(lambda name=name: f"after-{name}" in fleet.history.tasks, what="what follows was sent")
        ident = fleet.task_id(message)
        wait_for(lambda ident=ident: app.AsyncResult(ident).ready())
        newer = done_at(ident)
        first.cont()
        wait_for(lambda n=number: stats_of(fleet, "first@test").get("stale_settle_total", 0) > n)

        assert done_at(ident) == newer, "the older run's result has replaced the newer one's"
    assert stats_of(fleet, "first@test")["stale_settle_total"] == rounds
    tasks = fleet.history.tasks
    assert [len(tasks[f"after-stale{n}"].started) for n in range(rounds)] == [1] * rounds
    assert all([e.flag for e in tasks[f"stale{n}"].started] == [False, True] for n in range(rounds))
    no_surprises([first])
