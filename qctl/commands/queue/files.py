"""Files of messages: one JSON object per line, with the bytes in base64.

In:  queued messages.  Out: lines; and messages read from them.

    {"queue": "mails", "priority": 0, "due_at": null, "raw": "…", "id": "…", "name": "…", "returns": 0}

due_at is in epoch seconds; id, name and returns are informative and not read back.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from qcore.base.private_files import create
from qctl import exit_codes

if TYPE_CHECKING:
    from qcore.brokers.contract.administration import Waiting
    from qcore.brokers.contract.records import Message

Found = tuple["Waiting", dict[str, Any]]


class Saver:
    """A new file that only its owner may read."""

    def __init__(self, path: str) -> None:
        """Raises CommandError when the file exists or is a directory."""
        self.path, self.count = path, 0
        try:
            self._file = os.fdopen(create(path), "wb")
        except FileExistsError:
            raise exit_codes.CommandError(
                exit_codes.USAGE, f"the file '{path}' exists", "give another name"
            ) from None
        except IsADirectoryError:
            raise exit_codes.CommandError(exit_codes.USAGE, f"'{path}' is a directory") from None

    def write(self, found: Sequence[Found]) -> int:
        """Append these, synced to disk on return; return the file offset of the first."""
        start = self._file.tell()
        for one, record in found:
            self._file.write(_line(one, record))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.count += len(found)
        return start

    def rewrite(self, start: int, written: int, found: Sequence[Found]) -> None:
        """Replace the `written` messages at offset `start` with these."""
        self._file.seek(start)
        self._file.truncate()
        self.count -= written
        self.write(found)

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _line(one: Waiting, record: dict[str, Any]) -> bytes:
    fields = {
        "queue": one.queue,
        "priority": one.priority,
        "due_at": one.due_at,
        "raw": base64.b64encode(one.raw).decode(),
        "id": record["id"],
        "name": record["name"],
        "returns": one.returns,
    }
    return json.dumps(fields).encode() + b"\n"


def read(path: str, queue: str | None) -> Iterator[Message]:
    """The messages of a file, in its order. queue: replaces the queue in the file. Raises CommandError with
    the line number for a malformed line."""
    from qcore.brokers.contract.records import Message

    if not Path(path).is_file():
        raise exit_codes.CommandError(exit_codes.NOT_FOUND, f"there is no file '{path}'")
    with Path(path).open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                fields = json.loads(line)
                raw = base64.b64decode(fields["raw"], validate=True)
                due_at, priority = fields.get("due_at"), fields.get("priority", 0)
                name = queue or fields["queue"]
                good = isinstance(name, str) and isinstance(priority, int) and not isinstance(due_at, str)
                due = None if due_at is None else float(due_at)
            except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
                good = False
            if not good or not name:
                raise exit_codes.CommandError(
                    exit_codes.FAILED, f"line {number} of '{path}' is not a saved message"
                )
            yield Message(raw, queue=name, priority=priority, due_at=due)
