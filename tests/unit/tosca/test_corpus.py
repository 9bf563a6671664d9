"""Public templates of the INDIGO family: what is known of them, and what must be refused."""

import json
import resource
import subprocess
import sys
import time

import pytest
from tests.corpus import DECLARED, DIFFERENT, invalid, resolver, rows, valid

from indaco_tosca import TemplateError, parse, plan

MEASURED = (
    "count", "num_cpus", "mem_bytes", "disk_bytes", "public_ip", "instance_type", "dns_name", "tags", "arch", "os_type",
    "os_distribution", "os_version",
)  # fmt: skip
HOSTILE = {
    "bomb_dsl.yaml": "too-many-nodes",
    "bomb_prop.yaml": "too-many-nodes",
    "deep_flow.yaml": None,  # libyaml or the limit of this library, whichever comes first
    "dep_cycle.yaml": "requirement-cycle",
    "import_abs_etc.yaml": "import-not-allowed",
    "import_self.yaml": "import-unresolvable",
    "import_ssrf.yaml": "import-not-allowed",
    "pytag.yaml": "unknown-tag",
    "selfref.yaml": "recursive-alias",
    "type_cycle.yaml": "type-cycle",
}

pytestmark = pytest.mark.usefixtures("corpus")


@pytest.fixture(scope="module")
def planned():
    """The templates with a plan that is known and made here."""
    return [entry for entry in valid() if "plan" in entry.wanted and entry.file not in DIFFERENT]


def test_every_template_is_accepted_but_those_that_the_specification_forbids():
    refused = {entry.file for entry in valid() if entry.refused}
    refused |= {entry.file for entry in valid() if "plan" in entry.wanted and "plan_problems" in entry.found}
    assert refused == DIFFERENT.keys()
    assert len(refused) <= 0.01 * len(valid()) + 1


@pytest.mark.parametrize("key", DECLARED)
def test_what_a_template_declares_is_what_is_expected(key):
    assert [entry.file for entry in valid() if not entry.refused and not entry.agrees(key)] == []


@pytest.mark.parametrize("key", ["totals", "plan_kind"])
def test_every_plan_that_is_known_comes_to_the_same_here(key, planned):
    assert [(entry.file, entry.found[key]) for entry in planned if not entry.agrees(key)] == []
    assert len(planned) >= 0.99 * sum("plan" in entry.wanted for entry in valid())


def test_every_machine_of_a_known_plan_is_the_same_here(planned):
    def summary(system):
        volumes = sorted((volume.get("bytes", 0), volume.get("mount_path", "")) for volume in system.get("volumes", []))
        return [system.get(key) for key in MEASURED], system.get("gpus") or 0, volumes  # an explicit 0 is no wish

    different = {
        (entry.file, name): (summary(entry.found["plan"]["systems"][name]), summary(system))
        for entry in planned
        if entry.wanted["plan_kind"] == "vm"  # containers have names of the other tool's
        for name, system in entry.wanted["plan"]["systems"].items()
        if summary(entry.found["plan"]["systems"][name]) != summary(system)
    }
    assert different == {}


def test_the_order_of_configuration_is_that_of_the_known_plans(planned):
    """Steps of the other tool are named ``<component>_<machine>_conf``; those for volumes are none here."""
    compared = 0
    for entry in planned:
        levels = {(system, part): level for system, part, level in entry.found["plan"]["steps"]}
        for system, step, level in entry.wanted["plan"]["steps"]:
            part = step.removesuffix("_conf").removesuffix(f"_{system}")
            if (system, part) in levels:
                assert (entry.file, step, levels[system, part]) == (entry.file, step, level)
                compared += 1
    assert compared > 400


def test_every_invalid_template_of_the_family_is_refused_for_what_is_wrong_with_it():
    assert [(case.file, case.reason, case.codes) for case in invalid() if not case.is_refused_for_it] == []


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_document_is_refused_at_once_and_in_little_memory(name, corpus, problems):
    content = (corpus / "hostile" / name).read_bytes()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    codes = problems(parse, content).values()
    assert time.process_time() - started < 1
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 100e6
    assert HOSTILE[name] is None or HOSTILE[name] in codes


def test_no_document_of_any_dialect_causes_anything_but_problems(corpus):
    """Also the documents of other dialects, each of which is refused."""
    for row in rows("INDEX.tsv"):
        if not (corpus / row["file"]).is_file():
            continue
        accepted = True
        try:
            plan(parse((corpus / row["file"]).read_bytes(), resolve=resolver(), base=row["file"]), {})
        except TemplateError:
            accepted = False
        assert not (accepted and row["expect"] == "foreign")


def test_the_command_prints_what_a_template_comes_to_or_what_is_wrong_with_it(corpus, tmp_path):
    entry = next(entry for entry in valid() if entry.file.endswith("kubernetes/k8s_cluster.yaml"))
    inputs = tmp_path / "inputs.json"
    inputs.write_text(json.dumps(entry.wanted["inputs_used"]))
    command = [sys.executable, "-m", "indaco_tosca", "expect"]
    rest = ["--inputs", str(inputs), "--imports", str(corpus / "IMPORTS.tsv")]
    good = subprocess.run([*command, str(corpus / entry.file), *rest], capture_output=True, text=True, check=False)
    assert good.returncode == 0
    assert json.loads(good.stdout)["totals"] == entry.wanted["totals"]
    bad = subprocess.run(
        [*command, str(corpus / "hostile/dep_cycle.yaml")], capture_output=True, text=True, check=False
    )
    assert bad.returncode == 1
    assert [problem["code"] for problem in json.loads(bad.stdout)] == ["requirement-cycle"]
