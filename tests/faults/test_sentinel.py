"""Redis behind Sentinel: the primary is found, lost, and found again somewhere else."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from qcore import App
from qcore.brokers.contract.records import Message
from qcore.brokers.registry import open_broker
from qcore.errors import BrokerDown, NotReplicated
from tests.faults import size
from tests.faults.fleet import Fleet, no_surprises
from tests.faults.history import note_all
from tests.support.processes import Processes
from tests.support.sentinels import NAME, Watched
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

OPTIONS: dict[str, Any] = {"master_name": NAME, "heartbeat_s": 1.0}
COUNT = size(2000, 20_000)


def test_a_fail_over_under_way_loses_at_most_what_was_not_replicated(
    watched: Watched, processes: Processes, tmp_path: Path
) -> None:
    fleet = Fleet(watched.primary().url, processes, tmp_path)
    env = {"FAULTS_SETTINGS": json.dumps({"broker_transport_options": OPTIONS})}
    worker = fleet.worker(url=watched.url, lease_s=10, env=env)
    broker = open_broker(watched.url, {**OPTIONS, "publish_wait_replicas": 1})
    messages = {f"t{i}": fleet.work(f"t{i}") for i in range(COUNT)}
    broker.publish(list(messages.values()))  # returns when the replica has them
    note_all(fleet.path, "published", messages)
    fleet.wait_started(COUNT // 10)

    old = watched.primary()
    old.kill9()
    wait_for(fleet.history.all_finished, 120, "all tasks finished")

    worker.term()
    assert worker.wait(60) == 0
    no_surprises([worker])
    assert open_broker(watched.url, OPTIONS).info()["port"] != 0
    verdict = fleet.verdict()
    ends = sorted(event.at for task in fleet.history.tasks.values() for event in task.finished)
    pause_s = max(after - before for before, after in pairwise(ends))
    print(f"nothing ran for {pause_s:.2f} s; {verdict}")
    verdict.require(may_be_unflagged=verdict.unflagged)  # the mark itself may not have been replicated
    broker.close()
    fleet.close()


def test_everything_goes_to_the_primary_that_sentinel_names(watched: Watched, processes: Processes) -> None:
    settings = {"broker_transport_options": OPTIONS}
    processes.start_qcore_worker(
        watched.url, "-c", "1", app="tests.projects.served", env={"SERVED_SETTINGS": json.dumps(settings)}
    )
    app = App("client", broker=watched.url, set_as_current=False, **settings)

    assert app.send_task("served.add", (1, 2)).get(timeout=60) == 3
    assert len(app.control.ping(timeout=60)) == 1
    assert app.broker.info()["port"] == watched.primary().port

    watched.sentinels[0].kill9()
    assert app.send_task("served.add", (3, 4)).get(timeout=60) == 7
    watched.primary().kill9()

    def again() -> bool:
        try:
            return bool(app.send_task("served.add", (5, 6)).get(timeout=10) == 11)
        except (BrokerDown, TimeoutError):
            return False

    wait_for(again, 60, "the new primary takes tasks")
    app.close()


def test_publish_waits_for_the_replicas_it_was_asked_to_wait_for(watched: Watched) -> None:
    options = {**OPTIONS, "publish_wait_replicas": 2, "publish_wait_s": 0.2}
    broker = open_broker(watched.url, options)

    with pytest.raises(NotReplicated, match="1 of the 2 replicas"):
        broker.publish([Message(b"m", queue="q")])

    assert broker.administration.peek("q") == [b"m"]
    broker.close()


def test_a_name_that_no_sentinel_knows_is_refused(watched: Watched) -> None:
    with pytest.raises(BrokerDown, match=r"no sentinel of 127\.0\.0\.1:.* knows a primary called 'nobody'"):
        open_broker(watched.url, {"master_name": "nobody"}).check()
