"""The suite that every store of schedule entries passes: those of brokers, and the one in a SQL database.

In:  a fixture `open_store` that opens stores of one place, empty for each test. A store whose uses_outbox is
set keeps the messages in its outbox; Publishing is for those that publish them.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from qcore.brokers.base import Broker
from qcore.brokers.contract.records import Message
from qcore.brokers.contract.schedules import HISTORY_SIZE, Firing, ScheduleStore, StoredEntry
from qcore.brokers.registry import open_broker
from qcore.errors import Unroutable, Unsupported
from qcore.wire.schedule import EntryState, HistoryRecord
from tests.contracts.consuming import (
    Open,
    claim,
    message,
    needs,
    nothing_for,
    take,
    text_of,
    texts,
    wait_woken,
)
from tests.support.waiting import wait_for

OpenStore = Callable[[], ScheduleStore]


def names(entries: list[StoredEntry]) -> list[str]:
    return [entry.name for entry in entries]


def one(store: ScheduleStore, name: str) -> StoredEntry:
    (found,) = store.named([name])
    assert found is not None
    return found


def newest(store: ScheduleStore) -> int:
    return store.clock()[1]


def firing(name: str, expected: int | None = 0, cursor: int = 10, queue: str = "q", **more: Any) -> Firing:
    """One message, as the scheduler `by` publishes it."""
    task_id = more.pop("task_id", f"{name}-{cursor}")
    record = HistoryRecord(cursor, "sent", task_id=task_id, by=more.get("by", ""))
    known = {
        "messages": (Message(message(task_id), queue),),
        "records": (record,),
        "runs": 1,
        "task_id": task_id,
        "instant_us": cursor,
    }
    return Firing(name, expected, cursor, **{**known, **more})


class Keeping:
    """Entries, states and histories, in every store."""

    def test_a_place_without_entries_has_a_clock(self, open_store: OpenStore) -> None:
        store = open_store()

        now, revision = store.clock()

        assert abs(now - time.time()) < 60
        assert revision == 0
        assert store.entries() == []
        assert store.named(["a"]) == [None]
        assert store.history("a") == []
        assert store.schedulers() == []

    def test_what_is_declared_is_found(self, open_store: OpenStore) -> None:
        store, other = open_store(), open_store()

        changed = store.declare("app", {"b": b'{"name":"b"}', "a": b"\xff\x00any bytes"})

        assert changed == ["a", "b"]
        a, b = other.entries()
        assert (a.name, a.declared, a.source) == ("a", b"\xff\x00any bytes", "app")
        assert (b.name, b.declared, b.edited, b.edited_by) == ("b", b'{"name":"b"}', None, "")
        assert a.state == b.state == EntryState()
        assert min(a.revision, b.revision) > 0 and max(a.revision, b.revision) == newest(other)
        assert other.named(["b", "x", "a"]) == [b, None, a]

    def test_a_second_declaration_changes_only_what_is_different(self, open_store: OpenStore) -> None:
        store = open_store()
        store.declare("app", {"same": b"1", "other": b"1", "gone": b"1"})
        store.edit("same", b"edited", "me")
        store.edit("gone", b"edited")
        store.fire([firing("same"), firing("other")])
        before, since = one(store, "same"), newest(store)

        changed = store.declare("app", {"same": b"1", "other": b"2", "new": b"1"})

        assert changed == ["gone", "new", "other"]
        assert one(store, "same") == before
        assert one(store, "other").state.cursor_us == 10
        gone, new, other = store.entries(since)
        assert (gone.declared, gone.edited, gone.state) == (None, None, EntryState())
        assert (new.name, other.name, other.declared) == ("new", "other", b"2")
        assert store.named(["gone"]) == [None]
        assert names(store.entries()) == ["new", "other", "same"]
        assert store.declare("app", {"same": b"1", "other": b"2", "new": b"1"}) == []

    def test_what_another_source_declares_stays(self, open_store: OpenStore) -> None:
        store = open_store()
        store.declare("one", {"a": b"1", "both": b"1"})
        store.declare("two", {"b": b"2", "both": b"2"})

        changed = store.declare("one", {})

        assert changed == ["a"]
        assert [(e.name, e.declared, e.source) for e in store.entries()] == [
            ("b", b"2", "two"),
            ("both", b"2", "two"),
        ]

    def test_what_people_added_stays_as_changes_of_what_is_declared(self, open_store: OpenStore) -> None:
        store = open_store()
        assert store.edit("a", b"mine", "me", revision=0)
        added = one(store, "a")
        assert (added.declared, added.edited, added.edited_by) == (None, b"mine", "me")

        assert store.declare("app", {}) == []
        assert store.declare("app", {"a": b"theirs"}) == ["a"]

        both = one(store, "a")
        assert (both.declared, both.edited, both.edited_by) == (b"theirs", b"mine", "me")
        assert both.revision > added.revision

    def test_an_edit_holds_only_for_the_revision_that_was_seen(self, open_store: OpenStore) -> None:
        store = open_store()
        store.declare("app", {"a": b"1"})
        seen = one(store, "a").revision

        assert store.edit("a", b"x", "one", revision=seen)
        assert not store.edit("a", b"y", "two", revision=seen)
        assert not store.edit("a", b"y", "two", revision=0)
        assert not store.edit("nobody", b"y", "two", revision=seen)

        a = one(store, "a")
        assert (a.edited, a.edited_by) == (b"x", "one")
        assert a.revision > seen
        assert names(store.entries()) == ["a"]

    def test_an_edit_is_taken_back(self, open_store: OpenStore) -> None:
        store = open_store()
        store.declare("app", {"a": b"1"})
        store.edit("a", b"x", "me")
        since = newest(store)

        assert store.edit("a", None, "me")
        assert not store.edit("nobody", None)

        (a,) = store.entries(since)
        assert (a.declared, a.edited, a.edited_by) == (b"1", None, "")

    def test_an_entry_that_nobody_wants_any_more_is_reported_as_deleted(self, open_store: OpenStore) -> None:
        store = open_store()
        store.edit("a", b"x")
        store.edit("b", b"x")
        store.fire([firing("a")])
        since = newest(store)

        assert store.edit("a", None)

        (gone,) = store.entries(since)
        assert gone == StoredEntry("a", newest(store))
        assert names(store.entries()) == ["b"]
        assert store.history("a") == []
        assert not store.edit("a", None)
        assert not store.edit("a", b"x", revision=gone.revision)
        assert store.edit("a", b"new", revision=0)
        (again,) = store.entries(since)
        assert (again.edited, again.state) == (b"new", EntryState())

    def test_deletions_are_forgotten_after_their_time(self, open_store: OpenStore) -> None:
        store = open_store()
        store.edit("a", b"x")
        store.edit("b", b"x")
        store.edit("a", None)
        assert names(store.entries(1)) == ["a", "b"]

        store.tombstone_s = 0.0
        wait_for(lambda: store.edit("b", b"y") and names(store.entries(1)) == ["b"])
        assert names(open_store().entries(1)) == ["b"]

    def test_an_entry_that_comes_back_is_not_forgotten_as_deleted(self, open_store: OpenStore) -> None:
        store = open_store()
        store.declare("app", {"a": b"1", "b": b"1"})
        store.declare("app", {})
        store.declare("app", {"a": b"1"})
        store.edit("b", b"x")

        store.tombstone_s = -10.0  # all deletions are older
        store.edit("b", b"y")

        assert names(store.entries()) == ["a", "b"]
        assert names(store.entries(1)) == ["a", "b"]
        assert store.fire([firing("a"), firing("b")]) == [None, None]

    def test_an_edit_moves_the_cursor_but_never_back(self, open_store: OpenStore) -> None:
        store = open_store()
        store.edit("a", b"x", cursor_us=1_700_000_000_000_001)
        assert one(store, "a").state == EntryState(cursor_us=1_700_000_000_000_001)

        store.edit("a", b"x", cursor_us=5)
        store.fire([firing("a", 1_700_000_000_000_001, 1_700_000_000_000_002, by="s1")])
        store.edit("a", b"y", cursor_us=1_700_000_000_000_009)

        state = one(store, "a").state
        assert (state.cursor_us, state.runs, state.last_by) == (1_700_000_000_000_009, 1, "s1")

    def test_every_change_has_a_revision_of_its_own(self, open_store: OpenStore) -> None:
        store = open_store()
        store.declare("app", {f"e{i}": b"1" for i in range(20)})
        store.edit("e3", b"x")

        revisions = [entry.revision for entry in store.entries()]

        assert len(set(revisions)) == 20
        assert names(store.entries(newest(store) - 1)) == ["e3"]
        assert store.entries(newest(store)) == []

    def test_a_firing_changes_the_state_of_its_entry(self, open_store: OpenStore) -> None:
        store = open_store()
        store.declare("app", {"a": b"1", "b": b"1"})
        revision = newest(store)
        began = int(store.clock()[0] * 1e6)

        done = store.fire([firing("a", by="s1", missed=3, overlapped=2)])

        assert done == [None]
        state = one(store, "a").state
        assert began <= state.last_sent_us <= int(store.clock()[0] * 1e6) + 1
        assert state == EntryState(10, 1, 3, 2, "a-10", 10, state.last_sent_us, "s1")
        assert one(store, "b").state == EntryState()
        assert newest(store) == revision

    def test_a_firing_without_a_message_leaves_the_last_one(self, open_store: OpenStore) -> None:
        store = open_store()
        store.declare("app", {"a": b"1"})
        store.fire([firing("a", by="s1")])
        sent = one(store, "a").state

        done = store.fire([Firing("a", 10, 30, missed=2, by="s2")])

        assert done == [None]
        state = one(store, "a").state
        assert state == EntryState(30, 1, 2, 0, "a-10", 10, sent.last_sent_us, "s1")

    def test_a_firing_takes_effect_only_at_the_cursor_that_was_seen(self, open_store: OpenStore) -> None:
        store = open_store()
        store.declare("app", {"a": b"1", "b": b"1"})
        store.fire([firing("a")])
        found = one(store, "a").state

        ahead = firing("a", 15, 20)
        done = store.fire(
            [firing("a", cursor=20), ahead, firing("b"), firing("a", 10, 20), firing("a", 10, 20)]
        )

        after = one(store, "a").state
        assert done == [found, found, None, None, after]
        assert (after.cursor_us, after.runs) == (20, 2)
        assert [record.instant_us for record in store.history("a")] == [20, 10]

    def test_a_firing_of_an_entry_that_was_deleted_does_nothing(self, open_store: OpenStore) -> None:
        store = open_store()
        store.declare("app", {"a": b"1"})
        store.declare("app", {})

        done = store.fire([firing("a"), firing("a", None), firing("never")])

        assert done == [EntryState()] * 3
        assert store.history("a") == store.history("never") == []
        assert store.named(["a", "never"]) == [None, None]

    def test_a_run_by_hand_leaves_the_cursor_and_takes_effect_once(self, open_store: OpenStore) -> None:
        store = open_store()
        store.declare("app", {"a": b"1"})
        store.fire([firing("a")])
        by_hand = firing("a", None, 0, task_id='hand"\\é', by="me", instant_us=15)

        assert store.fire([by_hand]) == [None]
        store.fire([firing("a", 10, 20)])
        assert store.fire([by_hand, by_hand]) == [None, None]

        state = one(store, "a").state
        assert (state.cursor_us, state.runs, state.last_task_id) == (20, 3, "a-20")
        assert [record.task_id for record in store.history("a")] == ["a-20", 'hand"\\é', "a-10"]

    def test_decisions_are_kept_newest_first(self, open_store: OpenStore) -> None:
        store = open_store()
        store.declare("app", {"a": b"1", "b": b"1"})
        began = int(store.clock()[0] * 1e6)
        records = (HistoryRecord(5, "missed", count=7), HistoryRecord(10, "sent", 99, "id", "s1"))

        store.fire([firing("a", records=records), firing("b")])

        sent, missed = store.history("a")
        assert sent == records[1]
        assert began <= missed.at_us <= int(store.clock()[0] * 1e6) + 1
        assert missed == HistoryRecord(5, "missed", missed.at_us, count=7)
        assert store.history("a", 1) == [sent]
        assert [record.task_id for record in store.history("b")] == ["b-10"]

    def test_only_the_last_decisions_are_kept(self, open_store: OpenStore) -> None:
        store = open_store()
        store.declare("app", {"a": b"1"})
        count = HISTORY_SIZE + 7

        store.fire([firing("a", i, i + 1) for i in range(count)])
        store.fire([firing("a", count, count + 1)])

        kept = [record.instant_us for record in store.history("a", 10 * HISTORY_SIZE)]
        assert kept == list(range(count + 1, count + 1 - HISTORY_SIZE, -1))

    def test_many_entries_are_declared_read_and_fired(self, open_store: OpenStore) -> None:
        store, count = open_store(), 2500
        store.declare("app", {f"e{i:04}": b"%d" % i for i in range(count)})

        done = store.fire([firing(f"e{i:04}", cursor=i + 1) for i in range(count)])

        assert done == [None] * count
        found = store.entries()
        assert [(e.name, e.state.cursor_us) for e in found] == [(f"e{i:04}", i + 1) for i in range(count)]
        assert store.declare("app", {"e0001": b"1"}) == [f"e{i:04}" for i in range(count) if i != 1]
        assert names(store.entries()) == ["e0001"]
        assert len(store.entries(1)) == count

    def test_of_many_that_fire_one_instant_one_takes_effect(self, open_store: OpenStore) -> None:
        open_store().declare("app", {"a": b"1", "b": b"1"})
        won: list[tuple[str, int]] = []
        start = threading.Barrier(8)

        def race(by: str) -> None:
            store = open_store()
            start.wait(60)
            for i in range(20):
                tries = [firing(name, i, i + 1, task_id=f"{name}-{i}-{by}", by=by) for name in ("a", "b")]
                done = store.fire(tries if by < "4" else tries[::-1])
                for one_try, found in zip(tries if by < "4" else tries[::-1], done, strict=True):
                    if found is None:
                        won.append((one_try.name, i))
                    else:
                        assert found.cursor_us > i

        threads = [threading.Thread(target=race, args=(str(i),)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(won) == [(name, i) for name in ("a", "b") for i in range(20)]
        store = open_store()
        assert [(e.state.cursor_us, e.state.runs) for e in store.entries()] == [(20, 20)] * 2
        assert [r.instant_us for r in store.history("a")] == list(range(20, 0, -1))

    def test_of_many_that_edit_one_revision_one_takes_effect(self, open_store: OpenStore) -> None:
        open_store().declare("app", {"a": b"1"})
        revision = one(open_store(), "a").revision
        won: list[str] = []

        def change(by: str) -> None:
            if open_store().edit("a", by.encode(), by, revision=revision):
                won.append(by)

        threads = [threading.Thread(target=change, args=(str(i),)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [one(open_store(), "a").edited_by] == won

    def test_schedulers_announce_themselves(self, open_store: OpenStore) -> None:
        store, other = open_store(), open_store()
        store.announce("b", {"pid": 1}, 60.0)
        store.announce("a", {}, 60.0)
        store.announce("b", {"pid": 2}, 60.0)
        store.announce("late", {}, 0.01)

        wait_for(lambda: [m.node for m in other.schedulers() if m.alive] == ["a", "b"])

        a, b, late = other.schedulers()
        assert (a.alive, b.alive, late.alive) == (True, True, False)
        assert b.info == {"pid": 2} and abs(b.seen_at - store.clock()[0]) < 60
        other.retire("b")
        assert [m.node for m in store.schedulers()] == ["a", "late"]

    @pytest.mark.parametrize("seed", range(5))
    def test_random_steps_end_as_in_memory(self, open_store: OpenStore, memory_url: str, seed: int) -> None:
        draw, store = random.Random(seed), open_store()
        model = open_broker(f"{memory_url}-model").schedules
        for number in range(150):
            step = random_step(draw, number)
            since = [(one_store, newest(one_store)) for one_store in (store, model)]

            answers = [step(one_store) for one_store in (store, model)]

            assert answers[0] == answers[1], number
            changes = [[facts(e) for e in one_store.entries(at)] if at else [] for one_store, at in since]
            assert changes[0] == changes[1], number
            both = [[(facts(e), history(s, e.name)) for e in s.entries()] for s in (store, model)]
            assert both[0] == both[1], number


def facts(entry: StoredEntry) -> tuple[object, ...]:
    """An entry without what depends on the clock and on the order within a step."""
    state = replace(entry.state, last_sent_us=0)
    return entry.name, entry.declared, entry.source, entry.edited, entry.edited_by, state


def history(store: ScheduleStore, name: str) -> list[HistoryRecord]:
    return [replace(record, at_us=0) for record in store.history(name)]


def random_step(draw: random.Random, number: int) -> Callable[[ScheduleStore], object]:
    """One change of a few entries, the same for each store it is applied to."""
    name, by = draw.choice("abc"), draw.choice(["me", "you"])
    kind = draw.choice(["declare", "edit", "fire", "fire", "hand"])
    if kind == "declare":
        some = {n: draw.choice([b"1", b"2"]) for n in draw.sample("abc", draw.randint(0, 3))}
        source = draw.choice(["one", "two"])
        return lambda store: store.declare(source, some)
    if kind == "edit":
        edited, cursor = draw.choice([None, b"x", b"y"]), draw.choice([None, number])
        guard = draw.choice(["none", "zero", "seen"])

        def edit(store: ScheduleStore) -> object:
            (found,) = store.named([name])
            seen = found.revision if found is not None else number
            revision = {"none": None, "zero": 0, "seen": seen}[guard]
            return store.edit(name, edited, by, revision, cursor)

        return edit
    ids = [f"{number}-{i}" for i in range(3)] if kind == "fire" else [draw.choice(["h1", "h2"])] * 2
    late, skipped = draw.randint(-1, 0), draw.randint(0, 2)

    def fire(store: ScheduleStore) -> object:
        tries = []
        for i, task_id in enumerate(ids):
            found = store.named([name])[0]
            at = found.state.cursor_us if found is not None else 0
            expected = None if kind == "hand" else max(0, at + late * i)
            tries.append(firing(name, expected, at + 1 + i, task_id=task_id, by=by, missed=skipped))
        answers = store.fire(tries)
        return [None if state is None else replace(state, last_sent_us=0) for state in answers]

    return fire


class Outboxes:
    """Stores of entries whose tasks go to another broker; `open_outbox` opens them."""

    def test_messages_wait_in_the_outbox_in_order(self, open_outbox: OpenStore) -> None:
        store, other = open_outbox(), open_outbox()
        assert store.uses_outbox
        store.declare("app", {"a": b"1", "b": b"1"})
        whole = Message(b"\xff\x00", exchange="ex", routing_key="key", priority=3, due_at=4e9)
        began = store.clock()[0]

        store.fire([firing("a", messages=(whole,)), firing("b"), firing("a"), firing("never")])
        store.fire([firing("a", 10, 20)])

        items = other.outbox()
        assert items[0].message == whole
        assert [text_of(item.message.raw) for item in items[1:]] == ["b-10", "a-20"]
        assert began - 1 < items[0].at <= items[2].at < store.clock()[0] + 1
        assert [item.id for item in other.outbox(2)] == [item.id for item in items[:2]]

    def test_what_was_sent_leaves_the_outbox_and_its_id_is_not_used_again(
        self, open_outbox: OpenStore
    ) -> None:
        store = open_outbox()
        store.declare("app", {"a": b"1"})
        store.fire([firing("a")])
        (first,) = store.outbox()

        store.sent([first.id])
        store.sent([first.id, first.id])
        store.sent([])
        assert store.outbox() == []
        store.fire([firing("a", 10, 20)])
        store.sent([first.id])

        (second,) = store.outbox()
        assert text_of(second.message.raw) == "a-20"

    def test_of_many_that_fire_one_instant_one_message_waits(self, open_outbox: OpenStore) -> None:
        open_outbox().declare("app", {"a": b"1"})
        tries = [firing("a", task_id=f"t{i}") for i in range(8)]
        threads = [threading.Thread(target=lambda t=t: open_outbox().fire([t])) for t in tries]  # type: ignore[misc]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        store = open_outbox()
        (item,) = store.outbox()
        assert text_of(item.message.raw) == one(store, "a").state.last_task_id


class Publishing:
    """Stores that publish the messages of a firing themselves."""

    def test_of_many_that_fire_one_instant_one_message_is_in_the_queue(
        self, opened: Open, open_store: OpenStore, queue: str
    ) -> None:
        broker = opened()
        broker.schedules.declare("app", {"a": b"1"})
        tries = [firing("a", queue=queue, task_id=f"t{i}") for i in range(8)]
        threads = [threading.Thread(target=lambda t=t: open_store().fire([t])) for t in tries]  # type: ignore[misc]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert queue in broker.administration.queues()
        consumer = broker.consumer([queue])
        assert texts(take(consumer, 1)) == [one(broker.schedules, "a").state.last_task_id]
        nothing_for(consumer)
        assert not broker.schedules.uses_outbox and broker.schedules.outbox() == []

    def test_messages_come_in_order_and_by_their_priority(
        self, broker: Broker, open_store: OpenStore, queue: str
    ) -> None:
        broker.schedules.declare("app", {"a": b"1", "b": b"1"})
        calls = [("late", 9), ("one", 0), ("two", 0)]
        several = tuple(Message(message(text), queue, priority=urgency) for text, urgency in calls)

        broker.schedules.fire([firing("a", messages=several), firing("b", queue=queue)])

        consumer = broker.consumer([queue])
        assert texts(take(consumer, 4)) == ["one", "two", "b-10", "late"]

    @pytest.mark.parametrize("priority", [0, 9])
    def test_a_firing_wakes_an_idle_consumer(
        self, broker: Broker, open_store: OpenStore, queue: str, priority: int
    ) -> None:
        broker.schedules.declare("app", {"a": b"1"})
        consumer = broker.consumer([queue])
        nothing_for(consumer)
        urgent = Message(message("urgent"), queue, priority=priority)

        woken, got = False, claim(consumer, 1)
        assert not got
        timer = threading.Timer(0.2, lambda: broker.schedules.fire([firing("a", messages=(urgent,))]))
        timer.start()
        while not got:
            woken, got = wait_woken(consumer, 60.0), claim(consumer, 1)

        assert woken and texts(got) == ["urgent"]
        timer.join()

    def test_a_delayed_message_of_a_firing_comes_when_it_is_due(
        self, broker: Broker, open_store: OpenStore, queue: str
    ) -> None:
        broker.schedules.declare("app", {"a": b"1"})
        consumer = broker.consumer([queue])
        nothing_for(consumer)
        due_at = time.time() + 1.0

        broker.schedules.fire([firing("a", messages=(Message(message("due"), queue, due_at=due_at),))])

        assert broker.administration.depth(queue).delayed == 1
        assert texts(take(consumer, 1)) == ["due"]
        assert time.time() >= due_at - 0.01

    def test_a_message_that_no_queue_receives_stops_the_whole_batch(
        self, broker: Broker, open_store: OpenStore, queue: str
    ) -> None:
        broker.schedules.declare("app", {"a": b"1", "b": b"1"})
        nowhere = Message(message("x"), exchange="nobody-has-it", routing_key="nor-this")

        with pytest.raises(Unroutable):
            broker.schedules.fire([firing("a", queue=queue), firing("b", messages=(nowhere,))])

        assert [e.state for e in broker.schedules.entries()] == [EntryState()] * 2
        assert broker.administration.depth(queue).ready == 0


class Scheduling(Keeping, Outboxes, Publishing):
    """The part of the broker suite about schedule entries."""

    @pytest.fixture
    def open_store(self, opened: Open) -> OpenStore:
        needs(opened(), "schedules")
        return lambda: opened().schedules

    @pytest.fixture
    def open_outbox(self, opened: Open) -> OpenStore:
        needs(opened(), "schedules")
        return lambda: opened(schedule_outbox=True).schedules

    def test_what_keeps_no_entries_names_the_setting(self, broker: Broker) -> None:
        if broker.features.schedules:
            pytest.skip("it keeps them")
        store = broker.schedules

        for ask in (store.clock, store.entries, lambda: store.declare("app", {}), lambda: store.fire([])):
            with pytest.raises(Unsupported, match="schedule_store"):
                ask()
