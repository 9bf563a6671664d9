"""Events in; the read model follows."""

from indaco_common.clock import Clock
from indaco_common.contracts import orchestrator, sla, vault
from indaco_common.envelope import Context
from indaco_common.errors import AlreadyHandled
from indaco_common.handling import handles
from indaco_common.messages import Event
from indaco_common.store import Repository

from .model import views
from .model.agreement_view import AgreementView
from .model.keyring import KeyRing
from .model.operation import Operation
from .model.provider_view import ProviderView
from .model.usage_view import UsageView, is_computing, usage_id
from .webhooks.announcing import Announcements

SHOWN: tuple[type[Event], ...] = (
    sla.PlacementReserved,
    sla.PlacementRejected,
    orchestrator.AttemptStarted,
    orchestrator.AttemptFailed,
    orchestrator.AttemptCleaned,
    orchestrator.NodeStarted,
    orchestrator.NodeStopped,
    orchestrator.NodeResumed,
    orchestrator.NodeActionFailed,
    orchestrator.NodeRemoved,
    orchestrator.DeploymentRunning,
    orchestrator.DeploymentOutputsChanged,
    orchestrator.DeploymentUpdating,
    orchestrator.DeploymentUpdateFailed,
    orchestrator.DeploymentDegraded,
    orchestrator.DeploymentFailed,
    orchestrator.DeploymentDeleting,
    orchestrator.DeploymentDeleteFailed,
    orchestrator.DeploymentDeleted,
)


class Viewing:
    """What users see of deployments and keys."""

    def __init__(
        self,
        operations: Repository[Operation],
        keyrings: Repository[KeyRing],
        announcements: Announcements,
        clock: Clock,
    ) -> None:
        self._operations, self._keyrings, self._announcements, self._clock = operations, keyrings, announcements, clock

    @handles(*SHOWN)
    async def show(self, event: Event, ctx: Context) -> None:
        try:
            async with self._operations.edit(event.key, ctx) as operation:
                views.apply(
                    operation, event, source=ctx.source, sequence=ctx.sequence, at=ctx.time or self._clock.now()
                )
        except AlreadyHandled:  # but whether those who listen were told is not known
            operation = await self._operations.get(event.key)
        await self._announcements.announce(operation, ctx)

    @handles(vault.KeyCreated)
    async def show_key(self, event: vault.KeyCreated, ctx: Context) -> None:
        async with self._keyrings.edit(event.user_id, ctx) as keyring:
            keyring.created(event, ctx.sequence, ctx.time or self._clock.now())


class Federation:
    """What callers see of providers, agreements and quotas."""

    def __init__(self, providers: Repository[ProviderView], agreements: Repository[AgreementView]) -> None:
        self._providers, self._agreements = providers, agreements

    @handles(sla.ProviderRegistered)
    async def show_provider(self, event: sla.ProviderRegistered, ctx: Context) -> None:
        async with self._providers.upsert(event.provider_id, ctx) as provider:
            provider.registered(event, ctx.sequence)

    @handles(sla.AgreementSigned)
    async def show_agreement(self, event: sla.AgreementSigned, ctx: Context) -> None:
        async with self._agreements.upsert(event.agreement_id, ctx) as agreement:
            agreement.signed(event, ctx.sequence)

    @handles(sla.QuotaChanged)
    async def show_quota(self, event: sla.QuotaChanged, ctx: Context) -> None:
        async with self._agreements.upsert(event.ledger_id, ctx) as agreement:
            agreement.stands(event)


class Usage:
    """What callers see of what was used: as accounting keeps it, by the same events."""

    def __init__(self, records: Repository[UsageView]) -> None:
        self._records = records

    @handles(orchestrator.NodeStarted, orchestrator.NodeRemoved)
    async def record(self, event: orchestrator.NodeStarted | orchestrator.NodeRemoved, ctx: Context) -> None:
        if not is_computing(event):
            return
        async with self._records.upsert(usage_id(event), ctx) as record:
            match event:
                case orchestrator.NodeStarted():
                    record.started(event)
                case orchestrator.NodeRemoved():
                    record.removed(event)
