"""What INDIGO's clients are told of a machine: the ``vmProperties`` that its infrastructure manager gave, as far as they are known."""

import json
from typing import Any

from indaco_gateway.model.operation import Operation
from indaco_gateway.model.resources import Resource

MIB, GIB = 1024**2, 1024**3
VM_STATES = {
    "STARTED": "configured", "STOPPING": "running", "STOPPED": "stopped", "STARTING": "pending", "CREATING": "pending", "INITIAL": "pending",
    "ERROR": "failed", "DELETED": "off",
}  # fmt: skip
Property = str | int
PUBLIC_NETWORK = "pub_network"


def vm_properties(op: Operation, resource: Resource) -> list[dict[str, Property]]:
    """Return the networks and the system of a machine; every entry has a ``class``; sizes are in bytes. There are no secrets in it."""
    system: dict[str, Property | None] = {
        "class": "system",
        "id": resource.tosca_node,
        "instance_name": resource.node,
        "instance_id": resource.physical_id or None,
        "state": VM_STATES.get(resource.state, "unknown"),
        "disk.0.os.flavour": resource.part.distribution or None,
        "disk.0.os.version": resource.part.version or None,
    }
    if (machine := resource.machine) is not None:
        system |= {
            "cpu.count": -(-machine.cpu_milli // 1000) or None,
            "memory.size": machine.memory_mib * MIB or None,
            "disk.0.free_size": machine.disk_gib * GIB or None,
            "net_interface.0.ip": machine.public_address or None,
            "net_interface.0.connection": PUBLIC_NETWORK if machine.public_address else None,
        }
    if op.place is not None:
        system |= {"provider.type": op.place.kind, "provider.host": _host(op.place.endpoint)}
    network: dict[str, Property] = {"class": "network", "id": PUBLIC_NETWORK, "outbound": "yes"}
    known: dict[str, Property] = {name: value for name, value in system.items() if value is not None}
    return [network, known] if resource.public_address else [known]


def metadata(op: Operation, resource: Resource) -> dict[str, str]:
    """Return INDIGO's ``metadata``: texts alone, ``VirtualMachineInfo`` one of JSON."""
    found = {
        "instance_name": resource.node,
        "public_address": resource.public_address,
        "failure": resource.failure,
    }
    if resource.part.kind == "machine":
        found["VirtualMachineInfo"] = json.dumps({"vmProperties": vm_properties(op, resource)})
    return {name: text for name, text in found.items() if text}


def extra_info(op: Operation, resources: list[Resource]) -> str:
    """Return the text of ``/extrainfo``: the properties of each machine, as a JSON array."""
    machines: list[dict[str, Any]] = [
        {"vmProperties": vm_properties(op, resource)} for resource in resources if resource.part.kind == "machine"
    ]
    return json.dumps(machines)


def _host(endpoint: str) -> str:
    """Return the host of an endpoint, or the whole of one that is no URL."""
    return endpoint.partition("//")[2].partition("/")[0].partition(":")[0] or endpoint
