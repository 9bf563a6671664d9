"""From a template to machines, and from machines to outputs."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

import indaco_tosca
from indaco_common.contracts.values import Image, NodeNeeds, Place, PlacedNode, PortRule
from indaco_common.errors import SpecRejected, Unavailable
from indaco_common.secrets.port import Secrets
from indaco_common.store.sqlite import SqliteStore
from indaco_common.units import ResourceVector
from indaco_orchestrator import planning
from indaco_orchestrator.model.deployment import Deployment
from indaco_orchestrator.model.values import Findings, Node, Started
from indaco_orchestrator.planning import Planner, is_ready, outcome, specification
from indaco_orchestrator.settings import OrchestratorSettings

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ONE = ResourceVector(instances=1, cpu_milli=1000, memory_mib=1024)
LARGE = ResourceVector(instances=1, cpu_milli=4000, memory_mib=8192)
NOTHING = Findings(1, "", None)
PLACE = Place(provider="a", kind="simulated", endpoint="", region="r", project="p", agreement="c")


def written(topology: dict[str, object]) -> str:
    version = {"tosca_definitions_version": "tosca_simple_yaml_1_3", "imports": ["indigo.yaml", "indaco.yaml"]}
    return json.dumps({**version, "topology_template": topology})


def a_template(*, count: int = 1, dns_name: str = "", distribution: str = "", **properties: object) -> str:
    endpoint: dict[str, object] = {"ports": {"web": {"protocol": "tcp", "source": 8080}}}
    if dns_name:
        endpoint["dns_name"] = dns_name
    capabilities: dict[str, object] = {
        "scalable": {"properties": {"count": count}},
        "endpoint": {"properties": endpoint},
    }
    if distribution:
        capabilities["os"] = {"properties": {"distribution": distribution}}
    server = {"type": "tosca.nodes.indigo.Compute", "properties": properties, "capabilities": capabilities}
    topology = {
        "inputs": {"password": {"type": "string", "required": False}},
        "node_templates": {"web_server": server},
        "outputs": {
            "addresses": {"value": {"get_attribute": ["web_server", "public_address"]}},
            "second": {"value": {"get_attribute": ["web_server", "public_address", 1]}},
            "credential": {"value": {"get_attribute": ["web_server", "endpoint", "credential", 0]}},
            "port": {"value": {"get_attribute": ["web_server", "endpoint", "ports", "web", "target"]}},
            "login": {"value": {"concat": ["ada:", {"get_input": "password"}]}},
        },
    }
    return written(topology)


def planned(text: str, **inputs: object) -> indaco_tosca.Plan:
    return indaco_tosca.plan(indaco_tosca.parse(text), inputs)


def a_deployment(**more: Any) -> Deployment:
    wanted = {"web_server": NodeNeeds(needs=ONE, ports=(PortRule(port=8080, name="web"),), image=Image())}
    state: dict[str, Any] = {"wanted": wanted, "attempt": 1, "place": PLACE, "ssh_keys": ("ssh-ed25519 AAAA ada",)}
    return Deployment(id="d1", **{**state, **more})


def a_node(name: str, **more: Any) -> Node:
    return Node(attempt=1, name=name, place=PLACE, needs=ONE, started_at=NOW, resource_id=f"id-{name}", **more)


# ── what to ask a site for


def test_a_machine_is_asked_for_as_it_was_placed() -> None:
    placed = {"web_server-0": PlacedNode(flavor="large", image="debian-12", needs=LARGE)}
    spec = specification(a_deployment(placed=placed), planned(a_template()), NOTHING, "web_server-0")
    assert (spec.flavor, spec.image, spec.needs) == ("large", "debian-12", LARGE)
    assert (spec.hostname, spec.user) == ("web_server-0", "debian")
    assert [rule.port for rule in spec.ports] == [8080]
    assert spec.tags["PAAS_DEP_UUID"] == "d1"


@pytest.mark.parametrize(
    ("count", "dns_name", "expected"),
    [
        (1, "www", "www"),
        (2, "www", "www-1"),
        (2, "www.example.org", "www-1.example.org"),
        (1, "www.example.org", "www.example.org"),
    ],
)
def test_of_several_instances_each_has_its_number_in_the_first_label(count: int, dns_name: str, expected: str) -> None:
    spec = specification(a_deployment(), planned(a_template(count=count, dns_name=dns_name)), NOTHING, "web_server-1")
    assert spec.hostname == expected


def test_the_sites_account_is_that_of_the_first_user_and_nobody_elses_key_opens_it() -> None:
    users = [
        {"os_user_name": "grace", "os_user_ssh_public_key": f"ssh-ed25519 {'B' * 20} grace"},
        {"os_user_name": "mallory", "os_user_ssh_public_key": f"ssh-ed25519 {'M' * 20} mallory"},
    ]
    spec = specification(a_deployment(), planned(a_template(os_users=users)), NOTHING, "web_server-0")
    assert (spec.user, spec.ssh_keys) == ("grace", ("ssh-ed25519 AAAA ada", f"ssh-ed25519 {'B' * 20} grace"))
    assert f"account mallory 'ssh-ed25519 {'M' * 20} mallory' no" in spec.user_data
    assert "account grace" not in spec.user_data


def test_without_users_the_account_is_named_as_the_distribution_is_by_convention() -> None:
    assert (
        specification(a_deployment(), planned(a_template(distribution="ubuntu")), NOTHING, "web_server-0").user
        == "ubuntu"
    )


@pytest.mark.parametrize("name", ["other-0", "web-server-0", "web_server"])
def test_what_the_template_has_no_machine_for_is_refused(name: str) -> None:
    with pytest.raises(SpecRejected, match="nothing named"):
        specification(a_deployment(), planned(a_template()), NOTHING, name)


def test_what_was_not_asked_for_is_refused_though_the_template_has_it() -> None:
    with pytest.raises(SpecRejected, match="nothing named"):
        specification(a_deployment(wanted={}), planned(a_template()), NOTHING, "web_server-0")


def a_cluster() -> str:
    """A front end, and a worker whose first boot is told the front end's address."""
    script = {
        "type": "tosca.nodes.indaco.Script",
        "properties": {"script": "echo", "environment": {"FRONT": {"get_attribute": ["front", "private_address", 0]}}},
        "requirements": [{"host": "worker"}],
    }
    machines = {name: {"type": "tosca.nodes.indigo.Compute"} for name in ("worker", "front")}
    return written({"node_templates": {**machines, "join": script}})


