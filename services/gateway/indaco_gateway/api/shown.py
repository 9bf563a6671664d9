"""Deployments as /v1 shows them. Outputs are not among it: they are their owner's alone."""

from typing import Any

import pydantic
from pydantic import AwareDatetime

from indaco_common.contracts.values import Group, Owner, Place, Ranked, Reason
from indaco_gateway.model.labels import Share
from indaco_gateway.model.operation import Attempt, Facts, Status, Step, Task
from indaco_gateway.model.resources import Resource


class DeploymentSummary(pydantic.BaseModel):
    """A deployment as lists have it. *lock_reason* is there if it is locked; *shares*: path of a group → what its members may."""

    id: str
    name: str
    tags: dict[str, str]
    status: Status
    status_reason: str
    task: Task
    owner: Owner
    group: str
    provider: str | None
    region: str | None
    simulated: bool
    lock_reason: str | None
    shares: dict[str, Share]
    created_at: AwareDatetime
    updated_at: AwareDatetime


class Deployment(DeploymentSummary):
    """A deployment with what was tried: attempts, the places that fit and those that were refused, each with its reasons."""

    attempts: list[Attempt]
    ranked: tuple[Ranked, ...]
    refused: tuple[Reason, ...]
    warnings: tuple[str, ...]
    secret_inputs: tuple[str, ...]
    secret_outputs: tuple[str, ...]


class DeploymentPage(pydantic.BaseModel):
    """A page of a list; *next* is the address of the next one, if there is more."""

    content: list[DeploymentSummary]
    next: str | None


class Timeline(pydantic.BaseModel):
    """Steps, oldest first. *is_over*: nothing will follow what was there at this moment; *last* is the number of the newest step there is."""

    content: list[Step]
    last: int
    is_over: bool
    next: str | None


class Outputs(pydantic.BaseModel):
    """The outputs; *secret* names those that are secrets, whose values are here too."""

    content: dict[str, Any]
    secret: tuple[str, ...]


class ResourceShown(pydantic.BaseModel):
    """A machine, a container or a bucket of a deployment. *failure*: why a machine is not what it was asked to be last."""

    id: str
    node: str
    type: str
    state: str
    physical_id: str
    public_address: str
    created_at: AwareDatetime | None
    updated_at: AwareDatetime | None
    failure: str | None


class ResourceList(pydantic.BaseModel):
    """All resources of a deployment, in the order of the template: 200 at most by its template, and what it grew on."""

    content: list[ResourceShown]


class Listed(pydantic.BaseModel):
    """What a list reads of each deployment: as in :class:`Facts`, without attempts and reasons, which may be large."""

    id: str
    name: str = ""
    tags: dict[str, str] = pydantic.Field(default_factory=dict)
    status: Status
    reason: str = ""
    task: Task
    owner: Owner
    group: Group
    place: Place | None = None
    locked: str = ""
    shares: dict[str, Share] = pydantic.Field(default_factory=dict)
    created_at: AwareDatetime
    updated_at: AwareDatetime

    @property
    def provider(self) -> str | None:
        return self.place.provider if self.place else None


def summary(op: Facts | Listed) -> DeploymentSummary:
    return DeploymentSummary(**_summary(op))


def deployment(op: Facts) -> Deployment:
    return Deployment(
        **_summary(op), attempts=op.attempts, ranked=op.ranked, refused=op.refused, warnings=op.warnings,
        secret_inputs=op.secret_inputs, secret_outputs=op.secret_outputs,
    )  # fmt: skip


def resource(machine: Resource) -> ResourceShown:
    return ResourceShown(
        id=machine.uuid, node=machine.node, type=machine.type, state=machine.state, physical_id=machine.physical_id,
        public_address=machine.public_address, created_at=machine.created_at, updated_at=machine.updated_at,
        failure=machine.failure or None,
    )  # fmt: skip


def _summary(op: Facts | Listed) -> dict[str, Any]:
    return {
        "id": op.id, "name": op.name, "tags": op.tags, "status": op.status, "status_reason": op.reason, "task": op.task,
        "owner": op.owner, "group": op.group.path, "provider": op.provider, "region": op.place.region if op.place else None,
        "simulated": bool(op.place and op.place.simulated),
        "lock_reason": op.locked or None, "shares": op.shares, "created_at": op.created_at, "updated_at": op.updated_at,
    }  # fmt: skip
