#!/usr/bin/python3
"""Makes containers for one machine of the docker driver, and does nothing else with the engine of the host.

The machine itself never sees the engine's socket: whoever has that is root of the host. It sees this process's own, at which it may
ask for a container by name, image, command, variables and volumes. All else is decided here: a container shares the machine's network,
has no more processor time and memory than the machine, no devices, no files of the host, and bears the machine's label, by which the
driver removes it.

It runs in a container of its own in the machine's network, so that it can forward a port of the machine to another port there.
A request is one line of JSON, and so is its answer; standard library only.

  MACHINE  the id of the machine's container
"""

import asyncio
import contextlib
import functools
import http.client
import json
import os
import re
import socket
import sys
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, Final

ENGINE: Final = "/run/docker.sock"
DOOR: Final = "/run/engine/mediator.sock"
SHARED: Final = "/data"  # what a machine can share with its containers
KEY_LABEL: Final = "indaco.key"  # of the machine
MACHINE_LABEL: Final = "indaco.machine"
MACHINE_KEY_LABEL: Final = "indaco.machine-key"
NAME_LABEL: Final = "indaco.container"
FORWARDS_LABEL: Final = "indaco.forwards"
NEWEST_API: Final = (1, 47)  # of those that this client was written for
MAX_REQUEST_BYTES: Final = 1024 * 1024
MAX_CONTAINERS: Final = 32
MAX_FORWARDS: Final = 64
MAX_LOG_LINES: Final = 200
ENGINE_TIMEOUT_S: Final = 60.0
PULL_TIMEOUT_S: Final = 900.0

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,99}")
_IMAGE = re.compile(r"[a-z0-9][a-zA-Z0-9._:/@-]{0,255}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}")
_PATH = re.compile(r"/[^\0:]{0,254}")
_RESTARTS: Final = ("no", "always", "on-failure", "unless-stopped")
_FIELDS: Final = frozenset(
    {"name", "image", "entrypoint", "command", "environment", "volumes", "forwards", "restart", "user", "folder"}
)


class Refused(Exception):
    """What was asked is not done; the text says why, to the person who asked."""


# ── decisions


