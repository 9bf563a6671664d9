"""Virtual machines as containers of a local Docker Engine: real SSH, real limits, seconds instead of minutes.

Meant for one host: ports are published on its loopback. The endpoint is ``docker:unix:///var/run/docker.sock`` or
``docker:tcp://127.0.0.1:<port>``, with :class:`~indaco_orchestrator.drivers.docker_engine.EngineOptions` as its query.
"""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, ClassVar, Final, Self
from urllib.parse import parse_qsl, quote

import structlog

from indaco_common.clock import Clock, SystemClock
from indaco_common.contracts.values import Place
from indaco_common.errors import CredentialRejected, NoCapacity, ProviderError, SpecRejected, Unavailable
from indaco_common.units import ResourceVector
from indaco_orchestrator.drivers import docker_container
from indaco_orchestrator.drivers.docker_container import KEY_LABEL, LOOPBACK, MACHINE_LABEL, MIB
from indaco_orchestrator.drivers.docker_engine import Engine, EngineOptions
from indaco_orchestrator.drivers.docker_siblings import Siblings
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

_BANNER: Final = b"SSH-"
_BANNER_TIMEOUT_S: Final = 1.0
_SSH_PORT: Final = 22
_TWIN_WAIT_S: Final = 6.0  # for a container that another call is making; a busy engine takes seconds
_TWIN_STEP_S: Final = 0.05
_GRACE_S: Final = 4  # for a container to end by itself when it is stopped
_IMAGE_LABEL: Final = "dev.indaco.vm-image"  # of the images that deploy/docker makes, and of those made from them
_UNSTARTED_AFTER: Final = timedelta(
    seconds=5
)  # since when a container that was made and not started is taken for forgotten
log = structlog.stdlib.get_logger()


