"""From the body of an update to an accepted one: what runs and what is asked for are planned and compared.

Secret inputs stay as they are: an update changes nothing in the vault, so that there is nothing to be half done if a process dies
on the way. What it leaves are blobs named by their content, and then, in one save, the deployment with the message.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import pydantic
import pydantic_core
from pydantic import ConfigDict, Field

import indaco_tosca
from indaco_common.auth import Principal
from indaco_common.clock import Clock
from indaco_common.contracts.gateway import MAX_TEMPLATE_BYTES, DeploymentUpdateRequested
from indaco_common.envelope import Context
from indaco_common.errors import Conflict, Forbidden, Invalid, PayloadTooLarge, Unavailable
from indaco_common.ids import DeploymentId
from indaco_common.imports import PinnedImports
from indaco_common.secrets.port import Secrets
from indaco_common.store import Repository, Store
from indaco_tosca.update import Change

from .catalogue.served import ServiceCatalogue
from .identity.access import owner_of
from .model import updating
from .model.conflicts import WrongState
from .model.operation import Operation, Status
from .needs import nodes_of, parts_of, plan_of, warnings_of
from .races import rerun
from .submission import MAX_REQUEST_BYTES, NOT_KEPT, is_callback, keep, keep_inputs
from .webhooks.destinations import Destinations


class Revision(pydantic.BaseModel):
    """The body of PUT /deployments/{id}: as of POST, but that what is not given stays as it is; null: back to the default.

    Times, the number of tries and the group are those of the deployment, whatever is sent.
    """

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    template: Annotated[str, Field(max_length=MAX_TEMPLATE_BYTES)] | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    callback: Annotated[str, Field(max_length=2048)] | None = None
    keep_last_attempt: Annotated[bool | None, Field(alias="keepLastAttempt")] = None

    @pydantic.field_validator("template", "callback", "keep_last_attempt", mode="before")
    @classmethod
    def _given(cls, value: object) -> object:
        return None if value == "" else value

    @pydantic.field_validator("callback")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        return is_callback(value)


@dataclass(frozen=True, slots=True)
class _Running:
    """What a deployment runs with: its template, its open inputs, and the plan that follows with the secret ones."""

    template: str
    inputs: Mapping[str, Any]
    held: Mapping[str, Any]
    plan: indaco_tosca.Plan


class Revisions:
    """Accepts updates."""

    def __init__(
        self,
        operations: Repository[Operation],
        store: Store,
        secrets: Secrets,
        clock: Clock,
        imports: PinnedImports,
        catalogue: ServiceCatalogue,
        destinations: Destinations | None = None,
    ) -> None:
        """*destinations*: what a callback is checked against."""
        self._destinations = destinations
        self._operations, self._store, self._secrets = operations, store, secrets
        self._clock, self._imports, self._catalogue = clock, imports, catalogue

    async def accept(self, id: str, body: Revision, principal: Principal, ctx: Context) -> Operation:
        """Accept *body* for the deployment *id*; return it as it is then.

        Raises: WrongState, Locked; Invalid, with every problem of the template; UpdateRefused, with every change, for what is not
        offered; Forbidden, for secret inputs and the callback of somebody else; PayloadTooLarge; Unavailable. Nothing is done of what is refused.
        """
        if body.callback is not None and self._destinations is not None:
            self._destinations.check(body.callback, "/callback")

        async def once() -> Operation:
            seen = await self._operations.get(id)
            updating.require_updatable(seen)
            if body.callback not in (None, seen.callback) and seen.owner != owner_of(principal):
                # It would be told for as long as the deployment is there, signed with the owner's secret, whatever is unshared.
                raise Forbidden("Only the owner of the deployment can set its callback")
            revised = await self._prepare(seen, body, principal)
            if revised is None and body.callback in (None, seen.callback):
                return seen
            async with self._operations.edit(id, ctx) as current:
                if current.version != seen.version:  # what was compared with is no more
                    raise Conflict(f"deployment {id} has changed")
                if revised is None:
                    current.callback = body.callback
                else:
                    updating.ask(current, revised, body.callback, self._clock.now())
            return current

        return await rerun(once)

    async def _prepare(self, op: Operation, body: Revision, principal: Principal) -> updating.Revised | None:
        """Return what is to be saved; None if nothing changes in what runs well."""
        old = await self._running(op)
        text = old.template if body.template is None else self._catalogue.resolve(body.template, op.group.path)
        is_owner = op.owner == owner_of(principal)
        if op.secret_inputs and not is_owner and text != old.template:
            # Whether a value fits another template's constraints says what the value is, a guess at a time.
            raise Forbidden("Only the owner can replace the template of a deployment that has secret inputs")
        fresh = None if text == old.template else self._imports.closure()
        resolve = self._pinned(op) if text == old.template else fresh
        plan = await plan_of(text, body.parameters, resolve, kept={**old.inputs, **old.held})
        secrets = plan.secret_inputs | set(op.secret_inputs)
        if not is_owner and not secrets.isdisjoint(body.parameters):
            raise Forbidden("Only the owner of the deployment can send its secret inputs")
        change = updating.judged(op, old.plan, plan, old.inputs)
        inputs = _merged(old.inputs, body.parameters, plan)
        is_same = change.is_empty and (text, inputs) == (old.template, old.inputs)
        if is_same and op.status is not Status.UPDATE_FAILED:
            return None
        event = DeploymentUpdateRequested(
            deployment_id=DeploymentId(op.id), update=op.updates + 1, template=text, inputs=inputs, nodes=nodes_of(plan),
            secret_inputs=op.secret_inputs,
            imports=op.imports if text == old.template else (fresh.digests if fresh else {}),
        )  # fmt: skip
        return await self._kept(event, plan, change, keep_last=bool(body.keep_last_attempt))

    async def _kept(
        self, event: DeploymentUpdateRequested, plan: indaco_tosca.Plan, change: Change, *, keep_last: bool
    ) -> updating.Revised:
        """Put the blobs in their place. Raises: PayloadTooLarge."""
        if (size := len(pydantic_core.to_json(event))) > MAX_REQUEST_BYTES:
            raise PayloadTooLarge(f"The update takes {size} bytes on its way; at most {MAX_REQUEST_BYTES} are carried")
        return updating.Revised(
            event, template=await keep(self._store, event.template.encode()), inputs=await keep_inputs(self._store, event.inputs),
            types={node.name: node.type for node in plan.nodes}, parts=parts_of(plan),
            warnings=(*warnings_of(plan), *((NOT_KEPT,) if keep_last else ())), summary="; ".join(change.summary()),
        )  # fmt: skip

    async def _running(self, op: Operation) -> _Running:
        """Raises: Unavailable; WrongState, if what was accepted once is not any more."""
        template = (await self._blob(op.template)).decode()
        inputs = json.loads(await self._blob(op.inputs)) if op.inputs else {}
        held = await self._secrets.get(f"inputs/{op.id}") or {} if op.secret_inputs else {}
        try:
            plan = await plan_of(template, {**inputs, **held}, self._pinned(op))
        except Invalid as error:
            raise WrongState(f"What runs cannot be compared with: {error.detail}; create a new deployment") from None
        return _Running(template, inputs, held, plan)

    async def _blob(self, digest: str) -> bytes:
        body = await self._store.get_blob(digest)
        if body is None:
            raise Unavailable("The template or its inputs are not in the store")
        return body

    def _pinned(self, op: Operation) -> indaco_tosca.ImportResolver | None:
        """Return the texts with which the template was accepted, whatever was refreshed since."""
        digests = op.imports
        return (lambda url: self._imports.text(url, digests[url]) if url in digests else None) if digests else None


def _merged(before: Mapping[str, Any], given: Mapping[str, Any], plan: indaco_tosca.Plan) -> dict[str, Any]:
    """Return the open inputs of *plan*: those of before that it still declares, and those that are *given*; null takes one away."""
    declared = plan.template.inputs.keys() - plan.secret_inputs
    merged = {**before, **given}
    return {name: value for name, value in merged.items() if name in declared and value is not None}