CLUSTER = {name: NodeNeeds(needs=ONE) for name in ("front", "worker")}


def test_a_machine_that_is_told_of_another_waits_until_that_one_runs() -> None:
    d, plan = a_deployment(wanted=CLUSTER), planned(a_cluster())
    front_runs = Findings(1, "", None, started={"front-0": Started("i", private_addresses=("10.0.0.7",))})
    assert is_ready(d, plan, NOTHING, "front-0")
    assert not is_ready(d, plan, NOTHING, "worker-0")
    assert is_ready(d, plan, front_runs, "worker-0")
    assert "10.0.0.7" in specification(d, plan, front_runs, "worker-0").user_data
    with pytest.raises(SpecRejected, match="FRONT"):
        specification(d, plan, NOTHING, "worker-0")


def a_container(**properties: object) -> str:
    runtime = {"num_cpus": 0.5, "mem_size": "512 MB", "publish_ports": [{"protocol": "tcp", "source": 80}]}
    nodes = {
        "app": {
            "type": "tosca.nodes.indigo.Container.Application.Docker.Marathon",
            "properties": properties,
            "requirements": [{"host": "runtime"}],
            "artifacts": {
                "image": {"file": "nginx:1.27.3", "type": "tosca.artifacts.Deployment.Image.Container.Docker"}
            },
        },
        "runtime": {
            "type": "tosca.nodes.Container.Runtime.Docker",
            "capabilities": {"host": {"properties": runtime}},
        },
    }
    return written({"node_templates": nodes, "outputs": {"at": {"value": {"get_attribute": ["app", "endpoints", 0]}}}})


