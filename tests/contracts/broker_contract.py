"""The suite that every broker passes: deliveries here, the bus in bus_contract.py.

In:  a fixture `broker_url` that names an empty broker for each test (reapers see everybody's dead);
make a class from BrokerContract in a module that provides it.
What a driver cannot do it declares in `features`, and only there the suite looks for it.
"""

from __future__ import annotations

import threading
import time

import pytest

from qcore.base.times import new_id
from qcore.brokers.base import Broker
from qcore.brokers.contract.records import Message, Settle, Settlement, StoredResult
from qcore.errors import Unroutable
from qcore.wire import result
from tests.contracts.administration_contract import Administration
from tests.contracts.bus_contract import BusContract
from tests.contracts.consuming import (
    Open,
    broker,
    end,
    message,
    needs,
    nothing_for,
    opened,
    put,
    queue,
    take,
    text_of,
    texts,
    wait_woken,
)
from tests.contracts.delay_contract import Delaying, Waking
from tests.contracts.failed_tasks_contract import Failing
from tests.contracts.schedules_contract import Scheduling
from tests.support.waiting import wait_for

__all__ = ["BrokerContract", "broker", "opened", "queue"]

ANY_BYTES = [b"", b"\xff\x00\xfe", b"x", b"\x00" * 300, b"m" * 1_048_576, b'{"body": ']


def meta(task_id: str, value: object = 1, state: str = "SUCCESS") -> bytes:
    return result.encode(task_id, state, value, now=time.time())


