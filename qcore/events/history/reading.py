"""Read a recording, a file or a folder of segments, from any moment on.

In:  a path.  Out: batches with our clock, slots, the first and the last moment.  Before this: segments.py.
A folder is read as one recording. Its indexes say where the pieces of each slot are, so that only what is
near a moment is read.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from qcore.events import recording
from qcore.events.history.segments import Segment, segments
from qcore.events.history.slots import SLOT_S, Slot, SlotCounter, folds
from qcore.wire.event import Event

Batches = Iterator[tuple[float, list[Event]]]
_decode = msgspec.json.Decoder(Slot).decode


@contextmanager
def recorded(path: str, since: float | None = None) -> Iterator[Batches]:
    """The batches of a recording without pauses, each with our clock when it was received (epoch seconds).
    since: only batches from this moment on. Raises as recording.recorded() does."""
    batches = _of_folder(Path(path), since) if Path(path).is_dir() else _of_file(path, since)
    try:
        yield batches
    finally:
        batches.close()  # type: ignore[attr-defined]  # a generator


@contextmanager
def replay(
    path: str, speed: float = 1.0, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Iterator[list[Event]]]:
    """As recording.replay(), also of a folder."""
    with recorded(path) as batches:
        yield recording.paced(batches, speed, sleep)


def span(path: str) -> tuple[float, float] | None:
    """When the first and the last event were received (epoch seconds); None: the recording has none."""
    if not Path(path).is_dir():
        return recording.span(path)
    found = segments(path)
    begin = next((at for s in found for at, _ in _of_segment(s, None)), None)
    if begin is None:
        return None
    for segment in reversed(found):
        last = max((at for at, _ in _of_segment(segment, _last_slot(segment))), default=None)
        if last is not None:
            return begin, max(begin, last)
    return begin, begin


def slots(path: str, since: float = 0.0, until: float = math.inf, fine_from: float = 0.0) -> Iterator[Slot]:
    """The slots of a recording, the oldest first; those of a file, and of what an index does not list yet,
    are counted from the events. A slot that two segments share is there twice. Of the segments of a folder
    that end before fine_from (epoch seconds), a slot stands for FOLD_S."""
    if not Path(path).is_dir():
        yield from (s for s in _counted(_of_file(path, None), None) if since <= s.at < until)
        return
    found = segments(path)
    for segment, after in zip(found, [*found[1:], None], strict=True):
        if segment.began >= until or (after is not None and after.began < since):
            continue
        if after is not None and after.began < fine_from:
            yield from (s for s in _folds_of(segment) if since <= s.at < until)
            continue
        last: Slot | None = None
        for last in index_of(segment):
            if since <= last.at < until:
                yield last
        if after is None or not last or last.at + SLOT_S < after.began:
            rest = _counted(_of_segment(segment, last.at if last else None), last)
            yield from (s for s in rest if since <= s.at < until)


def near(path: str, moment: float, most_events: int, longest_s: float) -> float:
    """The moment from which on to read a folder to know what is near a later one: at most longest_s before
    it, and about most_events."""
    since, events = moment, 0
    if not Path(path).is_dir():
        return 0.0
    for segment in reversed(segments(path)):
        if segment.began > moment:
            continue
        for slot in reversed(list(index_of(segment))):
            if slot.at > moment:
                continue
            events += slot.events
            if moment - slot.at > longest_s or (events > most_events and since < moment):
                return since
            since = float(slot.at)
        if moment - segment.began > longest_s:
            break
    return min(since, moment - SLOT_S)


def index_of(segment: Segment) -> Iterator[Slot]:
    """The slots that a segment's index lists; an unfinished last line is left out."""
    return _lines_of(segment.index_path)


def _folds_of(segment: Segment) -> Iterator[Slot]:
    if segment.folds_path.exists():
        return _lines_of(segment.folds_path)
    if segment.index_path.exists():
        return folds(index_of(segment))  # its recorder was killed
    return folds(_counted(_of_segment(segment, None), None))


def _lines_of(path: Path) -> Iterator[Slot]:
    try:
        with path.open("rb") as lines:
            for line in lines:
                try:
                    yield _decode(line)
                except msgspec.DecodeError:
                    continue  # the recorder was killed, or writes it at the moment
    except FileNotFoundError:
        return  # the events are still there, and are counted


def _counted(batches: Batches, after: Slot | None) -> Iterator[Slot]:
    counter, from_on = SlotCounter(), after.at + SLOT_S if after is not None else 0.0
    for at, batch in batches:
        if at < from_on:
            continue
        ended = counter.advance(at)
        if ended is not None:
            yield ended
        counter.add(batch, at)
    ended = counter.close()
    if ended is not None:
        yield ended


def _last_slot(segment: Segment) -> float | None:
    last: Slot | None = None
    for slot in index_of(segment):
        last = slot if slot.events or last is None else last
    return None if last is None else float(last.at)


def _of_file(path: str, since: float | None) -> Batches:
    with recording.recorded(path) as batches:
        for at, batch in batches:
            if since is None or at >= since:
                yield at, batch


def _of_folder(folder: Path, since: float | None) -> Batches:
    found = segments(folder)
    for segment, after in zip(found, [*found[1:], None], strict=True):
        if since is None or after is None or after.began + 1 >= since:
            yield from _of_segment(segment, since)


def _of_segment(segment: Segment, since: float | None) -> Batches:
    offset = 0
    if since is not None:
        for slot in index_of(segment):
            if slot.at > since:
                break
            offset = slot.offset
    try:
        with recording.recorded(str(segment.path), offset) as batches:
            for at, batch in batches:
                if since is None or at >= since:
                    yield at, batch
    except FileNotFoundError:
        return  # the recorder has deleted it since
