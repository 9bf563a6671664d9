"""Messages and deadlines in; one deployment changed each."""

import hashlib
from collections.abc import Callable
from datetime import datetime

import structlog

from indaco_common.clock import Clock
from indaco_common.contracts import gateway, sla, vault
from indaco_common.envelope import Context
from indaco_common.errors import Conflict, IndacoError
from indaco_common.handling import handles, on_due
from indaco_common.imports import PinnedImports
from indaco_common.store import Repository, Store

from .model import power, turn
from .model.deployment import Deployment
from .model.values import Findings, Moment, Timing
from .turns import Turns, Uncertain

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)
RERUNS = 4  # of a second save that lost a race


class Deploying:
    """The life of deployments."""

    def __init__(
        self,
        deployments: Repository[Deployment],
        store: Store,
        imports: PinnedImports,
        turns: Turns,
        clock: Clock,
        timing: Timing,
        heard: Callable[[], datetime | None],
    ) -> None:
        """*heard* returns the time before which every message has been handled here."""
        self._deployments, self._store, self._imports, self._turns = deployments, store, imports, turns
        self._clock, self._timing, self._heard = clock, timing, heard

    def _moment(self) -> Moment:
        return Moment(self._clock.now(), self._timing, self._heard())

    @handles(gateway.DeploymentRequested)
    async def request(self, event: gateway.DeploymentRequested, ctx: Context) -> None:
        digest = await self._keep(event)
        async with self._deployments.upsert(event.deployment_id, ctx) as deployment:
            deployment.requested(event, digest, self._moment())

    @handles(gateway.DeploymentDeletionRequested)
    async def delete(self, event: gateway.DeploymentDeletionRequested, ctx: Context) -> None:
        async with self._deployments.upsert(event.deployment_id, ctx) as deployment:
            deployment.deletion_requested(event, self._moment())

    @handles(gateway.DeploymentUpdateRequested)
    async def update(self, event: gateway.DeploymentUpdateRequested, ctx: Context) -> None:
        digest = await self._keep(event)
        async with self._deployments.edit(event.deployment_id, ctx) as deployment:
            deployment.update_requested(event, digest, self._moment())

    @handles(gateway.DeploymentActionRequested)
    async def act(self, event: gateway.DeploymentActionRequested, ctx: Context) -> None:
        async with self._deployments.edit(event.deployment_id, ctx) as deployment:
            power.request(deployment, event, self._moment())

    @handles(sla.PlacementReserved)
    async def place(self, event: sla.PlacementReserved, ctx: Context) -> None:
        async with self._deployments.edit(event.deployment_id, ctx) as deployment:
            deployment.placed_at(event, self._moment())

    @handles(sla.PlacementRejected)
    async def reject(self, event: sla.PlacementRejected, ctx: Context) -> None:
        async with self._deployments.edit(event.deployment_id, ctx) as deployment:
            deployment.rejected(event, self._moment())

    @handles(sla.PlacementExpiring)
    async def answer_expiry(self, event: sla.PlacementExpiring, ctx: Context) -> None:
        async with self._deployments.edit(event.deployment_id, ctx) as deployment:
            deployment.expiring(event)

    @handles(vault.CredentialIssued)
    async def authorise(self, event: vault.CredentialIssued, ctx: Context) -> None:
        async with self._deployments.edit(event.deployment_id, ctx) as deployment:
            deployment.authorised(event, self._moment())

    @handles(vault.CredentialRefused)
    async def refuse(self, event: vault.CredentialRefused, ctx: Context) -> None:
        async with self._deployments.edit(event.deployment_id, ctx) as deployment:
            deployment.unauthorised(event, self._moment())

    @on_due(Deployment)
    async def step(self, id: str, ctx: Context) -> None:
        """Claim, call, save; a turn whose effects are uncertain saves nothing, and its claim lapses."""
        async with self._deployments.edit(id, ctx) as deployment:
            has_work = turn.claim(deployment, self._moment())
        if not has_work:
            return
        try:
            found = await self._turns.run(deployment, self._moment())
            await self._save(id, found, Context(correlation_id=id, traceparent=ctx.traceparent))
        except (Uncertain, TimeoutError, IndacoError) as error:
            log.warning("turn.abandoned", deployment_id=id, reason=str(error) or "timed out")

    async def _save(self, id: str, found: Findings, ctx: Context) -> None:
        """Fit what was found to the present state; after a lost race again, since it holds whatever has won."""
        for rerun in range(RERUNS + 1):
            try:
                async with self._deployments.edit(id, ctx) as current:
                    turn.apply(current, found, self._moment())
            except Conflict:
                if rerun == RERUNS:
                    raise
            else:
                return

    async def _keep(self, event: gateway.DeploymentRequested | gateway.DeploymentUpdateRequested) -> str:
        """Put the template and its imports where the aggregate can find them by their digests, before it names them.

        Raises: Unavailable, if the text of an import is not in this service's folder (yet).
        """
        for url, pinned in event.imports.items():
            if await self._store.get_blob(pinned) is None:
                await self._store.put_blob(pinned, self._imports.text(url, pinned))
        body = event.template.encode()
        digest = hashlib.sha256(body).hexdigest()
        await self._store.put_blob(digest, body)
        return digest
