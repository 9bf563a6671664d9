"""Forms: what the schema allows the server accepts, and what a hint asks for is shown, or warned about."""

import csv
import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from indaco_tosca import TemplateError, parse, plan
from indaco_tosca.forms import form
from indaco_tosca.inputs import bind_inputs
from indaco_tosca.load import load
from indaco_tosca.report import Report
from indaco_tosca.scalars import scalar_unit

UNITS = {"bytes": "scalar-unit.size", "seconds": "scalar-unit.time", "hertz": "scalar-unit.frequency"}
COMPARISONS = {
    "x-minimum": lambda amount, limit: amount >= limit,
    "x-exclusive-minimum": lambda amount, limit: amount > limit,
    "x-maximum": lambda amount, limit: amount <= limit,
    "x-exclusive-maximum": lambda amount, limit: amount < limit,
}


def limit_of(unit, compare):
    def check(validator, limit, instance, schema):
        if isinstance(instance, str) and not compare(scalar_unit(instance, UNITS[unit]), limit):
            yield ValidationError(f"{instance} is beyond {limit} {unit}")

    return check


def whole(validator, pattern, instance, schema):
    """ECMA's `$` is the very end and its `\\d` is ASCII; Python's are not."""
    if isinstance(instance, str) and not re.fullmatch(pattern[1:-1], instance, re.ASCII):
        yield ValidationError(f"{instance} does not match {pattern}")


def ordered(validator, name, instance, schema):
    bounds = [bound for bound in instance if isinstance(bound, int)] if isinstance(instance, list) else []
    if name == "range" and bounds != sorted(bounds):
        yield ValidationError("the bounds are the wrong way round")


OURS = {f"{name}-{unit}": limit_of(unit, compare) for unit in UNITS for name, compare in COMPARISONS.items()}
Validator = extend(Draft202012Validator, {**OURS, "pattern": whole, "format": ordered})


def allows(schema, value):
    return Validator(schema).is_valid(value)


@pytest.fixture(scope="session")
def formed(template):
    """The form of a template with these inputs, and the template."""

    def make(inputs, parameters=None, groups=(), **rest):
        parsed = parse(template(inputs=inputs, **rest))
        made = form(parsed, parameters, groups=groups)
        Draft202012Validator.check_schema(made.schema)
        json.dumps(made.dump(), allow_nan=False)
        return made

    return make


def bound(parsed, values):
    """What the server makes of values, or null if it refuses them."""
    report = Report()
    result = bind_inputs(parsed, values, frozenset(), report)
    return None if report.has_errors else result


# ── types and constraints


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ({"type": "integer", "constraints": [{"in_range": [1, 64]}]}, {"type": "integer", "minimum": 1, "maximum": 64}),
        ({"type": "integer", "constraints": [{"in_range": [1, "UNBOUNDED"]}]}, {"type": "integer", "minimum": 1}),
        ({"type": "integer", "constraints": {"greater_than": 0}}, {"type": "integer", "exclusiveMinimum": 0}),
        ({"type": "float", "constraints": [{"less_or_equal": 1.5}]}, {"type": "number", "maximum": 1.5}),
        ({"type": "string", "constraints": [{"valid_values": ["a", 18.04, True]}]}, {"type": "string", "enum": ["a", "18.04", "true"]}),
        ({"type": "integer", "constraints": [{"valid_values": ["1", 2, "x"]}]}, {"type": "integer", "enum": [1, 2]}),
        ({"type": "boolean", "constraints": [{"valid_values": [True]}]}, {"type": "boolean", "enum": [True]}),
        ({"type": "boolean", "constraints": [{"valid_values": ["yes", False]}]}, {"type": "boolean", "enum": [False]}),
        ({"constraints": [{"min_length": 2}, {"max_length": 4}]}, {"type": "string", "minLength": 2, "maxLength": 4}),
        ({"type": "list", "constraints": [{"min_length": 1}]}, {"type": "array", "minItems": 1}),
        ({"type": "map", "constraints": [{"length": 2}], "entry_schema": "integer"}, {"type": "object", "minProperties": 2, "maxProperties": 2, "additionalProperties": {"type": "integer"}}),
        ({"constraints": [{"pattern": "a|b"}]}, {"type": "string", "pattern": "^(?:a|b)$", "maxLength": 1024}),
        ({"type": "list", "entry_schema": {"type": "list", "entry_schema": {"type": "integer"}}}, {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}),
        ({"type": "integer", "constraints": [{"greater_or_equal": 1}, {"greater_or_equal": 3}]}, {"type": "integer", "minimum": 1, "allOf": [{"minimum": 3}]}),
        ({"constraints": [{"greater_than": "b"}]}, {"type": "string", "x-constraints": [{"greater_than": "b"}]}),
        ({"constraints": [{"pattern": "(?i)a"}]}, {"type": "string", "x-constraints": [{"pattern": "(?i)a"}]}),
        ({"type": "integer", "constraints": [{"min_length": "x"}]}, {"type": "integer", "not": {}}),
        ({"type": "range", "constraints": [{"in_range": [1, 9]}]}, {
            "type": "array", "items": {"anyOf": [{"type": "integer"}, {"const": "UNBOUNDED"}]}, "minItems": 2, "maxItems": 2,
            "format": "range", "allOf": [{"items": {"type": "integer", "minimum": 1, "maximum": 9}}],
        }),
    ],
)  # fmt: skip
def test_a_constraint_becomes_the_keyword_that_says_it(definition, expected, formed):
    written = formed({"x": definition}).schema["properties"]["x"]
    assert {key: value for key, value in written.items() if key != "title"} == expected


