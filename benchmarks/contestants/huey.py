"""huey on Redis, or on SQLite when the URL says so: two processes. It acknowledges nothing.

What a worker has taken is not known to the server, so that left() can be short by the two tasks that
run at that moment.
"""

from __future__ import annotations

import pickle

from huey import RedisHuey, SqliteHuey

from benchmarks.contestants import QUEUE, figure, keeps_results, queue, url
from benchmarks.contestants.parts import in_parts

_on_sqlite = url().startswith("sqlite")
SETTINGS = (
    "SqliteHuey, fsync off, process workers -w 2, polling every 5 ms, the client every 1 ms"
    if _on_sqlite
    else "process workers -w 2, blocking pop, -q, periodic off, notify_result on for the round trip only; "
    "no acknowledgement"
)
PACKAGES = ("huey",) if _on_sqlite else ("huey", "redis", "hiredis")
TASKS = 8000

if _on_sqlite:
    huey = SqliteHuey(
        queue(),
        filename=url().removeprefix("sqlite:///"),
        fsync=False,
        store_none=True,
        results=keeps_results(),
    )
else:
    huey = RedisHuey(
        queue(),
        url=url(),
        notify_result=figure() == "roundtrip",
        store_none=True,
        results=keeps_results(),
    )


@huey.task()
def noop() -> None:
    """Nothing."""


def workers(children: int) -> list[list[str]]:
    command = ["-m", "huey.bin.huey_consumer", "benchmarks.contestants.huey.huey", "-k", "process"]
    command += ["-w", str(children), "-q", "-n"]
    return [[*command, *(["-d", "0.005", "-m", "0.005"] if _on_sqlite else [])]]


def send(n: int) -> list[str]:
    if not keeps_results():
        for _ in range(n):
            noop()  # gives no handle then
        return [""] * n
    return [noop().id for _ in range(n)]


def trip() -> None:
    noop().get(blocking=True, timeout=60, backoff=1, max_delay=0.001)


def stored(handles: list[str]) -> int:
    found = 0
    for part in in_parts(handles):
        raws = [huey.storage.peek_data(h) for h in part] if _on_sqlite else _fields(part)
        found += sum(_is_success(raw) for raw in raws)
    return found


def kept() -> int:
    return int(huey.storage.result_store_size())


def left() -> int:
    return int(huey.storage.queue_size())


def _fields(ids: list[str]) -> list[bytes | None]:
    return huey.storage.conn.hmget(huey.storage.result_key, ids)  # type: ignore[no-any-return]


def _is_success(raw: object) -> bool:
    """What huey keeps is pickled; a failure is an instance of its Error."""
    return isinstance(raw, bytes) and type(pickle.loads(raw)).__name__ != "Error"


assert queue() == QUEUE or figure() in ("publish", "bulk")
