"""A result store: memo:///path/file.db keeps results in a table of an SQLite file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Any

from qcore.errors import BrokerDown
from qcore.results.polled import KeyedResults


class MemoResults(KeyedResults):
    """Four operations on keys are enough: KeyedResults makes results, groups and chords of them."""

    expires_by_cleanup = True  # results stay until cleanup(), and not for ttl_s

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        super().__init__(url, options)
        self._path = url.partition("://")[2]
        self._run("CREATE TABLE IF NOT EXISTS memo (key TEXT PRIMARY KEY, value BLOB, at REAL)")

    def read_keys(self, keys: Sequence[str]) -> list[bytes | None]:
        found = [self._run("SELECT value FROM memo WHERE key = ?", key)[0] for key in keys]
        return [rows[0][0] if rows else None for rows in found]

    def write_key(self, key: str, value: bytes, ttl_s: float | None) -> None:
        self._run("INSERT OR REPLACE INTO memo VALUES (?, ?, ?)", key, value, time.time())

    def add_key(self, key: str, value: bytes, ttl_s: float | None) -> bool:
        return self._run("INSERT OR IGNORE INTO memo VALUES (?, ?, ?)", key, value, time.time())[1] == 1

    def delete_keys(self, keys: Sequence[str]) -> int:
        return sum(self._run("DELETE FROM memo WHERE key = ?", key)[1] for key in keys)

    def cleanup(self, older_than_s: float) -> int:
        return self._run("DELETE FROM memo WHERE at < ?", time.time() - older_than_s)[1]

    def _run(self, statement: str, *values: Any) -> tuple[list[Any], int]:
        """The rows, and the number of changed ones. Callers retry after BrokerDown."""
        try:
            connection = sqlite3.connect(self._path, timeout=10)
            try:
                with connection:
                    done = connection.execute(statement, values)
                    return done.fetchall(), done.rowcount
            finally:
                connection.close()
        except sqlite3.OperationalError as exc:
            raise BrokerDown(self.url, str(exc)) from exc
