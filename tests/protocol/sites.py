"""Clouds that forget answers, hang, lose machines and show created ones late; their credentials; and the turns played at them.

:class:`Turns` stands in the place of the orchestrator's own, which needs an event loop: the same rules in the same order (look for
everything, then delete what is left over and create what is missing; an uncertain call tells nothing), in ticks of this world.
"""

import types
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from typing import Protocol

from tests.protocol.storage import Crash

from indaco_common.contracts.values import Failure, Place
from indaco_common.errors import PolicyRefused, Unavailable
from indaco_orchestrator.model import turn
from indaco_orchestrator.model.deployment import Deployment
from indaco_orchestrator.model.values import Debris, Findings, Moment, Node, Sample, Started
from indaco_orchestrator.turns import Uncertain
from indaco_vault_broker.issuers.port import IssuedCredential

SHOW = 7  # ticks until a created machine shows itself: with the longest turn less than a claim
SLEEP = 60  # ticks for which a process may hang between its effects and its second save

Key = tuple[str, int, str]  # deployment, attempt, node


@dataclass(frozen=True, slots=True)
class Machine:
    key: Key
    ready_at: int
    is_broken: bool = False  # it will never run
    stays_until: int = 0  # a deletion does nothing before
    is_stopped: bool = False
    settles_at: int = 0  # until then it is neither stopped nor running
    runs: int = 0  # how many times it was started again

    @property
    def addresses(self) -> tuple[str, ...]:
        return (f"198.51.100.{self.runs}",)

    def turned(self, settles_at: int) -> "Machine":
        """Return it stopped, if it ran, and else started."""
        return replace(self, is_stopped=not self.is_stopped, settles_at=settles_at, runs=self.runs + self.is_stopped)


@dataclass
class Site:
    """Machines by id, each tagged with its key. To find and to create are two calls, so together they are not atomic."""

    name: str
    capacity: int
    down_until: int = 0
    machines: dict[str, Machine] = field(default_factory=dict)
    credentials: dict[str, int | None] = field(default_factory=dict)  # key → until when; None: revoked for ever

    def find(self, key: Key) -> list[str]:
        return [id for id, machine in self.machines.items() if machine.key == key]

    def accepts(self, secret: Mapping[str, object], now: int) -> bool:
        until = self.credentials.get(str(secret["key"]))
        return until is not None and until > now


@dataclass(frozen=True, slots=True)
class Weather:
    """How often what goes wrong in one world, and how long machines take to start there, in ticks."""

    very_late: float  # of messages: up to 300 ticks
    crash: float  # of each side of a commit
    unanswered: float  # of creates: the machine comes later
    undeleted: float  # of deletes: accepted, but the machine stays, whatever is asked, for a long while
    trouble: float  # per step: a site down, a machine lost, a credential dead
    sleep: float  # of turns: between the effects and the second save
    start: int  # ticks until the slowest machine runs
    deletion: float  # of what users do
    unsent: float  # of creates: they never arrive
    turn: int  # ticks of each half of a turn, at most

    @classmethod
    def of(cls, rng: Random) -> "Weather":
        return cls(
            very_late=rng.choice((0.02, 0.04, 0.12)), crash=rng.choice((0.01, 0.02, 0.04)),
            unanswered=rng.choice((0.03, 0.06, 0.15)), undeleted=rng.choice((0.0, 0.1, 0.4)),
            trouble=rng.choice((0.01, 0.02, 0.08)), sleep=rng.choice((0.0, 0.05, 0.2)), start=rng.choice((0, 5, 30)),
            deletion=rng.choice((0.04, 0.1, 0.25)), unsent=rng.choice((0.05, 0.1, 0.3)), turn=rng.choice((3, 6, 11)),
        )  # fmt: skip


class Nature(Protocol):
    """What the sites are in: time, chance, and the places by name."""

    rng: Random
    weather: Weather
    has_faults: bool
    now: int
    sites: dict[str, Site]
    late: list[tuple[int, str, Key]]  # creates whose answer was lost: when the machine shows itself, where

    def chance(self, p: float) -> bool: ...
    def instant(self, tick: int) -> datetime: ...
    def next_id(self) -> str: ...


@types.coroutine
def pause(ticks: int) -> Generator[int, None, None]:
    """Give the turn back to the world for *ticks*."""
    yield ticks


