"""From a deployment's template to the machines of an attempt and, once they run, to its outputs."""

import asyncio
import re
import shlex
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import indaco_tosca
from indaco_common.contracts.values import PlacedNode
from indaco_common.errors import SpecRejected, Unavailable
from indaco_common.secrets.port import Secrets
from indaco_common.store import Store
from indaco_tosca.scalars import source_text

from .drivers.port import NodeSpec
from .model.deployment import Deployment
from .model.values import Findings, Node, Started

SSH = 22
LARGE = 16 * 1024  # bytes; larger templates are parsed in a thread, so that others need not wait
KEPT = 32  # parsed templates


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outputs for everybody who may see the deployment, and those that only its owner may: these go to the vault."""

    open: dict[str, object]
    secret: dict[str, object]


class Planner:
    """Plans from the bytes that the gateway validated, with the secret inputs that it left in the vault.

    Parsed templates are kept, as they are immutable and read at least twice; plans are not, as they hold secrets.
    """

    def __init__(self, store: Store, secrets: Secrets) -> None:
        self._store, self._secrets = store, secrets
        self._parsed: OrderedDict[tuple[str, ...], indaco_tosca.Template] = OrderedDict()

    async def plan(self, d: Deployment) -> indaco_tosca.Plan:
        """Raises: Unavailable; SpecRejected, if the template cannot be planned (the gateway has validated it)."""
        inputs = dict(d.inputs)
        if d.secret_inputs:
            inputs |= await self._secrets.get(f"inputs/{d.id}") or {}
        try:
            return await self._planned(d, inputs)
        except indaco_tosca.TemplateError as error:
            problem = error.problems[0]
            raise SpecRejected(f"template: {problem.path}: {problem.message}") from None

    async def _planned(self, d: Deployment, inputs: dict[str, object]) -> indaco_tosca.Plan:
        key = (d.template, *(f"{url} {digest}" for url, digest in sorted(d.imports.items())))
        if (template := self._parsed.get(key)) is None:
            template = self._parsed[key] = await self._read(d)
            while len(self._parsed) > KEPT:
                self._parsed.popitem(last=False)
        self._parsed.move_to_end(key)
        return indaco_tosca.plan(template, inputs)

    async def _read(self, d: Deployment) -> indaco_tosca.Template:
        """Return the template, read with the imports with which it was accepted, whatever was refreshed since."""
        body = await self._blob(d, d.template)
        texts = {url: await self._blob(d, digest) for url, digest in d.imports.items()}
        parse = partial(indaco_tosca.parse, body, resolve=texts.get if texts else None)
        return await asyncio.to_thread(parse) if len(body) > LARGE else parse()

    async def _blob(self, d: Deployment, digest: str) -> bytes:
        body = await self._store.get_blob(digest)
        if body is None:
            raise Unavailable(f"the template of {d.id}, or a text that it imports, is not in the store")
        return body


def is_ready(d: Deployment, plan: indaco_tosca.Plan, found: Findings, name: str) -> bool:
    """Return whether *name* can be made now: all that it is told of at its first boot runs."""
    node = _node_of(plan, name)
    if node is None or not node.is_late:
        return True
    running = Counter(machine.rpartition("-")[0] for machine in _machines(d, found))
    return all(running[other] >= d.wanted[other].count for other in node.dependencies if other in d.wanted)


def specification(d: Deployment, plan: indaco_tosca.Plan, found: Findings, name: str) -> NodeSpec:
    """Return what to ask the site for: the planned node *name* belongs to, as it was placed.

    Raises: SpecRejected, if the template has no such node, or what it is told at its first boot cannot be used.
    """
    node, wanted = _node_of(plan, name), d.wanted.get(name.rpartition("-")[0])
    if node is None or wanted is None:
        raise SpecRejected(f"the template has nothing named {name.rpartition('-')[0]}")
    placed = d.placed.get(name) or PlacedNode(needs=wanted.needs)
    spec = NodeSpec(
        kind=wanted.kind, needs=placed.needs, image=placed.image, ports=wanted.ports,
        tags={**node.tags, "PAAS_DEP_UUID": d.id},
    )  # fmt: skip
    if node.kind is indaco_tosca.Kind.BUCKET:
        return replace(spec, hostname=bucket_name(d, node))
    if node.kind is indaco_tosca.Kind.CONTAINER:
        own = node.software[0].properties
        return replace(spec, hostname=name, command=_command(own), environment=_environment(own))
    return replace(
        spec, flavor=placed.flavor, hostname=_hostname(node, name.rpartition("-")[2]) or name, user=login_of(node),
        ssh_keys=tuple(dict.fromkeys((*d.ssh_keys, *_keys(node)))), user_data=_user_data(d, plan, found, node),
    )  # fmt: skip


def _node_of(plan: indaco_tosca.Plan, name: str) -> indaco_tosca.PlanNode | None:
    """Return the planned node of which *name* is an instance."""
    return next((node for node in plan.nodes if node.name == name.rpartition("-")[0]), None)


def _user_data(d: Deployment, plan: indaco_tosca.Plan, found: Findings, node: indaco_tosca.PlanNode) -> str:
    if not node.is_late:
        return node.user_data
    try:
        return indaco_tosca.first_boot(plan, node, _attributes(d, plan, found))
    except indaco_tosca.TemplateError as error:
        raise SpecRejected(f"template: {error.problems[0].path}: {error.problems[0].message}") from None


def bucket_name(d: Deployment, node: indaco_tosca.PlanNode) -> str:
    """Return a name that no other deployment has, as S3 allows it: lower case, digits and dashes, 63 characters at most."""
    asked = str(node.software[0].properties.get("bucket_name") or node.name)
    return re.sub(r"[^a-z0-9-]+", "-", f"{d.id}-{asked}".lower())[:63].rstrip("-")


def _command(properties: Mapping[str, object]) -> tuple[str, ...]:
    """Return the words of a command; some type libraries have it as a text, others as a list."""
    raw = properties.get("command") or ""
    try:
        return (
            tuple(source_text(word) for word in raw) if isinstance(raw, list) else tuple(shlex.split(source_text(raw)))
        )
    except ValueError:
        raise SpecRejected("the quotes of the container's command do not match") from None


def _environment(properties: Mapping[str, object]) -> dict[str, str]:
    raw = properties.get("environment_variables") or properties.get("environment") or {}
    return {str(name): source_text(value) for name, value in raw.items()} if isinstance(raw, dict) else {}


def _hostname(node: indaco_tosca.PlanNode, number: str) -> str:
    """Return the name that the template wishes for; of several instances each has its number in the first label."""
    label, dot, domain = node.dns_name.partition(".")
    return f"{label}-{number}{dot}{domain}" if label and node.count > 1 else node.dns_name


def login_of(node: indaco_tosca.PlanNode) -> str:
    """Return the first account that *node* is told to make; else the image's own, by convention its distribution's name."""
    named = [str(user["os_user_name"]) for user in node.users if user.get("os_user_name")]
    return named[0] if named else (node.image.get("distribution") or "debian").lower()


def _keys(node: indaco_tosca.PlanNode) -> list[str]:
    """Return the keys that the template gives to the account that the site makes; the others' are in the first boot."""
    others = [user for user in node.users if user.get("os_user_name")][1:]
    keys = (user.get("os_user_ssh_public_key") for user in node.users if user not in others)
    return [str(key) for key in keys if key]


