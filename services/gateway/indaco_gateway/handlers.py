"""Events in; the read model follows."""

from indaco_common.clock import Clock
from indaco_common.contracts import orchestrator, sla, vault
from indaco_common.envelope import Context
from indaco_common.handling import handles
from indaco_common.messages import Event
from indaco_common.store import Repository

from .model import views
from .model.keyring import KeyRing
from .model.operation import Operation

SHOWN: tuple[type[Event], ...] = (
    sla.PlacementReserved,
    sla.PlacementRejected,
    orchestrator.AttemptStarted,
    orchestrator.AttemptFailed,
    orchestrator.AttemptCleaned,
    orchestrator.NodeStarted,
    orchestrator.NodeRemoved,
    orchestrator.DeploymentRunning,
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

    def __init__(self, operations: Repository[Operation], keyrings: Repository[KeyRing], clock: Clock) -> None:
        self._operations, self._keyrings, self._clock = operations, keyrings, clock

    @handles(*SHOWN)
    async def show(self, event: Event, ctx: Context) -> None:
        async with self._operations.edit(event.key, ctx) as operation:
            views.apply(operation, event, source=ctx.source, sequence=ctx.sequence, at=ctx.time or self._clock.now())

    @handles(vault.KeyCreated)
    async def show_key(self, event: vault.KeyCreated, ctx: Context) -> None:
        async with self._keyrings.edit(event.user_id, ctx) as keyring:
            keyring.created(event, ctx.sequence, ctx.time or self._clock.now())
