"""The least change between two plans of one deployment, and what is said about it before it is done."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indaco_tosca import PlanNode, parse, plan
from indaco_tosca.differences import COMPARED_APART, ORDER_ONLY, RULES, Effect
from indaco_tosca.update import Action, change

COMPOSE = "tosca.nodes.indigo.DockerCompose"


def machine(*, count=1, host=(), os=(), ports=(), removal_list=(), **properties):
    capabilities = {
        "host": {"properties": dict(host)},
        "os": {"properties": dict(os)},
        "scalable": {"properties": {"count": count, "removal_list": list(removal_list)}},
        "endpoint": {"properties": {"ports": {f"p{port}": {"source": port} for port in ports}}},
    }
    return {"type": "tosca.nodes.indigo.Compute", "properties": properties, "capabilities": capabilities}


def made(nodes, inputs=None, given=None, outputs=None, policies=None, **options):
    topology = {"inputs": inputs or {}, "node_templates": nodes, "outputs": outputs or {}, "policies": policies or []}
    text = json.dumps(
        {
            "tosca_definitions_version": "tosca_simple_yaml_1_3",
            "imports": ["indigo.yaml"],
            "topology_template": topology,
        }
    )
    return plan(parse(text), given or {}, **options)


def server(**asked):
    return made({"server": machine(**asked)})


def only(found):
    assert len(found.nodes) == 1
    return found.nodes[0]


def test_a_plan_does_not_differ_from_itself():
    found = change(server(count=2), server(count=2))
    assert found.is_empty
    assert not found.touches_machines
    assert found.summary() == ("nothing changes",)
    assert (only(found).action, only(found).kept) == (Action.UNCHANGED, ("server-0", "server-1"))


def test_more_machines_get_the_next_numbers():
    found = change(server(count=1), server(count=3))
    node = only(found)
    assert (node.action, node.kept, node.new, node.gone) == (
        Action.SCALE_OUT, ("server-0",), ("server-1", "server-2"), (),
    )  # fmt: skip
    assert found.totals == {"machines": 2}
    assert found.summary()[:2] == ("server: scale out: makes server-1, server-2", "  machines: 1 -> 3")


def test_a_number_is_never_given_twice():
    node = only(change(server(count=2), server(count=3), existing={"server": ["server-4", "server-0"]}))
    assert node.new == ("server-5",)
    node = only(change(server(count=2), server(count=3), numbered={"server": 9}))
    assert node.new == ("server-9",)


def test_the_highest_numbers_go_first():
    node = only(change(server(count=3), server(count=1), existing={"server": ["server-2", "server-10", "server-0"]}))
    assert (node.action, node.kept, node.gone) == (Action.SCALE_IN, ("server-0",), ("server-10", "server-2"))


def test_what_the_template_lists_goes_before_by_name_or_by_id():
    after = server(count=1, removal_list=["id-of-1", "unknown", "server-0"])
    node = only(change(server(count=4), after, ids={"id-of-1": "server-1"}))
    assert (node.gone, node.kept) == (("server-1", "server-0", "server-3"), ("server-2",))


def test_a_removal_list_takes_nothing_away_from_what_does_not_become_less():
    node = only(change(server(count=2), server(count=2, removal_list=["server-0"])))
    assert (node.action, node.gone, node.kept) == (Action.UNCHANGED, (), ("server-0", "server-1"))


def test_machines_that_are_missing_are_made_though_the_plans_are_equal():
    node = only(change(server(count=2), server(count=2), existing={"server": ["server-1"]}))
    assert (node.action, node.kept, node.new) == (Action.SCALE_OUT, ("server-1",), ("server-2",))
    assert only(change(server(count=2), server(count=2), existing={"server": []})).new == ("server-0", "server-1")


@pytest.mark.parametrize(
    ("before", "after", "action", "why"),
    [
        ({"host": {"num_cpus": 2}}, {"host": {"num_cpus": 4}}, Action.RESIZE, "virtual CPUs: 2 -> 4"),
        ({"host": {"mem_size": "2 GB"}}, {"host": {"mem_size": "2 GiB"}}, Action.RESIZE, "memory: 2 GB -> 2 GiB"),
        ({}, {"host": {"disk_size": "20 GB"}}, Action.RESIZE, "disk: 0 B -> 20 GB"),
        ({"host": {"num_gpus": 1}}, {"host": {"num_gpus": 2}}, Action.RESIZE, "GPUs: 1 -> 2"),
        ({}, {"host": {"instance_type": "m1"}}, Action.RESIZE, "flavor: nothing -> m1"),
        ({"os": {"version": "22.04"}}, {"os": {"version": "24.04"}}, Action.REPLACE, "image: version 22.04 -> 24.04"),
        ({}, {"os": {"type": "linux"}}, Action.REPLACE, "image: with type linux"),
        ({"ports": [80, 22]}, {"ports": [22, 443]}, Action.RECONFIGURE, "ports: without tcp 80 from 0.0.0.0/0, with tcp 443 from 0.0.0.0/0"),
        ({"tags": {"a": "1"}}, {"tags": {"a": "2", "b": "3"}}, Action.RECONFIGURE, "tags: a 1 -> 2, with b 3"),
        ({"os_users": [{"os_user_name": "ada"}]}, {"os_users": [{"os_user_name": "bob"}]}, Action.RECONFIGURE, "accounts: without ada, with bob"),
    ],
)  # fmt: skip
def test_what_is_done_to_a_machine_depends_on_what_differs(before, after, action, why):
    node = only(change(server(**before), server(**after)))
    assert (node.action, [difference.why for difference in node.differences]) == (action, [why])
    assert (node.kept, node.new, node.gone) == (("server-0",), (), ())


def test_accounts_need_a_configurator_and_openings_do_not():
    assert only(change(server(), server(os_users=[{"os_user_name": "ada"}]))).needs_configurator
    assert not only(change(server(), server(ports=[80]))).needs_configurator
    assert not only(change(server(), server(os={"type": "linux"}, tags={"a": "b"}))).needs_configurator


def test_the_names_of_openings_and_their_order_need_nothing():
    one = {"a": {"source": 80}, "b": {"source": 443}}
    other = {"x": {"source": 443}, "y": {"source": 80}}
    before, after = (
        made({"server": {**machine(), "capabilities": {"endpoint": {"properties": {"ports": ports}}}}})
        for ports in (one, other)
    )
    assert change(before, after).is_empty


def test_the_gravest_of_several_differences_decides():
    found = change(server(count=1), server(count=2, ports=[80], host={"num_cpus": 2}, os={"type": "linux"}))
    node = only(found)
    assert (node.action, node.kept, node.new) == (Action.REPLACE, ("server-0",), ("server-1",))
    assert [difference.field for difference in node.differences] == ["count", "image", "cpu_milli", "ports"]
    assert found.summary()[0] == "server: replace server-0: makes server-1"
    assert "  image: with type linux (built anew)" in found.summary()
    assert "in total: +1 machines, +4 virtual CPUs" in found.summary()


def test_a_difference_of_machines_that_are_not_there_asks_for_nothing():
    node = only(change(server(count=0), server(count=2, os={"type": "linux"})))
    assert (node.action, node.new) == (Action.SCALE_OUT, ("server-0", "server-1"))
    still_none = change(server(count=0), server(count=0, host={"num_cpus": 2}))
    assert (only(still_none).action, still_none.touches_machines, still_none.is_empty) == (
        Action.UNCHANGED, False, False,
    )  # fmt: skip


def test_nodes_come_and_go():
    found = change(made({"a": machine(count=2), "b": machine()}), made({"b": machine(), "c": machine(count=2)}))
    assert [(node.node, node.action, node.new, node.gone) for node in found.nodes] == [
        ("b", Action.UNCHANGED, (), ()),
        ("c", Action.ADD, ("c-0", "c-1"), ()),
        ("a", Action.REMOVE, (), ("a-1", "a-0")),
    ]
    assert "a: remove: takes away a-1, a-0" in found.summary()


def with_volume(size):
    edge = {
        "local_storage": {
            "node": "disk",
            "relationship": {"type": "tosca.relationships.AttachesTo", "properties": {"location": "/data"}},
        }
    }
    disk = {"type": "tosca.nodes.indigo.BlockStorage", "properties": {"size": size}}
    return made({"server": {**machine(), "requirements": [edge]}, "disk": disk})


def test_another_volume_is_another_machine():
    node = only(change(with_volume("10 GB"), with_volume("20 GB")))
    assert node.action is Action.REPLACE
    assert node.differences[0].why == "volumes: without 10 GB at /data ext4, with 20 GB at /data ext4"
    assert change(with_volume("10 GB"), with_volume("20 GB")).totals == {"volume_bytes": 10 * 10**9}
    assert change(with_volume("1 GB"), with_volume("1000 MB")).is_empty


# ── software and secrets

INPUTS = {
    "tag": {"type": "string"},
    "password": {"type": "string"},
    "other_password": {"type": "string", "required": False},
}


def with_software(variables, given, *, absent=frozenset(), **properties):
    web = {
        "type": COMPOSE, "requirements": [{"host": "server"}],
        "properties": {
            "project_name": "web", "docker_compose_file_url": "https://example.org/compose.yaml",
            "environment_variables": variables, **properties,
        },
    }  # fmt: skip
    return made({"server": machine(), "web": web}, INPUTS, given, absent_secrets=absent)


OPEN = [{"TAG": {"get_input": "tag"}}]
SECRET = [{"PASSWORD": {"concat": [{"get_input": "tag"}, "-", {"get_input": "password"}]}}]
HELD = frozenset({"password"})


def reasons(before, after):
    return [(difference.why, difference.effect) for difference in only(change(before, after)).differences]


def test_software_is_changed_by_a_configurator():
    before = with_software(OPEN, {"tag": "1", "password": "x"})
    after = with_software(OPEN, {"tag": "1", "password": "x"}, project_name="site")
    assert reasons(before, after) == [("web: project_name: web -> site", Effect.CONFIGURE)]
    assert only(change(before, after)).needs_configurator
    bare = made({"server": machine()}, INPUTS, {"tag": "1", "password": "x"})
    assert reasons(before, bare) == [(f"web ({COMPOSE}) is taken away", Effect.CONFIGURE)]
    assert reasons(bare, before) == [(f"web ({COMPOSE}) is added", Effect.CONFIGURE)]


def test_the_value_of_a_secret_is_never_shown():
    before = with_software(SECRET, {"tag": "1", "password": "swordfish"})
    after = with_software(SECRET, {"tag": "1", "password": "sword-fish"})
    found = change(before, after)
    assert reasons(before, after) == [("web: environment_variables: changed", Effect.CONFIGURE)]
    assert "input password: changed" in found.summary()
    assert "fish" not in " ".join(found.summary())
    assert "fish" not in repr(found)


def test_a_secret_that_is_held_elsewhere_is_the_one_that_was():
    full = with_software(SECRET, {"tag": "1", "password": "x"})
    held = with_software(SECRET, {"tag": "1"}, absent=HELD)
    assert change(full, held).is_empty
    assert change(held, held).is_empty
    assert change(held, with_software(SECRET, {"tag": "1"}, absent=HELD)).is_empty


def test_a_secret_that_is_given_anew_counts_as_changed():
    held = with_software(SECRET, {"tag": "1"}, absent=HELD)
    again = with_software(SECRET, {"tag": "1", "password": "x"})
    assert reasons(held, again) == [("web: environment_variables: changed", Effect.CONFIGURE)]
    assert "input password: changed" in change(held, again).summary()


@pytest.mark.parametrize(
    ("variables", "given"),
    [
        (SECRET, {"tag": "2"}),
        ([{"PASSWORD": {"concat": [{"get_input": "tag"}, "+", {"get_input": "password"}]}}], {"tag": "1"}),
    ],
)
def test_what_changes_around_a_held_secret_is_seen(variables, given):
    before = with_software(SECRET, {"tag": "1", "password": "x"})
    after = with_software(variables, given, absent=HELD)
    assert ("web: environment_variables: changed", Effect.CONFIGURE) in reasons(before, after)
    held = with_software(SECRET, {"tag": "1"}, absent=HELD)
    assert ("web: environment_variables: changed", Effect.CONFIGURE) in reasons(held, after)


def test_another_secret_in_the_same_place_is_a_change():
    inputs = {"tag": "1", "password": "x", "other_password": "x"}
    other = json.loads(json.dumps(SECRET).replace('"password"', '"other_password"'))
    held = HELD | {"other_password"}
    before = with_software(SECRET, {"tag": "1"}, absent=held)
    assert reasons(before, with_software(other, {"tag": "1"}, absent=held))
    assert reasons(with_software(SECRET, inputs), with_software(other, {"tag": "1"}, absent=held))


def test_a_script_of_the_first_boot_that_changes_by_itself_is_told():
    before = server()
    script = before._replace(nodes=(before.nodes[0]._replace(user_data="#!/bin/sh"),))
    assert reasons(before, script) == [("the script of the first boot changed", Effect.CONFIGURE)]


def test_software_that_nobody_installs_needs_nobody():
    def with_version(version):
        component = {
            "type": "tosca.nodes.SoftwareComponent",
            "properties": {"component_version": version},
            "requirements": [{"host": "server"}],
        }
        return made({"server": machine(), "app": component})

    found = change(with_version(1.0), with_version(2.0))
    assert [(item.why, item.effect) for item in only(found).differences] == [
        ("app: component_version: 1.0 -> 2.0", Effect.NOTHING)
    ]
    assert not found.touches_machines


# ── containers and buckets


def container(**properties):
    app = {
        "type": "tosca.nodes.Container.Application.Docker", "properties": properties,
        "artifacts": {"image": {"file": "nginx", "type": "tosca.artifacts.Deployment.Image.Container.Docker"}},
        "requirements": [{"host": "runtime"}],
    }  # fmt: skip
    return made({"app": app, "runtime": {"type": "tosca.nodes.Container.Runtime.Docker"}})


def test_a_container_is_made_anew_for_whatever_differs():
    found = change(container(environment={"A": "1"}), container(environment={"A": "2"}))
    node = found.nodes[0]
    assert (node.action, node.kept, node.needs_configurator) == (Action.REPLACE, ("app-0",), False)


@pytest.mark.parametrize(
    ("properties", "action"),
    [
        ({"enable_versioning": False}, Action.RECONFIGURE),
        ({"bucket_name": "other"}, Action.REPLACE),
        ({}, Action.UNCHANGED),
    ],
)
def test_a_bucket_keeps_its_content_unless_it_is_another(properties, action):
    def with_bucket(**given):
        return made({"store": {"type": "tosca.nodes.indigo.S3Bucket", "properties": {"bucket_name": "data", **given}}})

    node = only(change(with_bucket(), with_bucket(**properties)))
    assert (node.action, node.needs_configurator) == (action, False)
    assert change(server(), with_bucket()).totals == {"machines": -1, "buckets": 1}


# ── what asks for nothing


def test_outputs_inputs_and_the_place_are_told_and_touch_nothing():
    inputs = {"label": {"type": "string", "default": "a"}}
    before = made({"server": machine()}, inputs, outputs={"x": {"value": 1}, "y": {"value": 1}})
    policy = [{"here": {"type": "tosca.policies.indigo.SlaPlacement", "properties": {"sla_id": "s"}}}]
    after = made({"server": machine()}, inputs, {"label": "b"}, {"y": {"value": 2}, "z": {"value": 3}}, policy)
    found = change(before, after)
    assert not found.is_empty
    assert not found.touches_machines
    assert [difference.why for difference in (*found.inputs, *found.outputs)] == [
        "input label: a -> b", "output x: taken away", "output y: changed", "output z: added",
    ]  # fmt: skip
    assert len(found.placement) == 1
    assert found.summary()[-1] == "no machine is touched"


def test_every_field_of_a_planned_node_is_compared_or_known_to_need_nothing():
    assert set(PlanNode._fields) == RULES.keys() | COMPARED_APART | ORDER_ONLY


# ── laws

MACHINES = st.builds(
    machine,
    count=st.integers(0, 4),
    host=st.fixed_dictionaries({}, optional={"num_cpus": st.integers(1, 4), "mem_size": st.sampled_from(["1 GB", "1 GiB"])}),
    os=st.fixed_dictionaries({}, optional={"version": st.sampled_from(["22.04", "24.04"])}),
    ports=st.lists(st.integers(1, 5), max_size=3, unique=True),
    removal_list=st.lists(st.sampled_from(["a-0", "a-1", "b-2"]), max_size=3),
)  # fmt: skip
PLANS = st.dictionaries(st.sampled_from("abc"), MACHINES, min_size=1, max_size=3).map(made)
EXISTING = st.dictionaries(
    st.sampled_from("abc"), st.lists(st.sampled_from(["a-0", "a-1", "a-7", "b-2"]), max_size=4, unique=True), max_size=2
)
QUICK = settings(max_examples=60, deadline=None)


@QUICK
@given(PLANS)
def test_law_a_plan_has_no_change_to_itself(one):
    assert change(one, one).is_empty


@QUICK
@given(PLANS, PLANS, EXISTING)
def test_law_a_change_leads_from_what_is_to_what_is_wanted(before, after, existing):
    found = change(before, after, existing=existing)
    assert {node.node: node.count for node in found.nodes if node.count} == {
        node.name: node.count for node in after.nodes if node.count
    }
    counts = {node.name: node.count for node in before.nodes}
    for node in found.nodes:
        had = existing.get(node.node, [f"{node.node}-{number}" for number in range(counts.get(node.node, 0))])
        assert sorted([*node.kept, *node.gone]) == sorted(had)
        assert not set(node.new) & set(had)
        assert not (node.new and node.gone)
    assert found == change(before, after, existing=existing)


@QUICK
@given(PLANS, PLANS)
def test_law_totals_go_back_as_they_came(before, after):
    there, back = change(before, after).totals, change(after, before).totals
    assert there == {name: -amount for name, amount in back.items()}


def test_another_role_or_operation_is_for_a_configurator():
    def app(role, words):
        operation = {"implementation": "app.yml", "inputs": {"words": words}}
        return {
            "type": "tosca.nodes.SoftwareComponent", "requirements": [{"host": "server"}],
            "artifacts": {"role": {"file": role, "type": "tosca.artifacts.Root"}}, "interfaces": {"Standard": {"configure": operation}},
        }  # fmt: skip

    before = made({"server": machine(), "app": app("a", "x")})
    node = only(change(before, made({"server": machine(), "app": app("b", "y")})))
    assert (node.action, node.needs_configurator) == (Action.RECONFIGURE, True)
    assert [difference.why for difference in node.differences] == [
        "app: artifacts: changed",
        "app: interfaces: changed",
    ]
    assert change(before, made({"server": machine(), "app": app("a", "x")})).is_empty


def test_another_network_is_another_machine():
    def bound(cidr):
        port = {"type": "tosca.nodes.network.Port", "requirements": [{"binding": "server"}, {"link": "net"}]}
        net = {"type": "tosca.nodes.network.Network", "properties": {"cidr": cidr}}
        return made({"server": machine(), "port": port, "net": net})

    node = only(change(bound("10.0.0.0/24"), bound("10.0.1.0/24")))
    assert (node.action, node.differences[0].why) == (Action.REPLACE, "net: changed")
    assert change(bound("10.0.0.0/24"), bound("10.0.0.0/24")).is_empty
