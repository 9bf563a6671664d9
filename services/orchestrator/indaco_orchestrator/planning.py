"""From a deployment's template to the machines of an attempt and, once they run, to its outputs."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import indaco_tosca
from indaco_common.contracts.values import PlacedNode
from indaco_common.errors import SpecRejected, Unavailable
from indaco_common.secrets.port import Secrets
from indaco_common.store import Store

from .drivers.port import NodeSpec
from .model.deployment import Deployment
from .model.values import Findings

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
        self._parsed: OrderedDict[str, indaco_tosca.Template] = OrderedDict()

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
        if (template := self._parsed.get(d.template)) is not None:
            self._parsed.move_to_end(d.template)
            return indaco_tosca.plan(template, inputs)
        body = await self._store.get_blob(d.template)
        if body is None:
            raise Unavailable(f"the template of {d.id} is not in the store")
        template = await asyncio.to_thread(indaco_tosca.parse, body) if len(body) > LARGE else indaco_tosca.parse(body)
        self._parsed[d.template] = template
        while len(self._parsed) > KEPT:
            self._parsed.popitem(last=False)
        return indaco_tosca.plan(template, inputs)


def specification(d: Deployment, plan: indaco_tosca.Plan, name: str) -> NodeSpec:
    """Return what to ask the site for: the planned node *name* belongs to, as it was placed.

    Raises: SpecRejected, if the template has no such node.
    """
    tosca, _, number = name.rpartition("-")
    node = next((n for n in plan.nodes if n.name == tosca), None)
    wanted = d.wanted.get(tosca)
    if node is None or wanted is None:
        raise SpecRejected(f"the template has no machine {tosca}")
    placed = d.placed.get(name) or PlacedNode(needs=wanted.needs)
    keys = [str(user["os_user_ssh_public_key"]) for user in node.users if user.get("os_user_ssh_public_key")]
    return NodeSpec(
        needs=placed.needs, flavor=placed.flavor, image=placed.image, hostname=_hostname(node, number) or name,
        user=login_of(node), ssh_keys=tuple(dict.fromkeys((*d.ssh_keys, *keys))), ports=wanted.ports,
        user_data=node.user_data, tags={**node.tags, "PAAS_DEP_UUID": d.id},
    )  # fmt: skip


def _hostname(node: indaco_tosca.PlanNode, number: str) -> str:
    """Return the name that the template wishes for; of several instances each has its number in the first label."""
    label, dot, domain = node.dns_name.partition(".")
    return f"{label}-{number}{dot}{domain}" if label and node.count > 1 else node.dns_name


def login_of(node: indaco_tosca.PlanNode) -> str:
    """Return the first account that *node* is told to make; else the image's own, by convention its distribution's name."""
    named = [str(user["os_user_name"]) for user in node.users if user.get("os_user_name")]
    return named[0] if named else (node.image.get("distribution") or "debian").lower()


def outcome(d: Deployment, plan: indaco_tosca.Plan, found: Findings) -> Outcome:
    """Resolve the outputs with the addresses of what runs; one that cannot be resolved is None."""
    resolved = indaco_tosca.outputs(plan, _attributes(d, plan, found))
    return Outcome(
        open={name: output.value for name, output in resolved.items() if not output.secret},
        secret={name: output.value for name, output in resolved.items() if output.secret},
    )


@dataclass(frozen=True, slots=True)
class _Machine:
    resource_id: str
    public: tuple[str, ...]
    private: tuple[str, ...]
    ports: Mapping[int, int]


def _machines(d: Deployment, found: Findings) -> dict[str, _Machine]:
    running = {
        n.name: _Machine(n.resource_id, n.public_addresses, n.private_addresses, n.ports)
        for n in d.nodes
        if n.attempt == d.attempt
    }
    started = {
        name: _Machine(s.resource_id, s.public_addresses, s.private_addresses, s.ports)
        for name, s in found.started.items()
    }
    return started | running


def _attributes(d: Deployment, plan: indaco_tosca.Plan, found: Findings) -> dict[str, dict[str, object]]:
    """Return the attributes of each TOSCA node, its instances in order (reference: TOSCA §3.10 as used in the field)."""
    machines = sorted(_machines(d, found).items(), key=lambda item: int(item[0].rpartition("-")[2]))
    attributes: dict[str, dict[str, object]] = {}
    for node in plan.nodes:
        mine = [m for name, m in machines if name.rpartition("-")[0] == node.name]
        if not mine:
            continue
        account = {"user": login_of(node), "token_type": "public_key"}
        attributes[node.name] = {
            "public_address": [address for m in mine for address in m.public[:1]],
            "private_address": [address for m in mine for address in m.private[:1]],
            "endpoint": {
                "credential": [{**account, "token": key} for key in d.ssh_keys[:1]],
                "ports": _ports(node.ports, mine[0].ports),
            },
            "tosca_id": mine[0].resource_id,
            "tosca_name": node.name,
            "state": "started",
        }
    return attributes


def _ports(rules: tuple[indaco_tosca.PortRule, ...], mapped: Mapping[int, int]) -> dict[str, dict[str, int]]:
    """Return, by the rule's name and number, the port asked for and the one to connect to; SSH is always there."""
    asked = {"ssh": SSH, **{str(rule.port): rule.port for rule in rules}, **{r.name: r.port for r in rules if r.name}}
    return {name: {"source": port, "target": mapped.get(port, port)} for name, port in asked.items()}