def outcome(d: Deployment, plan: indaco_tosca.Plan, found: Findings) -> Outcome:
    """Resolve the outputs with the addresses of what runs; one that cannot be resolved is None."""
    resolved = indaco_tosca.outputs(plan, _attributes(d, plan, found))
    return Outcome(
        open={name: output.value for name, output in resolved.items() if not output.secret},
        secret={name: output.value for name, output in resolved.items() if output.secret},
    )


def _machines(d: Deployment, found: Findings) -> dict[str, Started | Node]:
    """Return what runs or stands, by name: as the turn saw it, or as it is known."""
    return {**{node.name: node for node in d.nodes if node.attempt == d.attempt}, **found.started}


def _attributes(d: Deployment, plan: indaco_tosca.Plan, found: Findings) -> dict[str, dict[str, object]]:
    """Return the attributes of each TOSCA node, its instances in order (reference: TOSCA §3.10 as used in the field)."""
    machines = sorted(_machines(d, found).items(), key=lambda item: int(item[0].rpartition("-")[2]))
    attributes: dict[str, dict[str, object]] = {}
    for node in plan.nodes:
        mine = [m for name, m in machines if name.rpartition("-")[0] == node.name]
        if mine:
            common = {"tosca_id": mine[0].resource_id, "tosca_name": node.name, "state": "started"}
            attributes[node.name] = common | _of_kind(d, node, mine)
    return attributes


def _of_kind(d: Deployment, node: indaco_tosca.PlanNode, mine: Sequence[Started | Node]) -> dict[str, object]:
    addresses: dict[str, object] = {
        "public_address": [address for m in mine for address in m.public_addresses[:1]],
        "private_address": [address for m in mine for address in m.private_addresses[:1]],
    }
    match node.kind:
        case indaco_tosca.Kind.BUCKET:
            return {"bucket_name": bucket_name(d, node), "s3_url": mine[0].url}
        case indaco_tosca.Kind.CONTAINER:
            ports = [mine[0].ports.get(rule.port, rule.port) for rule in node.ports]
            endpoints = [f"{address}:{port}" for address in mine[0].public_addresses[:1] for port in ports]
            return {**addresses, "load_balancer_ips": addresses["public_address"], "endpoints": endpoints}
    account = {"user": login_of(node), "token_type": "public_key"}
    credentials = [{**account, "token": key} for key in d.ssh_keys[:1]]
    return {**addresses, "endpoint": {"credential": credentials, "ports": _ports(node.ports, mine[0].ports)}}


def _ports(rules: tuple[indaco_tosca.PortRule, ...], mapped: Mapping[int, int]) -> dict[str, dict[str, int]]:
    """Return, by the rule's name and number, the port asked for and the one to connect to; SSH is always there."""
    asked = {"ssh": SSH, **{str(rule.port): rule.port for rule in rules}, **{r.name: r.port for r in rules if r.name}}
    return {name: {"source": port, "target": mapped.get(port, port)} for name, port in asked.items()}
