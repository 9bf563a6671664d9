"""From a template to machines: sizes, counts, addresses, openings, volumes, order and placement."""

import json

import pytest

from indaco_tosca import LateValue, PlacementHint, PortRule, SecretPlaceholder, parse, plan


def planned(text, inputs=None, **options):
    return {node.name: node for node in plan(parse(text), inputs or {}, **options).nodes}


def capabilities(**properties):
    return {"capabilities": {name: {"properties": content} for name, content in properties.items()}}


def test_sizes_are_minima_in_whole_units_rounded_up(template):
    host = {"num_cpus": 4, "mem_size": "2 GB", "disk_size": "20 GB", "num_gpus": 1, "gpu_model": "T4"}
    node = planned(template(server=capabilities(host=host)))["server"]
    assert (node.cpu_milli, node.memory_mib, node.disk_gib) == (4000, 1908, 19)
    assert (node.gpus, node.gpu_model, node.instance_type) == (1, "T4", "")


def test_a_machine_that_asks_for_nothing_has_no_minima(template):
    node = planned(template())["server"]
    assert (node.count, node.cpu_milli, node.memory_mib, node.disk_gib, node.gpus) == (1, 0, 0, 0, 0)
    assert (node.public_ip, node.private_ip, node.image, node.ports, node.user_data) == (False, True, {}, (), "")


@pytest.mark.parametrize(
    ("scalable", "count"),
    [({"count": 3}, 3), ({"count": 0}, 0), ({"default_instances": 2}, 2), ({"min_instances": 4}, 4), ({}, 1)],
)
def test_the_count_is_what_the_template_says_else_one(scalable, count, template):
    assert planned(template(server=capabilities(scalable=scalable)))["server"].count == count


@pytest.mark.parametrize("count", [-1, 1001])
def test_a_count_that_is_a_slip_is_refused(count, template, problems):
    inputs = {"n": {"type": "integer"}}
    server = capabilities(scalable={"count": {"get_input": "n"}})
    assert problems(plan, parse(template(inputs=inputs, server=server)), {"n": count})


def test_the_image_has_only_what_the_template_asks_for(template):
    os = {"distribution": "ubuntu", "version": 22.10, "image": "ost://cloud/123"}
    assert planned(template(server=capabilities(os=os)))["server"].image == {
        "distribution": "ubuntu",
        "version": "22.1",
        "image": "ost://cloud/123",
    }


@pytest.mark.parametrize(
    ("endpoint", "is_public", "is_private"),
    [
        ({}, False, True), ({"network_name": "PUBLIC"}, True, True), ({"network_name": "site.public"}, True, True),
        ({"network_name": "net,pool"}, True, True), ({"public_ip": True}, True, True), ({"network_name": "other"}, False, True),
        ({"network_name": "PUBLIC", "private_ip": False}, True, False), ({"private_ip": False}, False, True),
    ],
)  # fmt: skip
def test_the_network_of_the_endpoint_decides_the_addresses(endpoint, is_public, is_private, template):
    node = planned(template(server=capabilities(endpoint=endpoint)))["server"]
    assert (node.public_ip, node.private_ip) == (is_public, is_private)


def test_interfaces_decide_the_addresses_where_there_are_any(template):
    network = {"type": "tosca.nodes.network.Network", "properties": {"network_type": "public"}}
    port = {"type": "tosca.nodes.network.Port", "requirements": [{"binding": "server"}, {"link": "net"}]}
    node = planned(template(nodes={"net": network, "port": port}))["server"]
    assert (node.public_ip, node.private_ip) == (True, False)


def test_openings_come_from_the_machine_and_from_the_software_on_it(template):
    ports = {
        "ssh": {"source": 22, "remote_cidr": "192.0.2.0/24"},
        "range": {"source_range": [8000, 8080], "protocol": "udp"},
        "again": {"target": 22, "remote_cidr": "192.0.2.0/24"},
    }
    web = {
        "type": "tosca.nodes.WebServer",
        "requirements": [{"host": "server"}],
        **capabilities(data_endpoint={"protocol": "http", "port": 80}),
    }
    node = planned(template(server=capabilities(endpoint={"ports": ports}), nodes={"web": web}))["server"]
    assert node.ports == (
        PortRule("tcp", 22, 22, "192.0.2.0/24", "ssh"),
        PortRule("udp", 8000, 8080, "0.0.0.0/0", "range"),
        PortRule("tcp", 80, 80, "0.0.0.0/0", "data_endpoint"),
    )


