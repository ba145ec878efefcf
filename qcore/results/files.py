"""Results as files in a directory, file:///dir, as Celery's filesystem backend writes them.

In:  results.  Out: a file for each, named as the key of the result; nothing expires until cleanup().
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qcore.base.times import new_id
from qcore.errors import BrokerDown, ConfigError
from qcore.results.polled import CHORD_PREFIX, KeyedResults


class FileResults(KeyedResults):
    """One directory, which exists; processes on several machines may share it."""

    expires_by_cleanup = True

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        super().__init__(url, options)
        path = url.removeprefix("file://localhost") if url.startswith("file://localhost/") else url[7:]
        if not url.startswith("file://") or not path:
            raise ConfigError(f"the result backend {url} names no directory; write file:///directory")
        self._folder = Path(path)
        if not os.access(self._folder, os.R_OK | os.W_OK | os.X_OK):
            raise ConfigError(
                f"results cannot be stored in {path}: create it, or allow this user to write there"
            )

    def _file(self, key: str) -> Path:
        if "/" in key or "\0" in key:
            raise ConfigError(f"the id {key!r} cannot be the name of a file")
        return self._folder / key

    def read_keys(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self._read(key) for key in keys]

    def _read(self, key: str) -> bytes | None:
        try:
            return self._file(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise BrokerDown(self.url, str(exc)) from exc

    def write_key(self, key: str, value: bytes, ttl_s: float | None) -> None:
        self._write(key, value, Path.replace)

    def add_key(self, key: str, value: bytes, ttl_s: float | None) -> bool:
        return self._write(key, value, _link)

    def _write(self, key: str, value: bytes, publish: Any) -> bool:
        """Write a file of another name, then give it its name: no reader sees half of it."""
        path, draft = self._file(key), self._file(f".qcore-{new_id()}")
        try:
            draft.write_bytes(value)
            publish(draft, path)
        except FileExistsError:
            return False
        except OSError as exc:
            raise BrokerDown(self.url, str(exc)) from exc
        finally:
            draft.unlink(missing_ok=True)
        return True

    def delete_keys(self, keys: Sequence[str]) -> int:
        deleted = 0
        for key in keys:
            try:
                self._file(key).unlink()
                deleted += 1
            except FileNotFoundError:
                continue
            except OSError as exc:
                raise BrokerDown(self.url, str(exc)) from exc
        return deleted

    def cleanup(self, older_than_s: float) -> int:
        until, deleted = time.time() - older_than_s, 0
        ours = (self._task_prefix, self._group_prefix, CHORD_PREFIX, "chord-unlock-", ".qcore-")
        try:
            with os.scandir(self._folder) as entries:
                old = [e.name for e in entries if e.name.startswith(ours) and e.stat().st_mtime < until]
        except OSError as exc:
            raise BrokerDown(self.url, str(exc)) from exc
        deleted += self.delete_keys(old)
        return deleted


def _link(draft: Path, path: Path) -> None:
    """Give the draft its name unless that is taken. Raises FileExistsError."""
    path.hardlink_to(draft)
