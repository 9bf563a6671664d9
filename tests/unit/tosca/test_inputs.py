"""Binding inputs: defaults, coercion, refusals, and which inputs are secret."""

import pytest

from indaco_tosca import SecretPlaceholder, TemplateError, parse, plan


def test_given_values_win_over_defaults_and_take_their_type(template):
    inputs = {
        "cpus": {"type": "integer", "default": 1},
        "size": {"type": "scalar-unit.size", "default": "2 GB"},
        "flag": {"type": "boolean", "default": False},
    }
    made = plan(parse(template(inputs=inputs)), {"cpus": "4", "flag": "yes", "size": None})
    assert made.inputs == {"cpus": 4, "size": "2 GB", "flag": True}


def test_every_input_that_does_not_fit_is_told_by_its_name(template, problems):
    inputs = {
        "missing": {},
        "cpus": {"type": "integer"},
        "size": {"type": "scalar-unit.size", "constraints": [{"in_range": ["1 GB", "10 GB"]}]},
        "users": {"type": "list", "entry_schema": {"type": "tosca.datatypes.indigo.User"}},
    }
    given = {"cpus": "many", "size": "20 GB", "users": [{"os_user_guid": "x"}], "other": 1}
    assert problems(plan, parse(template(inputs=inputs)), given) == {
        "/inputs/missing": "input-required",
        "/inputs/cpus": "wrong-type",
        "/inputs/size": "constraint-violated",
        "/inputs/users/0/os_user_guid": "wrong-type",
        "/inputs/other": "unknown-input",
    }


def test_a_bad_default_matters_only_if_it_is_used(template, problems):
    parsed = parse(template(inputs={"n": {"type": "integer", "default": 9, "constraints": [{"less_than": 5}]}}))
    assert plan(parsed, {"n": 3}).inputs == {"n": 3}
    assert problems(plan, parsed, {}) == {"/topology_template/inputs/n/default": "constraint-violated"}


def test_an_optional_input_without_a_value_leaves_the_property_to_its_default(template):
    server = {"capabilities": {"scalable": {"properties": {"count": {"get_input": "n"}}}}}
    made = plan(parse(template(inputs={"n": {"type": "integer", "required": False}}, server=server)), {})
    assert made.nodes[0].count == 1
    assert "n" not in made.inputs


@pytest.mark.parametrize(
    ("name", "definition", "is_secret"),
    [
        ("admin_password", {}, True), ("adminPassword", {}, True), ("s3-secret", {}, True), ("token", {}, True),
        ("ssh_private_key", {}, True), ("BACKUP_PASSPHRASE", {}, True), ("password_length", {}, False),
        ("public_key", {}, False), ("tokens", {}, False), ("key", {}, False),
        ("login", {"type": "tosca.datatypes.Credential"}, True),
        ("logins", {"type": "list", "entry_schema": "tosca.datatypes.Credential"}, True),
        ("pin", {"metadata": {"secret": True}}, True), ("csrf_token", {"metadata": {"secret": False}}, False),
        ("listed", {}, True), ("aws_secret_key", {}, True), ("admin_api_key", {}, True), ("apiKey", {}, True), ("apikey", {}, True),
        ("AWS_SECRET_ACCESS_KEY", {}, True), ("db_root_pwd", {}, True), ("rclone_pass", {}, True), ("passwd", {}, True),
        ("s3_credentials", {}, True), ("bypass", {}, False), ("vault_secret_path", {}, False), ("instance_key_pub", {}, False),
        ("refdata_cvmfs_key_file", {}, False), ("cache_key", {}, False), ("x_pass", {"metadata": {"secret": False}}, False),
    ],
)  # fmt: skip
def test_secret_inputs_are_known_by_declaration_type_or_name(name, definition, is_secret, template):
    parsed = parse(template(inputs={name: definition}, metadata={"secret_inputs": ["listed"]}))
    assert parsed.inputs[name].secret is is_secret


def test_a_problem_of_a_secret_input_does_not_show_its_value(template):
    parsed = parse(template(inputs={"api_token": {"type": "integer"}}))
    with pytest.raises(TemplateError) as raised:
        plan(parsed, {"api_token": "hunter2"})
    assert "hunter2" not in str(raised.value) + repr(raised.value.problems)


@pytest.mark.parametrize("name", ["token", "a/b_token", "a~token"])
def test_a_secret_is_not_shown_whatever_its_name_and_be_it_a_default(name, template):
    parsed = parse(template(inputs={name: {"type": "integer", "default": "hunter2"}}))
    for given in ({name: "hunter2"}, {}):
        with pytest.raises(TemplateError) as raised:
            plan(parsed, given)
        assert "hunter2" not in repr(raised.value.problems)


def test_a_bad_default_is_told_where_it_stands(template):
    with pytest.raises(TemplateError) as raised:
        plan(parse(template(inputs={"a": {"type": "integer", "default": "zzz"}})), {})
    (problem,) = raised.value.problems
    assert (problem.path, problem.line) == ("/topology_template/inputs/a/default", 1)


