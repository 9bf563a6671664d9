"""What the gateway says: requests of users, authenticated, authorised and validated."""

from typing import Annotated, Any, Literal

import pydantic
from pydantic import AwareDatetime

from indaco_common.ids import DeploymentId
from indaco_common.messages import Event

from .values import Group, NodeName, NodeNeeds, Owner, Policy

MAX_TEMPLATE_BYTES = 256 * 1024
MAX_NODES = 200  # that one message names
Template = Annotated[str, pydantic.StringConstraints(max_length=MAX_TEMPLATE_BYTES)]
Nodes = Annotated[dict[NodeName, NodeNeeds], pydantic.Field(min_length=1, max_length=MAX_NODES)]

Sha256 = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ImportUrl = Annotated[str, pydantic.StringConstraints(max_length=2048)]
Imports = Annotated[dict[ImportUrl, Sha256], pydantic.Field(max_length=20)]


class DeploymentRequested(Event, type="gateway.deployment.requested.v1"):
    """A user wants this template deployed. Values of ``secret_inputs`` lie in the vault at ``inputs/<deployment>``.

    ``imports`` names the pinned texts with which the template was planned.
    """

    deployment_id: DeploymentId
    owner: Owner
    group: Group
    template: Template
    inputs: dict[str, Any]
    secret_inputs: tuple[str, ...] = ()
    nodes: Nodes
    policy: Policy = Policy()
    ssh_keys: tuple[str, ...] = ()
    imports: Imports = pydantic.Field(default_factory=dict)
    max_attempts: Annotated[int, pydantic.Field(ge=1, le=255)] = 255
    timeout_s: float | None = None
    attempt_timeout_s: float | None = None


class PlanRequested(Event, type="gateway.plan.requested.v1", subject="inquiry"):
    """A user wants to know where this would go, and nothing to be done. Nobody waits for the answer after ``expires_at``."""

    inquiry_id: str
    owner: Owner
    group: Group
    nodes: Nodes
    policy: Policy = Policy()
    expires_at: AwareDatetime


class DeploymentUpdateRequested(Event, type="gateway.deployment.update-requested.v1"):
    """A user wants the deployment to follow another template or inputs; ``update`` counts them, from 1."""

    deployment_id: DeploymentId
    update: Annotated[int, pydantic.Field(ge=1)]
    template: Template
    inputs: dict[str, Any]
    secret_inputs: tuple[str, ...] = ()
    nodes: Nodes
    imports: Imports = pydantic.Field(default_factory=dict)


class DeploymentDeletionRequested(Event, type="gateway.deployment.deletion-requested.v1"):
    """A user wants the deployment gone; *force* gives up on what the site does not let us remove, and lists it."""

    deployment_id: DeploymentId
    force: bool = False


PowerAction = Literal["start", "stop"]


class DeploymentActionRequested(Event, type="gateway.deployment.action-requested.v1"):
    """A user wants machines started or stopped. ``number`` counts a deployment's actions, from 1: about one machine the highest counts."""

    deployment_id: DeploymentId
    number: Annotated[int, pydantic.Field(ge=1)]
    action: PowerAction
    nodes: Annotated[tuple[NodeName, ...], pydantic.Field(min_length=1, max_length=MAX_NODES)]
