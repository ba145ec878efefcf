"""kombu's transport of files without its races: no message is lost between its writer and its reader.

In:  the folders of `broker_transport_options`.  Out: the same files as kombu's, with the same names.
Before this: connection.py, for URLs of `filesystem://`.
kombu writes a message and a table of bindings in three steps: open, lock, write. Another process that reads
the file between the first and the last finds it empty. Here a message gets its name when it is complete, and
a file that is empty or locked is read later.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import filesystem
from kombu.transport.filesystem import exchange_queue_t
from kombu.utils import json

# kombu has no types
dumps: Any = json.dumps
loads: Any = json.loads
EMPTY_S = 10.0  # after which an empty file is taken for what its writer left behind
RETRY_S = 0.005  # between two looks at a table that is empty


class FileChannel(filesystem.Channel):
    """A channel whose messages Celery's processes read and write too."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]
        self._file_of_table: Any = self._exchange_file
        self._empty_since: dict[Path, float] = {}

    def _put(self, queue: str, payload: Any, **_: Any) -> None:  # type: ignore[override]
        name = f"{round(time.monotonic() * 1000)}_{uuid.uuid4()}.{queue}"
        path = Path(self.data_folder_out, f"{name}.new")
        path.write_text(dumps(payload), "utf-8")
        path.rename(path.with_name(f"{name}.msg"))

    def _get(self, queue: str, timeout: Any = None) -> Any:
        with os.scandir(self.data_folder_in) as entries:
            paths = sorted(entry.path for entry in entries if entry.name.partition(".")[2] == f"{queue}.msg")
        self._empty_since = {path: at for path, at in self._empty_since.items() if str(path) in paths}
        for path in paths:
            text = self._take(Path(path))
            if text is not None:
                return loads(text.decode())
        raise Empty

    def _take(self, path: Path) -> bytes | None:
        """The text of a message, which is no longer in the folder; None: another process has it."""
        try:
            with open(path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                text = file.read()
                now = time.monotonic()
                if not text and now - self._empty_since.setdefault(path, now) < EMPTY_S:
                    return None
                if self.store_processed:
                    shutil.move(path, self.processed_folder)
                else:
                    path.unlink()
        except (BlockingIOError, FileNotFoundError):
            return None
        return text

    def get_table(self, exchange: str) -> list[Any]:
        until = time.monotonic() + EMPTY_S
        while True:
            try:
                with open(self._file_of_table(exchange), "rb") as file:
                    fcntl.flock(file, fcntl.LOCK_SH)
                    text = file.read().decode()
            except FileNotFoundError:
                return []
            if text or time.monotonic() > until:
                return [exchange_queue_t(*binding) for binding in loads(text or "[]")]
            time.sleep(RETRY_S)

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        path = self._file_of_table(exchange)
        self.control_folder.mkdir(exist_ok=True)
        binding = exchange_queue_t(routing_key or "", pattern or "", queue or "")
        with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            table = [exchange_queue_t(*known) for known in loads(file.read().decode() or "[]")]
            if binding not in table:
                file.seek(0)
                file.write(dumps([binding, *table]).encode())
                file.truncate()
