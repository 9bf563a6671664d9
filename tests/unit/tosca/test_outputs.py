"""Outputs after deployment: what they resolve to, what is secret, and what happens when something is missing."""

import pytest

from indaco_tosca import Output, outputs, parse, plan
from indaco_tosca.evaluate import MAX_WORK
from indaco_tosca.outcome import MAX_WORK_IN_ALL

ATTRIBUTES = {
    "server": {
        "public_address": ["192.0.2.7", "192.0.2.8"],
        "private_address": ["10.0.0.7"],
        "endpoint": {"credential": [{"user": "alice", "token_type": "private_key", "token": "KEY"}]},
        "tosca_id": "id-1",
        "state": "started",
    }
}
PORT = {
    "net": {"type": "tosca.nodes.network.Network", "properties": {"network_type": "public"}},
    "port": {"type": "tosca.nodes.network.Port", "requirements": [{"binding": "server"}, {"link": "net"}]},
    "app": {"type": "tosca.nodes.SoftwareComponent", "requirements": [{"host": "server"}]},
}


def resolve(template, value, *, attributes=ATTRIBUTES, given=None, absent=frozenset(), **rest) -> Output:
    parsed = parse(template(outputs={"o": {"value": value, "description": "d"}}, **rest))
    return outputs(plan(parsed, given or {}, absent_secrets=absent), attributes)["o"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"get_attribute": ["server", "public_address"]}, ["192.0.2.7", "192.0.2.8"]),
        ({"get_attribute": ["server", "public_address", 1]}, "192.0.2.8"),
        ({"get_attribute": ["server", "tosca_id"]}, "id-1"),
        ({"get_attribute": ["app", "private_address", 0]}, "10.0.0.7"),
        ({"get_attribute": ["port", "ip_address"]}, "192.0.2.7"),
        ({"concat": ["https://", {"get_attribute": ["server", "public_address", 0]}, ":443"]}, "https://192.0.2.7:443"),
        ({"token": [{"get_attribute": ["server", "public_address", 0]}, ".", 3]}, "7"),
        ({"get_property": ["net", "network_type"]}, "public"),
        ({"get_attribute": ["net", "network_type"]}, "public"),
        ({"get_nodes_of_type": "Compute"}, ["server"]),
        ([1, {"a": {"get_attribute": ["server", "state"]}}], [1, {"a": "started"}]),
        ("plain", "plain"),
    ],
)
def test_an_output_resolves_to(value, expected, template):
    output = resolve(template, value, nodes=PORT)
    assert (output.value, output.secret, output.problem, output.description) == (expected, False, "", "d")


def test_an_address_that_the_type_says_is_single_is_the_first_one(template):
    nodes = {"plain": {"type": "tosca.nodes.Compute"}}
    attributes = {"plain": {"public_address": ["192.0.2.9"]}}
    value = {"get_attribute": ["plain", "public_address"]}
    assert resolve(template, value, nodes=nodes, attributes=attributes).value == "192.0.2.9"


@pytest.mark.parametrize(
    "value",
    [
        {"get_attribute": ["server", "public_address", 5]},
        {"get_attribute": ["server", "instance_name"]},
        {"get_property": ["server", "os_users", 0]},
        {"concat": ["x", {"get_attribute": ["server", "public_address", 5]}]},
        {"get_operation_output": ["server", "Standard", "create", "x"]},
        {"get_input": "optional"},
        {"concat": ["x", {"get_input": "optional"}]},
    ],
)
def test_what_is_not_there_is_null_with_a_problem(value, template):
    output = resolve(template, value, inputs={"optional": {"required": False}})
    assert output.value is None
    assert output.problem


def test_one_output_that_fails_leaves_the_others_alone(template):
    values = {"bad": {"get_attribute": ["server", "nothing"]}, "good": {"get_attribute": ["server", "state"]}}
    parsed = parse(template(outputs={name: {"value": value} for name, value in values.items()}))
    resolved = outputs(plan(parsed, {}), ATTRIBUTES)
    assert (resolved["bad"].value, resolved["good"].value) == (None, "started")


def test_a_credential_is_secret_and_so_is_what_contains_it(template):
    credential = resolve(template, {"get_attribute": ["server", "endpoint", "credential", 0]})
    assert (credential.value["token"], credential.secret) == ("KEY", True)
    assert resolve(template, {"get_attribute": ["server", "endpoint"]}).secret
    assert "KEY" not in repr(credential)


