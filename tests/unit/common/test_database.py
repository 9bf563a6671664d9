"""The SQLite engine: group commit, errors, full disks, killed processes."""

import asyncio
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from indaco_common.errors import Conflict, Unavailable
from indaco_common.store.database import BATCH_OPERATIONS, Database

SCHEMA = "CREATE TABLE IF NOT EXISTS thing(id TEXT PRIMARY KEY, body BLOB)"


def inserting(id: str, body: bytes = b"") -> Callable[[sqlite3.Connection], str]:
    def insert(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO thing VALUES (?, ?)", (id, body))
        return id

    return insert


def count(database: Database) -> int:
    return int(database.read("SELECT count(*) FROM thing")[0][0])


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "deep" / "er" / "things.db", SCHEMA, busy_timeout_s=0.1)
    await database.start()
    yield database
    await database.stop()


async def test_a_result_comes_back_after_its_commit(database: Database) -> None:
    assert await database.run(inserting("a", b"body")) == "a"
    with sqlite3.connect(database.path) as other:
        assert other.execute("SELECT body FROM thing").fetchall() == [(b"body",)]
    other.close()


async def test_waiting_operations_share_a_commit(database: Database) -> None:
    statements: list[str] = []
    await database.run(lambda connection: connection.set_trace_callback(statements.append))
    await asyncio.gather(*[database.run(inserting(str(n))) for n in range(3 * BATCH_OPERATIONS)])
    await database.run(lambda connection: connection.set_trace_callback(None))
    assert count(database) == 3 * BATCH_OPERATIONS
    assert 3 <= statements.count("COMMIT") < 3 * BATCH_OPERATIONS / 4


async def test_a_refusal_is_its_callers_alone(database: Database) -> None:
    def refuse(connection: sqlite3.Connection) -> None:
        raise Conflict("too late")

    results = await asyncio.gather(
        database.run(inserting("a")), database.run(refuse), database.run(inserting("b")), return_exceptions=True
    )
    assert [results[0], type(results[1]), results[2]] == ["a", Conflict, "b"]
    assert count(database) == 2


