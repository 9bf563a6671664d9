"""What tosca-parser accepts is accepted here, with the same inputs, nodes and edges; where not, this says why.

A sample of the public templates is compared, or all of them if INDACO_DIFFERENTIAL is "all"; that takes minutes.
"""

import csv
import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from tests.corpus import REPOSITORY

from indaco_tosca import TemplateError, parse

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("toscaparser") is None, reason="tosca-parser: the library is not installed"
)
VERSION = "tosca_definitions_version: tosca_simple_yaml_1_0\n"
SAMPLE = 120
OWN = [
    *sorted((REPOSITORY / "examples" / "templates").glob("*.yaml")),
    *sorted((REPOSITORY / "catalogue").glob("*/*/template.yaml")),
]
NOT_ACCEPTED_THERE = {
    "s3-bucket": "a software component must be hosted there, even if nothing can host it: occurrences [0, 1] are not seen",
}
NFV = ("version-unsupported", "the NFV profile is another dialect, which is refused by its name")
REFUSED_HERE = {
    "dodas/templates/applications/k8s/template-htcondor.yml": (
        "unknown-node",
        "an output reads a node that does not exist",
    ),
    "grycap-im/test/files/tosca_long.yml": ("wrong-type", "a map is given for a text"),
    "openstack-heat-translator/samples/tests/data/nfv/test_tosca_nfv_autoscaling_with_params.yaml": NFV,
    "openstack-heat-translator/samples/tests/data/nfv/tosca_placement_policy_affinity.yaml": NFV,
    "openstack-heat-translator/samples/tests/data/nfv/tosca_placement_policy_anti_affinity.yaml": NFV,
    "openstack-heat-translator/samples/tests/data/nfv/tosca_placement_policy_soft_affinity.yaml": NFV,
    "openstack-heat-translator/samples/tests/data/storage/tosca_multiple_blockstorage_w_multiple_attachment.yaml": (
        "unknown-requirement",
        "local_storage1 and local_storage2 are no requirements of a machine; local_storage may be given twice",
    ),
    "openstack-tosca-parser/samples/tests/data/extensions/tosca_helloworld_nfv.yaml": NFV,
    "openstack-tosca-parser/samples/tests/data/policies/test_tosca_nfv_multiple_policies.yaml": NFV,
    "openstack-tosca-parser/samples/tests/data/relationship/test_custom_relationship.yaml": (
        "requirement-cycle",
        "two machines need each other: there is no order in which to deploy them",
    ),
    "openstack-tosca-parser/samples/tests/data/test_instance_nested_imports.yaml": (
        "import-unresolvable",
        "an import names the folder twice, in which tosca-parser looks once",
    ),
    "openstack-tosca-parser/samples/tests/data/test_no_inputs_in_template.yaml": (
        "bad-structure",
        "the metadata are a text and not a map",
    ),
}


def ask(files: list[Path], imports: Mapping[str, str], *, seconds: int = 20) -> list[dict]:
    """The oracle's verdicts, in the order of the files."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("oracle.py")],
        input=json.dumps({"files": [str(file) for file in files], "imports": imports, "seconds": seconds}),
        capture_output=True,
        text=True,
        timeout=1200,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def facts(parsed) -> dict[str, object]:
    edges = ([n.name, edge.name, edge.target] for n in parsed.nodes.values() for edge in n.requirements if edge.target)
    return {
        "inputs": list(parsed.inputs),
        "nodes": {node.name: node.type for node in parsed.nodes.values()},
        "edges": sorted(edges),
    }


def known_facts(verdict: Mapping[str, object], parsed) -> dict[str, object]:
    """The oracle's facts, with the short names of types written out as they are here."""
    full = {name: parsed.types.full_name("node_types", kind) for name, kind in verdict["nodes"].items()}
    return {"inputs": verdict["inputs"], "nodes": full, "edges": verdict["edges"]}


