"""Count the members of chords in this process; the rules are those of sqlite/chords.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from qcore.brokers.contract.chords import Chords
from qcore.brokers.contract.records import FullChord, Message
from qcore.brokers.memory.state import Count, MemoryState
from qcore.wire.outcome import ChordPart


class MemoryChords(Chords):
    """The chords of one process."""

    def __init__(self, state: MemoryState, publish: Callable[[Sequence[Message]], None]) -> None:
        super().__init__("memory")
        self._state, self._publish = state, publish

    def create(self, sizes: Sequence[tuple[str, int]], ttl_s: float | None) -> None:
        with self._state.changed:
            self._state.chords.update({group: Count(size) for group, size in sizes})

    def count(self, parts: Sequence[ChordPart], ttl_s: float | None) -> list[FullChord | None]:
        with self._state.changed:
            return [self._count(self._state.chords.get(part.group), part) for part in parts]

    def grow(self, group: str) -> None:
        with self._state.changed:
            if group in self._state.chords:
                self._state.chords[group].size += 1

    @staticmethod
    def _count(chord: Count | None, part: ChordPart) -> FullChord | None:
        if chord is None or chord.done:
            return None
        member = f"{part.task_id}:{part.index}"
        chord.parts.setdefault(member, (math.inf if part.index is None else part.index, part.entry))
        if len(chord.parts) != chord.size or chord.token not in (None, member):
            return None
        chord.token = member
        return FullChord(part.group, member, [entry for _, entry in sorted(chord.parts.values())])

    def finish(self, full: FullChord, messages: Sequence[Message] = ()) -> bool:
        with self._state.changed:
            chord = self._state.chords.get(full.group)
            if chord is None or chord.done or chord.token != full.token:
                return False
            self._publish(messages)
            chord.done, chord.parts = True, {}
            return True

    def fail(self, group: str) -> None:
        with self._state.changed:
            self._state.chords.pop(group, None)
