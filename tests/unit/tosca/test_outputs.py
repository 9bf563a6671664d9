"""Outputs after deployment: what they resolve to, what is secret, and what happens when something is missing."""

import pytest

from indaco_tosca import Output, outputs, parse, plan

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
