"""The promises of the protocol, kept by the real aggregates and handlers; and each of its rules is needed for them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.protocol.mutants import GUARDS, MUTANTS, PAIRS, RULES, Finder, Patch
from tests.protocol.search import known
from tests.protocol.worker import Life, many, search_all

import indaco_sla.model

pytestmark = pytest.mark.timeout(3600)
ROOT = Path(__file__).resolve().parents[2]
SEEDS = int(os.environ.get("INDACO_PROTOCOL_SEEDS", "400"))
NAMES = ["+".join(rules) for rules in MUTANTS]
Caught = dict[str, tuple[list[Life], int]]


def test_no_invariant_breaks_whatever_bus_sites_timers_and_users_do() -> None:
    lives = list(many(range(SEEDS)))
    assert [f"seed {life.seed}: {life.hole}" for life in lives if life.hole] == []
    assert len(lives) == SEEDS


@pytest.fixture(scope="module")
def caught() -> Caught:
    """Every mutant in the worlds that are known to catch it; failing these, in as many as the code itself is run in."""
    table = known()
    jobs = []
    for rules, name in zip(MUTANTS, NAMES, strict=True):
        first = table.get(name, [])
        jobs.append((rules, [*first, *(seed for seed in range(SEEDS) if seed not in first)], 1))
    return dict(zip(NAMES, search_all(jobs), strict=True))


@pytest.mark.parametrize("mutant", NAMES)
def test_the_code_without_a_rule_is_caught(mutant: str, caught: Caught) -> None:
    holes, tried = caught[mutant]
    assert holes, f"{tried} worlds were lived through without {mutant}; python -m tests.protocol.search finds more"


def test_every_rule_is_taken_out_alone_or_with_what_backs_it_up() -> None:
    assert {rule for mutant in MUTANTS for rule in mutant} == set(RULES)
    assert set(PAIRS) <= set(MUTANTS)
    assert len(GUARDS) == 10


def test_a_world_is_the_same_each_time_it_is_lived_through() -> None:
    """Neither the order of sets nor the clock on the wall matters: a seed that found something finds it again."""
    traces = [
        subprocess.run(
            [sys.executable, "tests/protocol/run.py", "--trace", "7"], cwd=ROOT, check=True, capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2")
    ]  # fmt: skip
    assert traces[0].count(b"\n") > 100
    assert traces[0] == traces[1]


@pytest.mark.parametrize("old", ["no such text", "import"])
def test_a_patch_that_does_not_fit_its_module_is_an_error(old: str) -> None:
    module = "indaco_sla.model.placement"
    spec = Finder([Patch(module, old, "")]).find_spec(module, indaco_sla.model.__path__)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError, match="not once"):
        spec.loader.get_code(module)  # type: ignore[attr-defined]
