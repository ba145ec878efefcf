"""A Redis cluster under fault: the slot of the fleet moves, or its owner is killed."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from qcore import App
from qcore.brokers.contract.records import StoredResult
from qcore.brokers.registry import open_broker
from qcore.errors import BrokerDown
from qcore.wire.result import encode
from tests.faults import size
from tests.faults.fleet import Fleet, no_surprises
from tests.faults.history import note_all
from tests.support.processes import Processes
from tests.support.redis_cluster import RealCluster
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

OPTIONS: dict[str, Any] = {"heartbeat_s": 1.0}
META = encode("waited for", "SUCCESS", 1, now=0.0)
COUNT = size(600, 20_000)


def test_a_slot_that_moves_while_tasks_run_loses_nothing(
    redis_cluster: RealCluster, processes: Processes, tmp_path: Path
) -> None:
    fleet = Fleet(redis_cluster.url, processes, tmp_path)
    worker = fleet.worker(lease_s=10)
    fleet.publish_many(COUNT // 3, prefix="before")
    fleet.wait_finished(COUNT // 10)

    source, target = redis_cluster.begin_move()
    redis_cluster.move_keys(source, target, 3)
    # What is published while the keys are at two nodes waits for the end of the move.
    publisher = threading.Thread(target=fleet.publish_many, args=(COUNT // 3,), kwargs={"prefix": "during"})
    publisher.start()
    stored = fleet.app.broker.watch_results()
    stored.add(["waited for"])
    redis_cluster.end_move(source, target)
    publisher.join()
    fleet.app.broker.store_results([StoredResult("waited for", META, 60.0)])
    wait_for(lambda: stored.arrived(1.0), 60)
    stored.close()
    fleet.publish_many(COUNT // 3, prefix="after")
    fleet.wait_done()

    assert redis_cluster.owner() is target
    # PUBLISH counts those who listen at the new owner: the worker does as soon as it knows of the move.
    wait_for(lambda: len(fleet.app.control.ping(timeout=60)) == 1, 60)
    worker.term()
    assert worker.wait(60) == 0
    verdict = fleet.verdict()
    verdict.require()
    assert "Traceback" not in worker.output()
    fleet.close()


def test_the_owner_is_killed_and_what_was_replicated_is_not_lost(
    redis_cluster: RealCluster, processes: Processes, tmp_path: Path
) -> None:
    fleet = Fleet(redis_cluster.url, processes, tmp_path)
    env = {"FAULTS_SETTINGS": json.dumps({"broker_transport_options": OPTIONS})}
    worker = fleet.worker(lease_s=10, env=env)
    broker = open_broker(redis_cluster.url, {**OPTIONS, "publish_wait_replicas": 1})
    messages = {f"t{i}": fleet.work(f"t{i}") for i in range(COUNT)}
    broker.publish(list(messages.values()))  # returns when the replica has them
    note_all(fleet.path, "published", messages)
    fleet.wait_started(COUNT // 10)

    old = redis_cluster.owner()
    old.kill9()
    wait_for(fleet.history.all_finished, 120, "all tasks finished")

    client = App("client", broker=redis_cluster.url, set_as_current=False)
    new = redis_cluster.owner()  # tasks that were claimed before can be finished before the fail-over
    client.broker.check()
    assert client.broker.place == new.url != old.url
    fleet.publish_many(20, prefix="later")
    wait_for(fleet.history.all_finished, 120, "the tasks published after the fail-over finished")
    worker.term()
    assert worker.wait(60) == 0
    no_surprises([worker])
    verdict = fleet.verdict()
    verdict.require(may_be_unflagged=verdict.unflagged)  # the mark itself may not have been replicated
    old.start()
    broker.close()
    client.close()
    fleet.close()


def test_a_cluster_that_serves_no_slot_is_an_outage_that_names_it(redis_cluster: RealCluster) -> None:
    broker = open_broker(redis_cluster.url, {"connect_timeout_s": 0.5})
    broker.check()
    first, *_ = [n for n in redis_cluster.nodes if n.role() == "master" and n is not redis_cluster.owner()]
    slot = redis_cluster.uncover(first)

    try:
        with pytest.raises(
            BrokerDown, match=r"slot \d+ of the prefix {qcore} is not served now: CLUSTERDOWN"
        ):
            wait_for(lambda: broker.administration.queues() is None, 60)
    finally:
        redis_cluster.cover(first, slot)
    assert broker.administration.queues() == []
    broker.close()
