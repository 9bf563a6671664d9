"""Messages and deadlines in; one placement, ledger or provider changed each."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import structlog

from indaco_common.clock import Clock
from indaco_common.contracts import gateway, orchestrator, sla
from indaco_common.envelope import Context
from indaco_common.errors import AlreadyHandled, Conflict, NotFound
from indaco_common.handling import handles, on_due
from indaco_common.store import Aggregate, Repository

from .federation import Federation
from .matching import match
from .model.ledger import Ledger
from .model.placement import Placement
from .model.registry import Agreement, Provider
from .offers import Offers, every

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)
A = TypeVar("A", bound=Aggregate)
NOT_ITS_FAULT = {"spec-rejected", "timeout"}  # what the template asks for, or how long its owner would wait
LISTED = 20  # ids in one line of the log


class Placing:
    """One Placement per deployment remembers the choice; ``failed`` and ``deleted`` may come before its request."""

    def __init__(self, placements: Repository[Placement], offers: Offers, clock: Clock) -> None:
        self._placements, self._offers, self._clock = placements, offers, clock

    @handles(gateway.DeploymentRequested)
    async def choose(self, event: gateway.DeploymentRequested, ctx: Context) -> None:
        found = match(event, await self._offers.of(event.group), self._clock.now())
        async with self._placements.upsert(event.deployment_id, ctx) as placement:
            placement.requested(event, found)

    @handles(orchestrator.AttemptFailed)
    async def choose_again(self, event: orchestrator.AttemptFailed, ctx: Context) -> None:
        async with self._placements.edit(event.deployment_id, ctx) as placement:
            placement.attempt_failed(event)

    @handles(orchestrator.ReservationRequested)
    async def grow(self, event: orchestrator.ReservationRequested, ctx: Context) -> None:
        async with self._placements.edit(event.deployment_id, ctx) as placement:
            placement.growth_requested(event)

    @handles(sla.QuotaReserved)
    async def name(self, event: sla.QuotaReserved, ctx: Context) -> None:
        async with self._placements.edit(event.deployment_id, ctx) as placement:
            placement.quota_reserved(event)

    @handles(sla.QuotaRefused)
    async def try_next(self, event: sla.QuotaRefused, ctx: Context) -> None:
        async with self._placements.edit(event.deployment_id, ctx) as placement:
            placement.quota_refused(event)

    @handles(sla.QuotaExpiring)
    async def ask_about(self, event: sla.QuotaExpiring, ctx: Context) -> None:
        async with self._placements.edit(event.deployment_id, ctx) as placement:
            placement.quota_expiring(event)

    @handles(orchestrator.ReservationKept)
    async def keep(self, event: orchestrator.ReservationKept, ctx: Context) -> None:
        async with self._placements.edit(event.deployment_id, ctx) as placement:
            placement.kept(event)

    @handles(orchestrator.ReservationReturned)
    async def take_back(self, event: orchestrator.ReservationReturned, ctx: Context) -> None:
        async with self._placements.edit(event.deployment_id, ctx) as placement:
            placement.returned(event)

    @handles(orchestrator.AttemptAlive)
    async def renew(self, event: orchestrator.AttemptAlive, ctx: Context) -> None:
        async with self._placements.edit(event.deployment_id, ctx) as placement:
            placement.alive(event)

    @handles(orchestrator.AttemptCleaned)
    async def free(self, event: orchestrator.AttemptCleaned, ctx: Context) -> None:
        async with self._placements.edit(event.deployment_id, ctx) as placement:
            placement.cleaned(event)

    @handles(orchestrator.DeploymentRunning)
    async def confirm(self, event: orchestrator.DeploymentRunning, ctx: Context) -> None:
        async with self._placements.edit(event.deployment_id, ctx) as placement:
            placement.running(event)

    @handles(orchestrator.DeploymentDegraded)
    async def free_lost(self, event: orchestrator.DeploymentDegraded, ctx: Context) -> None:
        async with self._placements.edit(event.deployment_id, ctx) as placement:
            placement.degraded(event)

    @handles(orchestrator.DeploymentFailed)
    async def close(self, event: orchestrator.DeploymentFailed, ctx: Context) -> None:
        async with self._placements.upsert(event.deployment_id, ctx) as placement:
            placement.failed()

    @handles(orchestrator.DeploymentDeleted)
    async def end(self, event: orchestrator.DeploymentDeleted, ctx: Context) -> None:
        async with self._placements.upsert(event.deployment_id, ctx) as placement:
            placement.deleted()


class Ledgers:
    """The accounts; commands of sla to itself, so that each message changes one aggregate."""

    def __init__(self, ledgers: Repository[Ledger], clock: Clock) -> None:
        self._ledgers, self._clock = ledgers, clock

    @handles(sla.QuotaReserve)
    async def reserve(self, command: sla.QuotaReserve, ctx: Context) -> None:
        async with self._ledgers.edit(command.ledger_id, ctx) as ledger:
            ledger.reserve(command, self._clock.now())

    @handles(sla.QuotaRenew)
    async def renew(self, command: sla.QuotaRenew, ctx: Context) -> None:
        async with self._ledgers.edit(command.ledger_id, ctx) as ledger:
            ledger.renew(command.reservation_id, self._clock.now())

    @handles(sla.QuotaConfirm)
    async def confirm(self, command: sla.QuotaConfirm, ctx: Context) -> None:
        async with self._ledgers.edit(command.ledger_id, ctx) as ledger:
            ledger.confirm(command.reservation_id, self._clock.now())

    @handles(sla.QuotaRelease)
    async def release(self, command: sla.QuotaRelease, ctx: Context) -> None:
        async with self._ledgers.edit(command.ledger_id, ctx) as ledger:
            ledger.release(command, self._clock.now())

    @on_due(Ledger)
    async def expire(self, id: str, ctx: Context) -> None:
        async with self._ledgers.edit(id, ctx) as ledger:
            ledger.expire(self._clock.now())


class Registering:
    """Providers and agreements: what the federation file says, and how providers do."""

    def __init__(
        self,
        providers: Repository[Provider],
        agreements: Repository[Agreement],
        ledgers: Repository[Ledger],
        clock: Clock,
    ) -> None:
        self._providers, self._agreements, self._ledgers, self._clock = providers, agreements, ledgers, clock

    @handles(orchestrator.AttemptFailed)
    async def note_failure(self, event: orchestrator.AttemptFailed, ctx: Context) -> None:
        """Remember what speaks against a provider; what would have failed anywhere does not."""
        if event.reason.code in NOT_ITS_FAULT:
            return
        try:
            async with self._providers.edit(event.place.provider, ctx) as provider:
                provider.attempt_failed(self._clock.now())
        except NotFound:  # a registry begun anew: nothing will come that this could wait for
            log.warning("provider.unknown", provider=event.place.provider)

    async def load(self, federation: Federation) -> None:
        """Put a federation file into the registry; what has not changed is not written, and nothing is removed.

        Raises: Unavailable. Stopped halfway, it is finished by the next start: an agreement comes after what it needs.
        """
        for provider in federation.providers:
            await _put(self._providers, provider.id, partial(Provider.register, record=provider))
        for agreement in federation.agreements:
            grant = partial(
                Ledger.grant, provider=agreement.provider, region=agreement.region, limits=agreement.limits,
                user_limits=agreement.user_limits,
            )  # fmt: skip
            await _put(self._ledgers, agreement.id, grant)
            await _put(self._agreements, agreement.id, partial(Agreement.sign, record=agreement))
        await _warn("provider", self._providers, {record.id for record in federation.providers})
        await _warn("agreement", self._agreements, {agreement.id for agreement in federation.agreements})
        log.info("federation.loaded", providers=len(federation.providers), agreements=len(federation.agreements))


async def _put(repository: Repository[A], id: str, change: Callable[[A], object]) -> None:
    """Make *change*; of replicas that start at once one is first, and the others do it again on what it has saved."""
    while True:
        try:
            return await _put_once(repository, id, change)
        except Conflict:
            continue


async def _put_once(repository: Repository[A], id: str, change: Callable[[A], object]) -> None:
    """Save *change*, which tells of itself by a message or by what it returns; else leave all as it is. Raises: Conflict."""
    with suppress(AlreadyHandled):
        async with repository.upsert(id, Context()) as aggregate:
            if not (change(aggregate) or aggregate.emitted):
                raise AlreadyHandled


async def _warn(kind: str, repository: Repository[Any], named: set[str]) -> None:
    """Tell operators of what stays in force although the file does not name it."""
    if left_out := sorted(set(await every(repository)) - named):
        log.warning("federation.incomplete", kind=kind, left_out=left_out[:LISTED], count=len(left_out))
