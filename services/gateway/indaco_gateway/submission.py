"""From a body to an accepted request: template and inputs are planned, secret inputs go to the vault, the rest on its way."""

import asyncio
import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Any

import pydantic
from pydantic import ConfigDict, Field

import indaco_tosca
from indaco_common.auth import Principal
from indaco_common.clock import Clock
from indaco_common.contracts.gateway import MAX_TEMPLATE_BYTES, DeploymentRequested
from indaco_common.contracts.values import Image, NodeNeeds, Policy, PortRule
from indaco_common.envelope import Context
from indaco_common.errors import FieldError, Invalid, NotFound
from indaco_common.ids import deployment_id, user_id
from indaco_common.secrets.port import Secrets
from indaco_common.store import Repository, Store
from indaco_common.units import ResourceVector

from .access import group_of, owner_of
from .model.keyring import KeyRing
from .model.operation import Operation

LARGE_TEMPLATE = 16 * 1024  # bytes; larger ones are parsed in a thread, so that others need not wait
DEFAULT_CPU_MILLI, DEFAULT_MEMORY_MIB = 1000, 1024  # of a node that does not say
Minutes = Annotated[int, Field(ge=1, le=5_256_000)]


class Submission(pydantic.BaseModel):
    """The body of POST /deployments, as lenient as INDIGO's: text booleans and numbers are taken, unknown fields ignored."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    template: Annotated[str, Field(min_length=1, max_length=MAX_TEMPLATE_BYTES)]
    parameters: dict[str, Any] = Field(default_factory=dict)
    callback: Annotated[str, Field(pattern=r"^https?:", max_length=2048)] | None = None
    timeout_mins: Annotated[Minutes | None, Field(alias="timeoutMins")] = None
    provider_timeout_mins: Annotated[Minutes | None, Field(alias="providerTimeoutMins")] = None
    max_providers_retry: Annotated[int, Field(alias="maxProvidersRetry", ge=1, le=255)] = 255
    user_group: Annotated[str | None, Field(alias="userGroup", max_length=256)] = None

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> "Submission":
        if self.timeout_mins and self.provider_timeout_mins and self.provider_timeout_mins > self.timeout_mins:
            raise ValueError("ProviderTimeout must be <= Timeout")
        return self


@dataclass(frozen=True, slots=True)
class Accepted:
    operation: Operation
    is_new: bool


class Submissions:
    """Accepts deployments."""

    def __init__(
        self,
        operations: Repository[Operation],
        keyrings: Repository[KeyRing],
        store: Store,
        secrets: Secrets,
        clock: Clock,
    ) -> None:
        self._operations, self._keyrings = operations, keyrings
        self._store, self._secrets, self._clock = store, secrets, clock

    async def accept(self, body: Submission, principal: Principal, key: str | None, ctx: Context) -> Accepted:
        """Accept *body*, once per idempotency *key*.

        Raises: Invalid, with every problem of the template; Forbidden, for a group that is not theirs.
        """
        group = group_of(principal, body.user_group)
        plan = await _plan(body)
        secret = {name: value for name, value in body.parameters.items() if name in plan.secret_inputs}
        request = DeploymentRequested(
            deployment_id=deployment_id(principal.issuer, principal.subject, key),
            owner=owner_of(principal), group=group, template=body.template,
            inputs={name: value for name, value in body.parameters.items() if name not in secret},
            secret_inputs=tuple(sorted(secret)), nodes=_nodes(plan), policy=_policy(plan),
            ssh_keys=await self._keys(principal), max_attempts=body.max_providers_retry,
            timeout_s=body.timeout_mins and body.timeout_mins * 60,
            attempt_timeout_s=body.provider_timeout_mins and body.provider_timeout_mins * 60,
        )  # fmt: skip
        digest = hashlib.sha256(body.template.encode()).hexdigest()
        await self._store.put_blob(digest, body.template.encode())
        fingerprint = _fingerprint(request)
        async with self._operations.upsert(request.deployment_id, ctx) as operation:
            if operation.created_at is not None:
                return _repeated(operation, fingerprint)
            if secret:  # before the request is on its way, so that whoever hears of it finds them
                await self._secrets.put(f"inputs/{request.deployment_id}", secret)
            operation.accept(
                request, fingerprint=fingerprint, template=digest, callback=body.callback, now=self._clock.now()
            )
        return Accepted(operation, is_new=True)

    async def _keys(self, principal: Principal) -> tuple[str, ...]:
        try:
            return (await self._keyrings.get(user_id(principal.issuer, principal.subject))).ready()
        except NotFound:
            return ()


def _repeated(operation: Operation, fingerprint: str) -> Accepted:
    if operation.fingerprint != fingerprint:
        raise KeyReused("This Idempotency-Key was used for another request; take a new key")
    return Accepted(operation, is_new=False)


class KeyReused(Invalid):
    status, code, title = 422, "idempotency-key-reused", "Idempotency key reused"


def _fingerprint(request: DeploymentRequested) -> str:
    """Return a digest of what was asked for, without secret values: they could be guessed from it."""
    asked = request.model_dump(mode="json", exclude={"ssh_keys"})
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


async def _plan(body: Submission) -> indaco_tosca.Plan:
    def plan() -> indaco_tosca.Plan:
        return indaco_tosca.plan(indaco_tosca.parse(body.template), body.parameters)

    try:
        return await asyncio.to_thread(plan) if len(body.template) > LARGE_TEMPLATE else plan()
    except indaco_tosca.TemplateError as error:
        raise Invalid(_sentence(error.problems[0]), errors=[_field(p) for p in error.problems[:50]]) from None


def _sentence(problem: indaco_tosca.Problem) -> str:
    where = f" (line {problem.line}, column {problem.column})" if problem.line else ""
    return f"{problem.path}{where}: {problem.message}" + (f" - {problem.hint}" if problem.hint else "")


def _field(problem: indaco_tosca.Problem) -> FieldError:
    is_input = problem.path.lstrip("/").startswith(("inputs", "parameters"))
    pointer = "/parameters/" + problem.path.rpartition("/")[2] if is_input else "/template"
    return FieldError(pointer, _sentence(problem))


def _nodes(plan: indaco_tosca.Plan) -> dict[str, NodeNeeds]:
    nodes = {node.name: _needs(node) for node in plan.nodes if node.count}
    if not nodes:
        raise Invalid("The template has no compute node to deploy", errors=[FieldError("/template", "no compute node")])
    total = sum(node.count for node in nodes.values())
    if total > 200:  # noqa: PLR2004
        raise Invalid(f"The template asks for {total} machines; at most 200 are taken at once")
    return nodes


def _needs(node: indaco_tosca.PlanNode) -> NodeNeeds:
    amounts = {
        "instances": 1, "cpu_milli": node.cpu_milli or DEFAULT_CPU_MILLI, "memory_mib": node.memory_mib or DEFAULT_MEMORY_MIB,
        "disk_gib": node.disk_gib, "public_ips": int(node.public_ip), "gpus": node.gpus,
        "volumes": len(node.volumes), "volume_gib": sum(volume.size_gib for volume in node.volumes),
    }  # fmt: skip
    image = {name: str(value) for name, value in node.image.items() if value}
    return NodeNeeds(
        count=node.count, needs=ResourceVector(amounts), instance_type=node.instance_type, gpu_model=node.gpu_model,
        image=Image(
            name=image.get("image", ""), architecture=image.get("architecture", ""), type=image.get("type", ""),
            distribution=image.get("distribution", ""), version=image.get("version", ""),
        ),
        ports=tuple(
            PortRule(protocol=rule.protocol, port=rule.port, port_end=rule.port_end, remote_cidr=rule.remote_cidr, name=rule.name)
            for rule in node.ports
        ),
    )  # fmt: skip


def _policy(plan: indaco_tosca.Plan) -> Policy:
    hint = plan.placement
    if hint is None:
        return Policy()
    return Policy(provider=hint.provider, region=hint.region, agreement=hint.sla_id)
