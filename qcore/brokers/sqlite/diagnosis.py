"""The publishing guarantees of the SQLite file, which follow from its mode."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from qcore.brokers.contract.diagnosis import (
    CONFIRMED,
    DURABLE,
    PARTLY,
    YES,
    Diagnosis,
    Guarantee,
    ServerFacts,
)
from qcore.brokers.sqlite.database import File
from qcore.brokers.sqlite.relaxed import FULL, RELAXED, WORDS

#: the meaning of the numbers of PRAGMA synchronous (sqlite.org/pragma.html#pragma_synchronous)
LEVELS = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}


class SqliteDiagnosis(Diagnosis):
    """The guarantees of one file."""

    def __init__(self, file: File) -> None:
        super().__init__("sqlite")
        self._file = file

    def server(self) -> ServerFacts:
        ((mode,),) = self._file.rows("PRAGMA journal_mode")
        return ServerFacts(
            software=f"SQLite {sqlite3.sqlite_version}",
            storage=f"journal_mode {mode}",
            file=_size(self._file.path),
            log=_size(self._file.path.with_name(self._file.path.name + "-wal")),
        )

    def guarantees(self) -> list[Guarantee]:
        ((mode,),) = self._file.rows("PRAGMA journal_mode")
        ((level,),) = self._file.rows("PRAGMA synchronous")
        setting = f"durability={RELAXED if level < 2 else FULL}, journal_mode={mode}"
        setting += f", synchronous={LEVELS.get(level, level)}"
        what = (
            "publish returns when the transaction is on disk, unless the "
            "disk acknowledges a sync it did not perform"
        )
        if level < 2:
            what = WORDS
        return [
            Guarantee(CONFIRMED, YES, "publish returns when its transaction is committed"),
            Guarantee(DURABLE, YES if level >= 2 else PARTLY, what, setting),
        ]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