def test_a_port_without_a_number_or_with_a_bad_network_is_refused(template, problems):
    inputs = {"ports": {"type": "map"}}
    server = capabilities(endpoint={"ports": {"get_input": "ports"}})
    parsed = parse(template(inputs=inputs, server=server))
    path = "/topology_template/node_templates/server/capabilities/endpoint/properties/ports/a"
    assert problems(plan, parsed, {"ports": {"a": {}}})[path] == "wrong-type"
    found = problems(plan, parsed, {"ports": {"a": {"source": 1, "remote_cidr": "anywhere"}}})
    assert found == {f"{path}/remote_cidr": "bad-cidr"}


def test_volumes_are_attached_where_the_template_says(template):
    relationship = {"type": "tosca.relationships.AttachesTo", "properties": {"location": {"get_input": "mount"}}}
    server = {"requirements": [{"local_storage": {"node": "disk", "relationship": relationship}}]}
    disk = {"type": "tosca.nodes.indigo.BlockStorage", "properties": {"size": {"get_input": "size"}, "type": "ssd"}}
    inputs = {"mount": {"default": "/data"}, "size": {"type": "scalar-unit.size", "default": "10 GiB"}}
    parsed = parse(template(server=server, nodes={"disk": disk}, inputs=inputs))
    volume = plan(parsed, {}).nodes[0].volumes[0]
    assert (volume.size_gib, volume.mount, volume.name, volume.type, volume.fs_type) == (
        10,
        "/data",
        "disk",
        "ssd",
        "ext4",
    )
    made = plan(parsed, {"size": "0 GB"})
    assert made.nodes[0].volumes == ()
    assert "volume-without-size" in {problem.code for problem in made.warnings}


def test_machines_come_in_deployment_order_with_their_dependencies(template):
    nodes = {
        "worker": {"type": "Compute"},
        "front": {"type": "Compute"},
        "agent": {
            "type": "tosca.nodes.SoftwareComponent",
            "requirements": [{"host": "worker"}, {"dependency": "master"}],
        },
        "master": {"type": "tosca.nodes.SoftwareComponent", "requirements": [{"host": "front"}]},
    }
    made = plan(parse(template(nodes=nodes)), {})
    assert [node.name for node in made.nodes] == ["server", "front", "worker"]
    assert made.nodes[2].dependencies == ("front",)
    assert [software.node for software in made.nodes[2].software] == ["agent"]


def test_reading_an_attribute_of_another_machine_is_a_dependency(template):
    nodes = {"front": {"type": "Compute"}}
    server = {"properties": {"instance_name": {"get_attribute": ["front", "private_address", 0]}}}
    made = plan(parse(template(nodes=nodes, server=server)), {})
    assert [node.name for node in made.nodes] == ["front", "server"]


def test_users_tags_and_names_are_passed_on(template):
    server = {
        "properties": {"os_users": [{"os_user_name": "alice", "os_user_add_to_sudoers": "yes"}], "tags": {"a": 1}},
        **capabilities(endpoint={"dns_name": {"concat": ["n", {"token": ["a-b-c", "-", 1]}]}}),
    }
    node = planned(template(server=server))["server"]
    assert node.users == ({"os_user_name": "alice", "os_user_add_to_sudoers": True},)
    assert (node.tags, node.dns_name) == ({"a": "1"}, "nb")


@pytest.mark.parametrize(
    ("policy", "hint"),
    [
        ({"type": "tosca.policies.indigo.SlaPlacement", "properties": {"sla_id": "s1"}}, PlacementHint("s1")),
        (
            {"type": "tosca.policies.indigo.SlaPlacement", "properties": {"sla_id": "s2", "region": "north"}},
            PlacementHint("s2", "north"),
        ),
        (
            {"type": "tosca.policies.indigo.Placement", "properties": {"cloud_id": "p", "availability_zone": "z"}},
            PlacementHint("", "z", "p"),
        ),
    ],
)
def test_a_placement_policy_is_a_hint(policy, hint, template):
    assert plan(parse(template(policies=[{"here": policy}])), {}).placement == hint
    assert plan(parse(template()), {}).placement is None


def test_a_placement_without_its_agreement_is_refused(template, problems):
    policies = [{"here": {"type": "tosca.policies.indigo.SlaPlacement"}}]
    found = problems(plan, parse(template(policies=policies)), {})
    assert found == {"/topology_template/policies/0/here": "property-required"}


