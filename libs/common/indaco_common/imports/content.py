"""What is in the text of an import: whether it is a TOSCA document, what it imports, which types it defines."""

import json
from collections.abc import Mapping

import indaco_tosca
from indaco_common.errors import Invalid
from indaco_tosca.library import imports_in, joined, loaded_types, refusal_of
from indaco_tosca.typeset import SECTIONS

from .allowed import shown


def definitions(url: str, text: bytes) -> Mapping[str, object]:
    """Return the document. Raises: Invalid."""
    try:
        content = loaded_types(text)
    except indaco_tosca.TemplateError as error:
        first = error.problems[0]
        raise Invalid(f"{url}, line {first.line}: {first.message}") from None
    if "tosca_definitions_version" not in content:
        raise Invalid(f"{url} is not a TOSCA document: it has no tosca_definitions_version")
    return content


def imports_of(url: str, content: Mapping[str, object]) -> list[str]:
    """Return the URLs that a document imports. Raises: Invalid, for one that no template may import."""
    imported = [joined(url, name) for name, _ in imports_in(content)]
    for name in imported:
        if refusal := refusal_of(name):
            raise Invalid(f"{url}: its import {shown(name)} {refusal}")
    return imported


def types_of(url: str, text: bytes) -> dict[str, object]:
    """Return the definitions of types of all kinds, by name. Raises: Invalid."""
    content = definitions(url, text)
    sections = (content.get(section) for section in SECTIONS)
    return {name: body for section in sections if isinstance(section, dict) for name, body in section.items()}


def check_closure(url: str, resolve: indaco_tosca.ImportResolver) -> tuple[str, ...]:
    """Parse a template that imports *url*, as services will; return what it warns of. Raises: Invalid."""
    template = {"tosca_definitions_version": "tosca_simple_yaml_1_3", "imports": [url], "topology_template": {}}
    try:
        parsed = indaco_tosca.parse(json.dumps(template), resolve=resolve)
    except indaco_tosca.TemplateError as error:
        raise Invalid(f"{url}: {error.problems[0].message}") from None
    return tuple(problem.message for problem in parsed.warnings)