class Vault:
    """A vault in memory that now and then does not answer."""

    def __init__(self, nature: Nature) -> None:
        self._nature = nature
        self.secrets: dict[str, dict[str, object]] = {}

    def _answer(self) -> None:
        if self._nature.chance(0.01):
            raise Unavailable("the vault does not answer")

    async def get(self, path: str) -> dict[str, object] | None:
        self._answer()
        return self.secrets.get(path)

    async def put(self, path: str, secret: Mapping[str, object]) -> None:
        self._answer()
        self.secrets[path] = dict(secret)

    async def delete(self, path: str) -> None:
        self._answer()
        self.secrets.pop(path, None)

    async def list(self, prefix: str) -> list[str]:
        self._answer()
        return sorted(path.removeprefix(f"{prefix}/") for path in self.secrets if path.startswith(f"{prefix}/"))


class Issuer:
    """Credentials of all sites. A revocation of what was never issued is not remembered: real clouds do not either."""

    def __init__(self, nature: Nature) -> None:
        self._nature = nature

    def issuer_for(self, place: Place) -> "Issuer":
        return self

    async def issue(self, place: Place, lease_key: str, ttl_s: float) -> IssuedCredential:
        keys, now = self._nature.sites[place.provider].credentials, self._nature.now
        if self._nature.chance(0.05):
            raise Unavailable("the site does not answer")
        if lease_key not in keys:
            if self._nature.chance(0.1):
                raise PolicyRefused("this user may not")
            keys[lease_key] = now + int(ttl_s)
        if (until := keys[lease_key]) is None:
            raise PolicyRefused("it was revoked")
        return IssuedCredential({"key": lease_key}, self._nature.instant(until))

    async def revoke(self, place: Place, lease_key: str) -> None:
        if self._nature.chance(0.05):
            raise Unavailable("the site does not answer")
        if lease_key in self._nature.sites[place.provider].credentials:
            self._nature.sites[place.provider].credentials[lease_key] = None


