"""Events in a file: what was heard, to be looked at again later.

In:  batches of events.  Out: a file of JSON lines (`.gz` and `.zst` are compressed), and batches again, at
the pace at which they came or faster.  Each line is one event with `heard_at`, our clock when it came.
"""

from __future__ import annotations

import gzip
import importlib
import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec

from qcore.errors import ConfigError
from qcore.wire.event import Event, is_event

_encode = msgspec.json.Encoder(enc_hook=str).encode
_decode = msgspec.json.Decoder().decode
#: a pause in a recording is cut to this when it is replayed, seconds
LONGEST_PAUSE_S = 5.0
FLUSH_S = 1.0
BATCH = 500


class Recorder:
    """Writes events to a file as they come. Raises OSError, ConfigError for a compression we have not."""

    def __init__(self, path: str) -> None:
        self.path, self.events = path, 0
        self._file: IO[bytes] = _opened(path, "w")
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
    """What a recording holds, as receiver.listen() gives it: batches, at `speed` times the pace at which
    they came; speed 0: without a pause. Lines that are no events are left out. Raises as Recorder does."""

    def paced(batches: Iterator[tuple[float, list[Event]]]) -> Iterator[list[Event]]:
        last: float | None = None
        for at, batch in batches:
            if speed > 0 and last is not None and at > last:
                sleep(min(at - last, LONGEST_PAUSE_S) / speed)
            last = at
            yield batch

    with recorded(path) as batches:
        yield paced(batches)


@contextmanager
def recorded(path: str) -> Iterator[Iterator[tuple[float, list[Event]]]]:
    """The batches of a recording without any pause, each with our clock when it came (epoch seconds)."""
    file = _opened(path, "r")

    def batches() -> Iterator[tuple[float, list[Event]]]:
        batch: list[Event] = []
        last = 0.0
        for line in file:
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

    try:
        yield batches()
    finally:
        file.close()


def span(path: str) -> tuple[float, float] | None:
    """When the first and the last event of a recording came (epoch seconds); None: it has none."""
    file = _opened(path, "r")
    try:
        first = next((e for e in map(_event, file) if e is not None), None)
        last = first
        line = b""
        for line in file:  # noqa: B007 - only the last one is read as an event
            pass
        last = _event(line) or first
    finally:
        file.close()
    if first is None or last is None:
        return None
    begin, end = _heard_at(first), _heard_at(last)
    return begin, max(begin, end)


def _heard_at(event: Event) -> float:
    at = event.get("heard_at")
    return float(at if isinstance(at, int | float) else event["timestamp"])


def _event(line: bytes) -> Event | None:
    try:
        value = _decode(line)
    except msgspec.DecodeError:
        return None
    return value if is_event(value) else None


def _opened(path: str, mode: str) -> IO[bytes]:
    """The file, compressed as its name says."""
    if path.endswith(".zst"):
        try:
            zstandard: Any = importlib.import_module("zstandard")
        except ImportError:
            raise ConfigError(
                f"'{path}' needs the package zstandard, which is not installed; .gz needs nothing"
            ) from None
        raw = Path(path).open(f"{mode}b")  # noqa: SIM115 - closed with the stream around it
        if mode == "w":
            made: IO[bytes] = zstandard.ZstdCompressor().stream_writer(raw)
            return made
        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(raw))
    if path.endswith(".gz"):
        return gzip.open(path, f"{mode}b", compresslevel=5)  # type: ignore[return-value]
    return Path(path).open(f"{mode}b")
