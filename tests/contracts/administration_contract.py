"""The part of the broker suite that operators need: turns, pauses, single messages, publishing once."""

from __future__ import annotations

import contextlib
import random
import threading
import time

import pytest

from qcore.brokers.base import Broker
from qcore.brokers.contract.queues import Binding
from qcore.brokers.contract.records import Message, Settle
from qcore.errors import Unroutable, Unsupported
from tests.contracts.consuming import (
    Open,
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
from tests.contracts.listing_contract import Looking
from tests.support.waiting import wait_for


class Turns:
    """No priority waits for ever."""

    def test_one_of_sixteen_messages_is_not_the_most_urgent(self, broker: Broker, queue: str) -> None:
        needs(broker, "priority", "moves")
        put(broker, queue, *[f"h{i}" for i in range(100)], priority=0)
        put(broker, queue, "low", priority=9)
        consumer = broker.consumer([queue])

        got = [text for _ in range(40) for text in texts(consumer.claim(1))]

        assert got.index("low") == 16
        assert [t for t in got if t != "low"] == [f"h{i}" for i in range(39)]

    def test_each_waiting_priority_gets_its_turns(self, broker: Broker, queue: str) -> None:
        needs(broker, "priority", "moves")
        for priority in (9, 6, 3):
            put(broker, queue, *[f"{priority}-{i}" for i in range(10)], priority=priority)
        put(broker, queue, *[f"0-{i}" for i in range(300)], priority=0)
        consumer = broker.consumer([queue])

        got = [t for _ in range(24) for t in texts(consumer.claim(8))]

        assert len(got) == 192
        others = [t for t in got if not t.startswith("0-")]
        assert len(others) == 11
        assert others == [f"{p}-{i}" for i in range(4) for p in (9, 6, 3)][:11]

    def test_within_a_priority_the_order_is_that_of_publishing(self, broker: Broker, queue: str) -> None:
        needs(broker, "priority", "moves")
        rng = random.Random(7)
        consumer = broker.consumer([queue])
        numbers = dict.fromkeys((0, 3, 6, 9), 0)
        got: list[str] = []
        for _ in range(60):
            for _ in range(rng.randrange(8)):
                priority = rng.choice(list(numbers))
                put(broker, queue, f"{priority}-{numbers[priority]}", priority=priority)
                numbers[priority] += 1
            found = consumer.claim(rng.randrange(1, 6))
            got += texts(found)
            end(consumer, *found)
        while found := consumer.claim(10):
            got += texts(found)

        for priority, count in numbers.items():
            mine = [t for t in got if t.startswith(f"{priority}-")]
            assert mine == [f"{priority}-{i}" for i in range(count)]


class Pausing:
    def test_nothing_is_taken_from_a_paused_queue(self, opened: Open, queue: str) -> None:
        broker, other = opened(), opened()
        needs(broker, "pauses")
        consumer = broker.consumer([queue, queue + "-2"])
        put(broker, queue, "running")
        (running,) = take(consumer, 1)

        other.administration.pause(queue)
        put(broker, queue, "a", priority=0)
        put(broker, queue, "b", priority=9)
        put(broker, queue + "-2", "c")

        assert other.administration.paused() == broker.administration.paused() == [queue]
        assert texts(take(consumer, 1)) == ["c"]
        assert end(consumer, running) == []
        nothing_for(consumer, 0.4)
        assert broker.administration.depth(queue).ready == 2

        other.administration.resume(queue)
        assert texts(take(consumer, 2)) == ["a", "b"]
        assert broker.administration.paused() == []

    def test_a_sleeping_consumer_learns_of_a_pause(self, opened: Open, queue: str) -> None:
        broker, other = opened(), opened()
        needs(broker, "pauses")
        consumer = broker.consumer([queue])
        nothing_for(consumer)

        other.administration.pause(queue)
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            wait_woken(consumer, 0.3)
            assert consumer.claim(1) == []
        put(other, queue, "a")
        nothing_for(consumer, 0.3)

        assert other.administration.depth(queue).ready == 1
        other.administration.resume(queue)
        assert texts(take(consumer, 1)) == ["a"]

    def test_a_pause_is_in_the_broker_not_in_the_consumer(self, opened: Open, queue: str) -> None:
        needs(opened(), "pauses")
        opened().administration.pause(queue)
        broker = opened()
        put(broker, queue, "a")
        broker.publish([Message(message("due"), queue=queue, due_at=time.time() - 1)])

        nothing_for(broker.consumer([queue]), 0.3)

        broker.administration.resume(queue)
        assert sorted(texts(take(broker.consumer([queue]), 2))) == ["a", "due"]

    def test_pausing_twice_is_pausing_once(self, broker: Broker, queue: str) -> None:
        needs(broker, "pauses")
        broker.administration.pause(queue)
        broker.administration.pause(queue)
        assert broker.administration.paused() == [queue]
        broker.administration.resume(queue)
        broker.administration.resume(queue)
        assert broker.administration.paused() == []


class Moving:
    def test_messages_move_in_order_with_their_priorities_and_times(self, broker: Broker, queue: str) -> None:
        needs(broker, "moves")
        target, far = queue + "-t", time.time() + 1000
        put(broker, target, "there")
        put(broker, queue, "late", due_at=far)
        put(broker, queue, "low", priority=9)
        put(broker, queue, "a", "b", "c")
        before = broker.administration.peek(queue)

        assert broker.administration.move(queue, target, limit=2) == 2
        assert [text_of(raw) for raw in broker.administration.peek(queue)] == ["c", "low"]
        assert broker.administration.move(queue, target) == 3

        assert broker.administration.depth(queue).ready == broker.administration.depth(queue).delayed == 0
        assert [text_of(raw) for raw in broker.administration.peek(target)] == ["there", "a", "b", "c", "low"]
        assert broker.administration.peek(target)[1:] == before
        ((due_at, raw),) = broker.administration.delayed(target)
        assert (text_of(raw), round(due_at)) == ("late", round(far))
        assert target in broker.administration.queues()

    def test_chosen_messages_move_and_others_stay(self, broker: Broker, queue: str) -> None:
        needs(broker, "moves")
        put(broker, queue, "a", "b", "c", "d")
        put(broker, queue, "late", due_at=time.time() + 1000)

        assert broker.administration.move(queue, queue + "-t", ids=["c", "a", "late", "nobody"]) == 3

        assert [text_of(raw) for raw in broker.administration.peek(queue)] == ["b", "d"]
        assert [text_of(raw) for raw in broker.administration.peek(queue + "-t")] == ["a", "c"]
        assert [text_of(raw) for _, raw in broker.administration.delayed(queue + "-t")] == ["late"]

    def test_what_is_in_flight_does_not_move(self, broker: Broker, queue: str) -> None:
        needs(broker, "moves")
        put(broker, queue, "a", "b")
        consumer = broker.consumer([queue])
        (held,) = take(consumer, 1)

        assert broker.administration.move(queue, queue + "-t") == 1
        assert broker.administration.drop(queue, ["a"]) == 0

        assert end(consumer, held) == []

    def test_what_came_back_stays_flagged_when_it_moves(self, broker: Broker, queue: str) -> None:
        needs(broker, "moves")
        put(broker, queue, "a")
        consumer = broker.consumer([queue])
        end(consumer, *take(consumer, 1), action=Settle.RETURN)

        broker.administration.move(queue, queue + "-t")

        (got,) = take(broker.consumer([queue + "-t"]), 1)
        assert (got.redelivered, got.deliveries, got.raw.rstrip()) == (True, 2, got.raw)

    def test_moving_a_queue_to_itself_does_nothing(self, broker: Broker, queue: str) -> None:
        needs(broker, "moves")
        put(broker, queue, "a", "b")

        assert broker.administration.move(queue, queue) == 0

        assert [text_of(raw) for raw in broker.administration.peek(queue)] == ["a", "b"]

    def test_moving_wakes_who_waits_at_the_target(self, broker: Broker, queue: str) -> None:
        needs(broker, "moves")
        consumer = broker.consumer([queue + "-t"])
        nothing_for(consumer)
        put(broker, queue, "a")

        broker.administration.move(queue, queue + "-t")

        assert wait_woken(consumer, 60)
        assert texts(take(consumer, 1)) == ["a"]

    def test_single_messages_are_dropped(self, broker: Broker, queue: str) -> None:
        needs(broker, "moves")
        put(broker, queue, "a", "b", "c")
        put(broker, queue, "late", due_at=time.time() + 1000)

        assert broker.administration.drop(queue, ["b", "late", "nobody"]) == 2

        assert [text_of(raw) for raw in broker.administration.peek(queue)] == ["a", "c"]
        assert broker.administration.delayed(queue) == []

    def test_movers_and_consumers_together_lose_and_repeat_nothing(self, opened: Open, queue: str) -> None:
        broker = opened()
        needs(broker, "moves")
        names, done = [f"m{i}" for i in range(300)], threading.Event()
        put(broker, queue, *names)

        def shuttle(a: str, b: str) -> None:
            mover = opened()
            while not done.is_set():
                mover.administration.move(a, b, limit=7)
                mover.administration.move(a, b, ids=[f"m{random.randrange(300)}"])

        threads = [
            threading.Thread(target=shuttle, args=(queue, queue + "-t")),
            threading.Thread(target=shuttle, args=(queue + "-t", queue)),
        ]
        for thread in threads:
            thread.start()
        consumer = broker.consumer([queue, queue + "-t"])
        got: list[str] = []
        until = time.monotonic() + 60
        while len(got) < 300 and time.monotonic() < until:
            found = consumer.claim(3)
            got += texts(found)
            end(consumer, *found)
        done.set()
        for thread in threads:
            thread.join()

        assert sorted(got) == sorted(names)


class Replaying:
    def test_a_message_goes_back_from_quarantine_byte_for_byte(self, broker: Broker, queue: str) -> None:
        needs(broker, "moves")
        strange = b"\xff\x00 not a task \t"
        broker.publish([Message(strange, queue=queue)])
        consumer = broker.consumer([queue])
        (got,) = take(consumer, 1)
        end(consumer, got, action=Settle.RETURN)
        end(consumer, *take(consumer, 1), action=Settle.QUARANTINE, reason="not_json")
        (entry,) = broker.administration.quarantined()

        assert broker.administration.replay(entry.id) is True
        assert broker.administration.replay(entry.id) is False

        (again,) = take(consumer, 1)
        assert (again.raw, again.queue, again.redelivered, again.deliveries) == (strange, queue, False, 1)
        assert broker.administration.quarantined() == []

    def test_a_quarantined_message_is_forgotten(self, broker: Broker, queue: str) -> None:
        needs(broker, "moves")
        put(broker, queue, "a", "b")
        consumer = broker.consumer([queue])
        end(consumer, *take(consumer, 2), action=Settle.QUARANTINE, reason="x")
        newest, oldest = broker.administration.quarantined()

        assert broker.administration.forget(oldest.id) is True
        assert broker.administration.forget(oldest.id) is False

        assert [q.id for q in broker.administration.quarantined()] == [newest.id]
        assert broker.administration.depth(queue).ready == 0

    def test_an_entry_that_never_was_is_not_found(self, broker: Broker) -> None:
        needs(broker, "moves")

        for entry_id in ("17", "1-1", "", "x", "-", "+", "9" * 50):
            assert broker.administration.replay(entry_id) is False
            assert broker.administration.forget(entry_id) is False


class Once:
    def test_a_key_publishes_once(self, opened: Open, queue: str) -> None:
        broker, other = opened(), opened()
        needs(broker, "once")

        first = broker.publish_once(Message(message("a"), queue=queue), "order 1", "a", 60)
        second = other.publish_once(Message(message("b"), queue=queue), "order 1", "b", 60)
        third = other.publish_once(Message(message("c"), queue=queue, priority=9), "order 2", "c", 60)

        assert (first, second, third) == ("a", "a", "c")
        assert texts(take(broker.consumer([queue]), 2)) == ["a", "c"]
        assert broker.administration.depth(queue).ready == 0

    def test_a_key_is_free_again_after_its_time(self, broker: Broker, queue: str) -> None:
        needs(broker, "once")
        broker.publish_once(Message(message("a"), queue=queue), "k", "a", 0.05)

        wait_for(lambda: broker.publish_once(Message(message("b"), queue=queue), "k", "b", 60) == "b")

        assert texts(take(broker.consumer([queue]), 2)) == ["a", "b"]

    def test_a_queue_gets_what_is_sent_to_an_exchange_it_is_bound_to(
        self, broker: Broker, queue: str
    ) -> None:
        exchange = f"{queue}.world"
        try:
            broker.bind(queue, Binding(exchange, "topic", "news.#"))
        except Unsupported as exc:
            assert broker.name in ("sqlite", "memory") and "name the queue alone" in str(exc)
            return
        broker.publish([Message(message("a"), exchange=exchange, routing_key="news.of.today")])
        with contextlib.suppress(Unroutable):  # emulated brokers drop it without a word
            broker.publish([Message(message("b"), exchange=exchange, routing_key="weather")])

        assert broker.administration.depth(queue).ready == 1
        assert texts(take(broker.consumer([queue]), 1)) == ["a"]

    def test_a_key_is_said_for_the_first_time_once(self, opened: Open) -> None:
        broker, other = opened(), opened()
        needs(broker, "once")

        assert [one.first_time("a", 60) for one in (broker, other, broker)] == [True, False, False]
        assert broker.first_time("b", 0.05)
        wait_for(lambda: broker.first_time("b", 60))
        assert not broker.first_time("b", 60)

    def test_a_delayed_message_is_published_once_too(self, broker: Broker, queue: str) -> None:
        needs(broker, "once")
        late = Message(message("a"), queue=queue, due_at=time.time() + 1000)

        assert [broker.publish_once(late, "k", i, 60) for i in "ab"] == ["a", "a"]

        assert [text_of(raw) for _, raw in broker.administration.delayed(queue)] == ["a"]

    def test_of_many_at_once_one_wins(self, opened: Open, queue: str) -> None:
        broker = opened()
        needs(broker, "once")
        owners: list[str] = []

        def publish(name: str) -> None:
            mine = opened()
            for i in range(20):
                owners.append(
                    mine.publish_once(Message(message(f"{name}{i}"), queue=queue), f"k{i}", name, 60)
                )

        threads = [threading.Thread(target=publish, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(owners) == 80
        assert broker.administration.depth(queue).ready == 20


class Auditing:
    def test_what_people_changed_is_kept_newest_first(self, opened: Open) -> None:
        broker, other = opened(), opened()
        needs(broker, "audits")
        assert other.administration.audited() == []

        for i in range(3):
            broker.administration.audit(f"entry {i}\0\xff".encode("latin-1"))

        assert other.administration.audited(2) == [b"entry 2\0\xff", b"entry 1\0\xff"]
        assert len(other.administration.audited()) == 3

    def test_the_oldest_are_forgotten(self, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
        needs(broker, "audits")
        for driver in ("redis", "sqlite"):
            monkeypatch.setattr(f"qcore.brokers.{driver}.administration.AUDIT_SIZE", 5)

        for i in range(20):
            broker.administration.audit(str(i).encode())

        kept = broker.administration.audited(100)
        assert kept[:5] == [b"19", b"18", b"17", b"16", b"15"]
        assert len(kept) == (20 if broker.name == "memory" else 5)  # the memory broker's size is fixed

    def test_a_broker_without_a_place_for_it_says_so(self, broker: Broker) -> None:
        if broker.features.audits:
            pytest.skip("it has one")

        with pytest.raises(Unsupported, match="audit log"):
            broker.administration.audit(b"x")


class Administration(Turns, Pausing, Looking, Moving, Replaying, Once, Auditing):
    """All of it."""
