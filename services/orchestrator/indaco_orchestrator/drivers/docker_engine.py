"""The Docker Engine's HTTP interface over its Unix socket or a loopback port, with errors put into the contract's words."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import aiohttp
import pydantic

from indaco_common.errors import CredentialRejected, IndacoError, NoCapacity, SpecRejected, Unavailable

DEFAULT_ADDRESS: Final = "unix:///var/run/docker.sock"
IMAGE_HINT: Final = "deploy/docker/vm-image.sh builds indaco/vm:12"
MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
_DEADLINE_S: Final = 9.0  # for everything that one call of the driver asks; the contract gives 10 s
_NEWEST_API: Final = (1, 47)  # of those that this client was written for
_NO_ROOM: Final = (
    "no space left",
    "cannot allocate memory",
    "no available ipv4",
    "address pools",
    "port is already allocated",
    "all ports are allocated",
)
_UNRUNNABLE: Final = ("executable file not found", "exec format error", "no such file or directory")
_OF_A_VARIABLE: Final = re.compile(r"""environment variable|["'`][A-Za-z_][\w.-]*=""", re.IGNORECASE)


class EngineOptions(pydantic.BaseModel):
    """What the query of a ``docker:`` endpoint may say."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    image: str = "indaco/vm:12"
    """For nodes that name none."""
    cpu_ratio: float = pydantic.Field(default=4.0, gt=0, le=64)
    """vCPUs handed out per core of the host; machines share cores as on most clouds. Memory is never handed out twice."""
    engine: Literal["none", "shared"] = "none"
    """Whether machines may have containers made beside them. Users then choose what images the host fetches and runs."""


class Engine:
    """A client of one engine. Connects when first asked; :meth:`deadline` bounds what one call of the driver may take."""

    def __init__(self, address: str) -> None:
        self._url, self._socket = _resolve(address)
        self._session: aiohttp.ClientSession | None = None
        self._version = ""

    @property
    def socket(self) -> str:
        """The path of the engine's socket; empty, if it is reached by a port."""
        return self._socket

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def deadline(self) -> AsyncIterator[None]:
        """Turn what the network does, and taking too long, into Unavailable."""
        try:
            async with asyncio.timeout(_DEADLINE_S):
                yield
        except TimeoutError as error:
            raise Unavailable(f"the Docker Engine did not answer within {_DEADLINE_S:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"the Docker Engine cannot be reached: {type(error).__name__}") from error

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        accept: Collection[int] = (200, 201, 204),
    ) -> tuple[int, bytes]:
        """Return status and body. A status that is not in *accept* raises what it means."""
        session = await self._connected()
        url = f"{self._url}{self._version}{path}"
        async with session.request(method, url, params=query, json=body) as answer:
            content = await _body(answer)
            if answer.status not in accept:
                raise refusal(answer.status, _message(content))
            return answer.status, content

    async def read(self, path: str, *, query: Mapping[str, str] | None = None) -> Any:
        """Return the JSON at *path*, or None if there is nothing (404). Raises Unavailable for what is no JSON."""
        status, content = await self.ask("GET", path, query=query, accept=(200, 404))
        if status == 404:  # noqa: PLR2004 - HTTP
            return None
        try:
            return json.loads(content)
        except ValueError as error:
            raise Unavailable("the Docker Engine's answer is no JSON") from error

    async def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = (
                aiohttp.UnixConnector(self._socket, limit=16) if self._socket else aiohttp.TCPConnector(limit=16)
            )
            timeout = aiohttp.ClientTimeout(total=_DEADLINE_S)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False)
        if not self._version:
            async with self._session.get(f"{self._url}/_ping") as answer:
                self._version = f"/v{_agreed(answer.headers.get('Api-Version', ''))}"
        return self._session


def refusal(status: int, message: str) -> IndacoError:
    """Return the error that an engine's answer means for the core."""
    shown = without_values(message)
    text, detail = shown.lower(), f"Docker: {shown[:300]}"
    if any(phrase in text for phrase in _NO_ROOM):
        return NoCapacity(detail)
    match status:
        case 401 | 403:
            return CredentialRejected(detail)
        case 404 if "image" in text:
            return SpecRejected(f"{detail} ({IMAGE_HINT})")
        case 400:
            return SpecRejected(detail)
        case _ if shown != message and ("runtime create failed" in text or "environment variable" in message.lower()):
            return SpecRejected(detail)
        case _ if "runtime create failed" in text and any(phrase in text for phrase in _UNRUNNABLE):
            return SpecRejected(detail)
        case _:
            return Unavailable(detail)


def without_values(message: str) -> str:
    """Return *message* up to where it quotes a variable, whose value may be a secret and have any text in it."""
    found = _OF_A_VARIABLE.search(message)
    return message if found is None else f"{message[: found.start()]}… (a variable, whose text is not shown)"


def _resolve(address: str) -> tuple[str, str]:
    """Return base URL and socket path ('' for a port). Raises Unavailable for an address that cannot be served.

    Only loopback ports: machines publish their ports on the engine's own loopback, and the interface has no authentication.
    """
    url = urlsplit(address or DEFAULT_ADDRESS)
    if url.scheme == "unix" and url.path:
        return "http://docker", url.path
    if url.scheme == "tcp" and url.hostname in ("127.0.0.1", "localhost", "::1") and url.port:
        return f"http://{url.netloc}", ""
    raise Unavailable(f"{address!r} is neither a Docker Engine's socket nor a port of it on this machine")


def _agreed(offered: str) -> str:
    """Return the newest version of the interface that both sides speak."""
    try:
        major, minor = (int(part) for part in offered.split("."))
    except ValueError as error:
        raise Unavailable("what answers at the socket is no Docker Engine") from error
    return "{}.{}".format(*min((major, minor), _NEWEST_API))


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    """Return the whole body. Raises Unavailable, if it is larger than any that we ask for."""
    body = bytearray()
    async for chunk in answer.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise Unavailable("the Docker Engine's answer is too large")
    return bytes(body)


def _message(content: bytes) -> str:
    try:
        answer = json.loads(content)
    except ValueError:
        return content[:300].decode(errors="replace").strip()
    return str(answer.get("message", "")) if isinstance(answer, dict) else ""
