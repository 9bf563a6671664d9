"""The world under one seed: bus, timers, sites, trouble and users around the real services.

The bus doubles, delays, reorders and redelivers; aggregates forget all but the last three message ids; every save may crash before
or after it commits; turns hang, die and lose answers; timers come late. Every third seed has no expiry of holds, which would hide a
leak; in every seventh users force deletions, and what is given up stays at its site. After a while all faults cease: then everything must come to rest, and the books must balance.
"""

from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, cast

from tests.protocol.invariants import Hole, Invariants
from tests.protocol.services import Parts, Services
from tests.protocol.sites import Issuer, Key, Machine, Site, Turns, Vault, Weather
from tests.protocol.storage import Crash, MemoryStore
from tests.protocol.told import Told

from indaco_common.bus.retry import may_pass
from indaco_common.clock import ManualClock
from indaco_common.contracts import gateway
from indaco_common.contracts.values import Group, NodeNeeds, Owner
from indaco_common.envelope import Context, Sealed, seal, unseal
from indaco_common.errors import AlreadyHandled, Conflict, IndacoError, NotFound
from indaco_common.ids import DeploymentId
from indaco_common.messages import Command, Message
from indaco_common.units import ResourceVector
from indaco_orchestrator.model.deployment import Deployment
from indaco_sla.matching import Option
from indaco_sla.model.ledger import Ledger
from indaco_sla.model.registry import AgreementRecord, ProviderRecord

START = datetime(2026, 1, 1, tzinfo=UTC)
GROUP = Group(issuer="https://iam.example", path="physics")
NODE = ResourceVector(instances=1, cpu_milli=1000)
STEPS, REST, PATIENCE = 1200, 400, 4000  # steps with faults; ticks until the slowest message is there; ticks until rest

Work = Coroutine[Any, Any, None]


@dataclass(slots=True)
class Queued:
    """One copy of a message in a service's queue."""

    at: int
    service: str
    sealed: Sealed
    sent: datetime
    tries: int = 0


