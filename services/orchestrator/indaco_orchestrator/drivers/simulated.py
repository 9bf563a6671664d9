"""A simulated cloud for demonstrations, tests and rehearsals of failure. Everything that it shows says so.

It keeps its machines in the site's file (:mod:`indaco_common.simulation`), so they survive restarts and are seen by every process. It
refuses credentials that its site did not make, fills up, boots slowly, fails, hangs and loses answers, as its options say.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import ClassVar, Self, TypeVar

import structlog

from indaco_common import simulation
from indaco_common.clock import Clock
from indaco_common.contracts.values import Place, PortRule
from indaco_common.errors import CredentialRejected, Invalid, NoCapacity, SpecRejected, Unavailable
from indaco_common.simulation import Connection, Site, SiteOptions
from indaco_orchestrator.drivers import simulated_site
from indaco_orchestrator.drivers.port import (
    Ability,
    Capacity,
    Credential,
    NodeKey,
    NodeSpec,
    Phase,
    ResourceId,
    ResourceState,
    UsageSample,
)
from indaco_orchestrator.drivers.simulated_site import Machine

SSH_PORT = 22
_CPU_LOAD = 0.35  # the share of its vCPUs that a simulated machine keeps busy
_BYTES_PER_S = 2_000  # what it receives and sends
_MAX_PORTS = 64  # of a range, that are listed

T = TypeVar("T")
log = structlog.stdlib.get_logger()


class SimulatedDriver:
    """One project in one region of a simulated site."""

    kind: ClassVar[str] = simulation.KIND
    abilities: ClassVar[frozenset[Ability]] = frozenset(
        {Ability.USER_DATA, Ability.PUBLIC_IP, Ability.USAGE, Ability.POWER}
    )

    def __init__(self, site: Site, place: Place) -> None:
        self._site = site
        self._place = place
        self._is_prepared = False

    @classmethod
    async def open(cls, place: Place, *, clock: Clock | None = None) -> Self:
        """Return a driver for *place*. Raises Unavailable, if the endpoint is wrong: an operator has to mend it."""
        try:
            return cls(Site.at(place.endpoint, place.provider, clock=clock), place)
        except Invalid as error:
            raise Unavailable(error.detail) from error

    async def close(self) -> None:
        self._site.close()

    async def create(self, key: NodeKey, spec: NodeSpec, credential: Credential) -> ResourceId:
        now = self._site.clock.now()

        def book(connection: Connection, options: SiteOptions) -> Machine:
            there = simulated_site.by_key(connection, self._place.region, self._place.project, str(key))
            return there or simulated_site.add(connection, self._new_machine(key, spec, options, now), options)

        machine = await self._call(credential, book, may_be_full=True)
        log.info(
            "machine.created", resource_id=machine.id, provider=self._place.provider, node=key.node, simulated=True
        )
        return ResourceId(machine.id)

    async def find(self, key: NodeKey, credential: Credential) -> ResourceId | None:
        def look(connection: Connection, _: SiteOptions) -> Machine | None:
            return simulated_site.by_key(connection, self._place.region, self._place.project, str(key))

        machine = await self._call(credential, look)
        return None if machine is None else ResourceId(machine.id)

    async def describe(self, id: ResourceId, credential: Credential) -> ResourceState:
        machine = await self._call(credential, lambda connection, _: self._machine(connection, id))
        phase = Phase.ABSENT if machine is None else machine.phase(self._site.clock.now())
        if machine is None or phase is Phase.ABSENT:
            return ResourceState(id, Phase.ABSENT)
        if phase is Phase.CREATING:
            return ResourceState(id, phase)
        if machine.needs["buckets"]:
            url = f"https://s3.{self._place.region}.simulated.invalid"  # RFC 6761: no such host
            return ResourceState(id, phase, started_at=machine.boots_at, reason=machine.reason, url=url)
        is_public = machine.needs["public_ips"] > 0 or bool(machine.ports)
        return ResourceState(
            id,
            phase,
            private_addresses=(machine.address,),
            public_addresses=(machine.address,) if is_public else (),
            ports={port: port for port in (SSH_PORT, *machine.ports)},
            started_at=machine.boots_at,
            reason=machine.reason,
        )

    async def delete(self, id: ResourceId, credential: Credential) -> None:
        now = self._site.clock.now()

        def remove(connection: Connection, _: SiteOptions) -> bool:
            machine = self._machine(connection, id)
            if machine is None or machine.deleted_at is not None:
                return False
            simulated_site.remove(connection, id, now)
            return True

        if await self._call(credential, remove):
            log.info("machine.deleted", resource_id=id, provider=self._place.provider, simulated=True)

    async def capacity(self, credential: Credential) -> Capacity:
        def count(connection: Connection, options: SiteOptions) -> Capacity:
            return Capacity(simulated_site.limit(options), simulated_site.used(connection, self._place.region))

        return await self._call(credential, count)

    async def usage(self, id: ResourceId, credential: Credential) -> UsageSample:
        machine = await self._call(credential, lambda connection, _: self._machine(connection, id))
        if machine is None:
            return UsageSample()
        seconds = simulated_site.uptime(machine, self._site.clock.now()).total_seconds()
        transferred = int(seconds * _BYTES_PER_S)
        return UsageSample(seconds * machine.needs["cpu_milli"] / 1000 * _CPU_LOAD, transferred, transferred)

    async def start(self, id: ResourceId, credential: Credential) -> None:
        """Boot a stopped machine, at another address than before; it may find no room and may fail, as a new one may."""
        now = self._site.clock.now()

        def boot(connection: Connection, options: SiteOptions) -> bool:
            machine = self._machine(connection, id)
            if machine is None or machine.phase(now) is not Phase.STOPPED:
                return False
            simulated_site.start(connection, machine, self._booting(machine, options, now))
            return True

        if await self._call(credential, boot, may_be_full=True):
            log.info("machine.started", resource_id=id, provider=self._place.provider, simulated=True)

    async def stop(self, id: ResourceId, credential: Credential) -> None:
        now = self._site.clock.now()

        def halt(connection: Connection, _: SiteOptions) -> bool:
            machine = self._machine(connection, id)
            if machine is None or machine.stopped_at is not None:
                return False
            if machine.needs["buckets"]:
                raise SpecRejected("a bucket of the simulated site cannot be stopped")
            simulated_site.stop(connection, id, now)
            return True

        if await self._call(credential, halt):
            log.info("machine.stopped", resource_id=id, provider=self._place.provider, simulated=True)

    async def _call(
        self, credential: Credential, work: Callable[[Connection, SiteOptions], T], *, may_be_full: bool = False
    ) -> T:
        """Do *work* as the site's answer to one call, unless a fault comes first; a lost answer comes after the work."""
        options = await self._site.answer()
        if self._site.happens(options.fail_rate):
            if may_be_full and self._site.happens(0.5):
                raise NoCapacity("the simulated site has no room, by its fail_rate")
            raise Unavailable("the simulated site failed, by its fail_rate")
        if self._site.happens(options.reject_credentials):
            raise CredentialRejected("the simulated site refused a good credential, by its reject_credentials")
        now = self._site.clock.now()

        def checked(connection: Connection) -> T:
            simulation.check(connection, credential, region=self._place.region, project=self._place.project, now=now)
            if not self._is_prepared:
                simulated_site.prepare(connection)
            return work(connection, options)

        result = await self._site.run(checked)
        self._is_prepared = True
        if self._site.happens(options.lose_answers):
            raise Unavailable("the simulated site's answer was lost, by its lose_answers")
        return result

    def _machine(self, connection: Connection, id: ResourceId) -> Machine | None:
        return simulated_site.by_id(connection, self._place.region, self._place.project, id)

    def _new_machine(self, key: NodeKey, spec: NodeSpec, options: SiteOptions, now: datetime) -> Machine:
        known = [name.strip() for name in options.images.split(",") if name.strip()]
        if known and spec.kind == "machine" and spec.image not in known:
            raise SpecRejected(f"the simulated site has no image {spec.image!r}")
        machine = Machine(
            id="",
            key=str(key),
            region=self._place.region,
            project=self._place.project,
            needs=spec.needs,
            ports=_ports(spec.ports),
            address="",
            created_at=now,
            boots_at=now,
        )
        return self._booting(machine, options, now)

    def _booting(self, machine: Machine, options: SiteOptions, now: datetime) -> Machine:
        """Return *machine* as it is from a start at *now* on."""
        booting = replace(machine, boots_at=now + timedelta(seconds=options.boot_s), forced="", reason="")
        if self._site.happens(options.boot_fail_rate):
            return replace(booting, forced=Phase.FAILED.value, reason="simulated failure at boot")
        return booting


def _ports(rules: tuple[PortRule, ...]) -> tuple[int, ...]:
    """Return the single ports that *rules* open, at most so many that they can be listed."""
    ports = {
        port for rule in rules for port in range(rule.port, min(rule.port_end or rule.port, rule.port + _MAX_PORTS) + 1)
    }
    return tuple(sorted(ports))[:_MAX_PORTS]