def test_our_own_templates_and_types_are_read_by_tosca_parser_as_they_are_here(tmp_path):
    folder = REPOSITORY / "libs" / "tosca" / "indaco_tosca" / "types"
    library = [str(file) for file in sorted(folder.glob("*.yaml")) if file.name != "normative.yaml"]
    copies = []
    for number, file in enumerate(OWN):
        content = {**yaml.safe_load(file.read_text()), "imports": library}
        copies.append(tmp_path / f"{number}.yaml")
        copies[-1].write_text(json.dumps(content))
    verdicts = ask(copies, {})
    refused = {file.parts[-3] for file, verdict in zip(OWN, verdicts, strict=True) if not verdict["accepted"]}
    assert refused <= NOT_ACCEPTED_THERE.keys()
    for file, verdict in zip(OWN, verdicts, strict=True):
        if verdict["accepted"]:
            parsed = parse(file.read_text())
            assert facts(parsed) == known_facts(verdict, parsed), file


def test_the_oracle_reaches_no_network(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        away = tmp_path / "away.yaml"
        away.write_text(f"{VERSION}imports: [http://127.0.0.1:{server.getsockname()[1]}/types.yaml]\n")
        (verdict,) = ask([away], {})
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert not verdict["accepted"]


def test_the_oracle_goes_on_after_a_template_on_which_tosca_parser_never_ends(tmp_path):
    endless, fine = tmp_path / "endless.yaml", tmp_path / "fine.yaml"
    types = "node_types: {a: {derived_from: b}, b: {derived_from: a}}\n"
    endless.write_text(f"{VERSION}{types}topology_template: {{node_templates: {{n: {{type: a}}}}}}\n")
    fine.write_text(f"{VERSION}topology_template: {{node_templates: {{n: {{type: tosca.nodes.Compute}}}}}}\n")
    stopped, accepted = ask([endless, fine], {}, seconds=1)
    assert stopped["why"] == "TimeoutError"
    assert accepted["nodes"] == {"n": "tosca.nodes.Compute"}


@pytest.fixture(scope="module")
def import_map(corpus) -> dict[str, str]:
    rows = (corpus / "IMPORTS.tsv").read_text().splitlines()
    read = csv.DictReader(rows, delimiter="\t", quoting=csv.QUOTE_NONE)
    return {row["import_url"]: str(corpus / row["local_path"]) for row in read}


def chosen(corpus: Path) -> Iterator[str]:
    """The templates to compare: all but the hostile ones, or of those known to be accepted the first by their digests."""
    rows = csv.DictReader((corpus / "INDEX.tsv").read_text().splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    kinds = {"template", "document"}
    documents = [row for row in rows if row["kind"] in kinds and not row["file"].startswith("hostile/")]
    if os.environ.get("INDACO_DIFFERENTIAL") == "all":
        return (row["file"] for row in documents)
    accepted = sorted((row for row in documents if row["tosca_parser_2_15"] == "ok"), key=lambda row: row["sha256"])
    return (row["file"] for row in accepted[:SAMPLE])


def test_what_tosca_parser_accepts_of_the_public_templates_is_the_same_here(corpus, import_map):
    def resolve(name: str) -> bytes | None:
        file = Path(import_map.get(name) or corpus / name)
        return file.read_bytes() if file.is_file() else None

    names = list(chosen(corpus))
    verdicts = ask([corpus / name for name in names], import_map)
    accepted = {name: verdict for name, verdict in zip(names, verdicts, strict=True) if verdict["accepted"]}
    assert len(accepted) > SAMPLE * 0.9
    different: dict[str, object] = {}
    for name, verdict in accepted.items():
        try:
            parsed = parse((corpus / name).read_bytes(), resolve=resolve, base=name)
        except TemplateError as error:
            codes = {problem.code for problem in error.problems}
            if REFUSED_HERE.get(name, ("",))[0] not in codes:
                different[name] = codes
            continue
        if name in REFUSED_HERE or facts(parsed) != known_facts(verdict, parsed):
            different[name] = facts(parsed)
    assert different == {}
