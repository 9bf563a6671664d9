"""The raw limit of an edit: the same rows read and written by sqlite3 alone, with one commit for each group of edits.

    python benchmarks/baselines/sqlite.py COUNT GROUP FOLDER STATE_BYTES MESSAGE_BYTES

One connection reads, one writes (WAL, synchronous=FULL: each commit is on disk). Nothing is decoded, checked or made up: states and
messages are bytes at hand. No threads, no event loop. Prints JSON: edits a second, processor time of each.
"""

import json
import os
import sqlite3
import sys
import time
import uuid
from pathlib import Path

AGGREGATES, INBOX = 200, 256
SCHEMA = """
CREATE TABLE aggregates(
    key INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, handled INTEGER NOT NULL,
    due_at INTEGER, state BLOB NOT NULL, UNIQUE(kind, id));
CREATE INDEX aggregates_due ON aggregates(kind, due_at) WHERE due_at IS NOT NULL;
CREATE TABLE outbox(
    seq INTEGER PRIMARY KEY, aggregate INTEGER NOT NULL, visible_at INTEGER NOT NULL, created_at INTEGER NOT NULL,
    id TEXT NOT NULL, name TEXT NOT NULL, correlation_id TEXT NOT NULL, subject TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX outbox_aggregate ON outbox(aggregate, visible_at);
CREATE TABLE inbox(
    aggregate INTEGER NOT NULL, place INTEGER NOT NULL, message_id TEXT NOT NULL, PRIMARY KEY(aggregate, place)) WITHOUT ROWID;
"""
READ = """
SELECT version, state, EXISTS(SELECT 1 FROM inbox WHERE aggregate = aggregates.key AND message_id = ?)
FROM aggregates WHERE kind = ? AND id = ?"""
CREATE = "INSERT INTO aggregates(kind, id, version, handled, due_at, state) VALUES (?, ?, 1, 0, ?, ?)"
REPLACE = """
UPDATE aggregates SET version = version + 1, handled = handled + 1, due_at = ?, state = ?
WHERE kind = ? AND id = ? AND version = ? RETURNING key, handled"""
PUSH = """
INSERT INTO outbox(aggregate, visible_at, created_at, id, name, correlation_id, subject, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
REMEMBER = "INSERT OR REPLACE INTO inbox(aggregate, place, message_id) VALUES (?, ?, ?)"


def main(count: int, group: int, folder: Path, state_bytes: int, message_bytes: int) -> dict[str, float]:
    path = folder / "raw.db"
    writer, reader = (sqlite3.connect(path, isolation_level=None) for _ in range(2))
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("PRAGMA synchronous=FULL")
    writer.executescript(SCHEMA)
    state, body = os.urandom(state_bytes), os.urandom(message_bytes)
    names = [f"b-{number:06d}" for number in range(AGGREGATES)]
    with writer:
        writer.executemany(CREATE, [("bell", name, None, state) for name in names])
    messages = [str(uuid.uuid4()) for _ in range(2 * count)]
    wall, cpu = time.perf_counter(), time.process_time()
    for start in range(0, count, group):
        numbers = range(start, min(start + group, count))
        read = [(n, reader.execute(READ, (messages[n], "bell", names[n % AGGREGATES])).fetchone()) for n in numbers]
        writer.execute("BEGIN IMMEDIATE")
        for n, (version, _state, _handled) in read:
            name = names[n % AGGREGATES]
            key, handled = writer.execute(REPLACE, (None, state, "bell", name, version)).fetchone()
            row = (key, n, n, messages[count + n], "bench.bell.rang.v1", name, f"bell/{name}", body)
            writer.execute(PUSH, row)
            writer.execute(REMEMBER, (key, handled % INBOX, messages[n]))
        writer.execute("COMMIT")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"per_s": count / wall, "cpu_us": cpu / count * 1e6}


if __name__ == "__main__":
    numbers = [int(argument) for argument in (sys.argv[1], sys.argv[2], sys.argv[4], sys.argv[5])]
    print(json.dumps(main(numbers[0], numbers[1], Path(sys.argv[3]), numbers[2], numbers[3])))