def test_a_size_is_text_with_a_unit_and_its_limits_are_in_bytes(formed):
    definition = {
        "type": "scalar-unit.size",
        "constraints": [{"in_range": ["1 GiB", "2 TB"]}, {"greater_than": "1 kB"}],
    }
    written = formed({"x": definition}).schema["properties"]["x"]
    assert written["format"] == "scalar-unit.size"
    assert (written["x-minimum-bytes"], written["x-maximum-bytes"]) == (2**30, 2 * 10**12)
    assert written["x-exclusive-minimum-bytes"] == 1000
    assert all(allows(written, text) for text in ("1 GiB", "1.5GB", "2 tb", "1100 MiB"))
    assert not any(allows(written, text) for text in ("1", "1 GiBs", " 2 GB", "2 GB\n", "1 GB", "3 TB", 4))


def test_a_data_type_is_a_definition_that_refuses_other_keys(formed):
    schema = formed({"ports": {"type": "map", "entry_schema": "PortSpec"}}).schema
    assert schema["properties"]["ports"]["additionalProperties"] == {"$ref": "#/$defs/tosca.datatypes.network.PortSpec"}
    assert allows(schema, {"ports": {"ssh": {"source": 22}}})
    assert not allows(schema, {"ports": {"ssh": {"protocol": "tcp"}}}), "a port needs a number"
    assert not allows(schema, {"ports": {"ssh": {"source": 22, "colour": "red"}}})
    assert not allows(schema, {"ports": {"ssh": {"source": 70000}}})
    assert not allows(schema, {"other": 1})


def test_what_a_data_type_requires_is_required(formed):
    schema = formed({"x": {"type": "tosca.datatypes.Credential"}}).schema
    assert allows(schema, {"x": {"token": "t"}})
    assert not allows(schema, {"x": {"user": "ada"}})


def test_a_type_that_derives_from_itself_allows_nothing(template):
    loop = "data_types: {Loop: {derived_from: Pool}, Pool: {derived_from: Loop}}"
    types = {
        "Holder": {"derived_from": "tosca.datatypes.Root", "properties": {"a": {"type": "Loop", "required": False}}}
    }
    text = template(inputs={"x": {"type": "Holder"}}, data_types=types, imports=["loop.yaml"])
    schema = form(parse(text, resolve=lambda _: f"tosca_definitions_version: tosca_simple_yaml_1_3\n{loop}")).schema
    assert allows(schema, {"x": {}})
    assert not allows(schema, {"x": {"a": 1}})


def test_data_types_that_contain_themselves_have_a_form(formed):
    types = {
        "my.Tree": {"derived_from": "tosca.datatypes.Root", "properties": {"children": {"type": "my.Forest", "required": False}}},
        "my.Forest": {"derived_from": "list", "entry_schema": {"type": "my.Tree"}},
        "odd/~ name": {"derived_from": "list", "entry_schema": {"type": "odd/~ name"}},
    }  # fmt: skip
    schema = formed({"tree": {"type": "my.Tree"}, "odd": {"type": "odd/~ name"}}, data_types=types).schema
    assert allows(schema, {"tree": {"children": [{}, {"children": []}]}, "odd": [[], [[]]]})
    assert not allows(schema, {"tree": {"children": [1]}, "odd": []})
    assert not allows(schema, {"tree": {}, "odd": [1]})


