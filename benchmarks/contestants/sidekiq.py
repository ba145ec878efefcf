"""Sidekiq on ruby: two processes. Calls and the job are sidekiq.rb; what is left is read from its keys.

It stores no results and acknowledges nothing: left() can be short by the jobs that run at that moment, at
most one a thread. Where a result is waited for (cold start, idle), the job writes a key.
"""

from __future__ import annotations

from benchmarks.contestants import QUEUE
from benchmarks.contestants.keys import client, count_existing, count_matching
from benchmarks.contestants.producer import Producer

SETTINGS = (
    "2 ruby processes of Debian's packages, -c 10 (default; 1 to 20 are alike), logging and warnings off; "
    "calls from a third ruby process, timed inside it; bulk = push_bulk; it acknowledges nothing and stores "
    "no results: for the cold start the job writes a key"
)
PACKAGES = ()
TASKS = 10_000
AT_ONCE = 1000
DONE = "done:"

producer = Producer("sidekiq.rb")
spent = producer.spent


def versions() -> dict[str, str]:
    return producer.ask("versions")


def workers(children: int) -> list[list[str]]:
    command = ["-S", "sidekiq", "-r", producer.script, "-q", QUEUE, "-c", "10", "-e", "production"]
    return [command for _ in range(children)]


def send(n: int) -> list[str]:
    return [DONE + i for i in producer.ask("send", n)["ids"]]


def send_bulk(n: int) -> list[str]:
    return [DONE + i for i in producer.ask("bulk", n)["ids"]]


def fill(n: int) -> list[str]:
    return [i for start in range(0, n, AT_ONCE) for i in send_bulk(min(AT_ONCE, n - start))]


def stored(handles: list[str]) -> int:
    return count_existing(handles)


def kept() -> int:
    return count_matching(DONE + "*")


def left() -> int:
    """Queued, or failed: what failed is tried again and is never done here."""
    redis = client()
    return int(redis.llen(f"queue:{QUEUE}")) + int(redis.zcard("retry")) + int(redis.zcard("dead"))
