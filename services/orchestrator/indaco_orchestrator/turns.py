"""One turn of calls to sites: look for everything first, then delete what is left over, start, stop, and create what is missing.

Effects only; what they mean is decided in :mod:`indaco_orchestrator.model.turn`. A call about one machine that fails says nothing of
the others: what they showed counts. Only a create whose answer is lost spoils a turn, also one that has found the place to be
full: nothing of it is saved, and the next turn, after the claim has lapsed, begins with looking.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog

from indaco_common.contracts.values import Failure, Place
from indaco_common.errors import CredentialRejected, IndacoError, Invalid, NoCapacity, PayloadTooLarge, SpecRejected
from indaco_common.secrets.port import Secrets
from indaco_tosca import Plan

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
from .model.values import Debris, Findings, Moment, Node, Sample, Started
from .planning import Planner, is_ready, outcome, specification

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)
K = TypeVar("K")
T = TypeVar("T")
AT_ONCE = 8  # calls of one kind, of one turn to one place
SHARE = 0.75  # of a claim that a turn may take; the rest is for saving, and for sites that show a machine late
LOOK_UNTIL, ACT_UNTIL = 1 / 3, 3 / 4  # of a turn's time: after that no further call of the kind begins


class Uncertain(Exception):
    """A create may or may not have had its effect: the turn tells nothing, its claim lapses, the next one looks again."""


class Turns:
    """Carries out turns."""

    def __init__(self, drivers: DriverRegistry, secrets: Secrets, planner: Planner) -> None:
        self._drivers, self._secrets, self._planner = drivers, secrets, planner

    async def run(self, d: Deployment, at: Moment) -> Findings:
        """Return what a turn for *d*, as it was claimed, has shown; it takes three quarters of the claim at most.

        Raises: Uncertain; TimeoutError, which is the same; Unavailable, if all runs, or runs elsewhere, but its outputs cannot be
        resolved yet.
        """
        one = _Turn(self._drivers, self._secrets, self._planner, d, at)
        try:
            async with asyncio.timeout(one.limit_s):
                return await one.take()
        finally:
            one.tell()


@dataclass(frozen=True, slots=True)
class _Way:
    """The way into the place of one attempt."""

    attempt: int
    driver: ProviderDriver
    credential: Credential


class _Turn:
    """One turn under way."""

    def __init__(self, drivers: DriverRegistry, secrets: Secrets, planner: Planner, d: Deployment, at: Moment) -> None:
        self._drivers, self._secrets, self._planner, self._d, self._at = drivers, secrets, planner, d, at
        self._found = Findings(d.attempt, d.slot, d.claimed)
        self._known = {node.name: node for node in d.nodes if node.attempt == d.attempt}
        self._here: _Way | None = None
        self._plan: Plan | None = None
        self._leftovers: list[tuple[_Way, ResourceId]] = []
        self._missing: list[str] = []
        self._troubles: Counter[tuple[int, str, str]] = Counter()
        self.limit_s = at.timing.claim.total_seconds() * SHARE
        self._began = asyncio.get_running_loop().time()

    async def take(self) -> Findings:
        d, found = self._d, self._found
        looks: list[Callable[[], Awaitable[None]]] = [self._look_here]
        looks += [partial(self._look_at, debris) for debris in d.debris]
        await _each(looks, lambda look: look())
        await _each(self._leftovers, self._remove)
        if self._here is not None:
            await _each(self._known.values(), partial(self._obey, self._here))
            if self._missing and d.building() and not found.gone and found.failure is None:
                await self._create(self._here)
        if turn.outputs_due(d, found):
            await self._resolve()
        return found

    def tell(self) -> None:
        """Write one line for each thing that went wrong, however many calls met it."""
        for (attempt, code, detail), calls in self._troubles.items():
            log.warning(
                "site.unanswered", deployment_id=self._d.id, attempt=attempt, code=code, detail=detail, calls=calls
            )

    # ── looking

    async def _way(self, attempt: int, place: Place) -> _Way | None:
        """Return the way into *place*; None while its credential is awaited, or is missing: a finding."""
        if attempt in self._d.pending:
            return None
        try:
            kept = await self._secrets.get(f"leases/{self._d.id}/{attempt}")
            if kept is None:
                self._found.rejected.add(attempt)
                return None
            driver = await self._drivers.driver_for(place)
        except IndacoError as error:
            self._note(error, attempt)
            return None
        return _Way(attempt, driver, {name: str(value) for name, value in kept.items()})

    async def _look_at(self, debris: Debris) -> None:
        """What is left of *debris*? Nothing counts only if all was looked for, and no machine can be late any more."""
        way = await self._way(debris.attempt, debris.place)
        if way is None:
            return
        answers = await _each(sorted(debris.nodes), lambda name: self._find(way, name))
        ids = [id for is_answer, id in answers if is_answer and id is not None]
        self._leftovers += [(way, id) for id in ids]
        is_complete = all(is_answer for is_answer, _ in answers)
        if ids or (is_complete and self._at.now > debris.settles_at):
            self._found.swept[debris.attempt, debris.slot] = not ids

    async def _find(self, way: _Way, name: str) -> tuple[bool, ResourceId | None]:
        try:
            return True, await way.driver.find(NodeKey(self._d.id, way.attempt, name), way.credential)
        except IndacoError as error:
            self._note(error, way.attempt)
            return False, None

    async def _look_here(self) -> None:
        """Which of its machines are there, in what phase, and which are missing?"""
        d = self._d
        if d.status not in turn.ACTIVE or d.place is None:
            return
        self._here = way = await self._way(d.attempt, d.place)
        if way is None:
            return
        answered = await _each(self._names(), lambda name: self._look_for(way, name))
        self._found.reached = any(answered)
        if turn.wants_samples(d, self._at) and Ability.USAGE in way.driver.abilities:
            running = [node for name, node in sorted(self._known.items()) if name in self._found.started]
            await _each(running, lambda node: self._sample(way, node))

    def _names(self) -> list[str]:
        """First those not seen yet or to be acted on; the others from a different one each time, should there be no time for all."""
        names = sorted(self._d.spec | self._d.growth) if self._d.building() else sorted(self._d.spec)
        known = [name for name in names if name in self._known]
        first = int(self._at.now.timestamp()) % max(1, len(known))
        known = sorted(known[first:] + known[:first], key=lambda name: self._known[name].wish is None)
        return [name for name in names if name not in self._known] + known

    async def _look_for(self, way: _Way, name: str) -> bool:
        """Look for one machine; return whether the place answered."""
        if self._is_past(LOOK_UNTIL):
            return False
        known = self._known.get(name)
        try:
            id = ResourceId(known.resource_id) if known else None
            id = id or await way.driver.find(NodeKey(self._d.id, way.attempt, name), way.credential)
            state = None if id is None else await way.driver.describe(id, way.credential)
        except IndacoError as error:
            self._note(error, way.attempt)
            return False
        if state is None:
            self._missing.append(name)
        elif known is None:
            self._seen(name, state)
        else:
            self._seen_again(known, state)
        return True

    async def _sample(self, way: _Way, node: Node) -> None:
        if self._is_past(LOOK_UNTIL):
            return
        try:
            use = await way.driver.usage(ResourceId(node.resource_id), way.credential)
        except IndacoError as error:
            self._note(error, way.attempt)
            return
        self._found.samples[node.name] = Sample(use.cpu_s, use.network_in_bytes, use.network_out_bytes)

    # ── acting

    async def _remove(self, leftover: tuple[_Way, ResourceId]) -> None:
        way, id = leftover
        try:
            await way.driver.delete(id, way.credential)
        except IndacoError as error:
            self._note(error, way.attempt)

    async def _obey(self, way: _Way, node: Node) -> None:
        """Start or stop one machine, if it is wished. From then on it counts only that it has become so: no more what was seen before."""
        found, name, wish = self._found, node.name, node.wish
        is_due = wish is not None and name in (found.stopped if wish.action == "start" else found.started)
        if wish is None or not is_due or self._is_past(ACT_UNTIL):
            return
        if Ability.POWER not in way.driver.abilities:
            detail = f"machines cannot be started and stopped at a place of the kind {way.driver.kind}"
            found.refused[name] = wish.number, Failure(code="unsupported", detail=detail)
            return
        act, wanted = (way.driver.start, Phase.RUNNING) if wish.action == "start" else (way.driver.stop, Phase.STOPPED)
        try:
            await act(ResourceId(node.resource_id), way.credential)
        except (NoCapacity, SpecRejected) as error:
            found.refused[name] = wish.number, Failure(code=error.code, detail=error.detail)
            return
        except IndacoError as error:
            self._note(error, way.attempt)
        found.started.pop(name, None)
        found.stopped.discard(name)
        try:
            state = await way.driver.describe(ResourceId(node.resource_id), way.credential)
        except IndacoError as error:
            self._note(error, way.attempt)
            return
        if state.phase is wanted:
            self._seen_again(node, state)

    async def _create(self, way: _Way) -> None:
        """Ask for what is missing, until one is refused or time is short. Raises: Uncertain, if an answer is lost.

        What is told of others at its first boot waits until these run: a later turn makes it.
        """
        d, found = self._d, self._found
        try:
            plan = await self._planned()
            ready = [name for name in sorted(self._missing) if is_ready(d, plan, found, name)]
            specs = [(name, specification(d, plan, found, name)) for name in ready]
        except SpecRejected as error:
            self._fail(error.code, error.detail)
        except IndacoError as error:
            self._note(error, way.attempt)
        else:
            await _each(specs, lambda named: self._create_one(way, *named))

    async def _create_one(self, way: _Way, name: str, spec: NodeSpec) -> None:
        """Ask for one machine, and see at once whether it runs already."""
        if self._found.failure is not None or self._is_past(ACT_UNTIL):
            return
        self._found.sent = True
        try:
            id = await way.driver.create(NodeKey(self._d.id, way.attempt, name), spec, way.credential)
        except (NoCapacity, SpecRejected) as error:
            self._fail(error.code, error.detail)
        except (NotSent, CredentialRejected) as error:
            self._note(error, way.attempt)
        except IndacoError as error:
            self._note(error, way.attempt)
            raise Uncertain(f"{name}: {error.detail}") from error
        else:
            await self._look_once(way, name, id)

    async def _look_once(self, way: _Way, name: str, id: ResourceId) -> None:
        """The machine was made; what cannot be seen of it now is seen in the next turn."""
        try:
            self._seen(name, await way.driver.describe(id, way.credential))
        except IndacoError as error:
            self._note(error, way.attempt)

    async def _resolve(self) -> None:
        """Outputs, before the deployment is said to run; secret ones go to the vault.

        Raises: Unavailable, and Forbidden, which an operator can mend. What no waiting mends costs the outputs, not the machines.
        """
        d, found = self._d, self._found
        try:
            result = outcome(d, await self._planned(), found)
            if result.secret:
                await self._secrets.put(f"outputs/{d.id}", result.secret)
        except (SpecRejected, Invalid, PayloadTooLarge) as error:
            log.error("outputs.lost", deployment_id=d.id, code=error.code, detail=error.detail)  # noqa: TRY400 - no bug of ours
            return
        found.outputs, found.secret_outputs = result.open, tuple(sorted(result.secret))

    async def _planned(self) -> Plan:
        """Return the plan, made once a turn: it holds secrets, so it is not kept for longer. Raises: Unavailable, SpecRejected."""
        if self._plan is None:
            self._plan = await self._planner.plan(self._d)
        return self._plan

    # ── findings

    def _is_past(self, share: float) -> bool:
        return asyncio.get_running_loop().time() - self._began > self.limit_s * share

    def _seen(self, name: str, state: ResourceState) -> None:
        if state.phase is Phase.RUNNING:
            self._found.started[name] = _started(state)
        elif state.phase is Phase.FAILED:
            self._fail("node-failed", f"{name}: {state.reason or 'failed at the provider'}")

    def _seen_again(self, node: Node, state: ResourceState) -> None:
        """A machine that ran at an earlier look. One that has failed since is left as it is, and nothing can be done to it."""
        match state.phase:
            case Phase.RUNNING:
                self._found.started[node.name] = _started(state)
            case Phase.STOPPED:
                self._found.stopped.add(node.name)
            case Phase.ABSENT:
                self._found.gone.add(node.name)
            case Phase.FAILED if node.wish is not None:
                failure = Failure(code="node-failed", detail=state.reason or "failed at the provider")
                self._found.refused[node.name] = node.wish.number, failure
            case _:
                pass

    def _fail(self, code: str, detail: str) -> None:
        """The place cannot do it: the first reason counts."""
        self._found.failure = self._found.failure or Failure(code=code, detail=detail)

    def _note(self, error: IndacoError, attempt: int) -> None:
        """A site that cannot be asked now is no finding about machines; a dead credential is one about itself."""
        if isinstance(error, CredentialRejected):
            self._found.rejected.add(attempt)
        self._found.trouble = Failure(code=error.code, detail=error.detail)
        self._troubles[attempt, error.code, error.detail] += 1


def _started(state: ResourceState) -> Started:
    return Started(
        state.id, state.public_addresses, state.private_addresses, dict(state.ports), state.started_at, state.url
    )


async def _each(subjects: Iterable[K], call: Callable[[K], Awaitable[T]]) -> list[T]:
    """Call for each subject, a few at once; also when one fails all are awaited, so that nothing goes on behind the turn's back.

    Raises: the first failure, once all have ended.
    """
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(subject: K) -> T:
        async with gate:
            return await call(subject)

    results = await asyncio.gather(*(one(subject) for subject in subjects), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
