"""One turn of calls to sites: look for everything first, then delete what is left over and create what is missing.

Effects only; what they mean is decided in :mod:`indaco_orchestrator.model.turn`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import structlog

from indaco_common.contracts.values import Failure, Place
from indaco_common.errors import CredentialRejected, IndacoError, NoCapacity, SpecRejected, Unavailable
from indaco_common.secrets.port import Secrets

from .drivers.port import (
    Ability,
    Credential,
    NodeKey,
    NodeSpec,
    NotSent,
    Phase,
    ProviderDriver,
    ResourceId,
    ResourceState,
)
from .drivers.registry import DriverRegistry
from .model import turn
from .model.deployment import Deployment
from .model.values import Debris, Findings, Moment, Sample, Started
from .planning import Planner, outcome, specification

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)
T = TypeVar("T")
AT_ONCE = 8  # calls of one turn to one site


class Uncertain(Exception):
    """A call may or may not have had its effect: the turn tells nothing, its claim lapses, the next one looks again."""


class Turns:
    """Carries out turns."""

    def __init__(self, drivers: DriverRegistry, secrets: Secrets, planner: Planner) -> None:
        self._drivers, self._secrets, self._planner = drivers, secrets, planner

    async def run(self, d: Deployment, at: Moment) -> Findings:
        """Return what a turn for *d*, as it was claimed, has shown. Raises: Uncertain; TimeoutError, which is the same."""
        found = Findings(d.attempt, d.slot, d.claimed)
        leftovers: list[Callable[[], Awaitable[None]]] = []
        missing: list[str] = []
        async with asyncio.timeout(at.timing.claim.total_seconds() * 0.75):
            looks = [self._look_at(d, debris, found, leftovers, at) for debris in d.debris]
            if d.status in turn.ACTIVE and d.place is not None:
                looks.append(self._look_here(d, d.place, found, missing, at))
            await _all(looks)
            await _all([remove() for remove in leftovers])
            if missing and not found.gone:
                await self._create(d, missing, found)
            if turn.outputs_due(d, found):
                await self._resolve(d, found)
        return found

    # ── looking

    async def _look_at(
        self, d: Deployment, debris: Debris, found: Findings, leftovers: list[Callable[[], Awaitable[None]]], at: Moment
    ) -> None:
        """What is left of *debris*? Nothing counts only if it was looked for later than a claim after it was left."""
        site = await self._site(d, debris.attempt, debris.place, found)
        if site is None:
            return
        driver, credential = site
        keys = [NodeKey(d.id, debris.attempt, name) for name in sorted(debris.nodes)]
        try:
            ids = [id for id in await _all([driver.find(key, credential) for key in keys]) if id is not None]
        except IndacoError as error:
            _note(error, debris.attempt, found)
            return
        leftovers += [_remover(driver, id, credential, debris.attempt, found) for id in ids]
        if ids or at.now > debris.since + at.timing.claim:
            found.swept[debris.attempt, debris.slot] = not ids

    async def _look_here(self, d: Deployment, place: Place, found: Findings, missing: list[str], at: Moment) -> None:
        """Which of its machines are there, in what phase, and which are missing?"""
        site = await self._site(d, d.attempt, place, found)
        if site is None:
            return
        driver, credential = site
        names = sorted(d.spec | d.growth) if d.building() else sorted(d.spec)
        try:
            await _all([self._look_for(d, name, driver, credential, found, missing) for name in names])
            if turn.wants_samples(d, at) and Ability.USAGE in driver.abilities:
                await self._sample(d, driver, credential, found)
        except IndacoError as error:
            _note(error, d.attempt, found)
            missing.clear()
            return
        found.reached = True

    async def _look_for(
        self,
        d: Deployment,
        name: str,
        driver: ProviderDriver,
        credential: Credential,
        found: Findings,
        missing: list[str],
    ) -> None:
        known = d.here(name)
        id = ResourceId(known.resource_id) if known else None
        id = id or await driver.find(NodeKey(d.id, d.attempt, name), credential)
        if id is None:
            missing.append(name)
            return
        state = await driver.describe(id, credential)
        if known and state.phase is Phase.ABSENT:
            found.gone.add(name)
        elif not known:
            _seen(name, state, found)

    async def _sample(self, d: Deployment, driver: ProviderDriver, credential: Credential, found: Findings) -> None:
        for node in d.nodes:
            if node.attempt == d.attempt and node.name not in found.gone:
                use = await driver.usage(ResourceId(node.resource_id), credential)
                found.samples[node.name] = Sample(use.cpu_s, use.network_in_bytes, use.network_out_bytes)

    async def _site(
        self, d: Deployment, attempt: int, place: Place, found: Findings
    ) -> tuple[ProviderDriver, Credential] | None:
        """Return the way into *place*; None while its credential is awaited, or is missing: a finding."""
        if attempt in d.pending:
            return None
        try:
            kept = await self._secrets.get(f"leases/{d.id}/{attempt}")
            if kept is None:
                found.rejected.add(attempt)
                return None
            return await self._drivers.driver_for(place), {name: str(value) for name, value in kept.items()}
        except Unavailable as error:
            _note(error, attempt, found)
            return None

    # ── acting

    async def _create(self, d: Deployment, names: list[str], found: Findings) -> None:
        """Ask for what is missing, and see at once what runs already."""
        assert d.place is not None
        try:
            plan = await self._planner.plan(d)
            site = await self._site(d, d.attempt, d.place, found)
        except SpecRejected as error:
            found.failure = Failure(code=error.code, detail=error.detail)
            return
        if site is None:
            return
        driver, credential = site
        for batch in (names[i : i + AT_ONCE] for i in range(0, len(names), AT_ONCE)):
            if found.failure is None:
                await _all(
                    [
                        self._create_one(d, name, specification(d, plan, name), (driver, credential), found)
                        for name in batch
                    ]
                )

    async def _create_one(
        self, d: Deployment, name: str, spec: NodeSpec, site: tuple[ProviderDriver, Credential], found: Findings
    ) -> None:
        driver, credential = site
        try:
            found.sent = True
            id = await driver.create(NodeKey(d.id, d.attempt, name), spec, credential)
            _seen(name, await driver.describe(id, credential), found)
        except (NoCapacity, SpecRejected) as error:
            found.failure = Failure(code=error.code, detail=error.detail)
        except (NotSent, CredentialRejected) as error:
            _note(error, d.attempt, found)
        except Unavailable as error:
            raise Uncertain(error.detail) from error

    async def _resolve(self, d: Deployment, found: Findings) -> None:
        """Outputs, before the deployment is said to run; secret ones go to the vault."""
        result = outcome(d, await self._planner.plan(d), found)
        if result.secret:
            await self._secrets.put(f"outputs/{d.id}", result.secret)
        found.outputs, found.secret_outputs = result.open, tuple(sorted(result.secret))


def _remover(
    driver: ProviderDriver, id: ResourceId, credential: Credential, attempt: int, found: Findings
) -> Callable[[], Awaitable[None]]:
    async def remove() -> None:
        try:
            await driver.delete(id, credential)
        except IndacoError as error:
            _note(error, attempt, found)

    return remove


def _seen(name: str, state: ResourceState, found: Findings) -> None:
    match state.phase:
        case Phase.RUNNING:
            found.started[name] = Started(
                state.id, state.public_addresses, state.private_addresses, dict(state.ports), state.started_at
            )
        case Phase.FAILED:
            found.failure = Failure(code="node-failed", detail=f"{name}: {state.reason or 'failed at the provider'}")
        case _:
            pass


def _note(error: IndacoError, attempt: int, found: Findings) -> None:
    """A site that cannot be asked now is no finding about machines; a dead credential is one about itself."""
    if isinstance(error, CredentialRejected):
        found.rejected.add(attempt)
    found.trouble = Failure(code=error.code, detail=error.detail)
    log.warning("site.unanswered", attempt=attempt, code=error.code, detail=error.detail)


async def _all(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Await all, also when one fails, so that nothing goes on behind the turn's back; then raise the first error."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