def test_a_container_is_asked_for_with_its_command_and_environment_and_tells_where_it_is() -> None:
    wanted = {"app": NodeNeeds(kind="container", needs=ONE, ports=(PortRule(port=80),))}
    d, plan = (
        a_deployment(wanted=wanted),
        planned(a_container(command="serve --name 'a b'", environment_variables={"N": 1})),
    )
    spec = specification(d, plan, NOTHING, "app-0")
    assert (spec.kind, spec.command, dict(spec.environment)) == ("container", ("serve", "--name", "a b"), {"N": "1"})
    found = Findings(1, "", None, started={"app-0": Started("i", ("192.0.2.2",), ports={80: 32768})})
    assert outcome(d, plan, found).open == {"at": "192.0.2.2:32768"}
    with pytest.raises(SpecRejected, match="quotes"):
        specification(d, planned(a_container(command="'")), NOTHING, "app-0")


def test_a_bucket_has_a_name_of_its_own_and_tells_where_it_is() -> None:
    bucket = {"type": "tosca.nodes.indigo.S3Bucket", "properties": {"bucket_name": "My Data"}}
    names = {name: {"value": {"get_attribute": ["store", name]}} for name in ("bucket_name", "s3_url")}
    d = a_deployment(wanted={"store": NodeNeeds(kind="bucket", needs=ResourceVector(buckets=1))})
    plan = planned(written({"node_templates": {"store": bucket}, "outputs": names}))
    assert specification(d, plan, NOTHING, "store-0").hostname == "d1-my-data"
    found = Findings(1, "", None, started={"store-0": Started("i", url="https://s3.example.org")})
    assert outcome(d, plan, found).open == {"bucket_name": "d1-my-data", "s3_url": "https://s3.example.org"}


# ── outputs


def test_outputs_have_the_instances_in_the_order_of_their_numbers() -> None:
    nodes = [a_node(f"web_server-{n}", public_addresses=(f"192.0.2.{n}",)) for n in (10, 9)]
    found = Findings(1, "", None, started={"web_server-2": Started("i", ("192.0.2.2",))})
    result = outcome(a_deployment(nodes=nodes), planned(a_template(count=11)), found)
    assert result.open["addresses"] == ["192.0.2.2", "192.0.2.9", "192.0.2.10"]
    assert result.open["second"] == "192.0.2.9"


def test_an_output_tells_the_port_to_connect_to() -> None:
    found = Findings(1, "", None, started={"web_server-0": Started("i", ("192.0.2.2",), ports={8080: 32768})})
    result = outcome(a_deployment(), planned(a_template()), found)
    assert {**result.open, **result.secret}["port"] == 32768


def test_what_depends_on_a_secret_is_apart_and_what_cannot_be_resolved_is_none() -> None:
    found = Findings(1, "", None, started={"web_server-0": Started("i", ("192.0.2.2",))})
    result = outcome(a_deployment(), planned(a_template(), password="hunter2"), found)
    assert result.secret["login"] == "ada:hunter2"
    assert cast("dict[str, object]", result.secret["credential"])["user"] == "debian"
    assert "login" not in result.open
    assert result.open["second"] is None


def test_machines_of_earlier_attempts_and_of_nodes_that_are_gone_from_the_template_are_left_out() -> None:
    earlier = a_node("web_server-0", public_addresses=("192.0.2.1",)).model_copy(update={"attempt": 0})
    gone = a_node("database-0", public_addresses=("192.0.2.3",))
    found = Findings(1, "", None, started={"web_server-1": Started("i", ("192.0.2.2",))})
    result = outcome(a_deployment(nodes=[earlier, gone], wanted={}), planned(a_template()), found)
    assert result.open["addresses"] == ["192.0.2.2"]