def test_what_depends_on_a_secret_input_is_secret_however_far_away(template):
    inputs = {"db_password": {}}
    server = {"properties": {"tags": {"a": {"get_input": "db_password"}}}}
    value = {"concat": ["x", {"get_property": ["server", "tags", "a"]}]}
    app = {"type": "tosca.nodes.Database", "properties": {"name": "d", "password": {"get_input": "db_password"}}}
    value = {"concat": ["x", {"get_property": ["db", "password"]}]}
    output = resolve(template, value, inputs=inputs, nodes={"db": app}, given={"db_password": "hunter2"})
    assert (output.value, output.secret) == ("xhunter2", True)
    absent = resolve(template, value, inputs=inputs, nodes={"db": app}, absent=frozenset({"db_password"}))
    assert (absent.value, absent.secret) == (None, True)
    assert "db_password" in absent.problem
    assert server  # a tag is a resource, which cannot be secret: see the plan's tests


def test_there_are_outputs_without_any_attribute(template):
    assert resolve(template, {"get_attribute": ["server", "public_address", 0]}, attributes={}).value is None


@pytest.mark.parametrize(
    ("value", "is_secret"),
    [
        ({"get_attribute": ["server", "endpoint", "ports", "ssh", "target"]}, False),
        ({"get_attribute": ["server", "endpoint", "credential", 0, "user"]}, True),
        ({"get_attribute": ["server", "endpoint"]}, True),
    ],
)
def test_what_lies_beside_a_credential_is_no_secret(template, value, is_secret) -> None:
    endpoint = {"credential": [{"user": "alice", "token": "KEY"}], "ports": {"ssh": {"source": 22, "target": 2222}}}
    found = resolve(template, value, attributes={"server": {**ATTRIBUTES["server"], "endpoint": endpoint}})
    assert found.secret is is_secret
    assert found.value is not None


@pytest.mark.parametrize(
    "value",
    [
        {"get_property": ["server", "os_users", "9" * 5000]},
        {"get_attribute": ["server", "public_address", "9" * 5000]},
        {"token": ["a,b", ",", "9" * 5000]},
        {"token": ["a,b", ",", 2]},
    ],
)
def test_an_index_beyond_the_end_is_null_however_long_it_is(value, template) -> None:
    found = resolve(template, value, server={"properties": {"os_users": [{"os_user_name": "a"}]}})
    assert found.value is None
    assert "has no " in found.problem


def test_an_index_of_thousands_of_digits_can_be_planned(template) -> None:
    server = {"properties": {"instance_name": {"token": ["a,b", ",", "9" * 5000]}}}
    assert [warning.code for warning in plan(parse(template(server=server)), {}).warnings][:1] == ["null-value"]


def test_a_problem_does_not_show_a_secret_index(template) -> None:
    inputs, given = {"pin_token": {}}, {"pin_token": "424242"}
    value = {"token": ["a,b", ",", {"get_input": "pin_token"}]}
    found = resolve(template, value, inputs=inputs, given=given)
    assert (found.value, found.secret) == (None, True)
    assert "424242" not in found.problem
    app = {"type": "tosca.nodes.Database", "properties": {"name": value}}
    made = plan(parse(template(inputs=inputs, nodes={"db": app})), given)
    assert "null-value" in [warning.code for warning in made.warnings]
    assert "424242" not in repr(made.warnings)


@pytest.mark.parametrize("name", ["aws_secret_key", "registration_access_token", "admin_password", "private_key"])
def test_an_attribute_with_the_name_of_a_secret_is_one(name, template) -> None:
    attributes = {"server": {name: "hunter2", "result": {"tasks": [{name: "hunter2"}]}}}
    kinds = {"my.Server": {"derived_from": "tosca.nodes.Compute", "attributes": {}}}
    kinds["my.Server"]["attributes"] = {name: {"type": "string"}, "result": {"type": "map"}}
    for words in ([name], ["result"], ["result", "tasks", 0, name]):
        value = {"get_attribute": ["server", *words]}
        found = resolve(template, value, server={"type": "my.Server"}, node_types=kinds, attributes=attributes)
        assert found.secret, words
        assert "hunter2" in str(found.value)


def test_large_outputs_do_not_keep_others_from_being_resolved(template) -> None:
    given = {"items": list(range(45_000))}
    calls = MAX_WORK_IN_ALL // len(given["items"]) + 2
    values = {f"o{number}": {"get_input": "items"} for number in range(calls)}
    values["state"] = {"get_attribute": ["server", "state"]}
    written = {name: {"value": value} for name, value in values.items()}
    parsed = parse(template(inputs={"items": {"type": "list"}}, outputs=written))
    found = outputs(plan(parsed, given), ATTRIBUTES)
    whole = [name for name, output in found.items() if output.value == given["items"]]
    assert MAX_WORK // len(given["items"]) < len(whole) < calls, "more than one budget, and yet not all"
    assert found["state"].value == "started"


def test_a_large_attribute_cannot_be_read_without_end(template) -> None:
    attributes = {"server": {"tags": list(range(45_000))}}
    found = resolve(template, [{"get_attribute": ["server", "tags"]}] * 100, attributes=attributes)
    assert "take too long" in found.problem