def test_only_the_first_placement_is_followed(template):
    policies = [{n: {"type": "tosca.policies.indigo.SlaPlacement", "properties": {"sla_id": n}}} for n in ("a", "b")]
    made = plan(parse(template(policies=policies)), {})
    assert made.placement == PlacementHint("a")
    assert "placement-ignored" in {problem.code for problem in made.warnings}


def test_a_value_that_depends_on_an_absent_secret_is_a_placeholder(template):
    inputs = {"db_password": {}, "user": {"default": "u"}}
    url = {"concat": ["db://", {"get_input": "user"}, ":", {"get_input": "db_password"}, "@x"]}
    web = {
        "type": "tosca.nodes.indigo.dockerRun",
        "properties": {"environment_variables": [{"URL": url}]},
        "requirements": [{"host": "server"}],
    }
    parsed = parse(template(inputs=inputs, nodes={"web": web}))
    absent = plan(parsed, {}, absent_secrets=frozenset({"db_password"})).nodes[0]
    placeholder = SecretPlaceholder(frozenset({"db_password"}))
    assert absent.software[0].properties["environment_variables"] == [{"URL": placeholder}]
    assert (absent.user_data, absent.secrets) == ("", {"db_password"})
    full = plan(parsed, {"db_password": "hunter2"}).nodes[0]
    assert "db://u:hunter2@x" in full.user_data
    assert full.secrets == {"db_password"}


@pytest.mark.parametrize("given", [{}, {"size_token": "2 GB"}])
def test_a_resource_must_not_depend_on_a_secret(given, template, problems):
    server = capabilities(host={"mem_size": {"get_input": "size_token"}})
    parsed = parse(template(inputs={"size_token": {}}, server=server))
    found = problems(plan, parsed, given, absent_secrets=frozenset({"size_token"}))
    assert found == {
        "/topology_template/node_templates/server/capabilities/host/properties/mem_size": "secret-in-resource"
    }


def test_a_value_that_is_known_only_after_deployment_is_marked(template):
    app = {
        "type": "acme.App",
        "properties": {"url": {"concat": ["http://", {"get_attribute": ["HOST", "public_address", 0]}]}},
        "requirements": [{"host": "server"}],
    }
    types = {"acme.App": {"derived_from": "tosca.nodes.SoftwareComponent", "properties": {"url": {"type": "string"}}}}
    made = plan(parse(template(node_types=types, nodes={"app": app})), {})
    assert made.nodes[0].software[0].properties["url"] == LateValue("server", "public_address")
    assert "needs-configuration" in {problem.code for problem in made.warnings}


def test_properties_refer_to_inputs_to_other_properties_and_to_capabilities(template):
    server = {
        "properties": {"tags": {"a": "one"}, "instance_name": {"get_property": ["SELF", "tags", "a"]}},
        **capabilities(host={"num_cpus": 2}, endpoint={"dns_name": {"get_property": ["server", "instance_name"]}}),
    }
    other = {
        "type": "tosca.nodes.indigo.Compute",
        "requirements": [{"dependency": "server"}],
        **capabilities(
            host={"num_cpus": {"get_property": ["server", "host", "num_cpus"]}},
            endpoint={"dns_name": {"join": [["x", {"get_property": ["SELF", "dependency", "instance_name"]}], "-"]}},
        ),
    }
    nodes = planned(template(server=server, nodes={"other": other}))
    assert (nodes["server"].dns_name, nodes["other"].dns_name) == ("one", "x-one")
    assert nodes["other"].cpu_milli == 2000


def test_properties_that_refer_to_each_other_are_refused_with_the_circle(template):
    server = {"properties": {"instance_name": {"get_property": ["SELF", "instance_name"]}}}
    with pytest.raises(Exception, match=r"server\.instance_name -> server\.instance_name"):
        plan(parse(template(server=server)), {})


def test_texts_that_double_themselves_are_stopped(template, problems):
    doubled = {
        f"p{n}": {"type": "string", "default": {"concat": [{"get_property": ["SELF", f"p{n - 1}"]}] * 2}}
        for n in range(1, 40)
    }
    types = {"a.N": {"derived_from": "tosca.nodes.Compute", "properties": {"p0": {"default": "x" * 1000}, **doubled}}}
    found = problems(plan, parse(template(node_types=types, nodes={"n": {"type": "a.N"}})), {})
    assert set(found.values()) == {"bad-function"}


