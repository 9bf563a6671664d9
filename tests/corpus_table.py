"""Write docs/reference/public-templates.md: how far this library agrees with what is known of public templates.

``python -m tests.corpus_table``, on a machine that has them.
"""

import sys
from collections.abc import Iterable

from tests.corpus import ABSENT, CORPUS, DECLARED, DIFFERENT, REPOSITORY, Entry, Invalid, invalid, valid

PAGE = REPOSITORY / "docs" / "reference" / "public-templates.md"
HEAD = """\
# Public templates

<!-- made by `python -m tests.corpus_table` -->

How the library agrees with what is known of 186 public templates of the INDIGO family and with 32 that must be refused. The
known plans are another tool's (Infrastructure Manager), from the same inputs; `python -m indaco_tosca expect` prints ours. A number with a stroke counts
those that agree, of those there are. *declared*: nodes with their types, edges, outputs, required inputs, kind of deployment; *totals*:
machines, virtual CPUs, memory, GPUs, public addresses, volumes and their bytes; *refused*: invalid ones, for what is wrong with them.

| family | parsed | declared | totals | refused |
| --- | --- | --- | --- | --- |
"""
TAIL = """
## Where it differs, and why

"""


def main() -> int:
    if not CORPUS.is_dir():
        sys.stderr.write(f"{ABSENT}\n")
        return 2
    families = sorted({entry.family for entry in (*valid(), *invalid())})
    lines = [
        line(name, [e for e in valid() if e.family == name], [e for e in invalid() if e.family == name])
        for name in families
    ]
    lines.append(line("**all**", valid(), invalid()))
    reasons = "".join(f"- `{name}`: `{code}`. {why}\n" for name, (code, why) in DIFFERENT.items())
    PAGE.write_text(HEAD + "".join(lines) + TAIL + reasons)
    return 0


def line(name: str, good: Iterable[Entry], bad: Iterable[Invalid]) -> str:
    good, bad = list(good), list(bad)
    planned = [entry for entry in good if "plan" in entry.wanted]
    cells = (
        _share(not entry.refused for entry in good),
        _share(all(entry.agrees(key) for key in DECLARED) for entry in good),
        _share(entry.agrees("totals") for entry in planned),
        _share(entry.is_refused_for_it for entry in bad),
    )
    return f"| {name} | {' | '.join(cells)} |\n"


def _share(facts: Iterable[bool]) -> str:
    facts = list(facts)
    return f"{sum(facts)}/{len(facts)}" if facts else ""


if __name__ == "__main__":
    sys.exit(main())
