"""Find anew, for each mutant, the first seeds whose worlds catch it, and write them to ``seeds.json``.

python -m tests.protocol.search [--seeds N] [--enough N] [--only MUTANT …]
"""

import argparse
import json
import sys
from pathlib import Path

from tests.protocol.mutants import MUTANTS
from tests.protocol.worker import search_all

SEEDS = Path(__file__).with_name("seeds.json")


def known() -> dict[str, list[int]]:
    """Return mutant → seeds that caught it when the table was written."""
    return dict(json.loads(SEEDS.read_text())) if SEEDS.exists() else {}


def main() -> int:
    """Return 1 if a mutant was not caught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2500, metavar="N", help="how many worlds at most for each (2500)")
    parser.add_argument(
        "--enough", type=int, default=2, metavar="N", help="how many to keep: one may be lost later (2)"
    )
    parser.add_argument("--only", nargs="*", default=[], metavar="MUTANT", help="only these, as rule or rule+rule")
    arguments = parser.parse_args()
    mutants = [m for m in MUTANTS if not arguments.only or "+".join(m) in arguments.only]
    table, is_complete = known(), True
    results = search_all([(rules, range(arguments.seeds), arguments.enough) for rules in mutants])
    for rules, (holes, tried) in zip(mutants, results, strict=True):
        name = "+".join(rules)
        table[name] = [life.seed for life in holes]
        is_complete &= bool(holes)
        print(f"{name:32} {table[name]} of {tried}: {holes[0].hole if holes else 'NOT CAUGHT'}", flush=True)
        names = ["+".join(m) for m in MUTANTS]
        kept = {key: table[key] for key in names if key in table}
        SEEDS.write_text(
            json.dumps(kept, indent=1).replace("[\n  ", "[").replace(",\n  ", ", ").replace("\n ]", "]") + "\n"
        )
    return not is_complete


if __name__ == "__main__":
    sys.exit(main())