def test_what_is_wrong_with_a_constraint_of_a_secret_is_told(template):
    parsed = parse(template(inputs={"token": {"constraints": [{"pattern": "(?=x)"}]}}))
    with pytest.raises(TemplateError) as raised:
        plan(parsed, {"token": "hunter2"})
    (problem,) = raised.value.problems
    assert problem.code == "bad-constraint"
    assert problem.message.startswith("the pattern cannot be used")
    assert "hunter2" not in repr(problem)


@pytest.mark.parametrize("default", ["random(12)", "access_token()", " random( 8 ) "])
def test_a_default_that_others_make_up_is_no_password_here(default, template, problems):
    parsed = parse(template(inputs={"admin_password": {"type": "string", "default": default}}))
    assert problems(plan, parsed, {}) == {"/inputs/admin_password": "unsupported-default"}
    assert plan(parsed, {"admin_password": "own"}).inputs == {"admin_password": "own"}
    assert plan(parsed, {}, absent_secrets=frozenset({"admin_password"})).absent_secrets == {"admin_password"}


def test_a_default_that_only_looks_made_up_is_taken(template):
    inputs = {"a": {"type": "string", "default": "random(x)"}, "b": {"type": "string", "default": "use random(12)"}}
    assert plan(parse(template(inputs=inputs)), {}).inputs == {"a": "random(x)", "b": "use random(12)"}


def test_a_plan_does_not_show_secret_values_when_it_is_printed(template):
    parsed = parse(template(inputs={"api_token": {}}))
    assert "hunter2" not in repr(plan(parsed, {"api_token": "hunter2"}))


def test_a_secret_that_is_held_elsewhere_counts_as_given(template, problems):
    parsed = parse(template(inputs={"api_token": {}, "name": {"default": "x"}}))
    made = plan(parsed, {}, absent_secrets=frozenset({"api_token"}))
    assert made.inputs["api_token"] == SecretPlaceholder(frozenset({"api_token"}))
    assert (made.secret_inputs, made.absent_secrets) == ({"api_token"}, {"api_token"})
    assert problems(plan, parsed, {}) == {"/inputs/api_token": "input-required"}


def test_only_secret_inputs_can_be_absent(template, problems):
    parsed = parse(template(inputs={"name": {}}))
    assert problems(plan, parsed, {}, absent_secrets=frozenset({"name"})) == {"/inputs/name": "input-required"}


def test_inputs_that_no_document_could_hold_are_refused(template, problems):
    parsed = parse(template(inputs={"l": {"type": "list"}}))
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    assert problems(plan, parsed, {"l": deep}) == {"/inputs": "inputs-too-large"}
    assert problems(plan, parsed, {"l": [0] * 60_000}) == {"/inputs": "inputs-too-large"}


def test_an_input_that_looks_like_a_function_is_data(template):
    parsed = parse(template(inputs={"m": {"type": "map"}}, outputs={"o": {"value": {"get_input": "m"}}}))
    assert plan(parsed, {"m": {"get_attribute": ["server", "x"]}}).inputs["m"] == {"get_attribute": ["server", "x"]}


def test_a_million_comparisons_are_not_made(template, problems):
    options = [f"option-{n}" for n in range(3000)]
    entry = {"type": "string", "constraints": [{"valid_values": options}]}
    inputs = {"chosen": {"type": "list", "entry_schema": entry, "default": [options[-1]] * 3000}}
    assert "bad-constraint" in problems(plan, parse(template(inputs=inputs)), {}).values()


def test_a_number_of_thousands_of_digits_is_no_input(template, problems):
    parsed = parse(template(inputs={"n": {"type": "integer", "default": 1}}))
    assert problems(plan, parsed, {"n": 10**5000}) == {"/inputs": "inputs-too-large"}


def test_a_volume_that_nothing_attaches_must_be_right_all_the_same(template, problems):
    nodes = {"disk": {"type": "tosca.nodes.BlockStorage", "properties": {"size": {"get_input": "n"}}}}
    parsed = parse(template(inputs={"n": {"type": "string", "default": "much"}}, nodes=nodes))
    assert "wrong-type" in problems(plan, parsed, {}).values()


def test_the_character_nul_is_in_no_input(template, problems):
    parsed = parse(template(inputs={"a": {"type": "map", "entry_schema": {"type": "string"}}}))
    for value in ({"k": "a\0b"}, {"a\0b": "v"}):
        assert problems(plan, parsed, {"a": value}) == {"/inputs": "inputs-too-large"}


def test_a_secret_that_is_refused_says_its_rules_and_not_its_value(template):
    rules = [{"min_length": 16}, {"valid_values": ["open sesame, please"]}]
    text = template(inputs={"join_token": {"type": "string", "constraints": rules}})
    with pytest.raises(TemplateError) as refused:
        plan(parse(text), {"join_token": "swordfish"})
    problem = refused.value.problems[0]
    assert (problem.path, problem.hint) == ("/inputs/join_token", "it must be a string with min_length 16")
    assert not any(value in f"{refused.value.problems}" for value in ("swordfish", "sesame"))
