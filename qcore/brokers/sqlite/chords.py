"""Count the members of chords in the SQLite file.

In:  parts.  Out: complete chords.  A complete chord belongs to the member counted last, until its
body is sent; when that member's worker dies the member is redelivered and still owns the chord.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from qcore.brokers.contract.chords import Chords
from qcore.brokers.contract.records import FullChord, Message
from qcore.brokers.sqlite.consumer import put, route
from qcore.brokers.sqlite.database import Connection, File
from qcore.wire.outcome import ChordPart

DONE_S = 300.0
_FOR_EVER = 1e12


class SqliteChords(Chords):
    """The chords of one file."""

    def __init__(self, file: File) -> None:
        super().__init__("sqlite")
        self._file = file

    def create(self, sizes: Sequence[tuple[str, int]], ttl_s: float | None) -> None:
        now = time.time()
        rows = [(group, size, now + ttl_s if ttl_s else _FOR_EVER) for group, size in sizes]

        def write(db: Connection) -> None:
            old = "DELETE FROM chord_parts WHERE group_id IN (SELECT group_id FROM chords WHERE until<?)"
            db.execute(old, (now,))
            db.execute("DELETE FROM chords WHERE until<?", (now,))
            db.executemany(
                "INSERT INTO chords (group_id, size, until) VALUES (?,?,?) ON CONFLICT (group_id)"
                " DO UPDATE SET size=excluded.size, until=excluded.until, token=NULL, done=0",
                rows,
            )

        self._file.in_transaction(write, durable=True)

    def count(self, parts: Sequence[ChordPart], ttl_s: float | None) -> list[FullChord | None]:
        return list(self._file.in_transaction(lambda db: [_count(db, part) for part in parts], durable=True))

    def grow(self, group: str) -> None:
        sql = "UPDATE chords SET size=size+1 WHERE group_id=? AND size>=0"
        self._file.in_transaction(lambda db: db.execute(sql, (group,)), durable=True)

    def finish(self, full: FullChord, messages: Sequence[Message] = ()) -> bool:
        routed = [(m, route(self._file, m)) for m in messages]

        def write(db: Connection) -> bool:
            sql = "UPDATE chords SET done=1, until=? WHERE group_id=? AND token=? AND done=0"
            if not db.execute(sql, (time.time() + DONE_S, full.group, full.token)).rowcount:
                return False
            db.execute("DELETE FROM chord_parts WHERE group_id=?", (full.group,))
            if routed:
                put(db, routed)
            return True

        done = bool(self._file.in_transaction(write, durable=True))
        if done:
            self._file.ring({f"q:{queue}" for _, queue in routed})
        return done

    def fail(self, group: str) -> None:
        sql = "UPDATE chords SET size=-1 WHERE group_id=?"
        self._file.in_transaction(lambda db: db.execute(sql, (group,)), durable=True)


def _count(db: Connection, part: ChordPart) -> FullChord | None:
    found = db.execute("SELECT size, token, done FROM chords WHERE group_id=?", (part.group,)).fetchone()
    if found is None or found[2]:
        return None
    size, token, _ = found
    member = f"{part.task_id}:{part.index}"
    row = (part.group, member, _FOR_EVER if part.index is None else part.index, part.entry)
    db.execute("INSERT OR IGNORE INTO chord_parts VALUES (?,?,?,?)", row)
    sql = "SELECT entry FROM chord_parts WHERE group_id=? ORDER BY position, member"
    ((count,),) = db.execute("SELECT count(*) FROM chord_parts WHERE group_id=?", (part.group,))
    if count != size or token not in (None, member):
        return None
    db.execute("UPDATE chords SET token=? WHERE group_id=?", (member, part.group))
    return FullChord(part.group, member, [entry for (entry,) in db.execute(sql, (part.group,))])
