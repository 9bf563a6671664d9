"""The bodies of the INDIGO API as models: what is documented is what :mod:`.render` makes, and a test holds the two together."""

from typing import Any

import pydantic
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from indaco_gateway.model.operation import Status, Task

Date = str
"""``yyyy-MM-dd'T'HH:mm+0000``"""


class _Shape(pydantic.BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class IndigoLink(_Shape):
    rel: str
    href: str


class IndigoOwner(_Shape):
    issuer: str
    subject: str


class IndigoPageCounts(_Shape):
    size: int
    total_elements: int
    total_pages: int
    number: int


class IndigoEndpoint(_Shape):
    """Where it runs; empty until a place was chosen. ``iaasType`` is the same as ``deploymentType``, for those that read that."""

    cp_endpoint: str | None = None
    region: str | None = None
    cp_compute_service_id: str | None = None
    deployment_type: str | None = None
    iaas_type: str | None = None


class IndigoAttempt(_Shape):
    model_config = ConfigDict(alias_generator=None)

    attempt: int
    provider: str
    region: str
    started_at: str | None = None
    ended_at: str | None = None
    outcome: str
    reason: str


class IndigoPlacement(_Shape):
    """What was ranked, with its score, and what was refused, with the reason."""

    ranked: list[dict[str, Any]]
    refused: list[dict[str, Any]]


class IndigoDeployment(_Shape):
    """A deployment; what is not known is left out. The last six are ours, and unknown to INDIGO's clients."""

    uuid: str
    creation_time: Date
    update_time: Date
    physical_id: str | None = None
    status: Status
    status_reason: str | None = None
    outputs: dict[str, Any]
    task: Task
    callback: str | None = None
    user_group: str
    cloud_provider_name: str | None = None
    cloud_provider_endpoint: IndigoEndpoint
    created_by: IndigoOwner
    links: list[IndigoLink]
    name: str | None = None
    attempts: list[IndigoAttempt]
    placement: IndigoPlacement
    warnings: list[str] | None = None
    simulated: bool
    version: int


class IndigoResource(_Shape):
    """A machine, a container or a bucket. ``VirtualMachineInfo`` in *metadata* is a text of JSON."""

    uuid: str
    creation_time: Date
    update_time: Date
    physical_id: str | None = None
    state: str
    tosca_node_type: str
    tosca_node_name: str
    required_by: list[str]
    metadata: dict[str, str]
    links: list[IndigoLink]


class IndigoDeployments(_Shape):
    links: list[IndigoLink]
    content: list[IndigoDeployment]
    page: IndigoPageCounts


class IndigoResources(_Shape):
    links: list[IndigoLink]
    content: list[IndigoResource]
    page: IndigoPageCounts


class IndigoResourceArray(pydantic.RootModel[list[IndigoResource]]):
    """All that match, without pages."""


class IndigoTimeline(_Shape):
    content: list[dict[str, Any]]


class IndigoOutputs(pydantic.RootModel[dict[str, Any]]):
    """All outputs by name, secret ones too."""


class IndigoInfo(pydantic.BaseModel):
    build: dict[str, str]
    git: dict[str, Any] | None = None


class IndigoConfiguration(pydantic.RootModel[dict[str, str]]):
    """Addresses, as texts."""


# ── what is asked for


class _Query(pydantic.BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)


class ListQuery(_Query):
    """Of lists of deployments; unknown parameters, and numbers that make no sense, do not matter, as with INDIGO."""

    created_by: str | None = Field(None, description="`me`, or `<subject>@<issuer>`")
    user_group: str | None = None
    excluded_status: str | None = Field(
        None, description="States that are not listed, with commas; DELETE_COMPLETE if it is not given"
    )
    page: str | None = Field(None, description="From 0")
    size: str | None = Field(None, description="1 to 2000; 10 if it is not given")
    sort: list[str] | None = Field(None, description="`createdAt,desc`; the first decides")


class ResourcesQuery(_Query):
    type: str | None = Field(None, description="A TOSCA type, or one that it derives from")
    page: str | None = Field(None, description="From 0")
    size: str | None = Field(None, description="1 to 2000; 10 if it is not given")
    sort: list[str] | None = None


class TypeQuery(_Query):
    type: str = Field(description="A TOSCA type, or one that it derives from")


class DeleteQuery(_Query):
    force: str | None = Field(None, description="`true`: give up on what the provider does not let us remove")


class Reset(pydantic.BaseModel):
    """The body of PATCH /deployments/{id}."""

    status: str


class Action(pydantic.BaseModel):
    """The body of an action."""

    type: str | None = None
