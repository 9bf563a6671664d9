"""What a value must look like: a type, the type of its entries and constraints."""

from __future__ import annotations

from typing import Final, NamedTuple

from indaco_tosca.tree import as_map, as_text, single_maps

PRIMITIVES: Final = frozenset({
    "string", "integer", "float", "boolean", "version", "timestamp", "range", "list", "map", "json", "xml",
    "scalar-unit.size", "scalar-unit.time", "scalar-unit.frequency",
})  # fmt: skip
CONSTRAINTS: Final = frozenset({
    "equal", "greater_than", "greater_or_equal", "less_than", "less_or_equal", "in_range", "valid_values",
    "length", "min_length", "max_length", "pattern", "schema",
})  # fmt: skip


class Constraint(NamedTuple):
    """One rule, for example ``in_range`` with ``[1, 4]``."""

    kind: str
    argument: object


class Schema(NamedTuple):
    """The type of a value, with the schema of the entries of a list or map."""

    type: str = "string"
    entry: Schema | None = None
    constraints: tuple[Constraint, ...] = ()


class PropertyDefinition(NamedTuple):
    """A property as a type defines it."""

    name: str
    schema: Schema
    required: bool = True
    default: object = None
    has_default: bool = False
    description: str = ""


def read_schema(definition: object, *, default_type: str = "string") -> Schema:
    """Read a schema from a definition, or from a bare type name, which ``entry_schema`` allows."""
    if isinstance(definition, str):
        return Schema(definition)
    raw = as_map(definition)
    entry, constraints = raw.get("entry_schema"), raw.get("constraints")
    return Schema(
        as_text(raw.get("type")) or default_type,
        None if entry is None else read_schema(entry),
        tuple(Constraint(kind, argument) for kind, argument, _ in single_maps(constraints)) if constraints else (),
    )


def read_property(name: str, definition: object, inherited: PropertyDefinition | None = None) -> PropertyDefinition:
    """Read a property definition; one without a type refines what the parent type says."""
    raw = as_map(definition)
    if isinstance(definition, str):
        raw = {"type": definition}
    schema = read_schema(raw, default_type=inherited.schema.type if inherited else "string")
    if inherited and "type" not in raw:
        schema = Schema(schema.type, schema.entry or inherited.schema.entry, schema.constraints)
    has_default = "default" in raw or (inherited is not None and inherited.has_default and "type" not in raw)
    required = raw.get("required", inherited.required if inherited and "type" not in raw else True)
    return PropertyDefinition(
        name,
        schema,
        required is not False,
        raw.get("default", inherited.default if inherited else None),
        has_default,
        as_text(raw.get("description")),
    )
