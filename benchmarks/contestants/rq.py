"""RQ: a pool of two SimpleWorkers, which run jobs in their own process."""

from __future__ import annotations

from redis import Redis
from rq import Queue

from benchmarks.contestants import QUEUE, keeps_results, queue, url
from benchmarks.contestants.keys import client, count_existing, count_matching

SETTINGS = "worker-pool -n 2, SimpleWorker, -q; results off = result_ttl 0 (RQ then deletes the job)"
PACKAGES = ("rq", "redis", "hiredis")
TASKS = 2000
AT_ONCE = 1000

_queue = Queue(queue(), connection=Redis.from_url(url()))
_ttl = 500 if keeps_results() else 0


def noop() -> None:
    """Nothing."""


def workers(children: int) -> list[list[str]]:
    command = ["-m", "rq.cli", "worker-pool", QUEUE, "-n", str(children), "-q", "-u", url()]
    return [[*command, "--worker-class", "rq.SimpleWorker"]]


def send(n: int) -> list[str]:
    return [f"rq:results:{_queue.enqueue(noop, result_ttl=_ttl).id}" for _ in range(n)]


def send_bulk(n: int) -> list[str]:
    data = [Queue.prepare_data(noop, result_ttl=_ttl) for _ in range(n)]
    return [f"rq:results:{job.id}" for job in _queue.enqueue_many(data)]


def trip() -> None:
    result = _queue.enqueue(noop).latest_result(timeout=60)
    assert result is not None and result.type == result.Type.SUCCESSFUL


def stored(handles: list[str]) -> int:
    # A failed job has a result too; it is in a registry besides.
    return count_existing(handles) - int(client().zcard(f"rq:failed:{QUEUE}"))


def kept() -> int:
    return count_matching("rq:results:*")


def left() -> int:
    return int(client().llen(f"rq:queue:{QUEUE}")) + int(client().zcard(f"rq:wip:{QUEUE}"))