async def test_an_unexpected_error_undoes_its_operation_and_no_other(database: Database) -> None:
    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO thing VALUES ('half', NULL)")
        raise ZeroDivisionError

    await database.run(inserting("taken"))
    results = await asyncio.gather(
        *[database.run(operation) for operation in (inserting("a"), half, inserting("taken"), inserting("b"))],
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [str, ZeroDivisionError, sqlite3.IntegrityError, str]
    assert database.read("SELECT id FROM thing ORDER BY id") == [("a",), ("b",), ("taken",)]


async def test_our_own_mistakes_are_not_called_unavailable(database: Database) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await database.run(lambda connection: connection.execute("DELETE FROM elsewhere"))
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        database.read("SELECT * FROM elsewhere")


async def test_a_cancelled_caller_harms_nobody(database: Database) -> None:
    tasks = [asyncio.create_task(database.run(inserting(str(n)))) for n in range(10)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[3], asyncio.CancelledError)
    assert [result for n, result in enumerate(results) if n != 3] == [str(n) for n in range(10) if n != 3]


async def test_a_query_sees_one_moment_and_cannot_write(database: Database) -> None:
    await database.run(inserting("a"))
    loop = asyncio.get_running_loop()

    def twice(connection: sqlite3.Connection) -> tuple[int, int]:
        [before] = connection.execute("SELECT count(*) FROM thing").fetchone()
        asyncio.run_coroutine_threadsafe(database.run(inserting("b")), loop).result(5)
        [after] = connection.execute("SELECT count(*) FROM thing").fetchone()
        return before, after

    assert await database.query(twice) == (1, 1)
    assert count(database) == 2
    with pytest.raises(Unavailable, match="readonly"):
        await database.query(lambda connection: connection.execute("DELETE FROM thing"))


async def test_a_locked_file_is_unavailable_until_it_is_free(database: Database) -> None:
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    results = await asyncio.gather(*[database.run(inserting(str(n))) for n in range(5)], return_exceptions=True)
    assert {type(result) for result in results} == {Unavailable}
    assert count(database) == 0
    other.execute("ROLLBACK")
    other.close()
    await database.run(inserting("a"))
    assert count(database) == 1


async def test_stop_finishes_what_waits_and_start_opens_again(database: Database) -> None:
    tasks = [asyncio.create_task(database.run(inserting(str(n)))) for n in range(100)]
    await asyncio.sleep(0)
    await database.stop()
    assert await asyncio.gather(*tasks) == [str(n) for n in range(100)]
    assert [path.name for path in database.path.parent.iterdir()] == ["things.db"]
    for call in (database.run(inserting("late")), database.query(lambda _: None)):
        with pytest.raises(Unavailable):
            await call
    with pytest.raises(Unavailable):
        count(database)
    await database.stop()
    await database.start()
    assert count(database) == 100


async def test_the_file_is_for_its_owner_alone(database: Database) -> None:
    await database.run(inserting("a"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in database.path.parent.iterdir()} == {0o600}


@pytest.mark.parametrize("obstacle", ["a file where a folder should be", "another kind of file"])
async def test_what_cannot_be_opened_is_unavailable(tmp_path: Path, obstacle: str) -> None:
    (tmp_path / "taken").write_text("no database, and longer than the header of one: " * 50)
    path = tmp_path / "taken" / "things.db" if obstacle.startswith("a file") else tmp_path / "taken"
    database = Database(path, SCHEMA)
    with pytest.raises(Unavailable):
        await database.start()
    with pytest.raises(Unavailable):
        await database.run(inserting("a"))
    await database.stop()


# ── a full disk ──

SPACE = 4 * 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SPACE}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small file system cannot be mounted here (not root)")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def fill(database: Database, prefix: str) -> list[str]:
    """Insert until the disk is full; return what was acknowledged."""
    acknowledged: list[str] = []
    for turn in range(1000):
        jobs = [database.run(inserting(f"{prefix}-{turn}-{n}", bytes(20_000))) for n in range(10)]
        results = await asyncio.gather(*jobs, return_exceptions=True)
        acknowledged += [result for result in results if isinstance(result, str)]
        if errors := [result for result in results if isinstance(result, BaseException)]:
            assert {type(error) for error in errors} == {Unavailable}
            return acknowledged
    raise AssertionError("the disk is never full")


async def test_a_full_disk_is_unavailable_loses_nothing_and_recovers_unaided(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(SPACE // 2))
    database = Database(small_disk / "things.db", SCHEMA)
    await database.start()
    acknowledged = await fill(database, "first")
    with pytest.raises(Unavailable):
        await database.run(inserting("refused", bytes(100_000)))
    assert acknowledged
    assert sorted(row[0] for row in database.read("SELECT id FROM thing")) == sorted(acknowledged)
    ballast.unlink()
    assert await database.run(inserting("after", bytes(20_000))) == "after"
    acknowledged += ["after", *await fill(database, "second")]
    await database.stop()

    await database.start()
    assert sorted(row[0] for row in database.read("SELECT id FROM thing")) == sorted(acknowledged)
    assert database.read("PRAGMA integrity_check") == [("ok",)]
    await database.stop()


LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from indaco_common.errors import Unavailable
from indaco_common.store.database import Database

async def main():
    database = Database(Path(sys.argv[1]), "CREATE TABLE IF NOT EXISTS thing(id INTEGER PRIMARY KEY, body BLOB)")
    await database.start()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    insert = lambda connection: connection.execute("INSERT INTO thing(body) VALUES (?)", (bytes(20_000),)).lastrowid
    acknowledged = 0
    try:
        while True:
            await database.run(insert)
            acknowledged += 1
    except Unavailable:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await database.run(insert)
    await database.stop()
    print(acknowledged + 1)

asyncio.run(main())
"""


async def test_a_file_that_may_not_grow_is_unavailable_until_it_may(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "things.db")], check=False, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    acknowledged = int(run.stdout.splitlines()[-1])
    assert acknowledged > 10
    database = Database(tmp_path / "things.db", SCHEMA)
    await database.start()
    assert count(database) == acknowledged
    await database.stop()


# ── a killed process ──

VICTIM = """
import asyncio, sys
from pathlib import Path
from indaco_common.store.database import Database

SCHEMA = "CREATE TABLE IF NOT EXISTS debit(id TEXT PRIMARY KEY); CREATE TABLE IF NOT EXISTS credit(id TEXT PRIMARY KEY, body BLOB);"

def transfer(id):
    def write(connection):
        connection.execute("INSERT INTO debit VALUES (?)", (id,))
        connection.execute("INSERT INTO credit VALUES (?, ?)", (id, bytes(3000)))
    return write

async def main():
    database = Database(Path(sys.argv[1]), SCHEMA)
    await database.start()
    async def client(n):
        for round in range(1_000_000):
            id = f"{sys.argv[2]}-{n}-{round}"
            await database.run(transfer(id))
            print(id, flush=True)
    await asyncio.gather(*[client(n) for n in range(20)])

asyncio.run(main())
"""


async def test_a_process_killed_while_it_writes_leaves_a_whole_file_and_what_it_acknowledged(tmp_path: Path) -> None:
    path, acknowledged, dice = tmp_path / "ledger.db", set[str](), random.Random(7)
    for life in range(5):
        output = tmp_path / f"acknowledged-{life}"
        with output.open("w") as file:
            victim = subprocess.Popen([sys.executable, "-c", VICTIM, str(path), str(life)], stdout=file)
            deadline = time.monotonic() + 30
            while not output.stat().st_size and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
            await asyncio.sleep(dice.uniform(0.02, 0.3))
            os.kill(victim.pid, signal.SIGKILL)
            victim.wait()
        *whole, _torn = output.read_text().split("\n")
        acknowledged |= set(whole)
    database = Database(path, "")
    await database.start()
    assert database.read("PRAGMA integrity_check") == [("ok",)]
    debited, credited = ({row[0] for row in database.read(f"SELECT id FROM {table}")} for table in ("debit", "credit"))
    await database.stop()
    assert len(acknowledged) > 100
    assert acknowledged <= debited
    assert debited == credited
