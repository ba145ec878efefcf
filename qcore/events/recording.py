"""Events in a file: record received events and replay them later.

In:  batches of events.  Out: a file of JSON lines (`.gz` and `.zst` are compressed), and batches again, at
the original pace or faster.  Each line is one event with `heard_at`, our clock when it was received.
"""

from __future__ import annotations

import gzip
import importlib
import os
import time
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec

from qcore.base.private_files import create
from qcore.errors import ConfigError
from qcore.wire.event import Event, is_event, moment

_encode = msgspec.json.Encoder(enc_hook=str).encode
_decode = msgspec.json.Decoder().decode
#: a longer pause in a recording is shortened to this when it is replayed, seconds
LONGEST_PAUSE_S = 5.0
FLUSH_S = 1.0
BATCH = 500


class Recorder:
    """Writes events to a new file (or a pipe) as they arrive. Raises OSError, FileExistsError among them, and
    ConfigError for an unsupported compression."""

    def __init__(self, path: str) -> None:
        self.path, self.events = path, 0
        is_special = Path(path).exists() and not Path(path).is_file()
        self._file: IO[bytes] = _opened(path, "w" if is_special else "x")
        self._flush_at = 0.0

    def write(self, events: list[Event], now: float) -> None:
        lines = [_encode({**event, "heard_at": now}) for event in events]
        if lines:
            self._file.write(b"\n".join(lines) + b"\n")
            self.events += len(lines)
        if time.monotonic() >= self._flush_at:
            self._flush_at = time.monotonic() + FLUSH_S
            self._file.flush()

    def close(self) -> None:
        self._file.close()


@contextmanager
def replay(
    path: str, speed: float = 1.0, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Iterator[list[Event]]]:
    """The content of a recording, as receiver.listen() returns it: batches, at `speed` times the original
    pace; speed 0: without a pause. Lines that are not events are skipped, and an unfinished file is
    read as far as possible. Raises as Recorder does, and ConfigError when the file is damaged."""

    with recorded(path) as batches:
        yield paced(batches, speed, sleep)


def paced(
    batches: Iterator[tuple[float, list[Event]]], speed: float, sleep: Callable[[float], None]
) -> Iterator[list[Event]]:
    """The batches at `speed` times the original pace; 0: without a pause."""
    last: float | None = None
    for at, batch in batches:
        if speed > 0 and last is not None and at > last:
            sleep(min(at - last, LONGEST_PAUSE_S) / speed)
        last = at
        yield batch


@contextmanager
def recorded(path: str, offset: int = 0) -> Iterator[Iterator[tuple[float, list[Event]]]]:
    """The batches of a recording without pauses, each with our clock when it was received (epoch seconds).
    offset: bytes of the file to skip, up to the beginning of a line or of a compressed piece."""
    with closing(_lines(path, offset)) as lines:
        yield _batches(lines)


def _batches(lines: Iterator[bytes]) -> Iterator[tuple[float, list[Event]]]:
    batch: list[Event] = []
    last = 0.0
    for line in lines:
        event = _event(line)
        if event is None:
            continue
        at = _heard_at(event)
        event.pop("heard_at", None)
        if batch and (at != last or len(batch) >= BATCH):
            yield last, batch
            batch = []
        last = at
        batch.append(event)
    if batch:
        yield last, batch


def span(path: str) -> tuple[float, float] | None:
    """When the first and the last event were received (epoch seconds); None: the recording has none."""
    with closing(_lines(path)) as lines:
        first = next((e for e in map(_event, lines) if e is not None), None)
        last = deque(lines, 2)  # the very last may be half a line
    if first is None:
        return None
    events = [e for e in map(_event, last) if e is not None]
    begin, end = _heard_at(first), _heard_at(events[-1] if events else first)
    return begin, max(begin, end)


def _lines(path: str, offset: int = 0) -> Generator[bytes]:
    damage: tuple[type[Exception], ...] = (gzip.BadGzipFile, zlib.error)
    if path.endswith(".zst"):
        damage = (_zstandard(path).ZstdError,)
    try:
        with _opened(path, "r", offset) as file:
            yield from _unpacked(file) if path.endswith(".zst") else file
    except EOFError:
        return  # the writer was killed, or still runs
    except damage as exc:
        raise ConfigError(f"'{path}' is damaged, or is not compressed as its name says: {exc}") from exc


def _unpacked(file: IO[bytes]) -> Iterator[bytes]:
    """Lines of a zstd file. Its own reader withholds the last data of an unfinished frame."""
    unpack, rest = _zstandard(file.name).ZstdDecompressor().decompressobj(read_across_frames=True), b""
    while data := file.read(1 << 16):
        *lines, rest = (rest + unpack.decompress(data)).split(b"\n")
        yield from lines
    yield rest


def _heard_at(event: Event) -> float:
    at = event.get("heard_at")
    heard = moment(at)
    return float(event["timestamp"]) if heard is None else heard


def _event(line: bytes) -> Event | None:
    try:
        value = _decode(line)
    except msgspec.DecodeError:
        return None
    return value if is_event(value) else None


def _opened(path: str, mode: str, offset: int = 0) -> IO[bytes]:
    """The file, compressed as its name says; of zstd what is in it."""
    if path.endswith(".zst") and mode != "r":
        packer = _zstandard(path).ZstdCompressor()
        made: IO[bytes] = packer.stream_writer(_plain(path, mode))
        return made
    file = _plain(path, mode)
    if offset:
        file.seek(offset)
    if path.endswith(".gz"):
        zipped: Any = _Gzip(file, "wb" if mode == "x" else f"{mode}b")
        return zipped  # type: ignore[no-any-return]
    return file


def _plain(path: str, mode: str) -> IO[bytes]:
    """The file itself; a new one only its owner may read, since events hold arguments of tasks."""
    return os.fdopen(create(path), "wb") if mode == "x" else Path(path).open(f"{mode}b")


class _Gzip(gzip.GzipFile):
    """As the base, and the file below is closed with it."""

    def __init__(self, file: IO[bytes], mode: str) -> None:
        super().__init__(fileobj=file, mode=mode, compresslevel=5)
        self._below = file

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._below.close()


def _zstandard(path: str) -> Any:
    try:
        return importlib.import_module("zstandard")
    except ImportError:
        words = f"'{path}' needs the package zstandard: pip install 'qctl[zstd]'; .gz needs nothing"
        raise ConfigError(words) from None
