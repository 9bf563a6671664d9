"""Types, units and constraints of values."""

import pytest

from indaco_tosca import Problem
from indaco_tosca.library import bundled
from indaco_tosca.report import Report
from indaco_tosca.scalars import scalar_unit
from indaco_tosca.schema import read_schema
from indaco_tosca.values import Coercer


def coerce(value, definition):
    """Return the value or, if there is one, the first problem."""
    report = Report()
    result = Coercer(bundled(), report).coerce(value, read_schema(definition), ())
    return report._errors[0] if report.has_errors else result


@pytest.mark.parametrize(
    ("type_name", "value", "expected"),
    [
        ("string", 20, "20"), ("string", True, "true"), ("string", "x", "x"),
        ("integer", "22", 22), ("integer", 4.0, 4), ("integer", " -3 ", -3),
        ("float", 1, 1.0), ("float", "2.5", 2.5), ("float", "1e3", 1000.0),
        ("boolean", "Yes", True), ("boolean", "off", False), ("boolean", False, False),
        ("version", 20.04, "20.04"), ("version", 7, "7"), ("version", "1.2.3.beta-4", "1.2.3.beta-4"),
        ("timestamp", "2024-01-01T10:00:00Z", "2024-01-01T10:00:00Z"),
        ("range", [1, "UNBOUNDED"], [1, "UNBOUNDED"]), ("range", ["1", 2], [1, 2]),
        ("list", [], []), ("map", {}, {}), ("scalar-unit.size", "2GB", "2GB"), ("json", {"a": [1]}, {"a": [1]}),
        ("PortSpec", {"source": "22"}, {"protocol": "tcp", "source": 22}),
    ],
)  # fmt: skip
def test_a_value_takes_the_form_of_its_type(type_name, value, expected):
    assert coerce(value, {"type": type_name}) == expected


@pytest.mark.parametrize(
    ("type_name", "value"),
    [
        ("string", []), ("string", None), ("integer", True), ("integer", 1.5), ("integer", "x"), ("float", "nan"),
        ("float", 10**400), ("boolean", 1), ("boolean", "maybe"), ("version", "new"), ("timestamp", "yesterday"),
        ("range", [1]), ("range", [2, 1]), ("list", {}), ("map", []), ("scalar-unit.size", 2),
        ("scalar-unit.size", "2 GHz"), ("scalar-unit.frequency", "1 GB"), ("PortSpec", "22"), ("PortSpec", {}),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(type_name, value):
    problem = coerce(value, {"type": type_name})
    assert isinstance(problem, Problem)
    assert problem.code == "wrong-type"


def test_entries_and_properties_are_checked_in_their_place():
    ports = {"type": "map", "entry_schema": {"type": "tosca.datatypes.indigo.network.PortSpec"}}
    assert coerce({"a": {"source": 70000}}, ports).path == "/a/source"
    assert coerce({"a": {"source": 22, "colour": "red"}}, ports).code == "unknown-property"
    nested = {"type": "list", "entry_schema": {"type": "map", "entry_schema": "integer"}}
    assert coerce([{"a": "1"}, {"b": "x"}], nested).path == "/1/b"


@pytest.mark.parametrize(
    ("text", "kind", "amount"),
    [
        ("2 GB", "size", 2 * 10**9), ("2 GiB", "size", 2 * 2**30), ("1.5 kb", "size", 1500), ("512MB", "size", 512 * 10**6),
        ("1 TiB", "size", 2**40), ("3 B", "size", 3), ("2 h", "time", 7200), ("500 ms", "time", 0.5),
        ("2.4 GHz", "frequency", 2.4e9), (".5 MHz", "frequency", 500000),
    ],
)  # fmt: skip
def test_units_are_decimal_unless_they_say_otherwise(text, kind, amount):
    assert float(scalar_unit(text, f"scalar-unit.{kind}")) == amount


@pytest.mark.parametrize(
    ("type_name", "constraint", "good", "bad"),
    [
        ("integer", {"equal": 2}, 2, 3), ("integer", {"greater_than": 2}, 3, 2), ("integer", {"less_than": 2}, 1, 2),
        ("integer", {"in_range": [1, "UNBOUNDED"]}, 10**6, 0), ("float", {"less_or_equal": 1.5}, 1.5, 1.6),
        ("scalar-unit.size", {"greater_or_equal": "2 GB"}, "2000 MB", "1999 MB"),
        ("scalar-unit.size", {"valid_values": ["2 GB", "4 GB"]}, "2000 MB", "3 GB"),
        ("scalar-unit.size", {"in_range": ["1 GB", "100 GB"]}, "100 GB", "101 GB"),
        ("version", {"valid_values": [18.04, 7]}, "18.04", "18.4.1"), ("version", {"greater_or_equal": "9.10"}, "10.0", "9.9"),
        ("string", {"valid_values": [True, False]}, "True", "maybe"), ("string", {"pattern": "[a-z]+"}, "abc", "abc1"),
        ("string", {"min_length": 2}, "ab", "a"), ("list", {"max_length": 1}, [1], [1, 2]), ("map", {"length": 0}, {}, {"a": 1}),
        ("range", {"in_range": [1, 10]}, [1, 10], [1, 11]), ("string", {"schema": "anything"}, "x", None),
    ],
)  # fmt: skip
def test_constraints_compare_by_the_type_of_the_value(type_name, constraint, good, bad):
    definition = {"type": type_name, "constraints": [constraint]}
    assert not isinstance(coerce(good, definition), Problem)
    assert isinstance(coerce(bad, definition), Problem)


def test_constraints_written_as_a_map_are_understood():
    assert coerce(5, {"type": "integer", "constraints": {"in_range": [1, 4]}}).code == "constraint-violated"


@pytest.mark.parametrize(
    "constraint",
    [{"in_range": 3}, {"valid_values": 3}, {"min_length": "x"}, {"pattern": "("}, {"greater_than": "x"}, {"odd": True}],
)
def test_a_constraint_that_makes_no_sense_is_named(constraint):
    assert coerce(5, {"type": "integer", "constraints": [constraint]}).code == "bad-constraint"


def test_matching_of_patterns_has_a_budget():
    definition = {"type": "list", "entry_schema": {"type": "string", "constraints": [{"pattern": "(a|b){100}"}]}}
    assert coerce(["a" * 100] * 200, definition).code == "bad-constraint"  # each matches
