"""Schedule entries, in memory.

In:  entries and firings.  Out: entries with their states, messages in their queues or in the outbox.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from qcore.brokers.contract.records import Member, Message
from qcore.brokers.contract.schedules import (
    HISTORY_SIZE,
    Firing,
    OutboxItem,
    ScheduleStore,
    StoredEntry,
    state_after,
)
from qcore.brokers.memory.state import MemoryState, members_of
from qcore.wire.schedule import EntryState, HistoryRecord


class MemorySchedules(ScheduleStore):
    """The schedule entries of one process."""

    def __init__(self, state: MemoryState, uses_outbox: bool) -> None:
        super().__init__("memory")
        self._state, self.uses_outbox = state, uses_outbox

    def clock(self) -> tuple[float, int]:
        with self._state.changed:
            return time.time(), self._state.schedule_revision

    def entries(self, since: int = 0) -> list[StoredEntry]:
        with self._state.changed:
            found = [entry for entry in self._state.schedules.values() if entry.revision > since]
            if since:
                found += [gone for gone, _ in self._state.schedules_deleted.values() if gone.revision > since]
        return sorted(found, key=lambda entry: entry.name)

    def named(self, names: Sequence[str]) -> list[StoredEntry | None]:
        with self._state.changed:
            return [self._state.schedules.get(name) for name in names]

    # --- changes; `changed` is held

    def _revision(self) -> int:
        self._state.schedule_revision += 1
        return self._state.schedule_revision

    def _put(self, name: str, **changes: Any) -> None:
        self._state.schedules_deleted.pop(name, None)
        found = self._state.schedules.get(name) or StoredEntry(name, 0)
        self._state.schedules[name] = replace(found, revision=self._revision(), **changes)

    def _delete(self, name: str) -> None:
        del self._state.schedules[name]
        self._state.schedule_history.pop(name, None)
        self._state.schedules_deleted[name] = (StoredEntry(name, self._revision()), time.time())

    def _forget_deleted(self) -> None:
        edge = time.time() - self.tombstone_s
        deleted = self._state.schedules_deleted
        self._state.schedules_deleted = {name: gone for name, gone in deleted.items() if gone[1] > edge}

    def declare(self, source: str, entries: Mapping[str, bytes]) -> list[str]:
        changed = []
        with self._state.changed:
            self._forget_deleted()
            for name, declared in entries.items():
                found = self._state.schedules.get(name)
                if found is None or (found.declared, found.source) != (declared, source):
                    self._put(name, declared=declared, source=source)
                    changed.append(name)
            for name, found in list(self._state.schedules.items()):
                if found.declared is not None and found.source == source and name not in entries:
                    self._delete(name)
                    changed.append(name)
        return sorted(changed)

    def edit(
        self,
        name: str,
        edited: bytes | None,
        by: str = "",
        revision: int | None = None,
        cursor_us: int | None = None,
    ) -> bool:
        with self._state.changed:
            self._forget_deleted()
            found = self._state.schedules.get(name)
            if revision is not None and revision != (found.revision if found is not None else 0):
                return False
            if found is None:
                if edited is None:
                    return False
                found = StoredEntry(name, 0)
            elif edited is None and found.declared is None:
                self._delete(name)
                return True
            cursor = max(found.state.cursor_us, cursor_us or 0)
            state = replace(found.state, cursor_us=cursor)
            self._put(name, edited=edited, edited_by=by if edited is not None else "", state=state)
            return True

    # --- firings

    def fire(self, firings: Sequence[Firing]) -> list[EntryState | None]:
        with self._state.changed:
            routed = [] if self.uses_outbox else [self._routed(firing) for firing in firings]
            return [self._fire(firing, routed[i] if routed else []) for i, firing in enumerate(firings)]

    def _routed(self, firing: Firing) -> list[tuple[Message, str]]:
        return [(message, self._state.route(message)) for message in firing.messages]

    def _fire(self, firing: Firing, routed: list[tuple[Message, str]]) -> EntryState | None:
        found, now = self._state.schedules.get(firing.name), time.time()
        if found is None:
            return EntryState()
        past = self._state.schedule_history.setdefault(firing.name, deque(maxlen=HISTORY_SIZE))
        if firing.expected_us is None:
            if firing.task_id and any(record.task_id == firing.task_id for record in past):
                return None
        elif found.state.cursor_us != firing.expected_us:
            return found.state
        now_us = int(now * 1e6)
        state = state_after(found.state, firing, now_us)
        self._state.schedules[firing.name] = replace(found, state=state)
        past.extend(replace(record, at_us=record.at_us or now_us) for record in firing.records)
        for message, queue in routed:
            self._state.put(message, queue)
        if self.uses_outbox:
            for message in firing.messages:
                number = str(next(self._state.sequence))
                self._state.outbox[number] = OutboxItem(number, now, message)
        return None

    def history(self, name: str, limit: int = HISTORY_SIZE) -> list[HistoryRecord]:
        with self._state.changed:
            return list(reversed(self._state.schedule_history.get(name, ())))[:limit]

    # --- the outbox

    def outbox(self, limit: int = 100) -> list[OutboxItem]:
        with self._state.changed:
            return list(itertools.islice(self._state.outbox.values(), limit))

    def sent(self, ids: Sequence[str]) -> None:
        with self._state.changed:
            for number in ids:
                self._state.outbox.pop(number, None)

    # --- schedulers

    def announce(self, node: str, facts: dict[str, Any], ttl_s: float) -> None:
        with self._state.changed:
            self._state.schedulers[node] = (time.time(), ttl_s, dict(facts))

    def retire(self, node: str) -> None:
        with self._state.changed:
            self._state.schedulers.pop(node, None)

    def schedulers(self) -> list[Member]:
        with self._state.changed:
            return members_of(self._state.schedulers)
