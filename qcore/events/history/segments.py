"""Record events in segments: files of one folder, the oldest of which are deleted by age and by total size.

In:  batches of events.  Out: `events-TIME.ndjson.gz` (or .zst, or neither) in the format of recording.py, and
beside each an index of its slots, `events-TIME.index`, and when it is closed `events-TIME.folds`, the same in
steps of FOLD_S. After this: reading.py.

A segment consists of pieces (gzip members, zstd frames) of some slots each, so a reader can begin at any of
them. What was written before a kill is readable: pieces are flushed every second, and the next recorder
begins a segment of its own.
"""

from __future__ import annotations

import calendar
import fcntl
import importlib
import os
import re
import time
import zlib
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from qcore.base.private_files import create, make_folder
from qcore.errors import ConfigError
from qcore.events.history.slots import FOLD_S, SLOT_S, Slot, SlotCounter, merged
from qcore.wire.event import Event

_encode = msgspec.json.Encoder(enc_hook=str).encode
FLUSH_S = 1.0
#: a new piece begins with the next slot after so many bytes of text
PIECE_BYTES = 64 * 1024
#: a segment has at most this share of the limit, so that deleting the oldest ones is enough
SEGMENT_SHARE = 16
#: deleting begins below the limit by this share of it, which what is written until the next check may use
SPARE_SHARE = 64
SUFFIXES = {"gz": ".ndjson.gz", "zst": ".ndjson.zst", "none": ".ndjson"}
_NAME = re.compile(r"events-(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z(-\d+)?(\.ndjson(?:\.gz|\.zst)?)")
LOCK = ".recorder"


class FolderInUse(ConfigError):
    """Another recorder writes to this folder."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.folder = folder

    def __str__(self) -> str:
        return f"another recorder writes to '{self.folder}'"


class Segment(NamedTuple):
    """One file of a recording, and its index."""

    began: float  # epoch seconds, whole
    path: Path

    @property
    def index_path(self) -> Path:
        return self.path.with_name(self.path.name.partition(".")[0] + ".index")

    @property
    def folds_path(self) -> Path:
        """A closed segment's slots in steps of FOLD_S; that of a recorder that was killed has none."""
        return self.index_path.with_suffix(".folds")

    @property
    def bytes(self) -> int:
        """The size of its files; 0 for one that is gone."""
        return sum(_size(path) for path in (self.path, self.index_path, self.folds_path))


def segments(folder: str | Path) -> list[Segment]:
    """The segments of a folder, the oldest first. Raises OSError."""
    found = []
    for path in Path(folder).iterdir():
        name = _NAME.fullmatch(path.name)
        if name is not None:
            began = calendar.timegm(tuple(map(int, name.groups()[:6])))
            found.append((float(began), int((name[7] or "-0")[1:]), path))
    return [Segment(began, path) for began, _, path in sorted(found)]


