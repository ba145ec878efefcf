"""Replies to callers who died: nothing of them stays."""

from __future__ import annotations

import re
import sys
import time

import pytest

from tests.faults import FULL, size
from tests.support.processes import Processes
from tests.support.redis_server import RedisServer

CALLS, CALLERS = size(200, 5000), size(2, 4)


@pytest.mark.timeout(400)
def test_half_of_the_callers_die_and_no_reply_stays(
    redis_url: str, redis_server: RedisServer, processes: Processes
) -> None:
    worker = processes.start_qcore_worker(redis_url, "-P", "threads", "-c", "1", name="w@test")
    each = str(CALLS // CALLERS)
    callers = [
        processes.start(sys.executable, "-m", "tests.support.callers", redis_url, each)
        for _ in range(CALLERS)
    ]
    totals = [0, 0]
    for caller in callers:
        found = caller.wait_output(r"answered (\d+) died (\d+)", 300)
        totals = [totals[0] + int(found[1]), totals[1] + int(found[2])]

    def replies() -> list[bytes]:
        with redis_server.client() as client:
            names = client.scan_iter("*.reply.celery.pidbox", count=1000)
            return [name for name in names if not name.startswith(b"_kombu.")]

    ended, left = time.monotonic(), replies()
    print(f"{totals[0]} answered, {totals[1]} died; {len(left)} reply keys at once")
    assert totals == [CALLS // 2, CALLS // 2]
    assert left, "nobody died before it read its answer"
    with redis_server.client() as client:
        assert all(ms == -2 or 0 < ms <= 10_000 for ms in map(client.pttl, left))
    if FULL:
        while time.monotonic() < ended + 15:
            time.sleep(0.1)
        left = replies()
        print(f"{len(left)} reply keys after 15 s")
        assert left == []
    assert not re.search(r"Traceback|ERROR", worker.output())
