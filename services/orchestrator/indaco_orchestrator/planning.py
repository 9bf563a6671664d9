"""From a deployment's template to the machines of an attempt and, once they run, to its outputs."""

from collections.abc import Mapping
from dataclasses import dataclass

import indaco_tosca
from indaco_common.contracts.values import PlacedNode, PortRule
from indaco_common.errors import SpecRejected, Unavailable
from indaco_common.secrets.port import Secrets
from indaco_common.store import Store

from .drivers.port import NodeSpec
from .model.deployment import Deployment
from .model.values import Findings

SSH = 22


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outputs for everybody who may see the deployment, and those that only its owner may: these go to the vault."""

    open: dict[str, object]
    secret: dict[str, object]


class Planner:
    """Plans from the bytes that the gateway validated, with the secret inputs that it left in the vault."""

    def __init__(self, store: Store, secrets: Secrets) -> None:
        self._store, self._secrets = store, secrets

    async def plan(self, d: Deployment) -> indaco_tosca.Plan:
        """Raises: Unavailable; SpecRejected, if the template cannot be planned (the gateway has validated it)."""
        body = await self._store.get_blob(d.template)
        if body is None:
            raise Unavailable(f"the template of {d.id} is not in the store")
        inputs = dict(d.inputs)
        if d.secret_inputs:
            inputs |= await self._secrets.get(f"inputs/{d.id}") or {}
        try:
            return indaco_tosca.plan(indaco_tosca.parse(body), inputs)
        except indaco_tosca.TemplateError as error:
            problem = error.problems[0]
            raise SpecRejected(f"template: {problem.path}: {problem.message}") from None


def specification(d: Deployment, plan: indaco_tosca.Plan, name: str) -> NodeSpec:
    """Return what to ask the site for: the planned node *name* belongs to, as it was placed."""
    tosca, _, number = name.rpartition("-")
    node = next(n for n in plan.nodes if n.name == tosca)
    placed = d.placed.get(name) or PlacedNode(needs=d.wanted[tosca].needs)
    users = [str(user["os_user_name"]) for user in node.users if user.get("os_user_name")]
    keys = [str(user["os_user_ssh_public_key"]) for user in node.users if user.get("os_user_ssh_public_key")]
    return NodeSpec(
        needs=placed.needs, flavor=placed.flavor, image=placed.image,
        hostname=f"{node.dns_name}-{number}" if node.dns_name and node.count > 1 else node.dns_name or name,
        user=users[0] if users else login_of(d, tosca), ssh_keys=tuple(dict.fromkeys((*d.ssh_keys, *keys))),
        ports=d.wanted[tosca].ports, user_data=node.user_data, tags={**node.tags, "PAAS_DEP_UUID": d.id},
    )  # fmt: skip


def login_of(d: Deployment, tosca: str) -> str:
    """Return the account of an image that was not told which to make: by convention its distribution's name."""
    return d.wanted[tosca].image.distribution.lower() or "debian"


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
        mine = [(name, m) for name, m in machines if name.rpartition("-")[0] == node.name]
        if not mine:
            continue
        name, first = mine[0]
        user = specification(d, plan, name).user
        attributes[node.name] = {
            "public_address": [address for _, m in mine for address in m.public[:1]],
            "private_address": [address for _, m in mine for address in m.private[:1]],
            "endpoint": {
                "credential": [{"user": user, "token_type": "public_key", "token": key} for key in d.ssh_keys[:1]],
                "ports": _ports(d.wanted[node.name].ports, first.ports),
            },
            "tosca_id": first.resource_id,
            "tosca_name": node.name,
            "state": "started",
        }
    return attributes


def _ports(rules: tuple[PortRule, ...], mapped: Mapping[int, int]) -> dict[str, dict[str, int]]:
    """Return, by the rule's name and number, the port asked for and the one to connect to; SSH is always there."""
    asked = {"ssh": SSH, **{str(rule.port): rule.port for rule in rules}, **{r.name: r.port for r in rules if r.name}}
    return {name: {"source": port, "target": mapped.get(port, port)} for name, port in asked.items()}
