"""What sla says: places chosen, quota held, and why not elsewhere."""

from typing import Annotated

import pydantic
from pydantic import AwareDatetime

from indaco_common.ids import DeploymentId, ReservationId
from indaco_common.messages import Command, Event
from indaco_common.units import ResourceVector

from .values import Attempt, Group, NodeName, Owner, Place, PlacedNode, Proposed, Ranked, Reason, Slot

# ── Placement to the orchestrator and the gateway's view


class PlacementReserved(Event, type="sla.placement.reserved.v1"):
    """Quota is held at *place* for this attempt and slot; the orchestrator may build there."""

    deployment_id: DeploymentId
    attempt: Attempt
    slot: Slot
    reservation_id: ReservationId
    place: Place
    nodes: dict[NodeName, PlacedNode]
    expires_at: AwareDatetime
    ranked: tuple[Ranked, ...] = ()
    refused: tuple[Reason, ...] = ()


class PlacementRejected(Event, type="sla.placement.rejected.v1"):
    """No place is left for this attempt and slot: every reason."""

    deployment_id: DeploymentId
    attempt: Attempt
    slot: Slot
    reasons: tuple[Reason, ...] = ()


class PlacementExpiring(Event, type="sla.placement.expiring.v1"):
    """A hold is past its time: is it still in use? The answer is ``reservation.kept`` or ``.returned``."""

    deployment_id: DeploymentId
    attempt: Attempt
    slot: Slot
    reservation_id: ReservationId
    agreement: str


class PlacementProposed(Event, type="sla.placement.proposed.v1", subject="inquiry"):
    """Where an inquiry's machines would go, best first, and why not elsewhere, as of ``at``; nothing is held.

    The lists are cut at 50 and 100; ``ranked_total`` and ``refused_total`` count all.
    """

    inquiry_id: str
    ranked: tuple[Proposed, ...] = ()
    refused: tuple[Reason, ...] = ()
    ranked_total: int = 0
    refused_total: int = 0
    at: AwareDatetime


# ── Placement to Ledger and back


class QuotaReserve(Command, type="sla.quota.reserve.v1", subject="ledger"):
    """Hold this for an attempt's slot, or say what is missing."""

    ledger_id: str
    reservation_id: ReservationId
    deployment_id: DeploymentId
    attempt: Attempt
    slot: Slot
    owner: Owner
    nodes: Annotated[dict[NodeName, ResourceVector], pydantic.Field(min_length=1)]


class QuotaRenew(Command, type="sla.quota.renew.v1", subject="ledger"):
    ledger_id: str
    reservation_id: ReservationId


class QuotaConfirm(Command, type="sla.quota.confirm.v1", subject="ledger"):
    """What was held is in use now, without end."""

    ledger_id: str
    reservation_id: ReservationId


class QuotaRelease(Command, type="sla.quota.release.v1", subject="ledger"):
    """Free a reservation, or only the *nodes* of it that are gone."""

    ledger_id: str
    reservation_id: ReservationId
    nodes: tuple[NodeName, ...] | None = None


class _QuotaAnswer(Event):
    """Names its ledger: the reservation's id is the same at every offer."""

    ledger_id: str
    reservation_id: ReservationId
    deployment_id: DeploymentId
    attempt: Attempt
    slot: Slot


class QuotaReserved(_QuotaAnswer, type="sla.quota.reserved.v1", subject="ledger"):
    expires_at: AwareDatetime


class QuotaRefused(_QuotaAnswer, type="sla.quota.refused.v1", subject="ledger"):
    reasons: tuple[Reason, ...] = ()


class QuotaExpiring(_QuotaAnswer, type="sla.quota.expiring.v1", subject="ledger"):
    pass


# ── registry


class ProviderRegistered(Event, type="sla.provider.registered.v1", subject="provider"):
    """A provider is known, or known anew, in this state."""

    provider_id: str
    kind: str
    state: str
    regions: tuple[str, ...]
    simulated: bool = False


class AgreementSigned(Event, type="sla.agreement.signed.v1", subject="agreement"):
    """A group may use this much at a provider, and each of its users so much of that, from and until these instants; nothing while suspended."""

    agreement_id: str
    group: Group
    provider: str
    region: str
    project: str
    limits: ResourceVector
    valid_from: AwareDatetime
    valid_to: AwareDatetime
    user_limits: ResourceVector | None = None
    suspended: bool = False


class QuotaChanged(Event, type="sla.quota.changed.v1", subject="ledger"):
    """How a ledger, which has the id of its agreement, stands as of ``as_of``: told some seconds after a change, not for each one.

    ``used`` is by what runs, ``held`` for what is being built. Of two that differ the one with the greater ``revision`` counts.
    """

    ledger_id: str
    revision: Annotated[int, pydantic.Field(ge=1)]
    provider: str
    region: str
    limits: ResourceVector
    used: ResourceVector = ResourceVector()
    held: ResourceVector = ResourceVector()
    as_of: AwareDatetime
