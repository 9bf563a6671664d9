"""What the orchestrator says: the life of a deployment."""

from typing import Annotated, Any

import pydantic
from pydantic import AwareDatetime

from indaco_common.ids import DeploymentId, ReservationId
from indaco_common.messages import Event
from indaco_common.units import ResourceVector

from .values import Attempt, Failure, Group, NodeName, Owner, Place, Slot

# ── attempts


class AttemptStarted(Event, type="orchestrator.attempt.started.v1"):
    """The attempt has its credential and begins to build."""

    deployment_id: DeploymentId
    attempt: Attempt
    place: Place


class AttemptAlive(Event, type="orchestrator.attempt.alive.v1"):
    """Still building: its holds are to be renewed."""

    deployment_id: DeploymentId
    attempt: Attempt


class AttemptFailed(Event, type="orchestrator.attempt.failed.v1"):
    """The place is given up; *clean* where nothing can be left there. Otherwise ``attempt.cleaned`` follows."""

    deployment_id: DeploymentId
    attempt: Attempt
    place: Place
    reason: Failure
    clean: bool


class AttemptCleaned(Event, type="orchestrator.attempt.cleaned.v1"):
    """Nothing is left of the attempt (or of one *slot* of it) at its place."""

    deployment_id: DeploymentId
    attempt: Attempt
    slot: Slot | None = None


# ── reservations


class ReservationRequested(Event, type="orchestrator.reservation.requested.v1"):
    """The growth of an update needs quota at the place where the attempt runs."""

    deployment_id: DeploymentId
    attempt: Attempt
    slot: Slot
    nodes: Annotated[dict[NodeName, ResourceVector], pydantic.Field(min_length=1)]


class _ReservationAnswer(Event):
    """Names the agreement, since the reservation's id is the same at every offer."""

    deployment_id: DeploymentId
    reservation_id: ReservationId
    attempt: Attempt
    slot: Slot
    agreement: str


class ReservationKept(_ReservationAnswer, type="orchestrator.reservation.kept.v1"):
    pass


class ReservationReturned(_ReservationAnswer, type="orchestrator.reservation.returned.v1"):
    pass


# ── deployments


class DeploymentRunning(Event, type="orchestrator.deployment.running.v1"):
    """Every node runs. ``outputs`` hold no secrets: those of ``secret_outputs`` lie in the vault at ``outputs/<deployment>``."""

    deployment_id: DeploymentId
    attempt: Attempt
    slots: tuple[Slot, ...]
    nodes: tuple[NodeName, ...]
    outputs: dict[str, Any] = pydantic.Field(default_factory=dict)
    secret_outputs: tuple[str, ...] = ()


class DeploymentUpdating(Event, type="orchestrator.deployment.updating.v1"):
    deployment_id: DeploymentId
    update: int


class DeploymentUpdateFailed(Event, type="orchestrator.deployment.update-failed.v1"):
    """The update is given up; what ran before runs on."""

    deployment_id: DeploymentId
    update: int
    reason: Failure


class DeploymentOutputsChanged(Event, type="orchestrator.deployment.outputs-changed.v1"):
    """Machines came back at other addresses or ports: these outputs replace those of ``running``."""

    deployment_id: DeploymentId
    attempt: Attempt
    outputs: dict[str, Any] = pydantic.Field(default_factory=dict)
    secret_outputs: tuple[str, ...] = ()


class DeploymentDegraded(Event, type="orchestrator.deployment.degraded.v1"):
    """These nodes are gone without anybody having asked."""

    deployment_id: DeploymentId
    attempt: Attempt
    nodes: tuple[NodeName, ...]


class DeploymentFailed(Event, type="orchestrator.deployment.failed.v1"):
    """No further attempt is made. Frees nothing: each hold ends by its own message."""

    deployment_id: DeploymentId
    reason: Failure


class DeploymentDeleting(Event, type="orchestrator.deployment.deleting.v1"):
    deployment_id: DeploymentId


class DeploymentDeleteFailed(Event, type="orchestrator.deployment.delete-failed.v1"):
    """Something resists removal; it is tried again for ever."""

    deployment_id: DeploymentId
    reason: Failure


class DeploymentDeleted(Event, type="orchestrator.deployment.deleted.v1"):
    """Nothing is left anywhere. *debris*: what ``force`` gave up on, for the operator."""

    deployment_id: DeploymentId
    debris: tuple[str, ...] = ()


# ── nodes


class _NodeEvent(Event):
    """*owner*, *group*, *place*, *needs*: what accounting must know, whichever of the two comes first."""

    deployment_id: DeploymentId
    attempt: Attempt
    node: NodeName
    owner: Owner
    group: Group
    place: Place
    needs: ResourceVector
    resource_id: str = ""
    image: str = ""
    started_at: AwareDatetime


class NodeStarted(_NodeEvent, type="orchestrator.node.started.v1"):
    public_address: str = ""


class NodeStopped(_NodeEvent, type="orchestrator.node.stopped.v1"):
    """It stands still, and keeps its place, quota and disks; whether somebody asked for that or not.

    ``run`` counts the times that it ran, from 1: this one is over. ``number`` is that of the newest action heard of it; 0: none.
    """

    run: Annotated[int, pydantic.Field(ge=1)]
    number: Annotated[int, pydantic.Field(ge=0)] = 0
    stopped_at: AwareDatetime


class NodeResumed(_NodeEvent, type="orchestrator.node.resumed.v1"):
    """It runs again, maybe at another address: ``run`` has begun."""

    run: Annotated[int, pydantic.Field(ge=2)]
    number: Annotated[int, pydantic.Field(ge=0)] = 0
    resumed_at: AwareDatetime
    public_address: str = ""


class NodeActionFailed(Event, type="orchestrator.node.action-failed.v1"):
    """The action ``number`` on it, and all before, are given up; the machine is as it was."""

    deployment_id: DeploymentId
    attempt: Attempt
    node: NodeName
    number: Annotated[int, pydantic.Field(ge=1)]
    reason: Failure


class NodeRemoved(_NodeEvent, type="orchestrator.node.removed.v1"):
    stopped_at: AwareDatetime


class UsageSampled(_NodeEvent, type="orchestrator.usage.sampled.v1"):
    """Cumulative figures of a running node at *sampled_at*."""

    sampled_at: AwareDatetime
    cpu_s: float = 0.0
    network_in_bytes: int = 0
    network_out_bytes: int = 0