@dataclass(slots=True)
class Turn:
    """One turn under way: the deployment as it was claimed, and what is found."""

    d: Deployment
    at: Moment
    found: Findings
    leftovers: list[tuple[Site, str, int, Mapping[str, object]]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


class Turns:
    """Carries out turns, as :class:`indaco_orchestrator.turns.Turns` does."""

    def __init__(self, nature: Nature, secrets: Callable[[str], dict[str, object] | None]) -> None:
        """*secrets* reads the vault."""
        self._nature, self._secrets = nature, secrets

    async def run(self, d: Deployment, at: Moment) -> Findings:
        """Return what the turn has shown. Raises: Uncertain, TimeoutError; Crash, where the worker dies after its effects."""
        work = Turn(d, at, Findings(d.attempt, d.slot, d.claimed))
        began, nature = self._nature.now, self._nature
        await pause(nature.rng.randint(0, nature.weather.turn))
        for debris in d.debris:
            self._look_at(work, debris)
        if d.status in turn.ACTIVE and d.place is not None:
            self._look_here(work, d.place)
        await pause(nature.rng.randint(0, nature.weather.turn))
        if timedelta(seconds=nature.now - began) > at.timing.claim * 0.75:
            raise TimeoutError
        self._remove(work)
        for node in d.nodes:
            self._obey(work, node)
        is_whole = not work.found.gone and work.found.failure is None
        if work.missing and d.building() and is_whole and d.place is not None:
            self._create(work, nature.sites[d.place.provider])
        if turn.outputs_due(d, work.found):
            runs = {node.name: node for node in d.nodes if node.attempt == d.attempt} | work.found.started
            work.found.outputs = {name: machine.public_addresses for name, machine in sorted(runs.items())}
        if nature.chance(0.1):
            raise Crash
        if nature.chance(nature.weather.sleep):
            await pause(nature.rng.randint(1, SLEEP))
        return work.found

    def _site(self, work: Turn, attempt: int, place: Place) -> tuple[Site, dict[str, object]] | None:
        """Return the way into *place*. A credential that is missing or dead is a finding; one that is awaited is none."""
        site = self._nature.sites[place.provider]
        if attempt in work.d.pending or self._nature.chance(0.01):
            return None
        secret = self._secrets(f"leases/{work.d.id}/{attempt}")
        if secret is None:
            work.found.rejected.add(attempt)
            return None
        if site.down_until > self._nature.now:
            return None
        if not site.accepts(secret, self._nature.now):
            work.found.rejected.add(attempt)
            return None
        return site, secret

    def _look_at(self, work: Turn, debris: Debris) -> None:
        way = self._site(work, debris.attempt, debris.place)
        if way is None:
            return
        site, secret = way
        answered = [name for name in sorted(debris.nodes) if not self._nature.chance(0.03)]
        ids = [id for name in answered for id in site.find((work.d.id, debris.attempt, name))]
        work.leftovers += [(site, id, debris.attempt, secret) for id in ids]
        is_complete = len(answered) == len(debris.nodes)
        if ids or (is_complete and work.at.now > debris.settles_at):
            work.found.swept[debris.attempt, debris.slot] = not ids

    def _look_here(self, work: Turn, place: Place) -> None:
        d, found = work.d, work.found
        way = self._site(work, d.attempt, place)
        if way is None:
            return
        site, _ = way
        for name in sorted(d.spec | d.growth) if d.building() else sorted(d.spec):
            if self._nature.chance(0.03):  # a call about one machine that fails says nothing of the others
                continue
            found.reached = True
            known = d.here(name)
            if known is not None:
                self._see_again(work, known, site)
            elif ids := site.find((d.id, d.attempt, name)):
                self._see(work, name, ids[0], site)
            else:
                work.missing.append(name)
        if turn.wants_samples(d, work.at):
            for node in d.nodes:
                if node.attempt == d.attempt and node.name not in found.gone | found.stopped:
                    found.samples[node.name] = Sample(1.0, 0, 0)

    def _see(self, work: Turn, name: str, id: str, site: Site) -> None:
        machine = site.machines[id]
        if machine.is_broken:
            work.found.failure = Failure(code="node-failed", detail=f"{name}: failed at the provider")
        elif machine.ready_at <= self._nature.now:
            started_at = self._nature.instant(machine.ready_at)
            work.found.started[name] = Started(id, machine.addresses, started_at=started_at)

    def _see_again(self, work: Turn, node: Node, site: Site) -> None:
        """A machine that ran at an earlier look."""
        machine, found = site.machines.get(node.resource_id), work.found
        if machine is None:
            found.gone.add(node.name)
        elif machine.settles_at > self._nature.now:
            pass
        elif machine.is_stopped:
            found.stopped.add(node.name)
        else:
            found.started[node.name] = Started(node.resource_id, machine.addresses)

    def _obey(self, work: Turn, node: Node) -> None:
        """Start or stop one machine, if it is wished; then only its being so counts of what is seen of it."""
        d, found, nature, wish = work.d, work.found, self._nature, node.wish
        if wish is None or node.name not in (found.stopped if wish.action == "start" else found.started):
            return
        if d.place is None or self._site(work, d.attempt, d.place) is None:
            return
        site = nature.sites[d.place.provider]
        if wish.action == "start" and nature.chance(0.2):
            failure = Failure(code="no-capacity", detail=f"{site.name} has no room")
            found.refused[node.name] = wish.number, failure
            return
        found.started.pop(node.name, None)
        found.stopped.discard(node.name)
        machine = site.machines.get(node.resource_id)
        if machine is None or nature.chance(nature.weather.unsent):
            return
        if machine.is_stopped == (wish.action == "start"):
            settles_at = nature.now + nature.rng.choice((0, 0, nature.weather.start))
            site.machines[node.resource_id] = machine.turned(settles_at)
        if not nature.chance(nature.weather.unanswered):
            self._see_again(work, node, site)

    def _remove(self, work: Turn) -> None:
        for site, id, attempt, secret in work.leftovers:
            if site.down_until > self._nature.now:
                continue
            if site.accepts(secret, self._nature.now):
                self._delete(site, id)
            else:
                work.found.rejected.add(attempt)

    def _delete(self, site: Site, id: str) -> None:
        machine, now = site.machines.get(id), self._nature.now
        if machine is None:
            return
        if self._nature.chance(self._nature.weather.undeleted):
            site.machines[id] = replace(
                machine, stays_until=max(machine.stays_until, now + self._nature.rng.randint(1, 200))
            )
        elif machine.stays_until <= now or not self._nature.has_faults:
            del site.machines[id]

    def _create(self, work: Turn, site: Site) -> None:
        """Ask for what is missing. Raises: Uncertain, if an answer was lost."""
        d, found, nature, is_uncertain = work.d, work.found, self._nature, False
        if d.place is None or self._site(work, d.attempt, d.place) is None:
            return
        for name in work.missing:
            if found.failure is not None and nature.rng.random() < 0.5:
                continue  # the others are under way already
            found.sent = True
            if nature.chance(nature.weather.unsent):  # the request did not arrive
                continue
            if len(site.machines) >= site.capacity or nature.chance(0.04):
                found.failure = Failure(code="no-capacity", detail=f"{site.name} has no room")
            elif nature.chance(nature.weather.unanswered):
                nature.late.append((nature.now + nature.rng.randint(1, SHOW), site.name, (d.id, d.attempt, name)))
                is_uncertain = True
            else:
                id = nature.next_id()
                ready_at = nature.now + nature.rng.choice((0, 0, nature.weather.start))
                site.machines[id] = Machine((d.id, d.attempt, name), ready_at, is_broken=nature.chance(0.02))
                self._see(work, name, id, site)
        if is_uncertain:
            raise Uncertain("an answer was lost")
