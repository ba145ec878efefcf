"""Schedule entries as rows of SQL tables, for the SQLite broker and for databases behind SQLAlchemy.

In:  a function that runs a statement, inside a transaction of the caller.  Out: entries, states, histories.
Whoever writes holds a lock from the first statement to the end of the transaction: lock(), or SQLite's own.
So steps follow each other, and revisions are committed in order: a reader that asks for what is newer than a
revision misses nothing. Statements are plain SQL with `:name` parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from qcore.brokers.contract.records import Member, Message
from qcore.brokers.contract.schedules import HISTORY_SIZE, Firing, OutboxItem, StoredEntry, state_after
from qcore.wire.schedule import EntryState, HistoryRecord

#: runs one statement; a list of parameters: once for each of them. The result has fetchall().
Run = Callable[[str, Any], Any]

_STATE = ("cursor_us", "runs", "missed", "overlapped", "last_task_id", "last_instant_us", "last_sent_us")
_STATE_COLUMNS = ", ".join((*_STATE, "last_by"))
_RECORD = msgspec.json.Decoder(HistoryRecord)
_MESSAGE = msgspec.msgpack.Decoder(Message)


class ScheduleRows:
    """The statements for tables whose names begin with `prefix`."""

    def __init__(self, prefix: str = "") -> None:
        self._entries, self._history = f"{prefix}schedule_entries", f"{prefix}schedule_history"
        self._outbox, self._members = f"{prefix}schedule_outbox", f"{prefix}schedule_members"
        self._counter = f"{prefix}schedule_counter"
        columns = f"name, revision, declared, source, edited, edited_by, {_STATE_COLUMNS}"
        self._select = f"SELECT {columns} FROM {self._entries}"

    # --- reading

    def revision(self, run: Run) -> int:
        return int(run(f"SELECT revision FROM {self._counter} WHERE id=1", {}).fetchall()[0][0])

    def entries(self, run: Run, since: int) -> list[StoredEntry]:
        where = "revision>:since" if since else "revision>:since AND deleted_at IS NULL"
        rows = run(f"{self._select} WHERE {where}", {"since": since}).fetchall()
        return sorted(map(_entry, rows), key=lambda entry: entry.name)

    def named(self, run: Run, names: Iterable[str]) -> list[StoredEntry | None]:
        return [self._found(run, name) for name in names]

    def _found(self, run: Run, name: str) -> StoredEntry | None:
        rows = run(f"{self._select} WHERE name=:name AND deleted_at IS NULL", {"name": name}).fetchall()
        return _entry(rows[0]) if rows else None

    def history(self, run: Run, name: str, limit: int) -> list[HistoryRecord]:
        sql = f"SELECT record FROM {self._history} WHERE name=:name ORDER BY number DESC"
        rows = run(sql, {"name": name}).fetchall()
        return [_RECORD.decode(bytes(record)) for (record,) in rows[:limit]]

    # --- changes

    def lock(self, run: Run) -> None:
        """Let no other step write until the end of this transaction: all begin with an update of this row."""
        run(f"UPDATE {self._counter} SET revision=revision WHERE id=1", {})

    def _revisions(self, run: Run, count: int) -> range:
        run(f"UPDATE {self._counter} SET revision=revision+:count WHERE id=1", {"count": count})
        last = self.revision(run)
        return range(last - count + 1, last + 1)

    def _sweep(self, run: Run, edge: float) -> None:
        run(f"DELETE FROM {self._entries} WHERE deleted_at<:edge", {"edge": edge})

    def declare(
        self, run: Run, source: str, entries: Mapping[str, bytes], now: float, tombstone_s: float
    ) -> list[str]:
        self._sweep(run, now - tombstone_s)
        rows = run(f"SELECT name, declared, source, deleted_at FROM {self._entries}", {}).fetchall()
        found = {name: (_bytes(declared), by) for name, declared, by, deleted_at in rows if not deleted_at}
        tombs = {name for name, _, _, deleted_at in rows if deleted_at}
        changed = [name for name, raw in entries.items() if found.get(name) != (raw, source)]
        gone = [n for n, (raw, by) in found.items() if raw is not None and by == source and n not in entries]
        revisions = iter(self._revisions(run, len(changed) + len(gone)))
        new = [
            {"name": name, "revision": next(revisions), "declared": entries[name], "source": source}
            for name in changed
        ]
        fresh = [row for row in new if row["name"] not in found]
        self._insert(run, fresh, [str(row["name"]) for row in fresh if row["name"] in tombs])
        sql = "SET revision=:revision, declared=:declared, source=:source WHERE name=:name"
        _each(run, f"UPDATE {self._entries} {sql}", [row for row in new if row["name"] in found])
        self._delete(run, [(name, next(revisions)) for name in gone], now)
        return sorted(changed + gone)

    def _insert(self, run: Run, rows: list[dict[str, Any]], tombs: Sequence[str]) -> None:
        _each(run, f"DELETE FROM {self._entries} WHERE name=:name", [{"name": name} for name in tombs])
        values = ":name, :revision, :declared, :source, :edited, :edited_by, :cursor_us"
        columns = values.replace(":", "")
        blank = {"declared": None, "source": "", "edited": None, "edited_by": "", "cursor_us": 0}
        sql = f"INSERT INTO {self._entries} ({columns}) VALUES ({values})"
        _each(run, sql, [{**blank, **row} for row in rows])

    def _delete(self, run: Run, gone: Iterable[tuple[str, int]], now: float) -> None:
        rows = [{"name": name, "revision": revision, "now": now} for name, revision in gone]
        names = [{"name": row["name"]} for row in rows]
        _each(run, f"DELETE FROM {self._history} WHERE name=:name", names)
        _each(run, f"DELETE FROM {self._entries} WHERE name=:name", names)
        sql = f"INSERT INTO {self._entries} (name, revision, deleted_at) VALUES (:name, :revision, :now)"
        _each(run, sql, rows)

    def edit(
        self,
        run: Run,
        name: str,
        edited: bytes | None,
        by: str,
        revision: int | None,
        cursor_us: int | None,
        now: float,
        tombstone_s: float,
    ) -> bool:
        self._sweep(run, now - tombstone_s)
        found = self._found(run, name)
        if revision is not None and revision != (found.revision if found is not None else 0):
            return False
        if found is None and edited is None:
            return False
        (number,) = self._revisions(run, 1)
        if found is not None and found.declared is None and edited is None:
            self._delete(run, [(name, number)], now)
            return True
        cursor = max(cursor_us or 0, found.state.cursor_us if found is not None else 0)
        row = {
            "name": name,
            "revision": number,
            "edited": edited,
            "edited_by": by if edited is not None else "",
            "cursor_us": cursor,
        }
        if found is None:
            self._insert(run, [row], [name])
        else:
            values = "revision=:revision, edited=:edited, edited_by=:edited_by, cursor_us=:cursor_us"
            run(f"UPDATE {self._entries} SET {values} WHERE name=:name", row)
        return True

    # --- firings

    def fire(
        self, run: Run, firings: Sequence[Firing], now: float
    ) -> tuple[list[EntryState | None], list[Message]]:
        """The answers of ScheduleStore.fire(), and the messages to publish, or to put into the outbox."""
        answers: list[EntryState | None] = []
        messages: list[Message] = []
        for firing in firings:
            found = self._fire(run, firing, int(now * 1e6))
            answers.append(found[1])
            messages += firing.messages if found[0] else ()
        return answers, messages

    def _fire(self, run: Run, firing: Firing, now_us: int) -> tuple[bool, EntryState | None]:
        """Whether it takes effect now, and what is answered."""
        sql = f"SELECT {_STATE_COLUMNS}, decisions FROM {self._entries} WHERE name=:name"
        rows = run(sql + " AND deleted_at IS NULL", {"name": firing.name}).fetchall()
        if not rows:
            return False, EntryState()
        found, decisions = EntryState(*rows[0][:-1]), rows[0][-1]
        if firing.expected_us is None:
            if firing.task_id and self._is_known(run, firing):
                return False, None
        elif found.cursor_us != firing.expected_us:
            return False, found
        state = msgspec.structs.asdict(state_after(found, firing, now_us))
        sets = ", ".join(f"{column}=:{column}" for column in (*state, "decisions"))
        values = {**state, "name": firing.name, "decisions": decisions + len(firing.records)}
        run(f"UPDATE {self._entries} SET {sets} WHERE name=:name", values)
        self._note(run, firing, decisions, now_us)
        return True, None

    def _is_known(self, run: Run, firing: Firing) -> bool:
        sql = f"SELECT count(*) FROM {self._history} WHERE name=:name AND task_id=:id"
        return bool(run(sql, {"name": firing.name, "id": firing.task_id}).fetchall()[0][0])

    def _note(self, run: Run, firing: Firing, decisions: int, now_us: int) -> None:
        rows = [
            {
                "name": firing.name,
                "number": decisions + i,
                "task_id": record.task_id,
                "record": msgspec.json.encode(_timed(record, now_us)),
            }
            for i, record in enumerate(firing.records, 1)
        ]
        sql = f"INSERT INTO {self._history} (name, number, task_id, record)"
        _each(run, f"{sql} VALUES (:name, :number, :task_id, :record)", rows)
        if rows:
            old = {"name": firing.name, "last": decisions + len(rows) - HISTORY_SIZE}
            run(f"DELETE FROM {self._history} WHERE name=:name AND number<=:last", old)

    # --- the outbox

    def put(self, run: Run, messages: Iterable[Message], now: float) -> None:
        rows = [{"at": now, "message": msgspec.msgpack.encode(message)} for message in messages]
        _each(run, f"INSERT INTO {self._outbox} (put_at, message) VALUES (:at, :message)", rows)

    def outbox(self, run: Run, limit: int) -> list[OutboxItem]:
        sql = f"SELECT id, put_at, message FROM {self._outbox} ORDER BY id LIMIT :limit"
        return [
            OutboxItem(str(number), at, _MESSAGE.decode(bytes(message)))
            for number, at, message in run(sql, {"limit": limit}).fetchall()
        ]

    def sent(self, run: Run, ids: Iterable[str]) -> None:
        _each(run, f"DELETE FROM {self._outbox} WHERE id=:id", [{"id": int(number)} for number in ids])

    # --- schedulers

    def announce(self, run: Run, node: str, facts: dict[str, Any], now: float, ttl_s: float) -> None:
        self.retire(run, node, now)
        row = {"node": node, "now": now, "ttl_s": ttl_s, "facts": msgspec.json.encode(facts, enc_hook=str)}
        sql = (
            f"INSERT INTO {self._members} (node, seen_at, ttl_s, facts) VALUES (:node, :now, :ttl_s, :facts)"
        )
        run(sql, row)

    def retire(self, run: Run, node: str, now: float) -> None:
        sql = f"DELETE FROM {self._members} WHERE node=:node OR seen_at+ttl_s<:edge"
        run(sql, {"node": node, "edge": now - 3600})

    def members(self, run: Run, now: float) -> list[Member]:
        rows = run(f"SELECT node, seen_at, ttl_s, facts FROM {self._members} ORDER BY node", {}).fetchall()
        return [
            Member(node, seen, now < seen + ttl_s, msgspec.json.decode(bytes(facts)))
            for node, seen, ttl_s, facts in rows
            if now < seen + ttl_s + 3600
        ]


def _each(run: Run, sql: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        run(sql, rows)


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)


def _entry(row: Sequence[Any]) -> StoredEntry:
    name, revision, declared, source, edited, edited_by, *state = row
    return StoredEntry(
        name, revision, _bytes(declared), source, _bytes(edited), edited_by, EntryState(*state)
    )


def _timed(record: HistoryRecord, now_us: int) -> HistoryRecord:
    return msgspec.structs.replace(record, at_us=record.at_us or now_us)