def test_what_has_no_value_and_no_default_is_required(formed):
    inputs = {
        "a": {},
        "b": {"default": "x"},
        "c": {"required": False},
        "d": {"default": None},
        "e": {"type": "integer", "default": "x"},
    }
    made = formed(inputs)
    assert made.schema["required"] == ["a", "d", "e"]
    assert [(each.code, each.path) for each in made.warnings] == [("bad-default", "/topology_template/inputs/e")]


def test_a_secret_is_written_only_and_its_default_is_not_shown(formed):
    made = formed(
        {"admin_password": {"default": "hunter2-hunter2"}, "api_token": {"type": "integer", "default": "hunter2"}}
    )
    assert "hunter2" not in json.dumps(made.dump())
    assert made.schema["properties"]["admin_password"]["writeOnly"] is True
    assert made.ui["fields"]["admin_password"] == {"widget": "password", "secret": True, "has_default": True}
    assert made.schema["required"] == ["api_token"], "its default cannot be used"


# ── the schema and the server


SCALARS = {
    "string": st.sampled_from(["", "a", "ab", "true", "18.04", "a\n", "é"]),
    "integer": st.integers(-2, 5) | st.sampled_from([2**70, 65536]),
    "float": st.sampled_from([0.5, 1.5, 2, -1.0]),
    "boolean": st.booleans(),
    "version": st.sampled_from(["20.04", "7", "1.2.3", "1.2.3.rc-1", "20.4", "x"]),
    "scalar-unit.size": st.sampled_from(["1 GB", "1024 MiB", "1GiB", "0.5 GB", ".5 kb", "2", "2  TB", "1 parsec"]),
    "scalar-unit.time": st.sampled_from(["10 s", "1 m", "1.5 h", "1d", "5"]),
    "timestamp": st.sampled_from(["2024-01-01", "2024-01-01T10:00:00Z", "2024-1-1 1:00:00.5 +01:00", "today"]),
    "range": st.sampled_from([[1, 2], [2, 1], [0, "UNBOUNDED"], [1], [1, 9]]),
}
LIMITS = ("greater_than", "greater_or_equal", "less_than", "less_or_equal")


@st.composite
def constraints_of(draw, values):
    kind = draw(
        st.sampled_from([*LIMITS, "in_range", "valid_values", "equal", "min_length", "max_length", "length", "pattern"])
    )
    if kind in {"min_length", "max_length", "length"}:
        return {kind: draw(st.integers(-1, 4) | st.just("2"))}
    if kind == "pattern":
        return {kind: draw(st.sampled_from(["a+", "[a-z0-9. ]*", "(?i)A", "(", "a|ab"]))}
    many = {"in_range": 2, "valid_values": 3}.get(kind)
    return {kind: draw(st.lists(values, min_size=many, max_size=many)) if many else draw(values)}


@st.composite
def definitions(draw, depth=1):
    kind = draw(
        st.sampled_from(
            [*SCALARS, "list", "map", "tosca.datatypes.network.PortSpec", "PortDef", "json"] if depth else list(SCALARS)
        )
    )
    definition = {"type": kind}
    values = SCALARS.get(kind, st.integers(1, 3))
    if kind in {"list", "map"}:
        definition["entry_schema"] = draw(definitions(depth - 1))
        values = st.lists(st.integers(0, 2))
    definition["constraints"] = draw(st.lists(constraints_of(values), max_size=2))
    return definition


PORTS = st.fixed_dictionaries(
    {}, optional={"protocol": st.sampled_from(["tcp", "icmp"]), "source": st.sampled_from([0, 22, "22"]), "x": st.just(1), "source_range": SCALARS["range"]}
)  # fmt: skip
ANYTHING = (
    st.none() | st.booleans() | st.integers(0, 3) | st.text("a1 .", max_size=3) | st.lists(st.integers(), max_size=2)
)