# ── the planner


class NoSecrets:
    async def get(self, path: str) -> dict[str, object] | None:
        assert path == "inputs/d1"
        return None


@pytest.fixture
async def planner(tmp_path: Path):
    store = SqliteStore(tmp_path / "store.db", synchronous="OFF")
    await store.start()
    yield Planner(store, cast("Secrets", NoSecrets())), store
    await store.stop()


async def kept(store: SqliteStore, text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    await store.put_blob(digest, text.encode())
    return digest


async def test_a_template_that_is_not_in_the_store_is_waited_for(planner) -> None:
    with pytest.raises(Unavailable, match="not in the store"):
        await planner[0].plan(a_deployment(template="0" * 64))


async def test_a_template_that_cannot_be_planned_is_refused_with_its_place(planner) -> None:
    with pytest.raises(SpecRejected, match="/inputs/unknown"):
        await planner[0].plan(a_deployment(template=await kept(planner[1], a_template()), inputs={"unknown": 1}))


async def test_secret_inputs_that_are_gone_count_as_not_given(planner) -> None:
    digest = await kept(planner[1], a_template())
    plan = await planner[0].plan(a_deployment(template=digest, secret_inputs=("password",)))
    assert "password" not in plan.inputs or plan.inputs["password"] is None


async def test_a_template_is_parsed_once_however_large(planner, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []

    real = indaco_tosca.parse
    monkeypatch.setattr(
        planning.indaco_tosca, "parse", lambda body, **more: (parsed.append(body), real(body, **more))[1]
    )
    for text in (a_template(), a_template() + " " * planning.LARGE):
        digest = await kept(planner[1], text)
        first, second = [await planner[0].plan(a_deployment(template=digest)) for _ in range(2)]
        assert first.nodes == second.nodes
    assert len(parsed) == 2


async def test_only_the_templates_used_last_are_kept(planner) -> None:
    digests = [await kept(planner[1], a_template() + " " * n) for n in range(planning.KEPT + 1)]
    for digest in (*digests[:2], *digests, digests[1]):
        await planner[0].plan(a_deployment(template=digest))
    assert len(planner[0]._parsed) == planning.KEPT
    kept_now = [key[0] for key in planner[0]._parsed]
    assert digests[0] not in kept_now
    assert kept_now[-1] == digests[1]


async def test_a_template_is_read_with_the_imports_with_which_it_was_accepted(planner) -> None:
    url, types = (
        "https://types.example.org/site.yaml",
        "node_types: {site.Machine: {derived_from: tosca.nodes.Compute}}",
    )
    nodes = {"web_server": {"type": "site.Machine"}}
    text = json.dumps({
        "tosca_definitions_version": "tosca_simple_yaml_1_3", "imports": [url], "topology_template": {"node_templates": nodes},
    })  # fmt: skip
    digest, pinned = await kept(planner[1], text), await kept(planner[1], types)
    plan = await planner[0].plan(a_deployment(template=digest, imports={url: pinned}))
    assert [node.type for node in plan.nodes] == ["site.Machine"]
    with pytest.raises(SpecRejected, match=r"site\.Machine"):
        await planner[0].plan(a_deployment(template=digest))
    with pytest.raises(Unavailable):
        await planner[0].plan(a_deployment(template=digest, imports={url: "0" * 64}))


# ── settings


def test_a_forced_deletion_gives_up_no_earlier_than_a_turn_under_way_ends() -> None:
    assert OrchestratorSettings(claim_s=90, force_s=30).timing().force.total_seconds() == 90
    assert OrchestratorSettings(claim_s=10, force_s=30).timing().force.total_seconds() == 30


def test_a_claim_is_short_enough_for_the_runtime() -> None:
    with pytest.raises(ValueError, match="claim_s"):
        OrchestratorSettings(claim_s=600)
