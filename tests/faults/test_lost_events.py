"""Some events never arrive: how many is known, and what the dashboard shows is put right."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from qcore import App
from qcore.wire import event as wire
from qctl.dashboard.sources.live import LiveSource
from tests.faults.lossy import Lossy
from tests.support.processes import Processes
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for

FULL = os.environ.get("QCORE_FAULTS") == "full"
TASKS = 33_000 if FULL else 1_700
LOST = 0.05


@pytest.mark.timeout(500)
def test_what_is_lost_is_counted_and_put_right(
    redis_url: str, redis_server: RedisServer, processes: Processes
) -> None:
    for number in range(2):
        processes.start_qcore_worker(redis_url, "-c", "2", "-E", name=f"w{number}@test", backend=redis_url)
    lossy = Lossy(redis_server.port, LOST)
    client = App("client", broker=redis_url, backend=redis_url, set_as_current=False)
    through = f"redis://127.0.0.1:{lossy.port}/0"
    feed = LiveSource(App("watch", broker=through, backend=redis_url, set_as_current=False), 100_000)
    feed.start()
    wait_for(lambda: feed.listening.is_set() and feed.take().up == 2)
    before = feed.memory.missed
    sent = client.send_many(
        [client.signature("proj.fail" if n % 10 == 3 else "proj.add", (1, 2)) for n in range(TASKS)]
    )
    wait_for(lambda: client.broker.administration.depth("celery").ready == 0, 120)
    wait_for(lambda: sent[-1].ready() and sent[0].ready(), 60)
    truth = {r.id: r.state for r in sent}

    def settled() -> bool:
        picture = feed.take()
        injected = sum(len(wire.decode(raw)) for raw in list(lossy.lost))
        open_ = picture.counts.get("STARTED", 0) + picture.counts.get("RECEIVED", 0)
        right = all(t.state == truth[t.uuid] for t in picture.tasks if t.uuid in truth)
        return open_ == 0 and right and feed.memory.missed - before == injected > 0

    wait_for(settled, 150)
    picture = feed.take()
    shown = Counter(t.state for t in picture.tasks)
    unseen = len(truth) - len(picture.tasks)
    print(f"{len(lossy.lost)} messages lost, {feed.memory.missed} events, {unseen} tasks unseen")
    feed.stop()
    lossy.close()
    client.close()

    assert shown == Counter(truth[t.uuid] for t in picture.tasks)
    # A task of which every message was lost is known to nobody but its worker's count.
    assert unseen <= sum(len(wire.decode(raw)) for raw in lossy.lost)
