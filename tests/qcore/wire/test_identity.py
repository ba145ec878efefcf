"""Task ids that tell when they were made, and what `oldest` makes of them on Redis."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from qcore import App, chain, chord, group
from qcore.base.times import iso, new_id
from qcore.brokers.contract.records import Message, Settle, Settlement
from qcore.brokers.registry import open_broker
from qcore.wire import identity
from qcore.wire import task as task_wire
from qcore.wire.envelope import decode
from tests.contracts.consuming import take
from tests.faults import FULL
from tests.qctl.commands.test_queue_actions import answer
from tests.qctl.output.test_formats import run
from tests.support.redis_server import RedisServer


@pytest.fixture
def app(redis_url: str) -> Iterator[App]:
    made = App("client", broker=redis_url, set_as_current=False)
    yield made
    made.close()


def id_made(ago_s: float) -> str:
    return f"{identity.make()[:24]}{int((time.time() - ago_s) * 1000):012x}"


def task(task_id: str, **options: Any) -> bytes:
    return task_wire.build("proj.x", ("y" * 50,), {}, task_id=task_id, routing_key="q", **options)


def test_an_id_is_a_uuid_that_tells_when_it_was_made() -> None:
    before = time.time()
    made = [identity.make() for _ in range(2000)]
    read = [uuid.UUID(one) for one in made]

    assert {(one.version, one.variant) for one in read} == {(8, uuid.RFC_4122)}
    assert [str(one) for one in read] == made
    times = [identity.sent_at(one) or 0.0 for one in made]
    assert before - 0.002 < times[0] <= times[-1] <= time.time() and times == sorted(times)
    # All that is not the time and not fixed is random: each of the 74 bits is seen as 0 and as 1.
    bits = [f"{one.int >> 48:080b}" for one in read]
    assert sum({line[i] for line in bits} == {"0", "1"} for i in range(80)) == 74
    assert len({one[:8] for one in made}) > 1990
    assert [identity.sent_at(other) for other in (new_id(), str(uuid.uuid4()), "mine", "")] == [None] * 4


def test_ids_of_what_is_sent_later_tell_nothing(app: App) -> None:
    step = app.signature("proj.x", (1,))
    chain(step, step, step).apply_async()
    chord([step, step], step).apply_async()
    group(step, chain(step, step)).apply_async()
    chain(step, group(step, step)).apply_async()
    app.send_many([step])
    raws = app.broker.administration.peek("celery", 20)

    assert len(raws) == 7 and all(identity.sent_at(decode(raw).headers["id"]) for raw in raws)
    frozen = chain(step, step).freeze()
    assert identity.sent_at(frozen.id) is None
    named = chain(app.signature("proj.x")).apply_async(task_id="mine")
    assert named.id == "mine"


def test_the_oldest_is_known_from_its_id(redis_url: str) -> None:
    broker = open_broker(redis_url, {"global_keyprefix": "p:"})
    cases: list[tuple[list[bytes], float | None]] = [
        ([task(id_made(60))], 60),
        ([task(new_id())], None),
        ([task(new_id()), task(id_made(60))], 60),  # of those that tell, the first
        ([b"\xff", task(new_id()), task(id_made(60), retries=1), task(id_made(50))], 50),
        ([task(id_made(60), retries=1, eta=iso(time.time() - 20))], 20),
        ([task(id_made(60), eta=iso(time.time() - 20))], 20),
        ([task(new_id(), eta=iso(time.time() + 500))], None),
        ([task(id_made(60), replaced_task_nesting=1)], None),
        ([task(id_made(60), argsrepr='"id":"x"', headers={"x": {"id": id_made(900)}})], 60),
        ([*[task(new_id())] * 5, task(id_made(60))], None),  # only so many are looked at
    ]
    for number, (made, age_s) in enumerate(cases):
        queue = f"q{number}"
        broker.publish([Message(raw, queue=queue) for raw in made])

        found = broker.administration.depth(queue).oldest_at

        assert (found is None) == (age_s is None), number
        if found is not None and age_s is not None:
            assert abs(time.time() - found - age_s) < 5, number


def test_the_oldest_of_all_priorities_counts_and_what_came_back_keeps_its_time(redis_url: str) -> None:
    broker = open_broker(redis_url)
    for priority, ago_s in ((0, 10), (3, 100), (9, 400), (6, 20)):
        broker.publish([Message(task(id_made(ago_s), priority=priority), queue="q", priority=priority)])
    assert abs(time.time() - (broker.administration.depth("q").oldest_at or 0) - 400) < 100
    consumer = broker.consumer(["q"])
    held = take(consumer, 4)
    assert broker.administration.depth("q").oldest_at is None
    consumer.settle([Settlement(one, Settle.RETURN) for one in held])
    assert abs(time.time() - (broker.administration.depth("q").oldest_at or 0) - 400) < 100


def test_commands_tell_the_age(app: App) -> None:
    url = app.broker_url()
    app.broker.publish([Message(task(id_made(90)), queue="old"), Message(task(new_id()), queue="new")])

    new, old = answer(url, "ls")
    code, _, _ = run("wait", "queue:old oldest>60s", "-t", "60", "-b", url)
    _, metrics, _ = run("metrics", "show", "-b", url)
    _, said, _ = run("doctor", "-b", url)

    assert new["oldest_at"] is None and old["oldest_at"] is not None and code == 0
    assert 'qcore_queue_oldest_seconds{queue="old"} 9' in metrics
    assert 'qcore_queue_oldest_seconds{queue="new"}' not in metrics
    assert "the oldest for 1m3" in said, said


def test_ages_of_many_queues_are_read_in_few_round_trips(redis_url: str, redis_server: RedisServer) -> None:
    broker, many = open_broker(redis_url), 10_000 if FULL else 1000
    raw = task(id_made(60))
    broker.publish([Message(raw, queue=f"q{i}") for i in range(many)])
    names = broker.administration.queues()
    with redis_server.client() as client:
        before = client.info("stats")["total_reads_processed"]
        found = broker.administration.depths(names)
        reads = client.info("stats")["total_reads_processed"] - before
    assert len(found) == many and all(one.oldest_at for one in found)
    assert reads < many / 4  # of the server's; one by one there would be one for each queue at least