@pytest.mark.parametrize("key", ["workflows", "substitution_mappings"])
def test_what_cannot_be_deployed_is_refused_at_planning(key, template, problems):
    text = template().replace('"node_templates"', f'"{key}": {{"a": {{}}}}, "node_templates"')
    assert problems(plan, parse(text), {}) == {f"/topology_template/{key}": "unsupported-feature"}


def test_a_template_without_a_machine_has_nothing_to_deploy(problems):
    text = "{tosca_definitions_version: tosca_simple_yaml_1_0, topology_template: {node_templates: {}}}"
    assert problems(plan, parse(text), {}) == {"/topology_template/node_templates": "nothing-to-deploy"}


def test_a_plan_is_made_of_plain_values(template):
    server = {"properties": {"os_users": [{"os_user_name": "a"}]}, **capabilities(os={"type": "linux"})}
    made = plan(parse(template(server=server, inputs={"l": {"type": "list", "default": [{}]}})), {})
    assert json.loads(json.dumps([node._asdict() for node in made.nodes], default=list))[0]["image"] == {
        "type": "linux"
    }
    made.inputs["l"][0]["changed"] = True
    assert plan(made.template, {}).inputs == {"l": [{}]}


def told_of(machine, other):
    """A shell program on one machine that is told the address of another."""
    properties = {"script": "true", "environment": {"A": {"get_attribute": [other, "private_address", 0]}}}
    return {"type": "tosca.nodes.indaco.Script", "properties": properties, "requirements": [{"host": machine}]}


def test_a_machine_that_is_told_of_another_waits_for_it(template):
    nodes = {"worker": {"type": "tosca.nodes.indigo.Compute"}, "join": told_of("worker", "server")}
    worker = next(node for node in plan(parse(template(nodes=nodes)), {}).nodes if node.name == "worker")
    assert (worker.is_late, worker.dependencies, worker.user_data) == (True, ("server",), "")
    assert worker.software[0].by == "cloud-init"


def test_machines_that_are_told_of_each_other_are_refused(template, problems):
    nodes = {"b": {"type": "tosca.nodes.indigo.Compute"}, "one": told_of("b", "server"), "two": told_of("server", "b")}
    assert "boot-cycle" in problems(plan, parse(template(nodes=nodes)), {}).values()


def test_a_program_that_is_told_of_its_own_machine_needs_a_configuration_service(template):
    made = plan(parse(template(nodes={"self": told_of("server", "server")})), {})
    assert made.nodes[0].software[0].by == "ansible"
    assert "needs-configuration" in {problem.code for problem in made.warnings}


def test_a_container_has_the_size_of_its_runtime_and_the_volumes_that_it_names(template):
    runtime = {
        "num_cpus": 0.5, "mem_size": "512 MB", "volumes": ["kept:/data:rw", "/tmp:/tmp"],
        "publish_ports": [{"protocol": "tcp", "source": 32306, "target": 3306}],
    }  # fmt: skip
    nodes = {
        "app": {
            "type": "tosca.nodes.Container.Application.Docker",
            "requirements": [{"host": "runtime"}],
            "artifacts": {"image": {"file": "mysql:8", "type": "tosca.artifacts.Deployment.Image.Container.Docker"}},
        },
        "runtime": {"type": "tosca.nodes.Container.Runtime.Docker", "capabilities": {"host": {"properties": runtime}}},
        "kept": {"type": "tosca.nodes.BlockStorage", "properties": {"size": "10 GiB"}},
        "store": {"type": "tosca.nodes.indigo.S3Bucket", "properties": {"bucket_name": "b"}},
    }
    made = {node.name: node for node in plan(parse(template(nodes=nodes)), {}).nodes}
    app = made["app"]
    assert (app.kind, app.cpu_milli, app.memory_bytes, app.image) == (
        "container",
        500,
        512_000_000,
        {"image": "mysql:8"},
    )
    assert [(rule.protocol, rule.port) for rule in app.ports] == [("tcp", 3306)]
    assert [(volume.size_bytes, volume.mount) for volume in app.volumes] == [(10 * 2**30, "/data")]
    assert made["store"].kind == "bucket"
    assert made["server"].kind == "machine"