class Delivering:
    """From publish to settle."""

    def test_messages_come_in_the_order_in_which_they_were_published(
        self, broker: Broker, queue: str
    ) -> None:
        put(broker, queue, "a", "b", "c")
        put(broker, queue, "d")

        got = take(broker.consumer([queue]), 4)

        assert texts(got) == ["a", "b", "c", "d"]
        assert [d.queue for d in got] == [queue] * 4
        assert not any(d.redelivered for d in got) and {d.deliveries for d in got} == {1}

    def test_numbers_grow(self, broker: Broker, queue: str) -> None:
        put(broker, queue, *"abcd")
        consumer = broker.consumer([queue])

        numbers = [d.number for d in take(consumer, 2) + take(consumer, 2)]

        assert numbers == sorted(set(numbers))

    def test_priorities_are_served_in_one_direction_and_each_in_order(
        self, broker: Broker, queue: str
    ) -> None:
        needs(broker, "priority")
        consumer = broker.consumer([queue])
        for name, priority in [("m1", 5), ("z1", 9), ("n1", 0), ("m2", 5), ("n2", 0), ("z2", 9)]:
            put(broker, queue, name, priority=priority)
        wait_for(lambda: broker.administration.depth(queue).ready == 6 or not consumer.prefetch(1))

        got = texts(take(consumer, 6))

        assert got in (["n1", "n2", "m1", "m2", "z1", "z2"], ["z1", "z2", "m1", "m2", "n1", "n2"])

    def test_a_claim_takes_no_more_than_its_limit(self, broker: Broker, queue: str) -> None:
        put(broker, queue, *"abcde")
        consumer = broker.consumer([queue])
        first = take(consumer, 1)

        more = consumer.claim(2)

        assert len(more) <= 2
        assert texts(first + more + take(consumer, 4 - len(more))) == list("abcde")

    def test_a_message_is_given_to_one_consumer_only(self, opened: Open, queue: str) -> None:
        brokers = [opened(), opened()]
        put(brokers[0], queue, *[f"m{i}" for i in range(200)])
        consumers = [b.consumer([queue]) for b in brokers]
        found: list[str] = []

        def work(consumer: object) -> None:
            while len(found) < 200 and time.monotonic() < until:
                got = consumer.claim(7)  # type: ignore[attr-defined]
                found.extend(texts(got))
                consumer.settle([Settlement(d) for d in got])  # type: ignore[attr-defined]
                if not got:
                    wait_woken(consumer, 0.05)  # type: ignore[arg-type]

        until = time.monotonic() + 60
        threads = [threading.Thread(target=work, args=(c,)) for c in consumers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(found) == sorted(f"m{i}" for i in range(200))

    def test_queues_can_be_changed(self, broker: Broker, queue: str) -> None:
        consumer = broker.consumer([queue])
        put(broker, queue + "-2", "b")
        nothing_for(consumer)

        consumer.set_queues([queue, queue + "-2"])

        (got,) = take(consumer, 1)
        assert (text_of(got.raw), got.queue, consumer.queues) == ("b", queue + "-2", (queue, queue + "-2"))

    def test_settling_twice_refuses_the_second(self, broker: Broker, queue: str) -> None:
        put(broker, queue, "a", "b")
        consumer = broker.consumer([queue])
        first, second = take(consumer, 2)

        assert end(consumer, first) == []
        assert end(consumer, first, second) == [first.number]

    def test_what_is_acknowledged_is_gone(self, broker: Broker, queue: str) -> None:
        put(broker, queue, "a")
        consumer = broker.consumer([queue])
        end(consumer, *take(consumer, 1))

        consumer.close()

        nothing_for(broker.consumer([queue]))
        assert broker.administration.depth(queue).ready == 0

    def test_a_requeued_message_is_next_and_not_flagged(self, broker: Broker, queue: str) -> None:
        put(broker, queue, "a", "b", "c")
        consumer = broker.consumer([queue])
        got = take(consumer, 2)

        end(consumer, *reversed(got), action=Settle.REQUEUE)

        again = take(consumer, 3)
        if broker.features.lease:
            assert texts(again) == ["a", "b", "c"]
            assert not any(d.redelivered for d in again)
        assert sorted(texts(again)) == ["a", "b", "c"]

    def test_a_returned_message_is_next_and_flagged(self, broker: Broker, queue: str) -> None:
        put(broker, queue, "a", "b")
        consumer = broker.consumer([queue])
        (got,) = take(consumer, 1)

        end(consumer, got, action=Settle.RETURN)

        again = take(consumer, 2)
        assert sorted((text_of(d.raw), d.redelivered) for d in again) == [("a", True), ("b", False)]
        if broker.features.lease:
            assert texts(again) == ["a", "b"]

    def test_what_is_returned_between_acknowledged_ones_comes_back(self, broker: Broker, queue: str) -> None:
        put(broker, queue, *"abcde")
        consumer = broker.consumer([queue])
        got = take(consumer, 5)
        actions = (Settle.ACK, Settle.REQUEUE, Settle.ACK, Settle.RETURN, Settle.ACK)

        refused = consumer.settle([Settlement(d, action) for d, action in zip(got, actions, strict=True)])

        assert refused == []
        assert sorted(texts(take(consumer, 2))) == ["b", "d"]

    def test_a_requeued_message_keeps_its_priority(self, broker: Broker, queue: str) -> None:
        needs(broker, "priority", "lease")
        consumer = broker.consumer([queue])
        put(broker, queue, "late", priority=9)
        (late,) = take(consumer, 1)
        put(broker, queue, "early", priority=0)

        end(consumer, late, action=Settle.REQUEUE)

        assert texts(take(consumer, 2)) == ["early", "late"]

    def test_close_gives_back_what_is_held(self, broker: Broker, queue: str) -> None:
        put(broker, queue, *"abc")
        consumer = broker.consumer([queue])
        take(consumer, 2)

        consumer.close()

        again = take(broker.consumer([queue]), 3)
        assert sorted(texts(again)) == list("abc")
        if broker.features.lease:
            assert texts(again) == list("abc") and not any(d.redelivered for d in again)

    def test_closing_disturbs_no_other_thread(self, broker: Broker, queue: str) -> None:
        names: list[str] = []

        def publish(which: int) -> None:
            for i in range(100):
                put(broker, queue, f"{which}-{i}")
                names.append(f"{which}-{i}")

        threads = [threading.Thread(target=publish, args=(which,)) for which in range(3)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            broker.close()
            time.sleep(0.002)

        assert len(names) == 300
        consumer = broker.consumer([queue])
        assert sorted(texts(take(consumer, 300))) == sorted(names)
        nothing_for(consumer)

    def test_sends_happen_with_the_settlement(self, broker: Broker, queue: str) -> None:
        put(broker, queue, "a")
        consumer = broker.consumer([queue])
        (got,) = take(consumer, 1)
        sends = (Message(message("next"), queue=queue + "-next"), Message(message("retry"), queue=queue))

        refused = end(consumer, got, sends=sends)

        assert refused == []
        consumer.set_queues([queue, queue + "-next"])
        assert sorted(texts(take(consumer, 2))) == ["next", "retry"]

    def test_sends_of_a_refused_settlement_do_not_happen(self, broker: Broker, queue: str) -> None:
        put(broker, queue, "a")
        consumer = broker.consumer([queue])
        (got,) = take(consumer, 1)
        end(consumer, got)

        refused = end(consumer, got, sends=(Message(message("never"), queue=queue),))

        assert refused == [got.number]
        nothing_for(consumer)

    def test_quarantine_keeps_the_bytes_and_the_reason(self, broker: Broker, queue: str) -> None:
        consumer = broker.consumer([queue])
        for raw in ANY_BYTES[:4] if broker.features.lease else [message("x")]:
            broker.publish([Message(raw, queue=queue)])
            end(consumer, *take(consumer, 1), action=Settle.QUARANTINE, reason="not_json")

            found = wait_for(lambda: broker.administration.quarantined(1))[0]

            assert (found.queue, found.reason) == (queue, "not_json")
            assert abs(found.at - time.time()) < 60
            if broker.features.lease:
                assert found.raw == raw

    @pytest.mark.parametrize("raw", ANY_BYTES, ids=range(len(ANY_BYTES)))
    def test_any_bytes_are_carried_as_they_are(self, broker: Broker, queue: str, raw: bytes) -> None:
        if not broker.features.lease:
            pytest.skip("a driver with native properties carries messages, not bytes")
        consumer = broker.consumer([queue])

        broker.publish([Message(raw, queue=queue), Message(raw, queue=queue, due_at=time.time() - 1)])

        assert [d.raw for d in take(consumer, 2)] == [raw, raw]


class Leasing:
    """What happens to the messages of the dead."""

    def test_a_dead_owners_messages_come_back_flagged_and_counted(self, opened: Open, queue: str) -> None:
        broker = opened(lease_s=0.3)
        needs(broker, "lease")
        put(broker, queue, "a", "b", "c")

        for crash in range(1, 4):
            consumer = broker.consumer([queue])
            got = take(consumer, 2)
            assert texts(got) == ["a", "b"]
            assert [(d.redelivered, d.deliveries) for d in got] == [(crash > 1, crash)] * 2
            assert broker.administration.depth(queue).in_flight == 2
            reaper = broker.consumer([])
            assert wait_for(lambda r=reaper: r.reap()) == 2

        last = broker.consumer([queue])
        got = take(last, 3)
        assert [(text_of(d.raw), d.redelivered, d.deliveries) for d in got] == [
            ("a", True, 4),
            ("b", True, 4),
            ("c", False, 1),
        ]

    def test_a_count_ends_with_the_acknowledgement(self, opened: Open, queue: str) -> None:
        broker = opened(lease_s=0.2)
        needs(broker, "lease")
        raw = message("same")
        broker.publish([Message(raw, queue=queue)])
        take(broker.consumer([queue]), 1)
        consumer = opened().consumer([queue])
        wait_for(consumer.reap)
        (got,) = take(consumer, 1)
        assert got.redelivered
        end(consumer, got)

        broker.publish([Message(raw, queue=queue)])

        (fresh,) = take(consumer, 1)
        assert (fresh.redelivered, fresh.deliveries) == (False, 1)

    def test_a_living_owner_is_not_reaped(self, opened: Open, queue: str) -> None:
        broker = opened(lease_s=2.0)
        needs(broker, "lease")
        put(broker, queue, "a")
        consumer, other = broker.consumer([queue]), broker.consumer([])
        (got,) = take(consumer, 1)

        until = time.monotonic() + 5.0  # more than two leases
        while time.monotonic() < until:
            assert consumer.renew() and other.renew()
            assert other.reap() == 0
            time.sleep(0.05)

        assert end(consumer, got) == []

    def test_a_late_settlement_is_refused_with_its_result_and_sends(self, opened: Open, queue: str) -> None:
        broker = opened(lease_s=0.2)
        needs(broker, "lease")
        put(broker, queue, "a")
        late = broker.consumer([queue])
        (got,) = take(late, 1)
        reaper = opened(lease_s=30).consumer([queue])
        wait_for(reaper.reap)

        task_id = new_id()
        stored = StoredResult(task_id, meta(task_id)) if broker.features.results else None
        refused = end(late, got, result=stored, sends=(Message(message("no"), queue=queue),))

        assert refused == [got.number]
        assert texts(take(reaper, 1)) == ["a"]
        nothing_for(reaper)
        if stored:
            assert broker.results_of([task_id]) == [None]

    def test_an_owner_that_lost_its_lease_hears_of_it_once_and_goes_on(
        self, opened: Open, queue: str
    ) -> None:
        broker = opened(lease_s=0.2)
        needs(broker, "lease")
        put(broker, queue, "a", "b")
        consumer = broker.consumer([queue])
        (got,) = take(consumer, 1)
        reaper = opened(lease_s=30).consumer([])
        wait_for(reaper.reap)

        assert consumer.renew() is False
        assert consumer.renew() is True

        again = take(consumer, 2)
        assert texts(again) == ["a", "b"] and again[0].number > got.number
        assert end(consumer, got) == [got.number]
        assert end(consumer, *again) == []

    def test_claiming_without_a_lease_takes_a_new_one(self, opened: Open, queue: str) -> None:
        broker = opened(lease_s=0.2)
        needs(broker, "lease")
        consumer = broker.consumer([queue])
        reaper = opened(lease_s=30).consumer([])
        time.sleep(0.4)  # the lease is time itself
        reaper.reap()
        put(broker, queue, "a")

        (got,) = take(consumer, 1)

        assert end(consumer, got) == []
        assert consumer.renew() is False  # so that its user knows that something was lost


class Looking:
    """What people and tools ask."""

    def test_depth_and_peek_and_purge(self, broker: Broker, queue: str) -> None:
        broker.consumer([queue])
        put(broker, queue + "-p", "a", "b", "c")
        wait_for(lambda: broker.administration.depth(queue + "-p").ready == 3)

        if broker.features.peek:
            assert [text_of(raw) for raw in broker.administration.peek(queue + "-p", 2)] == ["a", "b"]
        assert broker.administration.depth(queue + "-p").ready == 3
        assert broker.administration.purge(queue + "-p") == 3
        assert broker.administration.depth(queue + "-p").ready == 0

    def test_an_unknown_queue_is_empty(self, broker: Broker, queue: str) -> None:
        assert broker.administration.depth(queue).ready == 0
        assert broker.administration.peek(queue) == []
        assert broker.administration.purge(queue) == 0

    def test_consumed_queues_are_known(self, broker: Broker, queue: str) -> None:
        broker.consumer([queue])

        assert queue in broker.administration.queues()

    def test_publish_finds_the_queue_through_exchange_and_key(self, broker: Broker, queue: str) -> None:
        consumer = broker.consumer([queue])

        broker.publish([Message(message("a"), exchange=queue, routing_key=queue)])
        broker.publish([Message(message("b"), exchange="", routing_key=queue)])

        assert texts(take(consumer, 2)) == ["a", "b"]

    def test_publishing_to_nowhere_is_an_error(self, broker: Broker, queue: str) -> None:
        with pytest.raises(Unroutable):
            broker.publish([Message(message("a"), exchange=queue + "-x", routing_key=queue + "-y")])

    def test_a_broker_that_is_there_passes_its_check(self, broker: Broker) -> None:
        broker.check()

        assert broker.info()["transport"] == broker.name


class BrokerContract(
    Delivering, Leasing, Delaying, Waking, Looking, Administration, Failing, Scheduling, BusContract
):
    """All of it."""
