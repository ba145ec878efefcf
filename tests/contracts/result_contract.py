"""The suite that every result store that keeps results passes.

In:  a fixture `open_store` that opens the store under test, as often as it is called.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from qcore.base.times import new_id
from qcore.brokers.contract.records import StoredResult
from qcore.results.base import ResultStore
from qcore.results.broker import BrokerResults
from qcore.wire import result
from qcore.wire.outcome import ChordPart
from tests.support.waiting import wait_for

OpenStore = Callable[[], ResultStore]


def stored(task_id: str, value: object, state: str = "SUCCESS", ttl_s: float | None = 60.0) -> StoredResult:
    return StoredResult(task_id, result.encode(task_id, state, value, now=time.time()), ttl_s)


class ResultContract:
    @pytest.fixture
    def task_id(self) -> str:
        return new_id()

    def test_what_is_stored_is_found_by_others(self, open_store: OpenStore, task_id: str) -> None:
        writer, reader = open_store(), open_store()

        writer.store([stored(task_id, {"x": [1, "é"]}), stored(task_id + "-2", 2, ttl_s=None)])

        first, nothing, second = reader.get([task_id, "unknown", task_id + "-2"])
        assert first and (first.task_id, first.status, first.result) == (task_id, "SUCCESS", {"x": [1, "é"]})
        assert nothing is None
        assert second and second.result == 2

    def test_nothing_asked_is_nothing_found(self, open_store: OpenStore) -> None:
        store = open_store()

        store.store([])

        assert store.get([]) == [] and store.forget([]) == 0

    def test_a_later_result_replaces_the_earlier(self, open_store: OpenStore, task_id: str) -> None:
        store = open_store()
        store.store([stored(task_id, None, "STARTED")])

        store.store([stored(task_id, 7)])

        (meta,) = store.get([task_id])
        assert meta and (meta.status, meta.result) == ("SUCCESS", 7)

    def test_many_results_are_watched_at_once(self, open_store: OpenStore, task_id: str) -> None:
        reader, writer = open_store(), open_store()
        before, later, never, removed = (
            f"{task_id}-{name}" for name in ("before", "later", "never", "removed")
        )
        writer.store([stored(before, 1)])
        watch = reader.watch()
        watch.add([before, never, removed])
        watch.remove([removed])

        first = watch.arrived(30.0)
        writer.store([stored(later, None, "STARTED"), stored(removed, 3)])
        watch.add([later])  # before the thread that waits has begun to, or while it waits
        timer = threading.Timer(0.05, lambda: writer.store([stored(later, 2)]))
        timer.start()
        second = watch.arrived(30.0)

        timer.join()
        assert [(meta.task_id, meta.result) for meta in first] == [(before, 1)]
        assert [(meta.task_id, meta.result) for meta in second] == [(later, 2)]
        assert watch.arrived(0.0) == []
        watch.close()

    def test_a_watch_that_waits_notices_what_is_added(self, open_store: OpenStore, task_id: str) -> None:
        reader, writer = open_store(), open_store()
        writer.store([stored(task_id, 1)])
        watch = reader.watch()
        timer = threading.Timer(0.05, lambda: watch.add([task_id]))
        timer.start()

        (meta,) = watch.arrived(30.0)

        timer.join()
        assert meta.result == 1
        watch.close()

    def test_waiting_ends_when_the_result_comes(self, open_store: OpenStore, task_id: str) -> None:
        reader, writer = open_store(), open_store()
        writer.store([stored(task_id, None, "STARTED")])
        began = time.monotonic()
        threading.Timer(0.15, writer.store, ([stored(task_id, 3)],)).start()

        meta = reader.wait(task_id, 100)

        assert meta and meta.result == 3
        assert 0.1 < time.monotonic() - began < 50

    def test_waiting_for_what_is_there_is_short(self, open_store: OpenStore, task_id: str) -> None:
        store = open_store()
        store.store([stored(task_id, 3)])

        meta = store.wait(task_id, None)  # which waits for ever for what is not there

        assert meta and meta.result == 3

    def test_waiting_has_an_end(self, open_store: OpenStore, task_id: str) -> None:
        store = open_store()
        began = time.monotonic()

        assert store.wait(task_id, 0.2) is None
        assert 0.15 < time.monotonic() - began < 50
        assert store.wait(task_id, 0) is None

    def test_several_threads_wait_at_once(self, open_store: OpenStore, task_id: str) -> None:
        reader, writer = open_store(), open_store()
        found: list[object] = []

        def wait(i: int) -> None:
            meta = reader.wait(f"{task_id}-{i}", 60)
            found.append(meta.result if meta else None)

        threads = [threading.Thread(target=wait, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        writer.store([stored(f"{task_id}-{i}", i) for i in range(4)])
        for thread in threads:
            thread.join()

        assert sorted(found, key=str) == [0, 1, 2, 3]

    def test_results_expire(self, open_store: OpenStore, task_id: str) -> None:
        store = open_store()
        store.store([stored(task_id, 1, ttl_s=0.3)])
        assert store.get([task_id]) != [None]

        def is_gone() -> bool:
            if store.expires_by_cleanup:
                store.cleanup(0.3)
            return store.get([task_id]) == [None]

        wait_for(is_gone, what="the result to expire")

    def test_cleanup_keeps_what_is_young(self, open_store: OpenStore, task_id: str) -> None:
        store = open_store()
        store.store([stored(task_id, 1)])

        assert store.cleanup(3600) == 0

        assert store.get([task_id]) != [None]

    def test_what_was_forgotten_can_be_stored_again(self, open_store: OpenStore, task_id: str) -> None:
        store = open_store()
        store.store([stored(task_id, 1)])
        store.forget([task_id])

        store.store([stored(task_id, 2)])

        (meta,) = store.get([task_id])
        assert meta and meta.result == 2

    def test_a_group_is_saved_and_restored_by_others(self, open_store: OpenStore, task_id: str) -> None:
        members = [[["a", None], None], [["b", None], None]]
        open_store().save_group(task_id, [[task_id, None], members], 60.0)
        store = open_store()

        assert store.restore_group(task_id) == [[task_id, None], members]

        store.delete_group(task_id)
        assert open_store().restore_group(task_id) is None

    def test_a_saved_group_can_be_saved_again(self, open_store: OpenStore, task_id: str) -> None:
        store = open_store()
        store.save_group(task_id, [[task_id, None], []], 60.0)

        store.save_group(task_id, [[task_id, None], [[["a", None], None]]], None)

        assert store.restore_group(task_id) == [[task_id, None], [[["a", None], None]]]

    def test_the_last_member_completes_a_chord_once(self, open_store: OpenStore, task_id: str) -> None:
        store, other = open_store(), open_store()
        parts = [
            ChordPart(task_id, f"{task_id}-{i}", i, result.content.to_json([1, f"m{i}", "SUCCESS", i]), b"{}")
            for i in range(3)
        ]
        store.chord_sizes([(task_id, 3)], 60.0)

        assert store.chord_parts([parts[2]], 60.0) == [None]
        assert other.chord_parts([parts[0], parts[0]], 60.0) == [None, None]
        (full,) = other.chord_parts([parts[1]], 60.0)
        (again,) = store.chord_parts([parts[1]], 60.0)

        assert full and again and [result.content.from_json(e)[3] for e in full.entries] == [0, 1, 2]
        assert other.chord_done(full)
        assert store.chord_parts([parts[1]], 60.0) == [None]

    def test_a_chord_gets_one_more_member(self, open_store: OpenStore, task_id: str) -> None:
        store = open_store()
        parts = [ChordPart(task_id, f"m{i}", 0, b'[1,"m%d","SUCCESS",1]' % i, b"{}") for i in range(2)]
        store.chord_sizes([(task_id, 1)], 60.0)

        try:
            store.chord_grows(task_id)
        except NotImplementedError:  # as in Celery, whose Redis store alone can
            assert not isinstance(store, BrokerResults)
            return

        assert store.chord_parts(parts[:1], 60.0) == [None]
        assert store.chord_parts(parts[1:], 60.0) != [None]

    def test_a_failed_chord_has_no_body(self, open_store: OpenStore, task_id: str) -> None:
        store = open_store()
        part = ChordPart(task_id, task_id, 0, b'[1,"m","SUCCESS",1]', b"{}")
        store.chord_sizes([(task_id, 1)], 60.0)

        store.chord_failed(task_id)

        assert store.chord_parts([part], 60.0) == [None]

    def test_forgotten_results_are_gone(self, open_store: OpenStore, task_id: str) -> None:
        store = open_store()
        store.store([stored(task_id, 1)])

        assert store.forget([task_id, "unknown"]) == 1
        assert open_store().get([task_id]) == [None]

    def test_a_failure_keeps_its_facts(self, open_store: OpenStore, task_id: str) -> None:
        store = open_store()
        data = result.exception_data(ValueError("no", 3))

        store.store([stored(task_id, data, "FAILURE")])

        meta = store.wait(task_id, 1)
        assert meta and meta.status == "FAILURE" and meta.date_done
        error = result.exception_from(meta.result)
        assert isinstance(error, ValueError) and error.args == ("no", 3)
