"""The tables of the embedded database, and the columns that newer versions add."""

from __future__ import annotations

SCHEMA_VERSION = 6


# A message is ready (no owner, no due_at), delayed (no owner, due_at) or in flight (owner).
# `position` orders the ready ones; a requeued message keeps its own, so it is at the head.
# `ready_at` is when it became ready, for operators (epoch seconds; NULL: by an older version).
# `batch` is the first number of the claim that holds it: with the owner it fences settlements.
SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY, queue TEXT NOT NULL, priority INTEGER NOT NULL, position INTEGER NOT NULL,
    due_at REAL, owner TEXT, batch INTEGER, crashes INTEGER NOT NULL DEFAULT 0, raw BLOB NOT NULL,
    ready_at REAL);
CREATE INDEX IF NOT EXISTS ready ON messages (queue, priority, position)
    WHERE owner IS NULL AND due_at IS NULL;
CREATE INDEX IF NOT EXISTS delayed ON messages (queue, due_at) WHERE owner IS NULL AND due_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS held ON messages (owner, queue) WHERE owner IS NOT NULL;
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO counters VALUES ('position', 0);
CREATE TABLE IF NOT EXISTS queues (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS owners (
    id TEXT PRIMARY KEY, node TEXT, lease_until REAL NOT NULL, host TEXT, pid INTEGER, started TEXT
    ) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS results (task_id TEXT PRIMARY KEY, meta BLOB NOT NULL, expires_at REAL);
CREATE INDEX IF NOT EXISTS results_expire ON results (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS bells (
    topic TEXT, path TEXT, pattern TEXT NOT NULL DEFAULT '', PRIMARY KEY (topic, path)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bus (
    id INTEGER PRIMARY KEY AUTOINCREMENT, exchange TEXT, routing_key TEXT, raw BLOB, at REAL);
CREATE INDEX IF NOT EXISTS bus_exchange ON bus (exchange, id);
CREATE TABLE IF NOT EXISTS replies (
    id INTEGER PRIMARY KEY, exchange TEXT, key TEXT, raw BLOB, at REAL);
CREATE INDEX IF NOT EXISTS replies_key ON replies (exchange, key, id);
CREATE TABLE IF NOT EXISTS members (
    node TEXT PRIMARY KEY, seen_at REAL, ttl_s REAL, info BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revoked (id TEXT PRIMARY KEY, revoked_at REAL, expires_at REAL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS revoked_at ON revoked (revoked_at);
CREATE TABLE IF NOT EXISTS quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT, reason TEXT, at REAL, raw BLOB);
CREATE TABLE IF NOT EXISTS chords (
    group_id TEXT PRIMARY KEY, size INTEGER NOT NULL, token TEXT, done INTEGER NOT NULL DEFAULT 0,
    until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS chord_parts (
    group_id TEXT, member TEXT, position REAL, entry BLOB, PRIMARY KEY (group_id, member)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS paused (
    queue TEXT PRIMARY KEY, reason TEXT NOT NULL DEFAULT '', by_whom TEXT NOT NULL DEFAULT '', at REAL,
    until REAL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS once (
    key TEXT PRIMARY KEY, task_id TEXT NOT NULL, expires_at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS once_expire ON once (expires_at);
CREATE TABLE IF NOT EXISTS failures (
    at_us INTEGER PRIMARY KEY, task_id TEXT NOT NULL UNIQUE, expires_at REAL,
    retried_as TEXT NOT NULL DEFAULT '', facts BLOB NOT NULL, detail BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS failures_expire ON failures (expires_at) WHERE expires_at IS NOT NULL;
INSERT OR IGNORE INTO counters VALUES ('failures', 0), ('failures_dropped', 0);
CREATE TRIGGER IF NOT EXISTS failure_came AFTER INSERT ON failures
    BEGIN UPDATE counters SET n=n+1 WHERE name='failures'; END;
CREATE TRIGGER IF NOT EXISTS failure_went AFTER DELETE ON failures
    BEGIN UPDATE counters SET n=n-1 WHERE name='failures'; END;
CREATE TABLE IF NOT EXISTS schedule_entries (
    name TEXT PRIMARY KEY, revision INTEGER NOT NULL, declared BLOB, source TEXT NOT NULL DEFAULT '',
    edited BLOB, edited_by TEXT NOT NULL DEFAULT '', cursor_us INTEGER NOT NULL DEFAULT 0,
    runs INTEGER NOT NULL DEFAULT 0, missed INTEGER NOT NULL DEFAULT 0,
    overlapped INTEGER NOT NULL DEFAULT 0, last_task_id TEXT NOT NULL DEFAULT '',
    last_instant_us INTEGER NOT NULL DEFAULT 0, last_sent_us INTEGER NOT NULL DEFAULT 0,
    last_by TEXT NOT NULL DEFAULT '', decisions INTEGER NOT NULL DEFAULT 0, deleted_at REAL);
CREATE INDEX IF NOT EXISTS schedule_revisions ON schedule_entries (revision);
CREATE TABLE IF NOT EXISTS schedule_history (
    name TEXT, number INTEGER, task_id TEXT NOT NULL, record BLOB NOT NULL, PRIMARY KEY (name, number)
    ) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS schedule_outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, put_at REAL NOT NULL, message BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS schedule_members (
    node TEXT PRIMARY KEY, seen_at REAL, ttl_s REAL, facts BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS schedule_counter (id INTEGER PRIMARY KEY, revision INTEGER NOT NULL);
INSERT OR IGNORE INTO schedule_counter VALUES (1, 0);
"""


#: columns that older files lack: (table, column, type)
NEW_COLUMNS = (
    ("messages", "ready_at", "REAL"),
    ("paused", "reason", "TEXT NOT NULL DEFAULT ''"),
    ("paused", "by_whom", "TEXT NOT NULL DEFAULT ''"),
    ("paused", "at", "REAL"),
    ("paused", "until", "REAL"),
)
