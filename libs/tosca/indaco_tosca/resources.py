"""What one group of machines needs: its size, image, addresses, openings and volumes."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Final, TypedDict

from indaco_tosca.model import Node, PortRule, Volume
from indaco_tosca.positions import Path
from indaco_tosca.resolved import Resolver, Values
from indaco_tosca.scalars import source_text
from indaco_tosca.tree import as_map

ANYWHERE: Final = "0.0.0.0/0"
MAX_COUNT: Final = 1000  # a larger group is a slip of the keyboard, and would reserve a whole region
MAX_NUMBER: Final = 100_000  # of virtual CPUs or GPUs of one machine
MAX_SIZE: Final = 2**60  # bytes of memory or of a disk
_ENDPOINT: Final = "tosca.capabilities.Endpoint"
_IMAGE_KEYS: Final = ("architecture", "type", "distribution", "version", "image")
_PORT_KEYS: Final = ("source", "target")
_PORT_SPEC_KEYS: Final = frozenset({"source", "target", "source_range", "target_range"})


class Sizes(TypedDict):
    """What one machine or container needs, as a plan has it."""

    cpu_milli: int
    memory_bytes: int
    disk_bytes: int
    gpus: int
    gpu_vendor: str
    gpu_model: str


def sizes_of(host: Values) -> Sizes:
    """Return the sizes of a host capability; an amount that no machine has, a slip of the keyboard, goes to the report."""
    numbers: dict[str, float] = {}
    for name in ("num_cpus", "num_gpus"):
        numbers[name] = host.number(name) or 0
        if numbers[name] > MAX_NUMBER:
            host.report.error("too-large", (*host.path, name), f"{name} may be {MAX_NUMBER} at most")
    sizes: dict[str, int] = {}
    for name in ("mem_size", "disk_size"):
        sizes[name] = host.size(name)
        if sizes[name] > MAX_SIZE:
            host.report.error("too-large", (*host.path, name), f"{name} may be {MAX_SIZE // 2**40} TiB at most")
    return {
        "cpu_milli": round(numbers["num_cpus"] * 1000),
        "memory_bytes": sizes["mem_size"],
        "disk_bytes": sizes["disk_size"],
        "gpus": int(numbers["num_gpus"]),
        "gpu_vendor": host.text("gpu_vendor"),
        "gpu_model": host.text("gpu_model"),
    }


def instance_count(node: Node, resolver: Resolver) -> int:
    """Return how many instances a node has: as the template says, else by the defaults of the type, else one."""
    scalable = resolver.capability(node, "scalable")
    names = ("count", "default_instances", "min_instances")
    assigned = [name for name in names if node.capabilities.get("scalable", {}).get(name) is not None]
    counts = (scalable.integer(name) for name in [*assigned, *names])
    count = next((count for count in counts if count is not None), 1)
    if not 0 <= count <= MAX_COUNT:
        message = f"a node has from 0 to {MAX_COUNT} instances, not {count}"
        resolver.report.error("count-out-of-range", scalable.path, message)
    return count


def image_of(node: Node, resolver: Resolver) -> Mapping[str, str]:
    """Return what is asked of the image; only what the template gives."""
    os = resolver.capability(node, "os")
    return {key: text for key in _IMAGE_KEYS if (text := os.text(key))}


def endpoints_of(nodes: list[Node], resolver: Resolver) -> list[tuple[str, Values]]:
    """Return the endpoint capabilities of a machine and of the software on it."""
    return [
        (name, resolver.capability(node, name))
        for node in nodes
        for name, definition in node.definition.capabilities.items()
        if _ENDPOINT in definition.lineage
    ]


def addresses_of(node: Node, endpoints: list[tuple[str, Values]], resolver: Resolver) -> tuple[bool, bool]:
    """Return whether a machine needs a public and a private address.

    Interfaces that the template binds to the machine decide; without any, the networks that its endpoints name.
    """
    ports = resolver.evaluator.topology.ports_of(node.name)
    if ports:
        kinds = [resolver.node(network).text("network_type").lower() if network else "" for _, network in ports]
        return "public" in kinds, any(kind != "public" for kind in kinds)
    is_public = any(_is_public(values) for _, values in endpoints)
    keeps_private = all(values.flag("private_ip") is not False for _, values in endpoints)
    return is_public, keeps_private or not is_public


def _is_public(endpoint: Values) -> bool:
    name = endpoint.text("network_name")
    has_pool = "," in name  # "network,pool" takes a floating address from the pool
    return (
        name.upper() == "PUBLIC" or name.upper().endswith(".PUBLIC") or has_pool or endpoint.flag("public_ip") is True
    )


def port_rules(endpoints: list[tuple[str, Values]], resolver: Resolver) -> tuple[PortRule, ...]:
    """Return the openings that endpoints ask for, without repetitions."""
    rules: dict[tuple[object, ...], PortRule] = {}
    for capability, endpoint in endpoints:
        single: dict[str, object] = {"protocol": endpoint.text("protocol").lower(), "source": endpoint.integer("port")}
        if single["protocol"] not in {"tcp", "udp"}:
            single["protocol"] = "tcp"  # http, ssh and the like: what the port speaks, on TCP
        name = endpoint.text("port_name") or capability
        specs = [(name, single, endpoint.path)] if single["source"] else []
        for key, spec in endpoint.mapping("ports").items():
            specs.append((key, dict(as_map(spec)), (*endpoint.path, "ports", key)))
        for key, spec, path in specs:
            rule = port_rule(key, spec, path, resolver)
            if rule:
                rules.setdefault((rule.protocol, rule.port, rule.port_end, rule.remote_cidr), rule)
    return tuple(rules.values())


def port_rule(name: str, spec: Mapping[str, object], path: Path, resolver: Resolver) -> PortRule | None:
    """Return the opening that a PortSpec stands for; what is wrong with it goes to the report."""
    ranges = (spec.get("source_range"), spec.get("target_range"))
    span = next((item for item in ranges if isinstance(item, list) and len(item) == 2), None)  # noqa: PLR2004
    port = next((spec[key] for key in _PORT_KEYS if isinstance(spec.get(key), int)), None)
    low, high = span if span and port is None else (port, port)
    high = 65535 if high == "UNBOUNDED" else high
    cidr = source_text(spec.get("remote_cidr")) or ANYWHERE
    if not spec.keys() & _PORT_SPEC_KEYS:
        return None  # reported when it was coerced
    if not isinstance(low, int) or not isinstance(high, int):
        resolver.report.error("bad-port", path, "the port must be known before deployment and not be a secret")
        return None
    try:
        if cidr != ANYWHERE:
            ip_network(cidr, strict=False)
    except ValueError:
        resolver.report.error("bad-cidr", (*path, "remote_cidr"), f"{cidr[:60]!r} is not a network")
        return None
    return PortRule(source_text(spec.get("protocol")) or "tcp", low, high, cidr, name)


def volumes_of(node: Node, resolver: Resolver) -> tuple[Volume, ...]:
    """Return the volumes to attach to each instance; one without a size, an id or a snapshot is left out."""
    volumes = []
    for edge, storage in resolver.evaluator.topology.volumes_of(node.name):
        relation = resolver.loose(edge.properties, node.name, (*edge.path, "relationship", "properties"))
        values = resolver.node(storage)
        volume = Volume(
            values.size("size"),
            relation.text("location"),
            storage.name,
            values.text("volume_id"),
            values.text("snapshot_id"),
            relation.text("device"),
            relation.text("fs_type") or "ext4",
            values.text("type"),
        )
        if volume.size_bytes or volume.volume_id or volume.snapshot_id:
            volumes.append(volume)
        else:
            resolver.report.warn(
                "volume-without-size", values.path, f"the volume {storage.name!r} has no size and no id"
            )
    return tuple(volumes)
