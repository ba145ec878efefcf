"""Count the members of chords in this process; the rules are those of sqlite/chords.py."""

from __future__ import annotations

import math
import threading
from abc import abstractmethod
from collections.abc import Sequence

import msgspec

from qcore.brokers.base import Broker
from qcore.brokers.contract.records import FullChord, Message
from qcore.wire.outcome import ChordPart


class Count(msgspec.Struct):
    """One chord."""

    size: int
    parts: dict[str, tuple[float, bytes]] = {}
    token: str | None = None
    done: bool = False


class MemoryChords(Broker):
    """The part of the broker that counts chord members."""

    @abstractmethod
    def _chords(self) -> tuple[threading.Condition, dict[str, Count]]:
        """The lock of the Place, and its chords."""

    def chord_sizes(self, sizes: Sequence[tuple[str, int]], ttl_s: float | None) -> None:
        changed, chords = self._chords()
        with changed:
            chords.update({group: Count(size) for group, size in sizes})

    def chord_parts(self, parts: Sequence[ChordPart], ttl_s: float | None) -> list[FullChord | None]:
        changed, chords = self._chords()
        with changed:
            return [self._count(chords.get(part.group), part) for part in parts]

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

    def chord_done(self, full: FullChord, messages: Sequence[Message] = ()) -> bool:
        changed, chords = self._chords()
        with changed:
            chord = chords.get(full.group)
            if chord is None or chord.done or chord.token != full.token:
                return False
            self.publish(messages)
            chord.done, chord.parts = True, {}
            return True

    def chord_failed(self, group: str) -> None:
        changed, chords = self._chords()
        with changed:
            chords.pop(group, None)
