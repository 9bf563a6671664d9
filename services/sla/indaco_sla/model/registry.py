"""Providers and agreements: who has what, and who may use how much of it, from when until when."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, ClassVar

import pydantic
from pydantic import AwareDatetime

from indaco_common.contracts import sla
from indaco_common.contracts.values import Group, NodeKind, Slug
from indaco_common.messages import Value
from indaco_common.store import Aggregate
from indaco_common.units import ResourceVector

HALF_LIFE = timedelta(minutes=10)  # of the memory that a provider failed


class ProviderState(StrEnum):
    """Only ``active`` and ``degraded`` providers are candidates."""

    ACTIVE = "active"
    DEGRADED = "degraded"
    MAINTENANCE = "maintenance"
    SUSPENDED = "suspended"
    DEPRECATED = "deprecated"
    REMOVED = "removed"


class Flavor(Value):
    """A size that a site offers; what is not named here it does not have."""

    name: str
    vcpus: Annotated[int, pydantic.Field(ge=0)]
    memory_mib: Annotated[int, pydantic.Field(ge=0)]
    disk_gib: Annotated[int, pydantic.Field(ge=0)] = 0
    gpus: Annotated[int, pydantic.Field(ge=0)] = 0
    gpu_model: str = ""


class SiteImage(Value):
    """An image that a site offers: ``name`` is what its driver understands."""

    name: str
    architecture: str = "x86_64"
    type: str = "linux"
    distribution: str
    version: str


class ProviderRecord(Value):
    """What is known of a provider; without flavors any size is made as asked, without images any image is taken.

    ``provides`` names what can be had there: machines, containers, buckets of object storage.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    id: Slug
    kind: Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
    endpoint: str = ""
    regions: Annotated[tuple[str, ...], pydantic.Field(min_length=1)] = ("default",)
    state: ProviderState = ProviderState.ACTIVE
    simulated: bool = False
    provides: tuple[NodeKind, ...] = ("machine",)
    flavors: tuple[Flavor, ...] = ()
    images: tuple[SiteImage, ...] = ()


class AgreementRecord(Value):
    """What a group may use at one provider. What ``limits`` does not name is not granted."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    id: Slug
    group: Group
    provider: Slug
    region: str = "default"
    project: str
    limits: ResourceVector
    user_limits: ResourceVector | None = None
    weight: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.5
    suspended: bool = False
    valid_from: AwareDatetime
    valid_to: AwareDatetime

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> "AgreementRecord":
        if self.valid_from >= self.valid_to:
            raise ValueError("valid_from must be before valid_to")
        return self


class Provider(Aggregate):
    KIND: ClassVar[str] = "provider"

    record: ProviderRecord | None = None
    failures: float = 0.0  # attempts that failed there, fading
    failures_at: AwareDatetime | None = None

    def register(self, record: ProviderRecord) -> None:
        """Take *record* as what is known; the same again is nothing."""
        if record == self.record:
            return
        self.record = record
        self.emit(
            sla.ProviderRegistered(
                provider_id=record.id, kind=record.kind, state=record.state, regions=record.regions,
                simulated=record.simulated,
            )
        )  # fmt: skip

    def attempt_failed(self, now: datetime) -> None:
        self.failures, self.failures_at = self.recent_failures(now) + 1, now

    def recent_failures(self, now: datetime) -> float:
        if self.failures_at is None:
            return 0.0
        return float(self.failures * 0.5 ** ((now - self.failures_at) / HALF_LIFE))


class Agreement(Aggregate):
    KIND: ClassVar[str] = "agreement"

    record: AgreementRecord | None = None

    def sign(self, record: AgreementRecord) -> None:
        """Take *record* as agreed; the same again is nothing."""
        if record == self.record:
            return
        self.record = record
        self.emit(
            sla.AgreementSigned(
                agreement_id=record.id, group=record.group, provider=record.provider, region=record.region,
                project=record.project, limits=record.limits, valid_from=record.valid_from, valid_to=record.valid_to,
                user_limits=record.user_limits, suspended=record.suspended,
            )
        )  # fmt: skip