def values_of(definition):
    """Values that may fit a definition, and ones that may not."""
    kind = definition["type"]
    if kind == "list":
        return st.lists(values_of(definition["entry_schema"]), max_size=4) | ANYTHING
    if kind == "map":
        return st.dictionaries(st.sampled_from("abcd"), values_of(definition["entry_schema"]), max_size=4) | ANYTHING
    return SCALARS.get(kind, PORTS if kind.endswith("PortSpec") else st.integers(0, 70000)) | ANYTHING


@st.composite
def cases(draw):
    definition = draw(definitions())
    return definition, draw(st.lists(values_of(definition), min_size=3, max_size=8))


RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def test_a_value_that_the_schema_allows_is_accepted_and_the_canonical_form_of_an_accepted_one_is_allowed(template):
    met = {True: 0, False: 0}

    @RELAXED
    @given(cases())
    def compare(case):
        definition, values = case
        parsed = parse(template(inputs={"x": definition}))
        schema = form(parsed).schema
        is_whole = "x-constraints" not in json.dumps(schema)
        has_spellings = '"enum"' in json.dumps(schema) and re.search("scalar-unit|version", json.dumps(definition))
        for value in values:
            accepted = bound(parsed, {"x": value})
            is_allowed = allows(schema, {"x": value})
            if is_allowed and is_whole:
                assert accepted is not None
            if accepted is not None and not has_spellings:
                Validator(schema).validate(json.loads(json.dumps(accepted)))
            met[is_allowed] += 1

    compare()
    assert min(met.values()) > 50, "values of both kinds were met"


def test_the_server_accepts_more_of_how_people_write_a_value(formed, template):
    definitions = {"count": {"type": "integer"}, "on": {"type": "boolean"}, "name": {}}
    lenient = {"count": "22", "on": "yes", "name": 5}
    schema = formed(definitions).schema
    accepted = bound(parse(template(inputs=definitions)), lenient)
    assert not any(allows(schema["properties"][name], value) for name, value in lenient.items())
    assert accepted == {"count": 22, "on": True, "name": "5"}
    assert allows(schema, accepted)


def test_the_server_accepts_other_spellings_of_a_listed_size_or_version(formed, template):
    definitions = {
        "memory": {"type": "scalar-unit.size", "constraints": [{"valid_values": ["1 GiB"]}]},
        "release": {"type": "version", "constraints": [{"equal": "18.04"}]},
    }
    spellings = {"memory": "1024 MiB", "release": "18.4"}
    assert not allows(formed(definitions).schema, spellings)
    assert bound(parse(template(inputs=definitions)), spellings) == spellings


