"""The part of the broker suite about time: delayed messages, and waking those who sleep."""

from __future__ import annotations

import threading
import time

import pytest

from qcore.brokers.base import Broker
from qcore.brokers.contract.records import Message, Settle
from tests.contracts.consuming import (
    Open,
    claim,
    end,
    message,
    needs,
    nothing_for,
    put,
    take,
    text_of,
    texts,
    wait_woken,
)


class Delaying:
    """Messages that the broker holds."""

    def test_delayed_messages_come_when_due_and_in_that_order(self, broker: Broker, queue: str) -> None:
        needs(broker, "delay")
        now = time.time()
        for name, after in [("third", 0.7), ("first", 0.3), ("second", 0.5)]:
            put(broker, queue, name, due_at=now + after)
        put(broker, queue, "now")
        consumer = broker.consumer([queue])

        seen = []
        for _ in range(4):
            (got,) = take(consumer, 1)
            seen.append((text_of(got.raw), time.time() - now))
            end(consumer, got)

        was_due = seen[0][1] >= 0.3  # on a busy machine: then the broker chooses
        assert was_due or seen[0][0] == "now"
        delayed = [(name, at) for name, at in seen if name != "now"]
        assert [name for name, _ in delayed] == ["first", "second", "third"]
        for (_, at), due in zip(delayed, (0.3, 0.5, 0.7), strict=True):
            assert at >= due - 0.01

    def test_what_is_delayed_can_be_looked_at(self, broker: Broker, queue: str) -> None:
        needs(broker, "delay")
        needs(broker, "results")  # stands for "keeps its own books": RabbitMQ cannot look
        now = time.time()
        for name, after in [("later", 90.0), ("sooner", 60.0)]:
            put(broker, queue, name, due_at=now + after)

        found = broker.administration.delayed(queue, 10)

        assert [text_of(raw) for _, raw in found] == ["sooner", "later"]
        assert [round(due - now) for due, _ in found] == [60, 90]

    def test_equal_delayed_messages_are_not_merged(self, broker: Broker, queue: str) -> None:
        needs(broker, "delay")
        raw, due = message("twin"), time.time() + 0.2

        broker.publish([Message(raw, queue=queue, due_at=due)] * 3)

        consumer = broker.consumer([queue])
        assert texts(take(consumer, 3)) == ["twin"] * 3
        nothing_for(consumer)

    def test_a_delivery_can_be_delayed_again(self, broker: Broker, queue: str) -> None:
        needs(broker, "delay")
        put(broker, queue, "a")
        consumer = broker.consumer([queue])
        (got,) = take(consumer, 1)

        due = time.time() + 1.0
        assert end(consumer, got, action=Settle.DELAY, due_at=due) == []

        nothing_for(consumer, 0.1)
        (again,) = take(consumer, 1)
        assert time.time() >= due - 0.01
        assert again.raw == got.raw and not again.redelivered

    def test_an_idle_consumer_knows_when_the_next_is_due(self, broker: Broker, queue: str) -> None:
        needs(broker, "delay")
        consumer = broker.consumer([queue])
        put(broker, queue, "a", due_at=time.time() + 0.4)
        consumer.claim(1)

        assert consumer.idle_s() <= 0.4

    def test_a_delayed_message_wakes_a_sleeping_consumer_in_time(self, broker: Broker, queue: str) -> None:
        needs(broker, "delay")
        consumer = broker.consumer([queue])
        assert consumer.claim(1) == []
        wait_woken(consumer, 0.05)

        due = time.time() + 0.3
        put(broker, queue, "a", due_at=due)

        take(consumer, 1)
        assert time.time() >= due - 0.01

    def test_depth_counts_delayed_messages(self, broker: Broker, queue: str) -> None:
        needs(broker, "delay")
        put(broker, queue, "a", "b", due_at=time.time() + 60)

        depth = broker.administration.depth(queue)

        assert depth.ready == 0 and depth.delayed in (2, None)


class Waking:
    """Idle consumers sleep, and nothing is lost by that."""

    def test_a_message_wakes_an_armed_consumer(self, broker: Broker, queue: str) -> None:
        consumer = broker.consumer([queue])
        nothing_for(consumer, 0.2)
        if not consumer.fds():
            pytest.skip("this driver wakes by time only")

        for name in "abc":
            woken, got = False, claim(consumer, 1)
            assert not got
            threading.Timer(0.1, put, (broker, queue, name)).start()
            while not got:
                woken, got = wait_woken(consumer, 5.0), claim(consumer, 1)
            assert woken and texts(got) == [name]

    def test_each_of_several_queues_wakes(self, broker: Broker, queue: str) -> None:
        consumer = broker.consumer([queue, queue + "-2"])
        for target in (queue + "-2", queue):
            nothing_for(consumer, 0.1)
            put(broker, target, "a")
            (got,) = take(consumer, 1)
            assert got.queue == target

    def test_messages_of_any_priority_wake(self, broker: Broker, queue: str) -> None:
        needs(broker, "priority")
        consumer = broker.consumer([queue])
        for priority in (9, 3, 0, 9):
            nothing_for(consumer, 0.1)
            put(broker, queue, "a", priority=priority)
            end(consumer, *take(consumer, 1))

    def test_a_disarmed_consumer_keeps_nothing_from_others(self, opened: Open, queue: str) -> None:
        needs(opened(), "lease")
        sleeper, other = opened().consumer([queue]), opened().consumer([queue])
        for i in range(5):
            sleeper.arm()
            put(opened(), queue, f"m{i}")

            sleeper.disarm()

            got = take(other, 1)
            assert texts(got) == [f"m{i}"]
            end(other, *got)

    def test_what_woke_a_consumer_that_closes_is_not_lost(self, opened: Open, queue: str) -> None:
        sleeper = opened().consumer([queue])
        nothing_for(sleeper, 0.1)
        sleeper.arm()
        put(opened(), queue, "a", "b")

        sleeper.close()

        assert sorted(texts(take(opened().consumer([queue]), 2))) == ["a", "b"]

    def test_waiting_consumers_share_a_burst(self, opened: Open, queue: str) -> None:
        consumers = [opened().consumer([queue]) for _ in range(3)]
        for consumer in consumers:
            consumer.prefetch(1)
            nothing_for(consumer, 0.05)
            consumer.arm()

        put(opened(), queue, "a", "b", "c")

        found = [text_of(take(c, 1)[0].raw) for c in consumers]
        assert sorted(found) == ["a", "b", "c"]
