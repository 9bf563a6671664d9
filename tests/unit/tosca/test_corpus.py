"""Public templates of the INDIGO family, with the plans that are known to be right."""

import csv
import json
import math
import time

import pytest

from indaco_tosca import TemplateError, parse, plan

TEMPLATES = [
    "infn-cloud-templates/single-vm/single_vm.yaml",
    "infn-cloud-templates/single-vm/private-net/single_vm_with_volume.yaml",
    "infn-cloud-templates/docker/run_docker.yaml",
    "infn-cloud-templates/docker/docker_compose.yaml",
    "infn-cloud-templates/docker/private-net/docker_compose_with_volume.yaml",
    "infn-cloud-templates/docker/private-net/run_docker_with_volume.yaml",
]
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


@pytest.fixture(scope="module")
def expected(corpus):
    lines = (corpus / "EXPECT.jsonl").read_text().splitlines()
    return {entry["file"]: entry for entry in map(json.loads, lines)}


@pytest.fixture(scope="module")
def resolve(corpus):
    rows = (corpus / "IMPORTS.tsv").read_text().splitlines()
    paths = {
        row["import_url"]: row["local_path"] for row in csv.DictReader(rows, delimiter="\t", quoting=csv.QUOTE_NONE)
    }
    return lambda name: (corpus / paths[name]).read_bytes() if name in paths else None


def summary(node):
    return {
        "count": node.count,
        "cpus": node.cpu_milli / 1000,
        "memory": node.memory_mib,
        "public": node.public_ip,
        "os": (node.image.get("distribution", ""), node.image.get("version", "")),
        "volumes": sorted((volume.size_gib, volume.mount) for volume in node.volumes),
        "name": node.dns_name,
    }


def known_summary(system):
    volumes = system.get("volumes", [])
    return {
        "count": system["count"],
        "cpus": system.get("num_cpus", 0),
        "memory": math.ceil(system.get("mem_bytes", 0) / 2**20),
        "public": system["public_ip"],
        "os": (system.get("os_distribution", ""), system.get("os_version", "")),
        "volumes": sorted((math.ceil(volume["bytes"] / 2**30), volume.get("mount_path", "")) for volume in volumes),
        "name": system.get("dns_name", ""),
    }


@pytest.mark.parametrize("has_resolver", [True, False])
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_of_the_catalogue_plans_as_it_is_known_to(name, has_resolver, corpus, expected, resolve):
    entry = expected[name]
    parsed = parse((corpus / name).read_bytes(), resolve=resolve if has_resolver else None)
    made = plan(parsed, entry["inputs_used"])
    assert {node.name: summary(node) for node in made.nodes} == {
        system: known_summary(content) for system, content in entry["plan"]["systems"].items()
    }
    assert set(parsed.outputs) == set(entry["outputs"])
    assert [name for name, declared in parsed.inputs.items() if declared.must_be_given] == entry["required_inputs"]


def test_every_virtual_machine_plan_that_is_known_is_the_same_here(corpus, expected, resolve):
    different = {}
    refused = {}
    for name, entry in expected.items():
        if entry.get("plan_kind") != "vm":
            continue
        try:
            made = plan(parse((corpus / name).read_bytes(), resolve=resolve), entry["inputs_used"])
        except TemplateError as error:
            refused[name] = error.problems[0].code
            continue
        ours = {node.name: summary(node) for node in made.nodes}
        known = {system: known_summary(content) for system, content in entry["plan"]["systems"].items()}
        if ours != known:
            different[name] = [system for system in known if ours.get(system) != known[system]]
    assert different == {}
    assert set(refused.values()) <= {"duplicate-key", "wrong-type"}  # see test_load: duplicate keys are refused
    assert len(refused) <= 6


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_document_is_refused_at_once(name, corpus, problems):
    started = time.process_time()
    codes = problems(parse, (corpus / "hostile" / name).read_bytes()).values()
    assert time.process_time() - started < 1
    assert HOSTILE[name] is None or HOSTILE[name] in codes


def test_documents_of_other_dialects_are_refused_by_their_version(corpus):
    rows = (corpus / "INDEX.tsv").read_text().splitlines()
    foreign = [
        row["file"]
        for row in csv.DictReader(rows, delimiter="\t", quoting=csv.QUOTE_NONE)
        if row["expect"] == "foreign" and row["kind"] == "template"
    ]
    for name in foreign:
        with pytest.raises(TemplateError):
            parse((corpus / name).read_bytes())
