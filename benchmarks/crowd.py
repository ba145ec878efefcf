"""Idle workers in great number: consumers of the broker, armed, all in one loop.

python -m benchmarks.crowd URL QUEUE N

Each does what a worker's loop does (brokers/base.py): arm, sleep, wake, claim, settle with a result,
arm. The tasks themselves are not run: they do nothing.
"""

from __future__ import annotations

import json
import select
import sys
import time

from qcore.brokers.contract.consumer import Consumer
from qcore.brokers.contract.records import Delivery, Settlement, StoredResult
from qcore.brokers.registry import open_broker

RENEW_S = 10.0


def main(url: str, queue: str, count: int) -> None:
    """Until it is killed."""
    broker = open_broker(url, {})
    consumers = [broker.consumer([queue], node=f"idle{i}@bench") for i in range(count)]
    poll = select.poll()
    owner: dict[int, Consumer] = {}
    looked = dict.fromkeys(consumers, time.monotonic())
    renewed = time.monotonic()
    for consumer in consumers:
        consumer.arm()
        for fd in consumer.fds():
            owner[fd] = consumer
            poll.register(fd, select.POLLIN)
    print("waiting", flush=True)
    while True:
        for fd, _ in poll.poll(200):
            brought = owner[fd].wake(fd)
            if brought:  # as a worker, which runs it and asks for nothing else meanwhile
                owner[fd].settle([end(delivery) for delivery in brought])
                owner[fd].arm()
            else:
                work(owner[fd])
            looked[owner[fd]] = time.monotonic()
        now = time.monotonic()
        for consumer in consumers:
            if now - looked[consumer] > consumer.idle_s():
                work(consumer)
                looked[consumer] = now
        if now - renewed > RENEW_S:
            renewed = now
            for consumer in consumers:
                consumer.renew()


def work(consumer: Consumer) -> None:
    """Take what is there, until there is nothing; then wait again."""
    held = consumer.claim(8)
    while held:
        _, held = consumer.turn([end(delivery) for delivery in held], 8)
    consumer.arm()


def end(delivery: Delivery) -> Settlement:
    task_id = json.loads(delivery.raw)["headers"]["id"]
    meta = {"status": "SUCCESS", "result": None, "traceback": None, "children": [], "task_id": task_id}
    return Settlement(delivery, result=StoredResult(task_id, json.dumps(meta).encode()))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
