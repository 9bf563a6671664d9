"""Run worlds from the command line.

python tests/protocol/run.py [--seeds N] [--first S] [--off RULE …] [--mutate] [--trace SEED]
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # started as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.protocol.mutants import MUTANTS, RULES
from tests.protocol.worker import Life, live, many, prepare


def main() -> int:
    """Return 1 if a hole was found in what should have none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=400, metavar="N", help="how many worlds (400)")
    parser.add_argument("--first", type=int, default=0, metavar="S", help="the first seed (0)")
    parser.add_argument("--off", nargs="*", default=[], choices=sorted(RULES), metavar="RULE", help="rules to take out")
    parser.add_argument("--mutate", action="store_true", help="take every rule out in turn")
    parser.add_argument("--trace", type=int, metavar="SEED", help="tell what happens in one world")
    arguments = parser.parse_args()
    if arguments.trace is not None:
        prepare(arguments.off)
        life = live(arguments.trace, trace=True)
        print(life.hole or "no hole")
        return bool(life.hole)
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    if not arguments.mutate:
        return bool(_report(seeds, arguments.off)) and not arguments.off
    for rules in MUTANTS:
        _report(seeds, rules)
    return 0


def _report(seeds: range, rules: Sequence[str]) -> list[Life]:
    began = time.monotonic()
    holes, stats = [], Counter[str]()
    for life in many(seeds, rules):
        stats += life.stats
        holes += [life] if life.hole else []
    holes.sort(key=lambda life: life.seed)
    kinds = Counter(" ".join(life.hole.split(":")[0].split()[:3]) for life in holes)
    print(
        f"{'+'.join(rules) or 'all rules':32} {len(holes):4}/{len(seeds)} with a hole,"
        f" {(time.monotonic() - began) / len(seeds):.3f} s a seed  {dict(kinds.most_common(4))}"
    )
    for life in holes[:3]:
        print(f"    seed {life.seed}: {life.hole}")
    if not rules:
        print("   ", ", ".join(f"{count} {name}" for name, count in sorted(stats.items())))
    sys.stdout.flush()
    return holes


if __name__ == "__main__":
    sys.exit(main())