class DockerDriver:
    """One Docker Engine. Region and project do not divide it: they are names for the ledger."""

    kind: ClassVar[str] = "docker"
    abilities: ClassVar[frozenset[Ability]] = frozenset({Ability.USER_DATA, Ability.USAGE, Ability.POWER})

    def __init__(self, engine: Engine, options: EngineOptions, *, clock: Clock | None = None) -> None:
        self._engine = engine
        self._options = options
        self._siblings = Siblings(engine, options.image)
        self._clock = clock or SystemClock()
        # By when a machine had started: a busy one later is not "creating", one that was started again is.
        self._answered: dict[ResourceId, str] = {}  # whose SSH server was seen
        self._mediated: dict[ResourceId, str] = {}  # whose mediator was seen
        self._host: ResourceVector | None = None

    @classmethod
    async def open(cls, place: Place) -> Self:
        """Return a driver for *place*. Raises Unavailable, if the endpoint is wrong: an operator has to mend it."""
        address, _, query = place.endpoint.removeprefix("docker:").partition("?")
        try:
            options = EngineOptions.model_validate(dict(parse_qsl(query, strict_parsing=bool(query))))
        except ValueError as error:
            raise Unavailable(f"the endpoint of {place.provider} has wrong options") from error
        engine = Engine(address)
        if options.engine == "shared" and not engine.socket:
            raise Unavailable(f"the endpoint of {place.provider} must name a socket: a port cannot be shared")
        return cls(engine, options)

    async def close(self) -> None:
        await self._engine.close()

    async def create(self, key: NodeKey, spec: NodeSpec, credential: Credential) -> ResourceId:  # noqa: ARG002 - needs none
        """Find, or make, and start the container of *key*.

        Another call with the key may be under way, or may have been cut short: the engine then takes the name before it lists the
        container, and may list one that it is about to give up. So what is seen counts only once it has been started.
        """
        async with self._engine.deadline():
            until = asyncio.get_running_loop().time() + _TWIN_WAIT_S
            while asyncio.get_running_loop().time() < until:
                found = await self._look(key) or await self._make(key, spec)
                if found is not None and (found["State"] != "created" or await self._start(ResourceId(found["Id"]))):
                    return ResourceId(found["Id"])
                await asyncio.sleep(_TWIN_STEP_S)
        raise Unavailable("the container's name is taken, by a call that has not ended")

    async def find(self, key: NodeKey, credential: Credential) -> ResourceId | None:  # noqa: ARG002
        async with self._engine.deadline():
            found = await self._look(key)
            if found is None and self._options.engine == "shared":
                await self._siblings.remove_of(key)
            return None if found is None else ResourceId(found["Id"])

    async def describe(self, id: ResourceId, credential: Credential) -> ResourceState:  # noqa: ARG002
        """Return the container's state; finishes a creation that was cut short between making and starting it, and the end of what is gone."""
        async with self._engine.deadline():
            papers = await self._engine.read(_path(id, "json"))
            if papers is None:
                await self._siblings.remove(id)
                self._forget(id)
                return ResourceState(id, Phase.ABSENT)
            if docker_container.has_failed(papers):
                return docker_container.state_of(papers, is_answering=False, last_line=await self._last_line(id))
            if papers["State"]["Status"] == "created":
                await self._finish(papers)
            is_running = papers["State"]["Status"] == "running"
            is_answering = is_running and (not docker_container.is_machine(papers) or await self._serves(papers))
            return docker_container.state_of(papers, is_answering=is_answering)

    async def delete(self, id: ResourceId, credential: Credential) -> None:  # noqa: ARG002
        """Remove what the machine had made, then the machine: as long as it is there, whoever looks for it knows that there is work left."""
        async with self._engine.deadline():
            had_siblings = await self._siblings.remove(id)
            if had_siblings:
                await self._siblings.remove(id)  # the engine may have been making one for the mediator as that went
            # 409: another call is removing it
            status, _ = await self._engine.ask(
                "DELETE", _path(id), query={"force": "1", "v": "1"}, accept=(204, 404, 409)
            )
            if had_siblings:
                await self._siblings.remove(id)  # and may have taken its time; what is left even so, `find` removes
        self._forget(id)
        if status == 204:  # noqa: PLR2004 - HTTP
            log.info("machine.deleted", resource_id=id)

    async def capacity(self, credential: Credential) -> Capacity:  # noqa: ARG002
        async with self._engine.deadline():
            return Capacity(await self._limit(), await self._used())

    async def usage(self, id: ResourceId, credential: Credential) -> UsageSample:  # noqa: ARG002
        async with self._engine.deadline():
            query = {"stream": "false", "one-shot": "true"}
            statistics = await self._engine.read(_path(id, "stats"), query=query)
            return docker_container.usage_of(statistics or {})

    async def start(self, id: ResourceId, credential: Credential) -> None:  # noqa: ARG002
        """Start the container; what a machine had made follows, once it is described: its mediator sees to that."""
        async with self._engine.deadline():
            status, _ = await self._engine.ask("POST", _path(id, "start"), accept=(204, 304, 404))
        if status == 204:  # noqa: PLR2004 - HTTP
            log.info("machine.started", resource_id=id)

    async def stop(self, id: ResourceId, credential: Credential) -> None:  # noqa: ARG002
        """Stop what the machine had made, then the machine: as long as it runs, whoever looks at it knows that there is work left."""
        async with self._engine.deadline():
            had_siblings = await self._siblings.stop(id)
            query = {"t": str(_GRACE_S)}
            status, _ = await self._engine.ask("POST", _path(id, "stop"), query=query, accept=(204, 304, 404))
            if had_siblings:
                await self._siblings.stop(id)  # another call may have looked at the machine, and seen to its mediator
        if status == 204:  # noqa: PLR2004 - HTTP
            log.info("machine.stopped", resource_id=id)

    async def _look(self, key: NodeKey) -> Mapping[str, Any] | None:
        found = await self._list(f"{KEY_LABEL}={key}")
        return found[0] if found else None

    async def _list(self, label: str) -> list[Mapping[str, Any]]:
        """Return our containers with *label*; none that a machine had made, whose image may bear any label."""
        query = {"all": "1", "filters": json.dumps({"label": [label]})}
        listed = await self._engine.read("/containers/json", query=query) or []
        return [container for container in listed if not container["Labels"].get(MACHINE_LABEL)]

    async def _make(self, key: NodeKey, spec: NodeSpec) -> Mapping[str, Any] | None:
        """Return a new container; None if the name, which is free for one only, is taken."""
        is_machine = spec.kind != docker_container.CONTAINER
        image = spec.image or (self._options.image if is_machine else "")
        if not image:
            raise SpecRejected("the container has no image")
        is_mediated = is_machine and self._options.engine == "shared"
        if is_mediated and image != self._options.image:
            await self._check_image(image)
        body = docker_container.container_body(key, spec, image, is_mediated=is_mediated)
        await self._check_room(docker_container.needed(spec))
        query = {"name": docker_container.container_name(key)}
        status, content = await self._engine.ask(
            "POST", "/containers/create", query=query, body=body, accept=(201, 409)
        )
        if status != 201:  # noqa: PLR2004 - HTTP
            return None
        id = json.loads(content)["Id"]
        log.info("machine.created", resource_id=id, node=key.node, deployment_id=key.deployment)
        return {"Id": id, "State": "created"}

    async def _check_image(self, image: str) -> None:
        """Raise SpecRejected for an image that is not made for a shared engine. It guards no secret: anybody can write a label."""
        papers = await self._engine.read(f"/images/{quote(image, safe='')}/json")
        if not (((papers or {}).get("Config") or {}).get("Labels") or {}).get(_IMAGE_LABEL):
            raise SpecRejected(
                f"the image {image[:100]!r} is not on the Docker host with the label {_IMAGE_LABEL}, as a machine needs where the engine is "
                f"shared; name none, {self._options.image}, or an image made from that"
            )

    async def _start(self, id: ResourceId) -> bool:
        """Start the container; return False if it is gone. One that never can start is removed: nothing is left of a refusal."""
        try:
            # 304: it runs
            status, _ = await self._engine.ask("POST", _path(id, "start"), accept=(204, 304, 404))
        except (NoCapacity, SpecRejected):
            with suppress(ProviderError, Unavailable):
                await self._engine.ask("DELETE", _path(id), query={"force": "1", "v": "1"})
            raise
        return status != 404  # noqa: PLR2004 - HTTP

    async def _finish(self, papers: Mapping[str, Any]) -> None:
        made_at = docker_container.moment(papers.get("Created", ""))
        if made_at is not None and self._clock.now() - made_at > _UNSTARTED_AFTER:
            log.info("machine.started", resource_id=papers["Id"])
            with suppress(NoCapacity, SpecRejected, CredentialRejected):  # a failure shows in the next description
                await self._start(ResourceId(papers["Id"]))

    async def _serves(self, papers: Mapping[str, Any]) -> bool:
        """Return True once a machine has its mediator, if it was made for one, and its SSH server answers."""
        return await self._is_mediated(papers) and await self._answers(papers)

    async def _answers(self, papers: Mapping[str, Any]) -> bool:
        """Return True once an SSH server greets, on the published port or, where the host's loopback is not ours, inside the bridge."""
        id, started_at = ResourceId(papers["Id"]), str(papers["State"]["StartedAt"])
        if self._answered.get(id) != started_at:
            networks = (papers["NetworkSettings"].get("Networks") or {}).values()
            doors = [(LOOPBACK, port) for port in [docker_container.host_ports(papers).get(_SSH_PORT)] if port]
            doors += [(network["IPAddress"], _SSH_PORT) for network in networks if network.get("IPAddress")]
            for host, port in doors:
                if await _greets(host, port):
                    self._answered[id] = started_at
                    break
        return self._answered.get(id) == started_at

    async def _is_mediated(self, papers: Mapping[str, Any]) -> bool:
        """Return True once the machine has the mediator that it was promised, if any. A volume in its image promises nothing."""
        id, started_at = ResourceId(papers["Id"]), str(papers["State"]["StartedAt"])
        if self._options.engine != "shared" or not docker_container.is_mediated(papers):
            return True
        if self._mediated.get(id) != started_at:
            try:
                if await self._siblings.mediate(papers):
                    self._mediated[id] = started_at
            except (NoCapacity, SpecRejected, CredentialRejected) as error:
                log.warning("machine.unmediated", resource_id=id, reason=error.detail)
        return self._mediated.get(id) == started_at

    def _forget(self, id: ResourceId) -> None:
        self._answered.pop(id, None)
        self._mediated.pop(id, None)

    async def _last_line(self, id: ResourceId) -> str:
        query = {"stdout": "1", "stderr": "1", "tail": "1"}
        _, stream = await self._engine.ask("GET", _path(id, "logs"), query=query, accept=(200, 404, 409, 500, 501))
        return docker_container.last_line_of(stream)

    async def _limit(self) -> ResourceVector:
        """Return what the host has: cores times the ratio, and all its memory."""
        if self._host is None:
            host = await self._engine.read("/info")
            if not host:
                raise Unavailable("the Docker Engine does not describe its host")
            self._host = ResourceVector(cpu_milli=host["NCPU"] * 1000, memory_mib=host["MemTotal"] // MIB)
        milli = int(self._host["cpu_milli"] * self._options.cpu_ratio)
        return ResourceVector(instances=milli // 100, cpu_milli=milli, memory_mib=self._host["memory_mib"])

    async def _used(self) -> ResourceVector:
        return docker_container.sum_of(await self._list(KEY_LABEL))

    async def _check_room(self, asked: ResourceVector) -> None:
        """Raise NoCapacity for what this host cannot hold beside our other machines, or ever."""
        limit = await self._limit()
        used = await self._used()
        free = {name: max(0, amount - used[name]) for name, amount in limit.items()}
        if self._host is not None:
            free["cpu_milli"] = min(
                free["cpu_milli"], self._host["cpu_milli"]
            )  # the engine lets one have no more than all cores
        short = asked.shortfall(free)
        if short:
            lacks = ", ".join(f"{name}: {asked[name]} asked, {free.get(name, 0)} free" for name in short)
            raise NoCapacity(f"the Docker host has no room ({lacks})")


def _path(id: ResourceId, part: str = "") -> str:
    return f"/containers/{quote(id, safe='')}" + (f"/{part}" if part else "")


async def _greets(host: str, port: int) -> bool:
    """Return True if an SSH server says so at once (RFC 4253 §4.2)."""
    try:
        async with asyncio.timeout(_BANNER_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                return await reader.readexactly(len(_BANNER)) == _BANNER
            finally:
                writer.close()
    except (OSError, EOFError, TimeoutError):
        return False
