"""What the gateway knows of an agreement, and of how its quota stands: what sla said of either last."""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from pydantic import AwareDatetime

from indaco_common.contracts import sla
from indaco_common.contracts.values import Group
from indaco_common.messages import Value
from indaco_common.store import Aggregate
from indaco_common.units import ResourceVector

from .labels import line, lines


class AgreementState(StrEnum):
    """Only a ``valid`` one gives anything; which it is depends on the hour, and on whether it is suspended."""

    UPCOMING = "upcoming"
    VALID = "valid"
    EXPIRED = "expired"
    SUSPENDED = "suspended"


class Quota(Value):
    """How the agreement's ledger stood at ``as_of``: ``used`` by what runs, ``held`` for what is being built."""

    revision: int
    limits: ResourceVector
    used: ResourceVector
    held: ResourceVector
    as_of: AwareDatetime


class AgreementView(Aggregate):
    """One per agreement, with its id. Either of its halves may come first; without the group it is nobody's to see."""

    KIND: ClassVar[str] = "agreement-view"
    INDEX: ClassVar[tuple[str, ...]] = ("group.issuer", "group.path", "provider", "audience")

    group: Group | None = None
    provider: str = ""
    region: str = ""
    project: str = ""
    limits: ResourceVector = ResourceVector()
    user_limits: ResourceVector | None = None
    suspended: bool = False
    valid_from: AwareDatetime | None = None
    valid_to: AwareDatetime | None = None
    audience: str = ""
    said: str = ""  # the sequence of the message that said so
    quota: Quota | None = None

    def signed(self, event: sla.AgreementSigned, sequence: str) -> None:
        """Take what is newest, whatever the order in which it comes."""
        if sequence <= self.said:
            return
        self.said = sequence
        self.group, self.provider, self.region, self.project = event.group, event.provider, event.region, event.project
        self.limits, self.user_limits, self.suspended = event.limits, event.user_limits, event.suspended
        self.valid_from, self.valid_to = event.valid_from, event.valid_to
        self.audience = lines([_members(event.group.path), *map(_administrators, _above(event.group.path))])

    def stands(self, event: sla.QuotaChanged) -> None:
        """Take the newest revision of the ledger."""
        if self.quota is None or event.revision > self.quota.revision:
            self.quota = Quota(
                revision=event.revision, limits=event.limits, used=event.used, held=event.held, as_of=event.as_of
            )

    def state(self, now: datetime) -> AgreementState:
        if self.suspended:
            return AgreementState.SUSPENDED
        if self.valid_from is not None and now < self.valid_from:
            return AgreementState.UPCOMING
        if self.valid_to is not None and now >= self.valid_to:
            return AgreementState.EXPIRED
        return AgreementState.VALID


def audience_of(groups: Iterable[str], administered: Iterable[str]) -> list[str]:
    """Return the lines of which an ``audience`` has one, if members of *groups* who administer others may see the agreement."""
    return [*(line(_members(group)) for group in groups), *(line(_administrators(group)) for group in administered)]


def _members(group: str) -> str:
    return f"={group}"


def _administrators(group: str) -> str:
    return f"<{group}"


def _above(group: str) -> list[str]:
    """Return the group, and those that it lies below."""
    parts = group.split("/")
    return ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
