"""What belongs to a machine besides its own container, where a place shares its engine: the mediator, and what the mediator made.

The mediator (``deploy/docker/mediator.py``) makes containers for the machine, and is the only one that is given the engine's socket. All
that it makes bears the machine's id and key as labels: containers and volumes. They count in no capacity; they live in the machine's network,
and go with it.
"""

import asyncio
import json
from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import quote

from indaco_common.errors import SpecRejected
from indaco_orchestrator.drivers.docker_container import (
    DOOR_FOLDER,
    KEY_LABEL,
    MACHINE_KEY_LABEL,
    MACHINE_LABEL,
    MIB,
    moment,
)
from indaco_orchestrator.drivers.docker_engine import Engine
from indaco_orchestrator.drivers.port import NodeKey, ResourceId

ROLE_LABEL: Final = "indaco.role"
_PROGRAM: Final = ("/usr/bin/tini", "--", "/usr/local/lib/indaco/mediator.py")
_ENGINE_IN_MEDIATOR: Final = "/run/docker.sock"
_MEMORY: Final = 128 * MIB
_MAX_PROCESSES: Final = 64
_GRACE_S: Final = 2  # for a container to end by itself when its machine is stopped: before that, within one call
_RUNS: Final = ("running", "restarting", "paused")


def mediator_body(papers: Mapping[str, Any], image: str, socket: str) -> dict[str, Any]:
    """Return the engine's description of the container of the mediator of the machine with *papers*. Raises SpecRejected.

    It has the engine's socket, so all that it runs must be of *image*: of the machine, whose image and files are its user's, it sees the
    folder of its door alone.
    """
    machine = papers["Id"]
    door = {"Type": "volume", "Source": _door_of(papers), "Target": DOOR_FOLDER, "VolumeOptions": {"NoCopy": True}}
    return {
        "Image": image,
        "Entrypoint": [*_PROGRAM],
        "Env": [f"MACHINE={machine}"],
        "Labels": {
            MACHINE_LABEL: machine,
            MACHINE_KEY_LABEL: papers["Config"]["Labels"][KEY_LABEL],
            ROLE_LABEL: "mediator",
        },
        "HostConfig": {
            "NetworkMode": f"container:{machine}",
            "Mounts": [door],
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


def _door_of(papers: Mapping[str, Any]) -> str:
    """Return the name of the volume that has the machine's door. Raises SpecRejected."""
    for mount in papers["Mounts"]:
        if (mount["Type"], mount["Destination"]) == ("volume", DOOR_FOLDER):
            return str(mount["Name"])
    raise SpecRejected(f"the machine has no volume at {DOOR_FOLDER} for its mediator; delete it and make it again")


def mediator_name(machine: ResourceId) -> str:
    """Return the name of a machine's mediator, which the machine can give to no other container."""
    return f"indaco-mediator-{machine[:12]}"


def is_older(papers: Mapping[str, Any], started_at: str) -> bool:
    """Return True if a container was started before the engine's time stamp *started_at*."""
    began, since = moment(papers["State"]["StartedAt"]), moment(started_at)
    return began is not None and since is not None and began < since


class Siblings:
    """Starts the mediator of a machine, stops what the machine had made, and removes what it leaves behind. Every call may be repeated."""

    def __init__(self, engine: Engine, image: str) -> None:
        self._engine = engine
        self._image = image

    async def mediate(self, machine: Mapping[str, Any]) -> bool:
        """See that the mediator of the machine with these papers runs in the network that it has since its start; return whether it does.

        Raises what the engine's refusal means.
        """
        name, started_at = mediator_name(machine["Id"]), machine["State"]["StartedAt"]
        body = mediator_body(machine, self._image, self._engine.socket)
        await self._engine.ask("POST", "/containers/create", query={"name": name}, body=body, accept=(201, 409))
        papers = await self._engine.read(f"/containers/{name}/json")
        act = "restart" if papers is not None and is_older(papers, started_at) else "start"
        # 304: it runs; 404: another call is removing it; 409: the machine has just ended
        path = f"/containers/{name}/{act}"
        status, _ = await self._engine.ask("POST", path, query={"t": "0"}, accept=(204, 304, 404, 409))
        return status in (204, 304)

    async def stop(self, machine: ResourceId) -> bool:
        """Stop the containers that bear the machine's label, the mediator first, as it would start the others; return whether any ran."""
        listed, _ = await self._list(f"{MACHINE_LABEL}={machine}")
        running = [container for container in listed if container["State"] in _RUNS]
        for is_mediator, grace_s in ((True, 0), (False, _GRACE_S)):
            some = [container["Id"] for container in running if (ROLE_LABEL in container["Labels"]) is is_mediator]
            await asyncio.gather(*(self._stop_container(id, grace_s) for id in some))
        return bool(running)

    async def remove(self, machine: ResourceId) -> bool:
        """Remove the containers that bear the machine's label, the mediator first, then their volumes; return whether there were any.

        They have its door and its shared folder too. Those go with the machine; but if that went first, now.
        """
        listed, volumes = await self._list(f"{MACHINE_LABEL}={machine}")
        for is_mediator in (True, False):
            some = [container["Id"] for container in listed if (ROLE_LABEL in container["Labels"]) is is_mediator]
            await asyncio.gather(*map(self._remove_container, some))
        await asyncio.gather(*(self._remove_volume(volume["Name"]) for volume in volumes))
        folders = {mount["Name"] for left in listed for mount in left.get("Mounts") or () if mount["Type"] == "volume"}
        await asyncio.gather(*(self._remove_volume(name, accept=(204, 404, 409)) for name in sorted(folders)))
        return bool(listed or volumes)

    async def remove_of(self, key: NodeKey) -> None:
        """Remove what the machines of *key* left that are gone: their ids are nowhere but in its labels."""
        listed, volumes = await self._list(f"{MACHINE_KEY_LABEL}={key}")
        labels = [left.get("Labels") or {} for left in [*listed, *volumes]]
        for machine in sorted({of.get(MACHINE_LABEL, "") for of in labels} - {""}):
            if await self._engine.read(f"/containers/{quote(machine, safe='')}/json") is None:
                await self.remove(ResourceId(machine))

    async def _list(self, label: str) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
        """Return the containers and the volumes with *label*."""
        filters = json.dumps({"label": [label]})
        listed = await self._engine.read("/containers/json", query={"all": "1", "filters": filters}) or []
        volumes = await self._engine.read("/volumes", query={"filters": filters}) or {}
        return listed, volumes.get("Volumes") or []

    async def _stop_container(self, id: str, grace_s: int) -> None:
        await self._engine.ask("POST", f"/containers/{id}/stop", query={"t": str(grace_s)}, accept=(204, 304, 404))

    async def _remove_container(self, id: str) -> None:
        # 409: another call is removing it
        await self._engine.ask("DELETE", f"/containers/{id}", query={"force": "1", "v": "1"}, accept=(204, 404, 409))

    async def _remove_volume(self, name: str, *, accept: Collection[int] = (204, 404)) -> None:
        await self._engine.ask("DELETE", f"/volumes/{quote(name, safe='')}", accept=accept)
