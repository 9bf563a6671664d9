"""``repository.edit`` against the same reads and writes by sqlite3 alone."""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import ClassVar

from indaco_common.clock import SystemClock
from indaco_common.envelope import Context, seal
from indaco_common.ids import uuid7
from indaco_common.messages import Event
from indaco_common.store import Repository
from indaco_common.store.aggregate import Aggregate
from indaco_common.store.sqlite import SqliteStore

from .programs import Rate, Stopwatch, compared, run
from .rows import Figures, at_least, row

COUNT, AT_ONCE, ROUNDS, AGGREGATES = 4000, 16, 5, 200


class Rang(Event, type="bench.bell.rang.v1", subject="bell"):
    bell_id: str
    times: int


class Bell(Aggregate):
    KIND: ClassVar[str] = "bell"
    times: int = 0
    keeper: str = "x" * 400


@row("edits/s", goal=at_least(0.5, on="ratio"))
def repository_edit() -> Figures:
    """Edits of 200 aggregates, 16 at once (the default prefetch): load with inbox look-up, decode, change, encode, seal one message,
    compare-and-set, outbox and inbox, each answered after the fsync. Baseline: sqlite3 alone, the same rows and numbers of bytes,
    one commit for each 16 edits. In turn, each in a process of its own, 5 rounds, medians."""
    state, message = _sizes()
    rates: list[tuple[Rate, Rate]] = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(prefix="indaco-bench-") as folder:
            raw = run("benchmarks/baselines/sqlite.py", COUNT, AT_ONCE, folder, state, message)
            ours = run("-m", __name__, folder)
        rates.append((ours, raw))
    return compared(rates, state_bytes=state, message_bytes=message)


def _sizes() -> tuple[int, int]:
    """Return the bytes of a state and of a message as ours writes them."""
    bell, now = Bell(id="b-000000", times=10), SystemClock().now()
    sealed = seal(Rang(bell_id=bell.id, times=10), Context(id=uuid7()), source="bench", version=10, index=0, now=now)
    return len(bell.model_dump_json()), len(sealed.body)


async def edits(folder: Path) -> Rate:
    """Make the edits; the relay is not part of it."""
    store = SqliteStore(folder / "ours.db")
    await store.start()
    bells = Repository(store, Bell, source="bench", clock=SystemClock(), saved=lambda *_: None)
    for number in range(AGGREGATES):
        await bells.create(Bell(id=f"b-{number:06d}"), Context())
    numbers = iter(range(COUNT))

    async def work() -> None:
        for number in numbers:
            async with bells.edit(f"b-{number % AGGREGATES:06d}", Context(id=uuid7())) as bell:
                bell.times += 1
                bell.emit(Rang(bell_id=bell.id, times=bell.times))

    watch = Stopwatch()
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    rate = watch.rate(COUNT)
    await store.stop()
    return rate


if __name__ == "__main__":
    print(json.dumps(asyncio.run(edits(Path(sys.argv[1])))))
