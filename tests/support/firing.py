"""A process that publishes the instants of one entry, in competition with others.

    python -m tests.support.firing URL BY COUNT QUEUE

It waits for the entry "a", takes its instants 1 to COUNT in batches of three, each with one message whose id
is `INSTANT-BY`, and ends when all are taken, by whomever. While the store is down it tries again. It prints a
line for each instant that it took.
"""

from __future__ import annotations

import sys
import time

from qcore.brokers.contract.records import Message
from qcore.brokers.contract.schedules import Firing, ScheduleStore
from qcore.brokers.registry import open_broker
from qcore.errors import BrokerDown
from qcore.wire.schedule import HistoryRecord
from tests.contracts.consuming import message

AT_ONCE = 3


def open_store(url: str) -> ScheduleStore:
    if url.startswith("db+"):
        from qcore.brokers.sql_schedules import SqlScheduleStore

        return SqlScheduleStore(url)
    return open_broker(url).schedules


def instant(number: int, by: str, queue: str) -> Firing:
    task_id = f"{number}-{by}"
    return Firing(
        "a",
        number - 1,
        number,
        (Message(message(task_id), queue),),
        (HistoryRecord(number, "sent", task_id=task_id, by=by),),
        runs=1,
        task_id=task_id,
        instant_us=number,
        by=by,
    )


def main() -> None:
    url, by, count, queue = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    store = open_store(url)
    print("waiting", flush=True)
    while True:
        try:
            (found,) = store.named(["a"])
            if found is None:
                time.sleep(0.01)
                continue
            after = found.state.cursor_us
            if after >= count:
                break
            wanted = range(after + 1, min(after + AT_ONCE, count) + 1)
            answers = store.fire([instant(number, by, queue) for number in wanted])
            print(*[f"took {n}\n" for n, a in zip(wanted, answers, strict=True) if a is None], sep="", end="")
        except BrokerDown:
            print("down")
            time.sleep(0.05)
    print("done")


if __name__ == "__main__":
    main()
