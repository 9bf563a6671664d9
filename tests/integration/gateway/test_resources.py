"""Resources of the INDIGO API by type, and what is not offered at all."""

from pathlib import Path

import pytest

from indaco_common.contracts import orchestrator
from indaco_common.secrets.embedded import EmbeddedVault

from .world import COMPOSE, VM, Issuer, World, node, running, running_event

DOCKER = """
tosca_definitions_version: tosca_simple_yaml_1_3
imports:
  - indigo: https://raw.githubusercontent.com/indigo-dc/tosca-types/master/custom_types.yaml
topology_template:
  node_templates:
    app:
      type: tosca.nodes.indigo.Container.Application.Docker.Marathon
      properties: {uris: []}
      artifacts:
        image: {file: nginx, type: tosca.artifacts.Deployment.Image.Container.Docker}
      requirements: [{host: runtime}]
    runtime:
      type: tosca.nodes.indigo.Container.Runtime.Docker
      capabilities:
        host: {properties: {num_cpus: 1, mem_size: 512 MB}}
"""


@pytest.mark.parametrize(
    ("template", "type", "count"),
    [
        (VM, "tosca.nodes.indigo.Compute", 1), (VM, "tosca.nodes.indigo.MonitoredCompute", 1), (VM, "tosca.nodes.Root", 1),
        (VM, "tosca.nodes.SoftwareComponent", 0), (VM, "tosca.nodes", 0),
        (DOCKER, "tosca.nodes.indigo.Container.Application.Docker.Marathon", 1),
        (DOCKER, "tosca.nodes.indigo.Container.Application.Docker", 1), (DOCKER, "tosca.nodes.Compute", 0),
    ],
)  # fmt: skip
async def test_a_type_finds_what_is_of_it_and_what_derives_from_it(
    world: World, template: str, type: str, count: int
) -> None:
    id = await world.created(template)
    url = f"/deployments/{id}/resources"
    page = (await world.get(url, params={"type": type})).json
    assert page["page"]["totalElements"] == count
    assert all(f"type={type}" in link["href"] for link in page["links"])
    array = await world.get(f"{url}/filter", params={"type": type})
    assert array.headers["Content-Type"].startswith("application/json")
    assert array.json == page["content"]


@pytest.mark.parametrize("query", ["", "?type=", "?type=%20"])
async def test_a_filter_needs_a_type(world: World, query: str) -> None:
    id = await world.created()
    answer = await world.get(f"/deployments/{id}/resources/filter{query}")
    assert (answer.status, answer.message) == (400, "Required String parameter 'type' cannot be empty")


async def test_the_order_of_resources_is_refused_if_it_makes_no_sense(world: World) -> None:
    id = await world.created()
    assert (await world.get(f"/deployments/{id}/resources?sort=createdAt,desc&sort=nothing")).status == 400


# ── what a machine is told to be


async def test_a_machine_is_described_without_a_secret(world: World) -> None:
    secret = "a-secret-that-only-the-machine-may-know"
    id = str((await world.create(COMPOSE, parameters={"service_token": secret})).json["uuid"])
    await world.say(
        orchestrator.NodeStarted(**node(id), public_address="192.0.2.7"), running_event(id, nodes=("server-0",))
    )
    info = (await world.get(f"/deployments/{id}/extrainfo")).json
    [machine] = info
    system = next(entry for entry in machine["vmProperties"] if entry["class"] == "system")
    assert (system["memory.size"], system["disk.0.os.flavour"], system["net_interface.0.ip"]) == (
        1024**3,
        "ubuntu",
        "192.0.2.7",
    )
    listed = await world.get(f"/deployments/{id}/resources")
    assert secret not in str(info) + listed.text
    assert "private_key" not in str(info) + listed.text


# ── what is beside deployments


@pytest.mark.parametrize("path", ["", "/x", "/x/events", "/x/template"])
async def test_schedules_are_not_offered_and_say_so_to_those_who_are_known(world: World, path: str) -> None:
    assert (await world.get(f"/schedules{path}", None)).status == 401
    answer = await world.get(f"/schedules{path}")
    assert (answer.status, answer.message.startswith("Deployments that follow data (Rucio) are not offered")) == (
        501,
        True,
    )


async def test_a_schedule_is_not_made(world: World) -> None:
    assert (await world.send("POST", "/schedules", json={"fileExpression": "x"})).status == 501


async def test_the_configuration_has_the_addresses_that_an_operator_names(
    tmp_path: Path, openbao: EmbeddedVault, issuer: Issuer
) -> None:
    urls = {"monitoring_url": "https://mon.example.org", "vault_url": "https://vault.example.org:8200"}
    async with running(World(tmp_path, openbao, issuer, settings=urls)) as world:
        found = (await world.get("/configuration")).json
        assert found == {**dict.fromkeys(("cpr_url", "slam_url", "cmdb_url", "im_url"), world.url), **urls}


async def test_a_request_id_is_always_ours_at_the_root(world: World) -> None:
    answer = await world.get("/info", None, headers={"X-Request-ID": "req-mine"})
    assert answer.headers["X-Request-ID"].startswith("req-")
    assert answer.headers["X-Request-ID"] != "req-mine"


async def test_what_cannot_be_kept_of_a_last_attempt_is_told_in_a_warning(world: World) -> None:
    warned = (await world.create(keepLastAttempt="true")).json["warnings"]
    assert warned == ["keepLastAttempt is not offered: what a failed attempt has made is removed"]
    assert "warnings" not in (await world.create(keepLastAttempt="false")).json
    assert (await world.create(keepLastAttempt="")).status == 201
    assert (await world.create(keepLastAttempt="perhaps")).status == 400


@pytest.mark.parametrize("sort", ["task", "endpoint,asc", "userGroup,desc", "status&sort=createdAt,desc", "updatedAt"])
async def test_every_field_of_indigos_entity_that_is_there_can_be_sorted_by(world: World, sort: str) -> None:
    ids = {await world.created() for _ in range(3)}
    answer = await world.get(f"/deployments?sort={sort}&size=2")
    assert answer.status == 200
    second = {link["rel"]: link["href"] for link in answer.json["links"]}["next"].removeprefix(world.url)
    assert f"sort={sort}" in second
    both = answer.json["content"] + (await world.get(second)).json["content"]
    assert {one["uuid"] for one in both} == ids