def container_body(asked: Mapping[str, Any], machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return the engine's description of the container that is asked for, given the machine's papers. Raises Refused."""
    if unknown := asked.keys() - _FIELDS:
        raise Refused(f"a container here has no {', '.join(sorted(unknown))}")
    limits = machine["HostConfig"]
    body: dict[str, Any] = {
        "Image": _matching(asked, "image", _IMAGE),
        "Env": _environment(asked.get("environment", {})),
        "User": _text(asked.get("user", ""), "user"),
        "WorkingDir": _text(asked.get("folder", ""), "folder"),
        "Labels": _labels(machine)
        | {
            NAME_LABEL: _matching(asked, "name", _NAME),
            FORWARDS_LABEL: json.dumps(_forwards(asked.get("forwards", []))),
        },
        "HostConfig": {
            "NetworkMode": f"container:{machine['Id']}",
            "NanoCpus": limits["NanoCpus"],
            "Memory": limits["Memory"],
            "MemorySwap": limits["MemorySwap"],
            "PidsLimit": limits["PidsLimit"],
            "CapDrop": ["MKNOD", "NET_RAW"],
            "SecurityOpt": ["no-new-privileges"],
            "Mounts": [_mount(volume, machine) for volume in _list(asked.get("volumes", []), "volumes")],
            "RestartPolicy": {"Name": _restart(asked.get("restart", "no"))},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "5m", "max-file": "1"}},
        },
    }
    for field, key in (("entrypoint", "Entrypoint"), ("command", "Cmd")):
        if asked.get(field):
            body[key] = [_text(word, field) for word in _list(asked[field], field)]
    return body


def container_name(machine: str, name: str) -> str:
    """Return the container's name on the host, where other machines have containers of the same name."""
    return f"indaco-{machine[:12]}-{name}"


def _mount(volume: object, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mount of a volume of the machine's own, or of its folder /data."""
    if not isinstance(volume, dict):
        raise Refused("a volume is a source and a target")
    source, target = _text(volume.get("source", ""), "source"), _matching(volume, "target", _PATH)
    mount = {"Type": "volume", "Target": target, "ReadOnly": volume.get("read_only") is True}
    if source.rstrip("/") == SHARED:
        folder = next((m["Name"] for m in machine["Mounts"] if m["Destination"] == SHARED), None)
        if folder is None:
            raise Refused(f"this machine has no {SHARED} to share")
        return mount | {"Source": folder}
    if not source:
        return mount  # the engine removes it with the container
    if not _NAME.fullmatch(source):
        raise Refused(f"of the machine's files only {SHARED} can be shared, not {source[:100]!r}; use a named volume")
    name = container_name(machine["Id"], source)
    return mount | {"Source": name, "VolumeOptions": {"Labels": _labels(machine)}}


def _labels(machine: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels by which the driver finds what the machine has, also once the machine is gone."""
    return {MACHINE_LABEL: machine["Id"], MACHINE_KEY_LABEL: machine["Config"]["Labels"].get(KEY_LABEL, "")}


def _environment(values: object) -> list[str]:
    if not isinstance(values, dict):
        raise Refused("environment is no map")
    for name in values:
        if not _VARIABLE.fullmatch(name):
            raise Refused(f"{name[:60]!r} is not the name of a variable")
    return [f"{name}={_text(value, name)}" for name, value in values.items()]


def _forwards(values: object) -> list[list[int]]:
    """Return pairs of a port of the machine and the container's port that it leads to."""
    forwards = _list(values, "forwards")
    for pair in forwards:
        ports = _list(pair, "forwards")
        if len(ports) != 2 or not all(type(port) is int and 0 < port < 2**16 for port in ports):  # noqa: PLR2004 - a pair
            raise Refused("a forward is two port numbers")
    if len(forwards) > MAX_FORWARDS:
        raise Refused(f"more than {MAX_FORWARDS} ports")
    return forwards


def _restart(value: object) -> str:
    if value not in _RESTARTS:
        raise Refused(f"restart is one of {', '.join(_RESTARTS)}")
    return str(value)


def _matching(values: Mapping[str, Any], field: str, pattern: re.Pattern[str]) -> str:
    text = _text(values.get(field, ""), field)
    if not pattern.fullmatch(text):
        raise Refused(f"{text[:100]!r} is no {field}")
    return text


def _text(value: object, field: str) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise Refused(f"{field} is no text")
    return value


def _list(value: object, field: str) -> list[Any]:
    if not isinstance(value, list):
        raise Refused(f"{field} is no list")
    return value


# ── the engine


class _Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(ENGINE)


def ask(
    method: str, path: str, body: object = None, *, accept: tuple[int, ...] = (200, 201, 204), timeout_s: float = ENGINE_TIMEOUT_S
) -> tuple[int, bytes]:  # fmt: skip
    """Return status and body of the engine's answer. Raises Refused with what the engine says, if the status is none of *accept*."""
    connection = _Connection("docker", timeout=timeout_s)
    try:
        connection.request("GET", "/_ping")
        pong = connection.getresponse()
        pong.read()
        major, minor = (int(part) for part in pong.headers.get("Api-Version", "").split("."))
        url = "/v{}.{}{}".format(*min((major, minor), NEWEST_API), path)
        content = None if body is None else json.dumps(body)
        connection.request(method, url, body=content, headers={"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Refused(f"the container engine does not answer: {type(error).__name__}") from error
    finally:
        connection.close()
    if answer.status not in accept:
        raise Refused(f"the container engine says: {_message(said)}")
    return answer.status, said


def read(path: str) -> Any:
    """Return the JSON at *path*. Raises Refused."""
    return json.loads(ask("GET", path)[1])


def pull(image: str) -> None:
    """Have the engine fetch *image*. Raises Refused."""
    reference = image if "@" in image or ":" in image.rpartition("/")[2] else f"{image}:latest"
    path = f"/images/create?{urllib.parse.urlencode({'fromImage': reference})}"
    _, said = ask("POST", path, timeout_s=PULL_TIMEOUT_S)
    last = said.strip().rpartition(b"\n")[2]
    if b'"error"' in last:
        raise Refused(f"the image {image} cannot be fetched: {json.loads(last)['error'][:300]}")


def listed(machine: str) -> list[dict[str, Any]]:
    """Return the machine's containers: name, image, status, and the ports that lead to them."""
    filters = json.dumps({"label": [f"{MACHINE_LABEL}={machine}", NAME_LABEL]})
    found = read(f"/containers/json?{urllib.parse.urlencode({'all': 1, 'filters': filters})}")
    return [
        {
            "name": c["Labels"][NAME_LABEL],
            "image": c["Image"],
            "status": c["Status"],
            "forwards": json.loads(c["Labels"][FORWARDS_LABEL]),
        }
        for c in found
    ]


def rejoin(machine: str, name: str) -> None:
    """Start a container again if its machine was, and has a new network since then. Raises Refused."""
    path = f"/containers/{container_name(machine, name)}"
    papers, since = read(f"{path}/json"), read(f"/containers/{machine}/json")["State"]["StartedAt"]
    # the engine writes no zeros at the end of a fraction, so without the Z the texts are in the order of time
    is_older = papers["State"]["StartedAt"].rstrip("Z") < since.rstrip("Z")
    if is_older and papers["HostConfig"]["RestartPolicy"]["Name"] != "no":
        ask("POST", f"{path}/restart?t=0")


def _message(said: bytes) -> str:
    try:
        return str(json.loads(said)["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return said[:300].decode(errors="replace")


# ── what may be asked


class Mediator:
    """Does what one machine asks. The containers are all that it knows: once started again, it takes up those that there are."""

    def __init__(self, machine: str) -> None:
        self._machine = machine
        self._forwards: dict[str, list[asyncio.Server]] = {}
        self._turn = asyncio.Lock()  # a name is removed and made again by one request at a time
        self._acts: Mapping[str, Callable[..., Any]] = {
            "info": self._info,
            "list": self._list,
            "logs": self._logs,
            "remove": self._remove,
            "run": self._run,
        }

    async def serve(self) -> None:
        """Answer requests until the process is ended."""
        for container in await asyncio.to_thread(listed, self._machine):
            try:
                await asyncio.to_thread(rejoin, self._machine, container["name"])
                await self._forward(container["name"], container["forwards"])
            except Refused as refusal:
                sys.stderr.write(f"{container['name']}: {refusal}\n")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(DOOR)  # noqa: PTH108 - one call
        os.umask(0o177)  # the machine's root alone
        server = await asyncio.start_unix_server(self._answer, DOOR, limit=MAX_REQUEST_BYTES)
        await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = {"answer": await self._act(await reader.readline())}
        except Refused as refusal:
            answer = {"error": str(refusal)}
        except ValueError:
            answer = {"error": f"the request is larger than {MAX_REQUEST_BYTES} bytes"}
        with contextlib.suppress(OSError):
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
            writer.close()

    async def _act(self, line: bytes) -> Any:
        try:
            request = json.loads(line)
            act = self._acts[request.pop("do")]
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise Refused(f"a request is a JSON object whose 'do' is one of {', '.join(self._acts)}") from None
        return await act(request)

    async def _info(self, _: Mapping[str, Any]) -> str:
        return str((await asyncio.to_thread(read, "/version"))["Version"])

    async def _list(self, _: Mapping[str, Any]) -> list[dict[str, Any]]:
        return await asyncio.to_thread(listed, self._machine)

    async def _logs(self, request: Mapping[str, Any]) -> str:
        query = f"/logs?stdout=1&stderr=1&tail={MAX_LOG_LINES}"
        _, stream = await asyncio.to_thread(ask, "GET", self._path(request) + query)
        text, rest = b"", stream
        while len(rest) > 8:  # noqa: PLR2004 - a frame's head: kind and, in the last 4 bytes, its length
            length = int.from_bytes(rest[4:8], "big")
            text, rest = text + rest[8 : 8 + length], rest[8 + length :]
        return text.decode(errors="replace")

    async def _remove(self, request: Mapping[str, Any]) -> bool:
        """Return True if there was a container of the name."""
        path = self._path(request)
        async with self._turn:
            for server in self._forwards.pop(request["name"], []):
                server.close()
            status, _ = await asyncio.to_thread(ask, "DELETE", f"{path}?force=1&v=1", accept=(204, 404, 409))
        return status == http.HTTPStatus.NO_CONTENT

    async def _run(self, request: Mapping[str, Any]) -> str:
        """Return the id of a new container that runs."""
        path = self._path(request)
        async with self._turn:
            machine = await asyncio.to_thread(read, f"/containers/{self._machine}/json")
            body = container_body(request, machine)
            if len(await asyncio.to_thread(listed, self._machine)) >= MAX_CONTAINERS:
                raise Refused(f"a machine has at most {MAX_CONTAINERS} containers")
            create = f"/containers/create?name={container_name(self._machine, request['name'])}"
            status, said = await asyncio.to_thread(ask, "POST", create, body, accept=(201, 404))
            if status == http.HTTPStatus.NOT_FOUND:
                await asyncio.to_thread(pull, body["Image"])
                _, said = await asyncio.to_thread(ask, "POST", create, body)
            try:
                await asyncio.to_thread(ask, "POST", f"{path}/start")
                await self._forward(request["name"], request.get("forwards", []))
            except Refused:
                await asyncio.to_thread(ask, "DELETE", f"{path}?force=1&v=1", accept=(204, 404, 409))
                raise
            return str(json.loads(said)["Id"])

    def _path(self, request: Mapping[str, Any]) -> str:
        """Return the engine's path of a container of this machine; of no other one."""
        return f"/containers/{container_name(self._machine, _matching(request, 'name', _NAME))}"

    async def _forward(self, name: str, forwards: list[list[int]]) -> None:
        servers = self._forwards.setdefault(name, [])
        for port, target in forwards:
            try:
                servers.append(await asyncio.start_server(functools.partial(_carry, port=target), None, port))
            except OSError:
                for server in self._forwards.pop(name):
                    server.close()
                raise Refused(f"the machine's port {port} is taken") from None


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Carry one connection to *port* of the machine, both ways until both have ended."""
    try:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        writer.transport.abort()  # nobody is there yet: to the caller it is a connection that broke
        return
    await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
    for end in (writer, inner_writer):
        end.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while part := await reader.read(64 * 1024):
            writer.write(part)
            await writer.drain()
        writer.write_eof()


if __name__ == "__main__":
    try:
        asyncio.run(Mediator(os.environ["MACHINE"]).serve())
    except Refused as refusal:
        sys.exit(str(refusal))