class World:
    """Everything that happens under one seed."""

    def __init__(self, seed: int, *, trace: bool = False) -> None:
        self.rng, self.now, self.has_faults, self.trace = Random(seed), 0, True, trace
        self.weather = Weather.of(self.rng)
        self.clock, self.stats = ManualClock(START), Counter[str]()
        self.queue: list[Queued] = []
        self.alarms: list[tuple[int, str, str, int]] = []  # when, kind, id, version
        self.jobs: list[tuple[int, str, Work]] = []  # when it goes on, whose, the suspended timer
        self.late: list[tuple[int, str, Key]] = []
        self.has_force = seed % 7 == 5
        self.has_actions = seed % 5 == 2
        self.has_expiry, self.is_patient = seed % 3 > 0, seed % 2 > 0
        self._ids = 0
        self.store = MemoryStore(crashes=lambda: self.chance(self.weather.crash), publish=self.post)
        self.vault = Vault(self)
        turns = Turns(self, self.vault.secrets.get)
        self.services = Services(
            Parts(self.store, self.clock, turns, self.vault, Issuer(self), self.options, self.heard)
        )
        self.sites: dict[str, Site] = {}
        self.agreements: list[AgreementRecord] = []
        self._found_sites()
        self.requests = [self._invent(f"d{i}") for i in range(self.rng.randint(2, 6))]
        self.requested: set[str] = set()
        self.deleted: set[str] = set()
        self.updates, self.actions = Counter[str](), Counter[str]()
        self.told = Told()
        self.turned: set[Key] = set()  # machines that stopped or started by themselves
        self.invariants = Invariants(self.store, self.sites, {a.id: a.provider for a in self.agreements}, self.told)

    # ── what it is made of

    def chance(self, p: float) -> bool:
        """Return true with probability *p* while there are faults."""
        return self.has_faults and self.rng.random() < p

    def instant(self, tick: int) -> datetime:
        return START + timedelta(seconds=tick)

    def next_id(self) -> str:
        self._ids += 1
        return f"m{self._ids}"

    def heard(self) -> datetime | None:
        """Every other world waits with deadlines until what was sent before them has been handled."""
        if not self.is_patient:
            return None
        return min((q.sent for q in self.queue if q.service == "orchestrator"), default=self.clock.now())

    def _found_sites(self) -> None:
        """Two or three sites, each with an agreement, the first perhaps with two; what they grant may not fit what there is."""
        rng = self.rng
        names, plenty = [f"s{i}" for i in range(rng.randint(2, 3))], rng.choice((0, 0, 6))
        self.sites |= {name: Site(name, rng.randint(2, 7) + plenty) for name in names}
        for number, name in enumerate([*names, *(names[:1] if rng.random() < 0.3 else [])]):
            granted = rng.randint(2, 5) + plenty
            record = AgreementRecord(
                id=f"a{number}", group=GROUP, provider=name, project="p", weight=rng.random(),
                limits=ResourceVector(instances=granted, cpu_milli=1000 * max(2, granted - rng.randint(0, 1))),
                user_limits=ResourceVector(instances=rng.randint(1, 4), cpu_milli=9000) if rng.random() < 0.3 else None,
                valid_from=START, valid_to=START + timedelta(days=400),
            )  # fmt: skip
            self.agreements.append(record)
            self._run(self._grant(record))
        self.store.changed.clear()

    async def _grant(self, record: AgreementRecord) -> None:
        faults, self.has_faults = self.has_faults, False
        async with self.services.ledgers.upsert(record.id, Context()) as ledger:
            ledger.grant(
                provider=record.provider, region=record.region, limits=record.limits, user_limits=record.user_limits
            )
        self.has_faults = faults

    def options(self) -> list[Option]:
        """What matching sees: usage that is often out of date, and reliability of the day."""
        found = []
        for record in self.agreements:
            ledger = self.store.read(Ledger, record.id)
            used = ledger.used() if ledger and self.rng.random() < 0.3 else ResourceVector()
            found.append(
                Option(record, ProviderRecord(id=record.provider, kind="simulated"), used, self.rng.random() * 3)
            )
        return found

    def _invent(self, id: str) -> gateway.DeploymentRequested:
        rng = self.rng
        return gateway.DeploymentRequested(
            deployment_id=DeploymentId(id), owner=Owner(issuer="i", subject=rng.choice(("ada", "bob"))), group=GROUP,
            template="t", inputs={}, nodes={"n": NodeNeeds(count=rng.randint(1, 3), needs=NODE)},
            max_attempts=rng.choice((1, 2, 255, 255, 255)), timeout_s=300.0 if rng.random() < 0.15 else None,
            attempt_timeout_s=60.0 if rng.random() < 0.15 else None,
        )  # fmt: skip

    # ── the bus

    def post(self, sealed: Sealed) -> None:
        """Give a message to every service that reads it, now and then twice, now and then very late."""
        _, message = unseal(sealed.body)
        assert message is not None
        self.told.hear(message)
        readers = self.services.readers.get(sealed.name, {})
        if isinstance(message, Command) and not readers:
            raise Hole(f"a command nobody owns: {sealed.name}")
        for service in readers:
            for _ in range(2 if self.chance(0.2) else 1):
                slow = 300 if self.chance(self.weather.very_late) else 40 if self.chance(0.2) else 3
                self.queue.append(Queued(self.now + self.rng.randint(0, slow), service, sealed, self.clock.now()))

    def send(self, message: Message) -> None:
        """Publish what the gateway says."""
        self.post(seal(message, Context(), source="gateway", version=1, index=0, now=self.clock.now()))

    def deliver(self) -> None:
        """Give one message that is due to its handlers, as the consumer does: it is done when all of them are."""
        ready = [i for i, queued in enumerate(self.queue) if queued.at <= self.now]
        if not ready:
            return
        queued = self.queue.pop(self.rng.choice(ready))
        envelope, message = unseal(queued.sealed.body)
        is_done = True
        for handler in self.services.readers[queued.sealed.name][queued.service]:
            work = cast("Work", handler(message, envelope.context(queued.tries)))
            is_done &= self._handle(work, queued)
        if not is_done or self.chance(0.03):  # the acknowledgement may be lost
            queued.tries += 1
            queued.at = self.now + self.rng.randint(1, 20)
            self.queue.append(queued)

    def _handle(self, handling: Work, queued: Queued) -> bool:
        """Return whether this handler is done with it. Raises: Hole, if the message would end as a dead letter."""
        outcome = "done"
        try:
            self._run(handling)
        except AlreadyHandled:
            outcome = "repeat"
        except Crash:
            outcome = "crash"
        except IndacoError as error:
            if not may_pass(error):
                raise Hole(f"dead letter: {queued.sealed.name} for {queued.service}: {error!r}") from error
            outcome = error.code
        self.stats[f"message {outcome}"] += 1
        self._say(queued.service, queued.sealed.name, queued.sealed.subject, outcome)
        return outcome in ("done", "repeat")

    @staticmethod
    def _run(work: Work) -> None:
        """Run what waits for nothing in this world."""
        try:
            work.send(None)
        except StopIteration:
            return
        raise Hole("a message handler waits for the world")

    # ── timers

    def ring(self) -> None:
        """Notice what is due, and call the timers that were noticed; in between it may have changed."""
        for kind, id, version in self.store.due(self.clock.now()):
            if (self.has_expiry or kind != Ledger.KIND) and self.rng.random() < 0.5:
                late = 20 if self.chance(0.1) else 1
                self.alarms.append((self.now + self.rng.randint(0, late), kind, id, version))
        ready = [alarm for alarm in self.alarms if alarm[0] <= self.now]
        self.alarms = [alarm for alarm in self.alarms if alarm[0] > self.now]
        for _, kind, id, version in ready:
            work = cast("Work", self.services.timers[kind](id, Context(at_version=version)))
            self._go_on(f"{kind} {id}", work)

    def work(self) -> None:
        """Go on with one turn that has waited long enough."""
        ready = [i for i, job in enumerate(self.jobs) if job[0] <= self.now]
        if ready:
            _, name, job = self.jobs.pop(self.rng.choice(ready))
            self._go_on(name, job)

    def _go_on(self, name: str, job: Work) -> None:
        outcome = "done"
        try:
            self.jobs.append((self.now + job.send(None), name, job))
            outcome = "waits"
        except StopIteration:
            pass
        except (AlreadyHandled, Conflict, NotFound):
            outcome = "stale"
        except Crash:
            outcome = "crash"
        except IndacoError as error:
            if not may_pass(error):
                raise Hole(f"timer of {name}: {error!r}") from error
            outcome = error.code
        self.stats[f"timer {outcome}"] += 1
        if outcome != "stale":
            self._say("timer", name, outcome)

    def _say(self, *words: object) -> None:
        if self.trace:
            print(self.now, *words)

    # ── users and trouble

    def user(self) -> None:
        """Request, delete (perhaps before the request, perhaps again) or update one of the deployments."""
        what, request = self.rng.random(), self.rng.choice(self.requests)
        id = request.deployment_id
        if what < self.weather.deletion:
            self.deleted.add(id)
            force = self.has_force and self.rng.random() < 0.5
            self.send(gateway.DeploymentDeletionRequested(deployment_id=id, force=force))
        elif what < 0.6:
            self.requested.add(id)
            self.send(request)
        elif id in self.requested:  # the gateway knows its operations: no update before the request
            d = self.store.read(Deployment, id)
            count = len(d.spec) + self.rng.randint(0, 3) if d else 2
            self.updates[id] += 1
            self.send(
                gateway.DeploymentUpdateRequested(
                    deployment_id=id, update=self.updates[id], template="u", inputs={},
                    nodes={"n": NodeNeeds(count=count, needs=NODE)},
                )
            )  # fmt: skip

    def power(self) -> None:
        """Have machines of what is said to run started or stopped, once or in haste; now and then one does so by itself."""
        site = self.rng.choice(list(self.sites.values()))
        if (ids := [id for id in self.told.attempt if id not in self.deleted]) and self.rng.random() < 0.8:
            id = self.rng.choice(ids)
            nodes = self.told.of(id)
            for _ in range(self.rng.randint(1, 3)):
                self.actions[id] += 1
                self.send(
                    gateway.DeploymentActionRequested(
                        deployment_id=id, number=self.actions[id], action=self.rng.choice(("start", "stop")),
                        nodes=tuple(self.rng.sample(nodes, self.rng.randint(1, len(nodes)))),
                    )
                )  # fmt: skip
        elif ran := [(id, m) for id, m in site.machines.items() if m.ready_at <= self.now and not m.is_broken]:
            machine, was = self.rng.choice(ran)
            if was.key in self.told.machines:
                site.machines[machine] = was.turned(self.now)
                self.turned.add(was.key)

    def trouble(self) -> None:
        """A site is down for a while, loses a machine, or forgets a credential."""
        site, what = self.rng.choice(list(self.sites.values())), self.rng.random()
        if what < 0.4:
            site.down_until = self.now + self.rng.randint(5, 250)
        elif what < 0.8 and site.machines:
            newest = -1 if self.rng.random() < 0.5 else 0
            lost = site.machines.pop(self.rng.choice(list(site.machines)[newest:]))
            self._say("lost", site.name, lost.key)
        elif alive := [key for key, until in site.credentials.items() if until is not None]:
            site.credentials[self.rng.choice(alive)] = None

    # ── time

    def _show_late_machines(self) -> None:
        for item in [late for late in self.late if late[0] <= self.now]:
            self.late.remove(item)
            self.sites[item[1]].machines[self.next_id()] = Machine(item[2], self.now)

    def _pass(self, ticks: int) -> None:
        self.now += ticks
        self.clock.advance(timedelta(seconds=ticks))
        self._show_late_machines()

    def _until_next(self) -> int:
        """Return how many ticks nothing is due for."""
        times = [q.at for q in self.queue] + [j[0] for j in self.jobs] + [x[0] for x in self.late]
        times += [alarm[0] for alarm in self.alarms]
        if (due := self.store.next_due()) is not None:
            times.append(int((due - START).total_seconds()))
        return max(1, min(times, default=self.now) - self.now)

    def run(self) -> None:
        """Live through it. Raises: Hole, at the first invariant that is broken."""
        busy = self.rng.choice((0.02, 0.04, 0.08))
        acts = (
            (0.85, self.deliver), (0.4, self.ring), (0.5, self.work), (busy, self.user), (self.weather.trouble, self.trouble),
            *[(0.1, self.power)] * self.has_actions,
        )  # fmt: skip
        for _ in range(STEPS):
            self._pass(self.rng.choice((0, 0, 1, 2)))
            for p, act in acts:
                if self.rng.random() < p:
                    act()
            self.invariants.always()
        self._come_to_rest()

    def close(self) -> None:
        """End what is suspended."""
        for _, _, job in self.jobs:
            job.close()

    def _come_to_rest(self) -> None:
        self.has_faults, healed = False, self.now
        for site in self.sites.values():
            site.down_until = 0
        while self.now < healed + PATIENCE:
            self._pass(self._until_next())
            for act in (self.deliver, self.deliver, self.ring, self.work):
                act()
            self.invariants.always()
            is_quiet = not (self.queue or self.jobs or self.late) and self.invariants.is_quiet()
            if self.now > healed + REST and is_quiet:
                self.invariants.at_rest(self.now, self.deleted, self.turned)
                return
        waiting = [(q.sealed.name, q.sealed.subject, q.tries) for q in self.queue]
        raise Hole(f"no rest: {waiting[:4]} {self.invariants.restless()}"[:400])