class FolderRecorder:
    """Writes events to the segments of a folder. Raises OSError, FolderInUse, and ConfigError for an
    unsupported compression."""

    def __init__(
        self,
        folder: str,
        packing: str = "gz",
        rotate_s: float = 3600.0,
        keep_s: float | None = None,
        most_bytes: int | None = None,
    ) -> None:
        """packing: of SUFFIXES; keep_s: age at which a segment is deleted; most_bytes: of all segments."""
        self.folder, self.packing = Path(folder), packing
        self.rotate_s, self.keep_s, self.most_bytes = rotate_s, keep_s, most_bytes
        self.events = self.deleted = 0
        make_folder(self.folder)
        self._lock = _locked(self.folder)
        self._counter = SlotCounter()
        self._file: IO[bytes] | None = None
        self._index: IO[bytes] | None = None
        self._packer: Any = None
        self._folds, self._of_fold = list[bytes](), list[Slot]()  # closed ones, and the slots of the next
        self._now = Segment(0.0, self.folder)
        self._text = self._since_check = self._piece = 0
        self._checked = -1  # second of the last look at the limits
        self._flush_at = 0.0
        _packer(packing)  # an unsupported compression is told at once

    def write(self, batch: list[Event], now: float, ready: dict[str, int] | None = None) -> None:
        """Write events (none: the time passes). now: epoch seconds; ready: messages that wait, by queue."""
        self._make_room(now)
        self._next_slot(now)
        if batch and self._file is not None:
            lines = b"".join(_encode({**event, "heard_at": now}) + b"\n" for event in batch)
            packed = self._packer.pack(lines)
            self._file.write(packed)
            self.events += len(batch)
            self._text += len(lines)
            self._since_check += len(packed)
            self._counter.add(batch, now)
        if ready is not None and self._counter.current is not None:
            self._counter.current.ready = ready
        if time.monotonic() >= self._flush_at:
            self._flush()

    def close(self) -> None:
        self._close_segment()
        os.close(self._lock)

    def size(self) -> int:
        """The bytes of all segments."""
        return sum(segment.bytes for segment in segments(self.folder))

    # --- segments

    def _next_slot(self, now: float) -> None:
        """Begin another segment, piece or slot if it is time for it."""
        if self._file is not None and self._is_full(now):
            self._close_segment()
        if self._file is None:
            self._open_segment(now)
        assert self._file is not None
        slot = self._counter.current
        if slot is not None and slot.at <= now < slot.at + SLOT_S:
            return
        if self._text >= PIECE_BYTES:
            self._file.write(self._packer.end())
            self._packer, self._text = _packer(self.packing), 0
            self._piece = self._file.tell()
        self._keep(self._counter.advance(now, self._piece))

    def _is_full(self, now: float) -> bool:
        if not 0 <= now - self._now.began < self.rotate_s:
            return True
        assert self._file is not None
        return self.most_bytes is not None and self._file.tell() >= self.most_bytes // SEGMENT_SHARE

    def _open_segment(self, now: float) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        known = [s.path.name for s in segments(self.folder)]
        number, name = 1, f"events-{stamp}"
        while any(other.partition(".")[0] == name for other in known):
            number += 1
            name = f"events-{stamp}-{number}"
        path = self.folder / f"{name}{SUFFIXES[self.packing]}"
        self._now = Segment(float(int(now)), path)
        self._file = os.fdopen(create(path), "wb")
        self._index = os.fdopen(create(self._now.index_path), "wb")
        self._packer, self._text, self._piece = _packer(self.packing), 0, 0

    def _close_segment(self) -> None:
        if self._file is None or self._index is None:
            return
        self._keep(self._counter.close())
        self._file.write(self._packer.end())
        self._file.close()
        self._index.close()
        self._file = self._index = None
        self._end_fold()
        # At once: a reader that finds the file relies on all of it.
        whole, self._folds = b"".join(self._folds), []
        beside = self._now.folds_path.with_suffix(".new")
        with os.fdopen(create(beside), "wb") as file:
            file.write(whole)
        beside.rename(self._now.folds_path)

    def _keep(self, slot: Slot | None) -> None:
        if slot is not None and self._index is not None:
            self._index.write(_encode(slot) + b"\n")
            self._index.flush()
            if self._of_fold and self._of_fold[0].at // FOLD_S != slot.at // FOLD_S:
                self._end_fold()
            self._of_fold.append(slot)

    def _end_fold(self) -> None:
        if self._of_fold:
            self._folds.append(_encode(merged(self._of_fold)) + b"\n")
            self._of_fold = []

    def _flush(self) -> None:
        self._flush_at = time.monotonic() + FLUSH_S
        if self._file is not None:
            self._file.write(self._packer.flush())
            self._file.flush()

    # --- limits

    def _make_room(self, now: float) -> None:
        """Delete the oldest segments that are too old, or too many; never the one that is written."""
        step = (self.most_bytes or 1 << 32) // (2 * SPARE_SHARE)
        if self._file is not None and self._since_check < step and int(now) == self._checked:
            return
        self._checked, self._since_check = int(now), 0
        if self._file is not None:
            self._file.flush()
        found = [s for s in segments(self.folder) if s.path != self._now.path]
        ends = [*(s.began for s in found), self._now.began or now][1:]
        total = sum(s.bytes for s in found) + (self._now.bytes if self._file is not None else 0)
        most = None if self.most_bytes is None else self.most_bytes - self.most_bytes // SPARE_SHARE
        for segment, end in zip(found, ends, strict=False):
            is_old = self.keep_s is not None and end < now - self.keep_s
            if not is_old and (most is None or total <= most):
                break
            total -= segment.bytes
            # The index last: without its segment it is never read, and the next check finds neither.
            segment.path.unlink(missing_ok=True)
            segment.folds_path.unlink(missing_ok=True)
            segment.index_path.unlink(missing_ok=True)
            self.deleted += 1


class _Plain:
    def pack(self, data: bytes) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""

    def end(self) -> bytes:
        return b""


class _Gzip:
    def __init__(self) -> None:
        self._packer = zlib.compressobj(5, zlib.DEFLATED, 31)

    def pack(self, data: bytes) -> bytes:
        return self._packer.compress(data)

    def flush(self) -> bytes:
        return self._packer.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        return self._packer.flush(zlib.Z_FINISH)


class _Zstandard:
    def __init__(self) -> None:
        try:
            self._kit: Any = importlib.import_module("zstandard")
        except ImportError:
            words = "zst needs the package zstandard: pip install 'qctl[zstd]'; gz needs nothing"
            raise ConfigError(words) from None
        self._packer = self._kit.ZstdCompressor().compressobj()

    def pack(self, data: bytes) -> bytes:
        return bytes(self._packer.compress(data))

    def flush(self) -> bytes:
        return bytes(self._packer.flush(self._kit.COMPRESSOBJ_FLUSH_BLOCK))

    def end(self) -> bytes:
        return bytes(self._packer.flush())


def _packer(packing: str) -> Any:
    return {"gz": _Gzip, "zst": _Zstandard, "none": _Plain}[packing]()


def _locked(folder: Path) -> int:
    """A descriptor that holds the folder's lock. Raises FolderInUse."""
    lock = os.open(folder / LOCK, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise FolderInUse(str(folder)) from None
    return lock


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
