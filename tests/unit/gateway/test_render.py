"""INDIGO's shapes: dates to the minute, links as lists, nulls left out."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from indaco_common.web import json_text
from indaco_gateway.indigo import render
from indaco_gateway.indigo.listing import Paging
from indaco_gateway.indigo.machines import extra_info
from indaco_gateway.indigo.shapes import IndigoDeployment, IndigoDeployments, IndigoResources
from indaco_gateway.model.operation import Facts, Part
from indaco_gateway.model.resources import resources

from .builders import ID, SLA, accepted, hear, node_started, reason, reserved, running, started

BASE = "https://paas.example.org"


def sent(op: Facts, base: str | None = BASE) -> dict[str, Any]:
    """Return a deployment as it reaches who asks."""
    body: dict[str, Any] = json.loads(json_text(render.deployment(op, base)))
    return body


def test_dates_are_in_utc_to_the_minute() -> None:
    at = datetime(2024, 3, 1, 10, 56, 59, 999, tzinfo=timezone(timedelta(hours=1)))
    assert render.date(at) == render.date(at.astimezone(UTC)) == "2024-03-01T09:56+0000"
    assert render.date(None) is None


def test_a_new_deployment_has_what_old_clients_cannot_do_without() -> None:
    body = sent(accepted())
    assert body.keys() >= {
        "uuid", "creationTime", "updateTime", "status", "outputs", "task", "links", "createdBy", "cloudProviderEndpoint", "userGroup",
    }  # fmt: skip
    assert body["cloudProviderEndpoint"] == {}
    assert not body.keys() & {"physicalId", "statusReason", "callback", "cloudProviderName"}


def test_a_callback_gets_no_links() -> None:
    assert sent(accepted(), None)["links"] == []


def test_a_placed_deployment_names_provider_and_endpoint_in_indigos_words() -> None:
    operation = hear(accepted(), reserved(), source=SLA)
    body = sent(hear(operation, started(), running(secret_outputs=("key",))))
    assert (body["cloudProviderName"], body["physicalId"]) == ("SITE-A", ID)
    assert body["cloudProviderEndpoint"] == {
        "cpEndpoint": "https://keystone.example.org:5000/v3", "region": "one", "cpComputeServiceId": "a",
        "deploymentType": "OPENSTACK", "iaasType": "OPENSTACK",
    }  # fmt: skip
    assert body["outputs"] == {"ip": "192.0.2.7", "key": "secret: see /outputs"}
    assert body["placement"]["ranked"][0]["score"] == 0.75


def test_a_machine_has_metadata_of_texts_alone_and_its_provider_id_once_it_runs() -> None:
    operation = hear(accepted(), started(), node_started())
    first, second = (render.resource(operation, machine, BASE) for machine in resources(operation))
    assert (first["physicalId"], first["state"], first["toscaNodeName"]) == ("vm-1-server-0", "STARTED", "server")
    assert {type(value) for value in first["metadata"].values()} == {str}
    assert (first["metadata"]["instance_name"], first["metadata"]["public_address"]) == ("server-0", "192.0.2.7")
    assert "physicalId" not in second
    assert second["metadata"].keys() == {"instance_name", "VirtualMachineInfo"}


def test_the_system_of_a_machine_is_told_in_indigos_words_and_bytes() -> None:
    operation = hear(hear(accepted(), reserved(), source=SLA), started(), node_started())
    operation.parts = {"server": Part(distribution="ubuntu", version="22.04")}
    first, second = (
        json.loads(render.resource(operation, machine, BASE)["metadata"]["VirtualMachineInfo"])["vmProperties"]
        for machine in resources(operation)
    )
    assert first == [
        {"class": "network", "id": "pub_network", "outbound": "yes"},
        {
            "class": "system", "id": "server", "instance_name": "server-0", "instance_id": "vm-1-server-0", "state": "configured",
            "disk.0.os.flavour": "ubuntu", "disk.0.os.version": "22.04", "cpu.count": 1, "memory.size": 1024**3,
            "net_interface.0.ip": "192.0.2.7", "net_interface.0.connection": "pub_network", "provider.type": "openstack",
            "provider.host": "keystone.example.org",
        },
    ]  # fmt: skip
    assert [(entry["class"], entry["instance_name"], entry["state"]) for entry in second] == [
        ("system", "server-1", "pending")
    ]
    assert extra_info(operation, resources(operation)) == json.dumps([{"vmProperties": p} for p in (first, second)])


def test_a_container_is_no_virtual_machine() -> None:
    operation = accepted()
    operation.parts = {"server": Part(kind="container")}
    assert "VirtualMachineInfo" not in render.resource(operation, resources(operation)[0], BASE)["metadata"]
    assert extra_info(operation, resources(operation)) == "[]"


def test_what_is_documented_is_what_is_sent() -> None:
    operation = hear(hear(accepted(), reserved(refused=(reason(),)), source=SLA), started(), node_started(), running())
    operation.warnings, operation.callback, operation.name = ("w",), "https://example.org", "n"
    for op in (accepted(), operation):
        deployment = sent(op)
        machines = [render.resource(op, machine, BASE) for machine in resources(op)]
        page = {"url": f"{BASE}/x", "filters": {}, "paging": Paging(0, 10), "total": 1}
        IndigoDeployments.model_validate(render.page([deployment], **page))
        IndigoResources.model_validate(render.page(machines, **page))
    assert deployment.keys() == {field.alias for field in IndigoDeployment.model_fields.values()} - {"statusReason"}


def test_a_reason_is_cut_where_the_dashboard_has_no_room_for_more() -> None:
    operation = accepted()
    operation.reason = "x" * 100_000
    assert len(sent(operation)["statusReason"]) == 65_535


@pytest.mark.parametrize(
    ("number", "total", "rels"),
    [
        (0, 0, "self"), (0, 10, "self"), (0, 11, "first self next last"), (1, 21, "first prev self next last"),
        (2, 21, "first prev self last"), (9, 21, "first self last"),
    ],
)  # fmt: skip
def test_pages_have_the_links_that_lead_somewhere(number: int, total: int, rels: str) -> None:
    body = render.page(
        [], url=f"{BASE}/x", filters={"createdBy": "s@https://iss/"}, paging=Paging(number, 10), total=total
    )
    assert [link["rel"] for link in body["links"]] == rels.split()
    links = {link["rel"]: link["href"] for link in body["links"]}
    assert links["self"] == f"{BASE}/x?createdBy=s@https://iss/&page={number}&size=10&sort=createdAt,desc"
    assert links.get("last", "") != links["self"] or number == body["page"]["totalPages"] - 1