def test_the_defaults_of_every_public_template_fit_its_form(corpus):
    rows = csv.DictReader((corpus / "INDEX.tsv").read_text().splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    seen = 0
    for name in [row["file"] for row in rows if row["kind"] == "template" and row["expect"] == "valid"]:
        try:
            parsed = parse((corpus / name).read_bytes())
        except TemplateError:
            continue  # its types are in an import that is not here
        made = form(parsed)
        Draft202012Validator.check_schema(made.schema)
        json.dumps(made.dump(), allow_nan=False)
        defaults = {
            key: written["default"] for key, written in made.schema["properties"].items() if "default" in written
        }
        optional = {**made.schema, "required": []}
        assert list(Validator(optional).iter_errors(defaults)) == [], name
        report = Report()
        bind_inputs(parsed, defaults, frozenset(), report)
        assert {problem.code for problem in errors_of(report)} <= {"input-required", "unsupported-default"}, name
        assert sorted(each for tab in made.ui["tabs"] for each in tab["fields"]) == sorted(parsed.inputs), name
        seen += 1
    assert seen > 100


def errors_of(report):
    try:
        report.raise_errors()
    except TemplateError as error:
        return error.problems
    return ()


# ── hints


def test_tabs_are_filled_by_name_then_by_the_pattern_that_matches_least(formed):
    inputs = {name: {} for name in ("wn_num", "wn_gpu_num", "fe_num", "note", "token")}
    tabs = {
        "Workers": "wn_.*",
        "GPU workers": "wn_gpu_.*",
        "Rest": ["note", {"token": {"tag_type": "textarea"}}, "lost"],
        "Bad": "(",
        "None": "zzz",
    }
    made = formed(inputs, metadata={"tabs": tabs})
    assert {tab["title"]: tab["fields"] for tab in made.ui["tabs"]} == {
        "Configuration": ["fe_num"], "Workers": ["wn_num"], "GPU workers": ["wn_gpu_num"], "Rest": ["note", "token"],
    }  # fmt: skip
    assert made.ui["fields"]["token"]["widget"] == "textarea"
    assert {each.code for each in made.warnings} == {"unknown-input", "bad-pattern"}
    assert all(each.path.startswith("/metadata/tabs/") for each in made.warnings)


def test_a_pattern_of_a_tab_cannot_keep_the_form_busy(formed):
    inputs = {f"{'a' * 60}{number}": {} for number in range(300)}
    tabs = {f"tab {number}": "(a?){60}(a*)*b" for number in range(40)}
    made = formed(inputs, metadata={"tabs": tabs})
    assert "bad-pattern" in {each.code for each in made.warnings}
    assert [len(tab["fields"]) for tab in made.ui["tabs"]] == [300]


PARAMETERS = load(b"""
tabs: [Hardware, Software]
inputs:
  flavor:
    display_name: Flavour
    type: combined
    tab: Hardware
    constraints:
      - {value: small, label: "1 VCPU, 2 GB RAM", set: {num_cpus: 1, mem_size: 2 GB}}
      - {value: large, label: "4 VCPUs, 8 GB RAM", set: {num_cpus: 4, mem_size: 8 GB}}
      - {value: huge, label: too many, set: {num_cpus: 400}}
      - {value: odd, label: nothing to set, set: {zzz: 1}}
  num_cpus: {type: hidden}
  mem_size: {type: hidden}
  release:
    tag_type: select
    tab: Software
    required: yes
    default: "18.05"
    constraints:
      - {value: 18.05, label: Release 18.05}
      - {value: "17.05", label: Release 17.05}
      - {value: nonsense, label: no version}
  enable_mail: {type: toggle, tab: Software, function_params: 'data-showelems-id-filter="^mail_" data-showelems-true-pattern="^mail_"'}
  mail_to: {type: email, tab: Software, placeholder: you@example.org, updatable: true}
  tools:
    type: multiselect
    options: "['blast', 'bwa']"
  packages: {type: multiselect, options: "['a', 'b']", format: {type: string, delimiter: ","}}
  ports: {required_ports: {ssh: {protocol: tcp, source: 22}}}
  users: {type: ssh_user}
  id: {type: uuidgen, extra_specs: {prefix: srv-}}
  region: {type: dependent_select, parent: release, constraints: [{value: north, label: N, parent_value: "18.05"}, {value: north, label: N, parent_value: "17.05"}]}
  hint: {type: text, rows: 3, group_overrides: {cms: {default: for cms}, atlas: {default: for atlas, type: textarea}}}
  stray: {type: text}
""").value  # fmt: skip
DECLARED = {
    "num_cpus": {"type": "integer", "default": 1, "constraints": [{"in_range": [1, 64]}]},
    "mem_size": {"type": "scalar-unit.size", "default": "2 GB"},
    "release": {"type": "version", "default": "1.0"},
    "enable_mail": {"type": "boolean", "default": False},
    "mail_to": {"default": ""},
    "tools": {"type": "list", "entry_schema": "string", "default": []},
    "packages": {"default": ""},
    "ports": {"type": "map", "entry_schema": "tosca.datatypes.indigo.network.PortSpec", "default": {}},
    "users": {"type": "list", "entry_schema": "tosca.datatypes.indigo.User", "default": []},
    "id": {},
    "region": {},
    "hint": {"default": "anything"},
}


@pytest.fixture(scope="module")
def dashboard(formed):
    return formed(DECLARED, PARAMETERS, groups=["atlas"])


def test_a_flavour_sets_other_inputs_and_is_not_sent_itself(dashboard):
    flavour = dashboard.ui["fields"]["flavor"]
    assert (flavour["submit"], flavour["label"]) == (False, "Flavour")
    assert [option["set"] for option in flavour["options"]] == [
        {"num_cpus": 1, "mem_size": "2 GB"}, {"num_cpus": 4, "mem_size": "8 GB"},
    ]  # fmt: skip
    assert "flavor" not in dashboard.schema["properties"]
    assert dashboard.ui["fields"]["num_cpus"]["widget"] == "hidden"


def test_the_options_of_a_choice_are_those_that_the_template_allows(dashboard):
    release = dashboard.schema["properties"]["release"]
    assert release["oneOf"] == [
        {"const": "18.05", "title": "Release 18.05"},
        {"const": "17.05", "title": "Release 17.05"},
    ]
    assert (release["default"], dashboard.ui["fields"]["release"]["widget"]) == ("18.05", "select")
    assert "release" in dashboard.schema["required"], "the document says so"
    refused = [each.message for each in dashboard.warnings if each.code == "option-refused"]
    assert len(refused) == 3


def test_an_option_under_two_parents_is_one_value(dashboard):
    assert dashboard.schema["properties"]["region"]["oneOf"] == [{"const": "north", "title": "N"}]
    assert [each["parent_value"] for each in dashboard.ui["fields"]["region"]["options"]] == ["18.05", "17.05"]
    assert dashboard.ui["fields"]["region"]["depends"] == "release"


def test_several_choices_are_a_list_or_a_joined_text(dashboard):
    tools = dashboard.schema["properties"]["tools"]
    assert allows(tools, ["bwa", "blast"])
    assert not allows(tools, ["bwa", "bwa"])
    assert not allows(tools, ["gcc"])
    assert dashboard.ui["fields"]["packages"]["delimiter"] == ","
    assert allows(dashboard.schema["properties"]["packages"], "a,b")


@pytest.mark.parametrize(
    ("hint", "condition"),
    [
        ({"show_if": {"field": "kind", "in": ["gpu", True]}}, {"field": "kind", "in": ["gpu", "true"]}),
        ({"show_if": {"field": "count", "not": "0"}}, {"field": "count", "not": [0]}),
        ({"enabled_by": "enable_mail"}, {"field": "enable_mail", "not": [False]}),
    ],
)
def test_a_condition_has_the_values_that_the_deciding_field_has(hint, condition, formed):
    inputs = {
        "kind": {"default": "cpu"},
        "count": {"type": "integer", "default": 0},
        "enable_mail": {"type": "boolean", "default": False},
    }
    made = formed({**inputs, "x": {"default": "", "metadata": hint}})
    assert made.ui["fields"]["x"]["show_if"] == condition
    assert made.warnings == ()


def test_an_empty_text_is_a_value_that_can_be_offered(formed):
    options = [{"value": "", "label": "none"}, {"value": "a100", "label": "A100"}]
    made = formed({"gpu": {"default": ""}}, {"inputs": {"gpu": {"type": "select", "constraints": options}}})
    assert [each["value"] for each in made.ui["fields"]["gpu"]["options"]] == ["", "a100"]
    assert made.schema["properties"]["gpu"]["default"] == ""


def test_a_field_is_shown_when_another_says_so(dashboard):
    assert dashboard.ui["fields"]["mail_to"]["show_if"] == {"field": "enable_mail", "in": [True]}


def test_what_the_platform_fills_in_is_not_asked_for(dashboard):
    assert dashboard.ui["provided"] == {
        "users": {"kind": "ssh_user", "label": "Users"},
        "id": {"kind": "uuidgen", "label": "Id", "extra_specs": {"prefix": "srv-"}},
    }
    assert not {"users", "id"} & (dashboard.schema["properties"].keys() | set(dashboard.schema["required"]))


def test_ports_that_are_required_are_in_the_default_and_stay(dashboard):
    ports = dashboard.schema["properties"]["ports"]
    assert ports["default"] == {"ssh": {"protocol": "tcp", "source": 22}}
    assert not allows(dashboard.schema["properties"]["ports"], {})
    assert dashboard.ui["fields"]["ports"]["widget"] == "ports"


def test_the_overrides_of_a_group_count_for_those_who_act_for_it(dashboard, formed):
    assert dashboard.schema["properties"]["hint"]["default"] == "for atlas"
    assert dashboard.ui["fields"]["hint"] == {"widget": "textarea", "rows": 3}
    assert formed(DECLARED, PARAMETERS).schema["properties"]["hint"]["default"] == "anything"


def test_hints_reach_the_field_and_odd_ones_are_warnings(dashboard):
    assert [tab["title"] for tab in dashboard.ui["tabs"]] == ["Hardware", "Software"]
    assert dashboard.ui["fields"]["mail_to"]["placeholder"] == "you@example.org"
    assert dashboard.ui["fields"]["mail_to"]["updatable"] is True
    assert {(each.code, each.path) for each in dashboard.warnings if each.code != "option-refused"} == {
        ("unknown-input", "/parameters/inputs/stray"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("hint", "code"),
    [
        ({"type": "slider"}, "unknown-widget"), ({"colour": "red"}, "unknown-key"), ({"default": "x"}, "bad-default"),
        ({"type": "select", "constraints": [{"value": 7, "label": "7"}]}, "bad-default"), ({"constraints": [{"in_range": 3}]}, "bad-constraint"),
        ({"show_if": {"field": "zzz", "in": [1]}}, "bad-condition"), ({"required_ports": {"ssh": {}}}, "bad-ports"), ({"type": "password"}, "not-secret"),
        ({"type": "hidden", "required": True, "default": None, "constraints": [{"in_range": [4, 5]}]}, "hidden-without-value"),
        ({"function_params": 'data-showelems-id-filter="(" data-showelems-1-pattern="."'}, "bad-pattern"), ({"pattern": "["}, "bad-constraint"),
    ],
)  # fmt: skip
def test_a_bad_hint_is_a_warning_and_the_form_goes_without_it(hint, code, formed):
    made = formed({"n": {"type": "integer", "default": 3}}, {"inputs": {"n": hint}})
    assert code in {each.code for each in made.warnings}
    assert all(each.path.startswith("/parameters/inputs/n") for each in made.warnings)
    assert "n" in made.schema["properties"]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["select", "combined", "toggle", "n", "[", "[1]", "(a", "\x1b", "x" * 300]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["value", "label", "set", "field", "in", "n", "inputs"]), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip
HINT_KEYS = [
    "type",
    "tag_type",
    "constraints",
    "options",
    "default",
    "show_if",
    "enabled_by",
    "required_ports",
    "group_overrides",
    "format",
    "tab",
    "pattern",
]


@RELAXED
@given(hint=st.dictionaries(st.sampled_from(HINT_KEYS), JUNK), tabs=JUNK, metadata=JUNK)
def test_whatever_the_hints_are_there_is_a_form(hint, tabs, metadata, formed):
    parameters = {"inputs": {"n": hint, "other": hint}, "tabs": tabs}
    own = {"n": {"type": "integer", "metadata": hint}, "m": {"type": "list", "metadata": {"enabled_by": "n"}}}
    made = formed(own, parameters, groups=["g"], metadata={"tabs": metadata})
    assert made.schema["type"] == "object"


def test_the_forms_of_our_examples_are_free_of_warnings_and_fill_a_plan(examples):
    for path in sorted(examples.glob("*.yaml")):
        parsed = parse(path.read_bytes())
        made = form(parsed)
        defaults = {name: each["default"] for name, each in made.schema["properties"].items() if "default" in each}
        assert made.warnings == ()
        assert plan(parsed, defaults, absent_secrets=frozenset(n for n, i in parsed.inputs.items() if i.secret)).nodes


@pytest.mark.parametrize(
    "constraint",
    [
        {"greater_than": "1" * 5000},
        {"less_or_equal": "-" + "1" * 5000},
        {"in_range": ["0", "1" * 5000]},
        {"greater_than": "+-5"},
        {"equal": "1" * 5000},
    ],
)
@pytest.mark.parametrize("kind", ["integer", "float"])
def test_a_limit_that_is_no_number_of_json_leaves_a_form(constraint, kind, formed) -> None:
    made = formed({"n": {"type": kind, "constraints": [constraint]}})
    assert "n" in made.ui["fields"]
    again = formed({"n": {"type": kind}}, {"inputs": {"n": {"constraints": [constraint]}}})
    assert "n" in again.ui["fields"]


def test_a_default_that_others_make_up_is_asked_for(formed) -> None:
    made = formed({"admin_password": {"default": "random(12)"}, "name": {"default": "random(8)"}})
    assert made.schema["required"] == ["admin_password", "name"]
    assert not made.ui["fields"]["admin_password"]["has_default"]
    assert [warning.code for warning in made.warnings] == ["unsupported-default"] * 2
