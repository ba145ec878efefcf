"""The part of the broker contract that counts the members of chords, for drivers with features.results.

In:  the sizes of chords, members that have ended.  Out: complete chords, whose bodies the caller sends.
worker/settling/chords.py describes its use.
"""

from __future__ import annotations

from collections.abc import Sequence

from qcore.brokers.contract.records import FullChord, Message
from qcore.errors import Unsupported
from qcore.wire.outcome import ChordPart


class Chords:
    """Chords by the id of their group."""

    def __init__(self, driver: str) -> None:
        """driver: the name of the driver, for the messages of Unsupported."""
        self._driver = driver

    def create(self, sizes: Sequence[tuple[str, int]], ttl_s: float | None) -> None:
        """Create chords: (group, number of members)."""
        raise self._unsupported()

    def count(self, parts: Sequence[ChordPart], ttl_s: float | None) -> list[FullChord | None]:
        """Count members that have ended, each once, even when it is reported repeatedly. For each part, the
        chord that is now complete, when its body may be sent for this member: the process that counts the
        last member receives it, and receives it again until finish()."""
        raise self._unsupported()

    def grow(self, group: str) -> None:
        """Add one to the members of a chord that is not complete."""
        raise self._unsupported()

    def finish(self, full: FullChord, messages: Sequence[Message] = ()) -> bool:
        """Publish the body and delete the chord, in one step. False: it was already done."""
        raise self._unsupported()

    def fail(self, group: str) -> None:
        """Record that the body will not run, so that late members do not fail it again."""
        raise self._unsupported()

    def _unsupported(self) -> Unsupported:
        return Unsupported(self._driver, "count the members of a chord")