@pytest.mark.parametrize(("memory", "amount"), [("512 MB", 512_000_000), ("512Mi", 512 * 2**20), ("1Gi", 2**30)])
def test_a_function_is_a_container_whose_memory_may_be_in_kubernetes_units(memory, amount, template):
    properties = {"name": "f", "memory": memory, "cpu": 0.5, "image": "f:1", "script": "true"}
    nodes = {"f": {"type": "tosca.nodes.aisprint.FaaS.Function", "properties": properties}}
    text = template(nodes=nodes, imports=["custom_types.yaml"])
    made = {node.name: node for node in plan(parse(text), {}).nodes}
    assert (made["f"].kind, made["f"].memory_bytes, made["f"].public_ip) == ("container", amount, True)


def test_what_is_told_by_another_node_of_the_machine_counts_too(template):
    """A property that another one refers to, and that reads an attribute."""
    config = {
        "type": "tosca.nodes.indaco.Script", "requirements": [{"host": "server"}],
        "properties": {"script": "true", "environment": {"A": {"get_attribute": ["other", "private_address", 0]}}},
    }  # fmt: skip
    worker = {
        "type": "tosca.nodes.indaco.Script", "requirements": [{"host": "worker"}],
        "properties": {"script": "true", "environment": {"get_property": ["config", "environment"]}},
    }  # fmt: skip
    machines = {name: {"type": "tosca.nodes.indigo.Compute"} for name in ("other", "worker")}
    made = {
        node.name: node
        for node in plan(parse(template(nodes={**machines, "config": config, "join": worker})), {}).nodes
    }
    assert (made["worker"].is_late, made["worker"].dependencies) == (True, ("other",))


def test_a_machine_cannot_be_told_of_one_that_there_is_none_of(template, problems):
    none = {"type": "tosca.nodes.indigo.Compute", "capabilities": {"scalable": {"properties": {"count": 0}}}}
    nodes = {"none": none, "join": told_of("server", "none")}
    assert "boot-without" in problems(plan, parse(template(nodes=nodes)), {}).values()


@pytest.mark.parametrize("host", [{"num_cpus": 10**27}, {"mem_size": "999999999 TB"}, {"num_gpus": 10**6}])
def test_amounts_that_no_machine_has_are_refused(host, template, problems):
    parsed = parse(template(server={"capabilities": {"host": {"properties": host}}}))
    assert set(problems(plan, parsed, {}).values()) == {"too-large"}


def test_a_policy_for_some_nodes_is_said_to_count_for_all(template):
    policies = [
        {"here": {"type": "tosca.policies.indigo.SlaPlacement", "properties": {"sla_id": "s"}, "targets": ["server"]}}
    ]
    made = plan(parse(template(nodes={"b": {"type": "tosca.nodes.indigo.Compute"}}, policies=policies)), {})
    assert made.placement == PlacementHint("s")
    assert "placement-of-all" in {problem.code for problem in made.warnings}


def test_a_policy_must_have_values_of_its_type(template, problems):
    policies = [{"here": {"type": "tosca.policies.indigo.SlaPlacement", "properties": {"sla_id": ["a"]}}}]
    assert "wrong-type" in problems(plan, parse(template(policies=policies)), {}).values()


def told_by(entity):
    """A component whose version is what an operation said."""
    told = {"get_operation_output": [entity, "Standard", "create", "version"]}
    kind, host = "tosca.nodes.SoftwareComponent", [{"host": "server"}]
    return {"app": {"type": kind, "properties": {"component_version": told}, "requirements": host}}


@pytest.mark.parametrize("entity", ["SELF", "HOST", "server", "app"])
def test_what_an_operation_says_is_known_later(template, entity):
    (server,) = plan(parse(template(nodes=told_by(entity))), {}).nodes
    told = server.software[0].properties["component_version"]
    assert told.node == {"SELF": "app", "HOST": "server"}.get(entity, entity)


@pytest.mark.parametrize("entity", ["SOURCE", "nobody", 1])
def test_an_operation_of_nothing_is_refused(template, problems, entity):
    refused = problems(lambda: plan(parse(template(nodes=told_by(entity))), {}))
    assert [path.startswith("/topology_template/node_templates/app/properties/") for path in refused] == [True]


def test_a_bucket_whose_name_is_known_too_late_is_refused(template, problems):
    name = {"get_attribute": ["server", "tosca_id"]}
    nodes = {"store": {"type": "tosca.nodes.indigo.S3Bucket", "properties": {"bucket_name": name}}}
    assert problems(plan, parse(template(nodes=nodes)), {}) == {
        "/topology_template/node_templates/store/properties/bucket_name": "attribute-in-resource"
    }
