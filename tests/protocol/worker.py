"""Worlds in processes of their own: many seeds of the code as it is, or of a mutant.

Nothing of Indaco is imported before :func:`prepare` has decided what is to be changed in it.
"""

import multiprocessing
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.pool import Pool

from tests.protocol.mutants import install

PROCESSES = 2


@dataclass(frozen=True, slots=True)
class Life:
    """How one world ended: *hole* is empty if every invariant held."""

    seed: int
    hole: str
    stats: Counter[str] = field(default_factory=Counter)


def prepare(rules: Sequence[str] = ()) -> None:
    """Take *rules* out of the code that this process is about to import, and silence its log."""
    install(rules)
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))


def live(seed: int, *, trace: bool = False) -> Life:
    """Live through the world of *seed*. An error that is none of Indaco's own is a hole too."""
    from tests.protocol.invariants import Hole
    from tests.protocol.world import World

    world = World(seed, trace=trace)
    try:
        world.run()
    except Hole as hole:
        return Life(seed, str(hole), world.stats)
    except Exception as error:  # noqa: BLE001 - whatever a handler raises
        return Life(seed, f"error {error!r}"[:400], world.stats)
    finally:
        world.close()
    return Life(seed, "", world.stats)


def search(job: tuple[Sequence[str], Sequence[int], int]) -> tuple[list[Life], int]:
    """Live through *seeds* without *rules* until *enough* of them have a hole; return these, and how many were tried."""
    rules, seeds, enough = job
    prepare(rules)
    holes: list[Life] = []
    for tried, seed in enumerate(seeds, 1):
        if (life := live(seed)).hole:
            holes.append(life)
        if len(holes) == enough:
            return holes, tried
    return holes, len(seeds)


def many(seeds: Sequence[int], rules: Sequence[str] = (), *, processes: int = PROCESSES) -> Iterator[Life]:
    """Live through many seeds, in no order."""
    with _pool(processes, rules) as pool:
        yield from pool.imap_unordered(live, seeds, chunksize=8)


def search_all(
    jobs: Sequence[tuple[Sequence[str], Sequence[int], int]], *, processes: int = PROCESSES
) -> Iterator[tuple[list[Life], int]]:
    """Run :func:`search` for each job, in order, each in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=1) as pool:
        yield from pool.imap(search, jobs, chunksize=1)


def _pool(processes: int, rules: Sequence[str]) -> Pool:
    return multiprocessing.get_context("spawn").Pool(processes, prepare, (rules,))
