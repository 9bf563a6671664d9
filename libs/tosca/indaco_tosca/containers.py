"""Plan what runs without a machine of its own: containers, functions and buckets."""

from __future__ import annotations

from indaco_tosca.evaluate import CREDENTIAL
from indaco_tosca.model import Configurator, Kind, Node, PlanNode, PortRule, Software, Volume
from indaco_tosca.resolved import NODES, Resolver, Values
from indaco_tosca.resources import instance_count, port_rule, sizes_of
from indaco_tosca.scalars import scalar_unit, source_text
from indaco_tosca.topology import BLOCK_STORAGE, FUNCTION, Topology
from indaco_tosca.tree import as_map

_IMAGE_ARTIFACT = "tosca.artifacts.Deployment.Image"


def container(node: Node, resolver: Resolver) -> PlanNode:
    """Return the plan of one containerised application: it has the image, its runtime has the size."""
    topology = resolver.evaluator.topology
    if topology.is_a(node, FUNCTION):
        return _function(node, resolver)
    own = resolver.node(node)
    runtime = next(topology.hosts_of(node.name), node)
    host = resolver.capability(runtime, "host")
    ports = _published(host, resolver)
    return PlanNode(
        name=node.name,
        type=node.type,
        kind=Kind.CONTAINER,
        count=instance_count(runtime, resolver),
        **sizes_of(host),
        image=_image(node, resolver),
        public_ip=bool(ports),
        ports=ports,
        volumes=_volumes(host, resolver),
        software=(_itself(node, own, topology),),
        secrets=own.secrets - {CREDENTIAL},
        dependencies=_dependencies(node, topology),
        level=topology.level_of(node.name),
    )


def _function(node: Node, resolver: Resolver) -> PlanNode:
    """Return the plan of a function: a container that a platform starts when there is work, and that answers at one address."""
    own, topology = resolver.node(node), resolver.evaluator.topology
    return PlanNode(
        name=node.name,
        type=node.type,
        kind=Kind.CONTAINER,
        cpu_milli=round((own.number("cpu") or 0) * 1000),
        memory_bytes=_memory(own),
        gpus=int(own.flag("enable_gpu") or False),
        image={"image": own.text("image")},
        public_ip=True,
        software=(_itself(node, own, topology),),
        secrets=own.secrets - {CREDENTIAL},
        dependencies=_dependencies(node, topology),
        level=topology.level_of(node.name),
    )


def bucket(node: Node, resolver: Resolver) -> PlanNode:
    """Return the plan of one bucket of object storage."""
    own, topology = resolver.node(node), resolver.evaluator.topology
    own.text("bucket_name")  # it must be known, and is no secret: a site is asked for it
    return PlanNode(
        name=node.name,
        type=node.type,
        kind=Kind.BUCKET,
        private_ip=False,
        software=(_itself(node, own, topology),),
        secrets=own.secrets - {CREDENTIAL},
        dependencies=_dependencies(node, topology),
        level=topology.level_of(node.name),
    )


def _itself(node: Node, own: Values, topology: Topology) -> Software:
    """Return the properties that the site needs beside the size: there is nothing to configure."""
    return Software(node.name, node.type, dict(own.found), Configurator.NONE, topology.level_of(node.name))


def _dependencies(node: Node, topology: Topology) -> tuple[str, ...]:
    """Return the other planned nodes that a node requires."""
    targets = (topology.planned_for(edge.target) for edge in node.requirements if edge.target)
    return tuple(dict.fromkeys(target for target in targets if target and target != node.name))


def _memory(own: Values) -> int:
    """Return the memory of a function in bytes: a size of TOSCA, or of Kubernetes, whose units lack the B (512Mi)."""
    text = own.text("memory")
    for candidate in (text, f"{text}B"):
        try:
            return round(scalar_unit(candidate, "scalar-unit.size"))
        except ValueError:
            continue
    if text:
        message = f"{text[:40]!r} is not an amount of memory"
        own.report.error("wrong-type", (*own.path, "memory"), message, "write '512 MB' or '512Mi'")
    return 0


def _image(node: Node, resolver: Resolver) -> dict[str, str]:
    """Return the image: the artifact named ``image``, else the first whose type is a deployment image."""
    types = resolver.evaluator.template.types
    artifacts = [node.artifacts["image"]] if "image" in node.artifacts else list(node.artifacts.values())
    for artifact in artifacts:
        raw = as_map(artifact)
        if isinstance(artifact, str):
            return {"image": artifact}
        if len(artifacts) == 1 or types.is_a("artifact_types", str(raw.get("type")), _IMAGE_ARTIFACT):
            found = resolver.loose({"file": raw.get("file")}, node.name, (*NODES, node.name, "artifacts"))
            return {"image": found.text("file")}
    return {}


def _published(host: Values, resolver: Resolver) -> tuple[PortRule, ...]:
    """Return the ports that the runtime publishes, each by its number inside the container."""
    rules: dict[tuple[str, int], PortRule] = {}
    for index, spec in enumerate(host.items("publish_ports")):
        inside = dict(as_map(spec))
        if inside.get("target") is not None:
            inside.pop("source", None)
        rule = port_rule(source_text(inside.get("endpoint")), inside, (*host.path, "publish_ports", index), resolver)
        if rule:
            rules.setdefault((rule.protocol, rule.port), rule)
    return tuple(rules.values())


def _volumes(host: Values, resolver: Resolver) -> tuple[Volume, ...]:
    """Return the volumes of entries "name:path[:mode[:driver]]" whose name is a BlockStorage of the template."""
    found = []
    for entry in host.items("volumes"):
        name, _, rest = source_text(entry).partition(":")
        storage = resolver.evaluator.template.nodes.get(name)
        if storage and resolver.evaluator.topology.is_a(storage, BLOCK_STORAGE):
            values = resolver.node(storage)
            path = rest.partition(":")[0]
            found.append(Volume(values.size("size"), path, name, values.text("volume_id"), values.text("snapshot_id")))
    return tuple(found)
