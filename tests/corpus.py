"""Where the public templates are that some tests read, on a machine that has them; they are no part of the project."""

import csv
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from indaco_tosca import TemplateError, parse
from indaco_tosca.expect import expect

REPOSITORY = Path(__file__).resolve().parents[1]
CORPUS = Path(os.environ.get("INDACO_CORPUS") or REPOSITORY.parent / "shared" / "corpus") / "tosca"
ABSENT = "corpus: the public templates are not here (INDACO_CORPUS)"
DECLARED = ("nodes", "edges", "outputs", "required_inputs", "deployment_type", "elastic_cluster")
DIFFERENT = {
    # refused here though others take it → code of the problem, and why the specification is on our side
    "indigo-dc-templates/lifewatch-algaebloom.yaml": (
        "unknown-key",
        (
            "`scalable` stands beside `capabilities`, where it is no key of a node template (TOSCA 1.3, 3.8.3.1): its count would be lost "
            "without a word. tosca-parser refuses it too."
        ),
    ),
    "indigo-paas-templates/docker/run_docker.yaml": (
        "wrong-type",
        (
            "`docker_ports` is a string in the types that the template imports, and gets a list from an input (TOSCA 1.3, 3.6.10.4: a value "
            "must have the type of its property). What does not look behind `get_input` misses it. It parses; planning refuses it."
        ),
    ),
}
# how the index words what is wrong with an invalid template → the code of the problem
REFUSALS = {
    "unknown input": "unknown-input",
    "missing property": "property-required",
    "unknown node_type": "unknown-type",
    "unknown property": "unknown-property",
    "not a string": "wrong-type",
    "no version": "version-missing",
    "not YAML": "yaml-syntax",
}
FAMILY_A = ("dodas", "grycap", "indigo-dc", "indigo-paas", "infn", "laniakea", "maricaantonacci")


@dataclass(frozen=True, slots=True)
class Entry:
    """A valid template: what is expected of it, and what it comes to here, or the code of its first problem."""

    file: str
    family: str
    wanted: dict[str, Any]
    found: dict[str, Any] = field(default_factory=dict)
    refused: str = ""

    def agrees(self, key: str) -> bool:
        """Return whether *key* is as expected; the order of what is listed does not matter."""
        return not self.refused and _comparable(self.found.get(key)) == _comparable(self.wanted[key])


@dataclass(frozen=True, slots=True)
class Invalid:
    """A template that must be refused: for what, and with which codes it is here; none if it is accepted."""

    file: str
    family: str
    reason: str
    codes: frozenset[str]

    @property
    def is_refused_for_it(self) -> bool:
        return bool(self.codes & {code for words, code in REFUSALS.items() if words in self.reason})


def rows(name: str) -> list[dict[str, str]]:
    """Return a table of the corpus."""
    return list(csv.DictReader((CORPUS / name).read_text().splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))


@cache
def resolver() -> Callable[[str], bytes | None]:
    """Return what gives the text of an import of a public template."""
    paths = {row["import_url"]: row["local_path"] for row in rows("IMPORTS.tsv")}
    return lambda name: (CORPUS / paths[name]).read_bytes() if name in paths else None


@cache
def valid() -> tuple[Entry, ...]:
    """Return every template of which it is known what should come of it."""
    families = {row["file"]: row["family"] for row in rows("INDEX.tsv")}
    lines = map(json.loads, (CORPUS / "EXPECT.jsonl").read_text().splitlines())
    return tuple(_entry(wanted, families[wanted["file"]]) for wanted in lines)


def _entry(wanted: dict[str, Any], family: str) -> Entry:
    name = wanted["file"]
    try:
        template = parse((CORPUS / name).read_bytes(), resolve=resolver(), base=name)
    except TemplateError as error:
        return Entry(name, family, wanted, refused=error.problems[0].code)
    return Entry(name, family, wanted, expect(template, wanted["inputs_used"]))


@cache
def invalid() -> tuple[Invalid, ...]:
    """Return every template of the INDIGO family that must be refused."""
    found = []
    for row in rows("INDEX.tsv"):
        if row["expect"] == "invalid" and row["kind"] == "template" and row["file"].startswith(FAMILY_A):
            codes: frozenset[str] = frozenset()
            try:
                parse((CORPUS / row["file"]).read_bytes(), resolve=resolver(), base=row["file"])
            except TemplateError as error:
                codes = frozenset(problem.code for problem in error.problems)
            found.append(Invalid(row["file"], row["family"], row["reason"], codes))
    return tuple(found)


def _comparable(value: object) -> object:
    return sorted(value) if isinstance(value, list) else value
