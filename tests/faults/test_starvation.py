"""Nobody starves: neither a message that is not urgent among urgent ones, nor a worker beside others."""

from __future__ import annotations

import random
import threading
import time

import pytest

from qcore import App
from qcore.base.times import new_id
from qcore.brokers.registry import open_broker
from tests.contracts.consuming import end, put, texts
from tests.faults import FULL, size
from tests.support.processes import Processes
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SECONDS = size(3, 60)
BACKLOG = 2000  # urgent messages that always wait
#: urgent ones in a row while another waits; one of sixteen messages is not the most urgent
MOST_IN_A_ROW = 3 * 16


@pytest.mark.parametrize("kind", [*(["memory"] if FULL else []), "sqlite", "redis"])
def test_a_low_priority_is_served_under_saturating_urgent_load(
    kind: str, request: pytest.FixtureRequest
) -> None:
    url = f"memory://{new_id()}" if kind == "memory" else request.getfixturevalue(f"{kind}_url")
    over, waiting = threading.Event(), set[str]()
    producer = open_broker(url)

    def publish() -> None:
        low = 0
        while not over.is_set():
            missing = BACKLOG - producer.administration.depth("q").ready
            if missing > 0:
                put(producer, "q", *["urgent"] * missing, priority=0)
            for priority in (9, 5):
                name = f"low{low}"
                put(producer, "q", name, priority=priority)
                waiting.add(name)
                low += 1
            over.wait(0.05)

    put(producer, "q", *["urgent"] * BACKLOG, priority=0)
    thread = threading.Thread(target=publish)
    thread.start()
    broker = open_broker(url)
    consumer = broker.consumer(["q"])
    until = time.monotonic() + SECONDS
    urgent, in_a_row, longest = 0, 0, 0
    served = set[str]()
    while time.monotonic() < until:
        one_waits = bool(waiting - served)
        names = texts(found := consumer.claim(4))
        urgent += names.count("urgent")
        if not one_waits or names.count("urgent") < len(names):
            in_a_row = 0
        else:
            in_a_row += len(names)
            longest = max(longest, in_a_row)
        served |= {*names} - {"urgent"}
        end(consumer, *found)
    over.set()
    thread.join()
    consumer.close()
    broker.close()
    producer.close()

    print(f"{kind}: {urgent} urgent, {len(served)} low, {longest} urgent ones in a row while another waited")
    assert urgent > 10 * len(served) > 0, "the load was not urgent enough to say anything"
    assert longest <= MOST_IN_A_ROW


@pytest.mark.parametrize("burst", [1, 5])
@pytest.mark.parametrize("workers", [2, *([4] if FULL else []), 8])
def test_workers_get_even_shares_of_short_tasks(
    workers: int, burst: int, redis_url: str, processes: Processes
) -> None:
    """Tasks of 0 to 20 ms, 200 a second, in random order: whoever is idle has the same chance as whoever
    has just ended one. Where chance or a busy machine makes few tasks uneven, more of them are counted."""
    tasks, rate, dice = size(800, 5000), 200.0, random.Random(1)
    app = App("shares", broker=redis_url, set_as_current=False)
    names = [f"w{number}@test" for number in range(workers)]
    for name in names:
        processes.start_qcore_worker(redis_url, "-c", "2", name=name)

    def shares() -> list[int]:
        answers = app.control.inspect(destination=names, timeout=5).stats() or {}
        return [sum(answers.get(name, {}).get("total", {}).values()) for name in names]

    for round_ in (1, 2, 3):
        due = time.monotonic()
        for _ in range(tasks // burst):
            app.send_many([app.signature("proj.nap", (dice.random() * 0.02,)) for _ in range(burst)])
            due += dice.expovariate(rate / burst)
            time.sleep(max(due - time.monotonic(), 0.0))
        wait_for(lambda sent=tasks * round_: sum(shares()) == sent, 60)
        found = sorted(shares())
        print(f"{workers} workers, bursts of {burst}: {found}")
        if found[-1] <= 1.5 * found[0]:
            break
    assert found[-1] <= 1.5 * found[0]
    app.close()
