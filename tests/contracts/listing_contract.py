"""The part of the broker suite about what people see: counts, messages that wait, pauses."""

from __future__ import annotations

import time

from qcore.brokers.base import Broker
from qcore.brokers.contract.records import Message, Settle
from tests.contracts.consuming import Open, end, needs, nothing_for, put, take, text_of, texts


class Looking:
    """What people see of queues, and take out of them."""

    def test_counts_of_many_queues_add_up(self, broker: Broker, queue: str) -> None:
        needs(broker, "moves")
        names = [f"{queue}-{i}" for i in range(3)]
        for priority in (0, 3, 6, 9):
            put(broker, names[0], f"a{priority}", f"b{priority}", priority=priority)
        put(broker, names[1], "late", due_at=time.time() + 1000)
        consumer = broker.consumer([names[0]])
        take(consumer, 3)

        found = broker.administration.depths([*names, queue])

        assert [(d.ready, d.delayed, d.in_flight) for d in found] == [
            (5, 0, 3),
            (0, 1, 0),
            (0, 0, 0),
            (0, 0, 0),
        ]
        assert found[0] == broker.administration.depth(names[0]) or found[0].oldest_s is not None

    def test_what_waits_is_shown_as_it_is_and_stays(self, broker: Broker, queue: str) -> None:
        needs(broker, "moves")
        due_at = time.time() + 1000
        put(broker, queue, "low", priority=9)
        put(broker, queue, *[f"m{i}" for i in range(1201)])
        put(broker, queue, "late", due_at=due_at)
        broker.publish([Message(b"\xff no task", queue=queue, priority=9)])
        consumer = broker.consumer([queue])
        end(consumer, *take(consumer, 1), action=Settle.RETURN)

        found = list(broker.administration.waiting(queue))

        assert len(found) == 1204 and found == list(broker.administration.waiting(queue))
        assert [text_of(w.raw) for w in found[:1202]] == [*[f"m{i}" for i in range(1201)], "low"]
        assert (found[1202].raw, found[1202].priority) == (b"\xff no task", 9)
        assert (text_of(found[1203].raw), round(found[1203].due_at or 0)) == ("late", round(due_at))
        assert [w.returns for w in found] == [1] + [0] * 1203

    def test_the_holder_of_a_message_in_flight_is_named(self, broker: Broker, queue: str) -> None:
        needs(broker, "moves")
        put(broker, queue, "wanted", "other", "waits")
        before = time.time()
        consumer = broker.consumer([queue], "w1@host.example")
        wanted, _ = take(consumer, 2)

        found = broker.administration.holder("wanted")

        assert found is not None
        assert (found.queue, found.node, found.by_celery) == (queue, "w1@host.example", False)
        assert text_of(found.raw) == "wanted"
        assert found.until is not None and 0 < found.until - before < broker.lease_s + 60
        assert broker.administration.holder("waits") is None
        end(consumer, wanted)
        assert broker.administration.holder("wanted") is None
        assert broker.administration.holder("other") is not None

    def test_what_was_shown_is_dropped_or_moved_and_nothing_else(self, broker: Broker, queue: str) -> None:
        needs(broker, "moves")
        put(broker, queue, *[f"m{i}" for i in range(50)])
        put(broker, queue, "low", priority=9)
        put(broker, queue, "late", "later", due_at=time.time() + 1000)
        broker.publish([Message(b"\xff no task", queue=queue)])
        shown = {
            w.raw if w.raw[:1] == b"\xff" else text_of(w.raw): w for w in broker.administration.waiting(queue)
        }
        consumer = broker.consumer([queue])
        (taken,) = take(consumer, 1)
        put(broker, queue, "new")

        dropped = broker.administration.drop_these(
            [shown[i] for i in ("m0", "m1", "m7", "m8", "m49", b"\xff no task", "late")]
        )
        again = broker.administration.drop_these([shown["m1"], shown["late"]])
        moved = broker.administration.move_these(
            [shown[i] for i in ("m1", "m2", "m3", "low", "later")], queue + "-t"
        )

        assert dropped == [False, True, True, True, True, True, True]
        assert (again, moved) == ([False, False], [False, True, True, True, True])
        kept = [f"m{i}" for i in range(4, 49) if i not in (7, 8)]
        assert [text_of(w.raw) for w in broker.administration.waiting(queue)] == [*kept, "new"]
        assert [(text_of(w.raw), w.priority) for w in broker.administration.waiting(queue + "-t")][:3] == [
            ("m2", 0),
            ("m3", 0),
            ("low", 9),
        ]
        assert [text_of(raw) for _, raw in broker.administration.delayed(queue + "-t")] == ["later"]
        assert end(consumer, taken) == []

    def test_a_pause_says_who_why_and_until_when(self, opened: Open, queue: str) -> None:
        broker, other = opened(), opened()
        needs(broker, "pauses")
        broker.administration.pause(queue, "db upgrade ü", "ana@host", 1000)
        broker.administration.pause(queue + "-2")
        now = time.time()

        first, second = other.administration.pauses()

        assert (first.queue, first.reason, first.by) == (queue, "db upgrade ü", "ana@host")
        assert first.at is not None and abs(first.at - now) < 60
        assert first.until is not None and abs(first.until - now - 1000) < 60
        assert (second.queue, second.reason, second.by, second.until) == (queue + "-2", "", "", None)

    def test_a_pause_ends_by_itself(self, opened: Open, queue: str) -> None:
        broker = opened()
        needs(broker, "pauses")
        consumer = broker.consumer([queue])
        broker.administration.pause(queue, for_s=2.0)
        until = time.monotonic() + 2.0
        put(broker, queue, "a")
        nothing_for(consumer, 0.3)

        assert texts(take(consumer, 1)) == ["a"]

        assert time.monotonic() > until - 0.1
        assert broker.administration.paused() == []

    def test_what_was_revoked_by_mistake_is_revoked_no_more(self, broker: Broker) -> None:
        needs(broker, "revoked_lookup")
        broker.revoke(["a", "b", "c"])

        assert broker.unrevoke(["b", "nobody"]) == 1

        assert broker.revoked_among(["a", "b", "c"]) == {"a", "c"}
