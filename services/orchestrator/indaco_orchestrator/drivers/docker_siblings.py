"""What belongs to a machine besides its own container, where a place shares its engine: the mediator, and what the mediator made.

The mediator (``deploy/docker/mediator.py``) makes containers for the machine, and is the only one that is given the engine's socket. All
that it makes bears the machine's id as a label: containers and volumes. They count in no capacity; they live in the machine's network, and
go with it.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from indaco_orchestrator.drivers.docker_container import MACHINE_LABEL, MIB, moment
from indaco_orchestrator.drivers.docker_engine import Engine
from indaco_orchestrator.drivers.port import ResourceId

ROLE_LABEL: Final = "indaco.role"
_PROGRAM: Final = ("/usr/bin/tini", "--", "/usr/local/lib/indaco/mediator.py")
_ENGINE_IN_MEDIATOR: Final = "/run/docker.sock"
_MEMORY: Final = 128 * MIB
_MAX_PROCESSES: Final = 64


def mediator_body(machine: ResourceId, image: str, socket: str) -> dict[str, Any]:
    """Return the engine's description of the container of a machine's mediator."""
    return {
        "Image": image,
        "Entrypoint": [*_PROGRAM],
        "Env": [f"MACHINE={machine}"],
        "Labels": {MACHINE_LABEL: machine, ROLE_LABEL: "mediator"},
        "HostConfig": {
            "NetworkMode": f"container:{machine}",
            "VolumesFrom": [machine],  # the folder of its door
            "Binds": [f"{socket}:{_ENGINE_IN_MEDIATOR}"],
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "CapAdd": ["NET_BIND_SERVICE"],
            "SecurityOpt": ["no-new-privileges"],
            "Memory": _MEMORY,
            "MemorySwap": _MEMORY,
            "PidsLimit": _MAX_PROCESSES,
            "RestartPolicy": {"Name": "unless-stopped"},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "1"}},
        },
    }


def mediator_name(machine: ResourceId) -> str:
    """Return the name of a machine's mediator, which the machine can give to no other container."""
    return f"indaco-mediator-{machine[:12]}"


def is_older(papers: Mapping[str, Any], started_at: str) -> bool:
    """Return True if a container was started before the engine's time stamp *started_at*."""
    began, since = moment(papers["State"]["StartedAt"]), moment(started_at)
    return began is not None and since is not None and began < since


class Siblings:
    """Starts the mediator of a machine, and removes what the machine leaves behind. Every call may be repeated."""

    def __init__(self, engine: Engine, image: str) -> None:
        self._engine = engine
        self._image = image

    async def mediate(self, machine: ResourceId, started_at: str) -> bool:
        """See that the mediator of a machine runs in the network that the machine has since *started_at*; return whether it does.

        Raises what the engine's refusal means.
        """
        name = mediator_name(machine)
        body = mediator_body(machine, self._image, self._engine.socket)
        await self._engine.ask("POST", "/containers/create", query={"name": name}, body=body, accept=(201, 409))
        papers = await self._engine.read(f"/containers/{name}/json")
        act = "restart" if papers is not None and is_older(papers, started_at) else "start"
        # 304: it runs; 404: another call is removing it; 409: the machine has just ended
        path = f"/containers/{name}/{act}"
        status, _ = await self._engine.ask("POST", path, query={"t": "0"}, accept=(204, 304, 404, 409))
        return status in (204, 304)

    async def remove(self, machine: ResourceId) -> bool:
        """Remove the containers that bear the machine's label, the mediator first, then their volumes; return whether there were any."""
        filters = json.dumps({"label": [f"{MACHINE_LABEL}={machine}"]})
        listed = await self._engine.read("/containers/json", query={"all": "1", "filters": filters}) or []
        volumes = (await self._engine.read("/volumes", query={"filters": filters}) or {}).get("Volumes") or []
        for is_mediator in (True, False):
            some = [container["Id"] for container in listed if (ROLE_LABEL in container["Labels"]) is is_mediator]
            await asyncio.gather(*map(self._remove_container, some))
        await asyncio.gather(*(self._remove_volume(volume["Name"]) for volume in volumes))
        return bool(listed or volumes)

    async def _remove_container(self, id: str) -> None:
        # 409: another call is removing it
        await self._engine.ask("DELETE", f"/containers/{id}", query={"force": "1", "v": "1"}, accept=(204, 404, 409))

    async def _remove_volume(self, name: str) -> None:
        await self._engine.ask("DELETE", f"/volumes/{quote(name, safe='')}", accept=(204, 404))
