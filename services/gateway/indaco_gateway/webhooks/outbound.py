"""Sends one POST to a receiver: bounded in time and size, to allowed addresses, without redirects, cookies or proxies."""

import asyncio
import email.utils
import functools
import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from indaco_common.auth.flights import Flights
from indaco_common.clock import Clock
from indaco_common.web import excerpt
from indaco_gateway.model.delivery import MAX_ANSWER, Result

from .destinations import Destinations, scoped

TIMEOUT_S = 10.0  # for one try, with resolving and connecting, until the status has come
BODY_S = 1.0  # for the beginning of what comes behind it: nothing depends on that
MAX_READ = 4096  # bytes of an answer
AT_ONCE = 512  # connections: as many as all batches may ask for, so that no try spends its time on waiting for one
LOOKUPS = 16  # names that are being resolved
GONE = 410
_SUCCESS = range(200, 300)
_RETRIES_LATER = (429, 503)


class NotAllowed(Exception):
    """The address that a name resolved to."""


@dataclass(frozen=True, slots=True)
class Post:
    """One request; *headers* have what the signature needs."""

    url: str
    body: bytes
    headers: Mapping[str, str]


class PooledResolver(AbstractResolver):
    """The system's resolver, in threads of its own: names that somebody chose to be slow hold up no other work.

    All who ask for one name wait for one look, also those who come when others have given up: a thread cannot be called back.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="webhook names")
        self._looks: Flights[tuple[str, int, int], list[ResolveResult]] = Flights()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return await self._looks.join((host, port, family), lambda: self._look(host, port, family))

    async def _look(self, host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
        look = functools.partial(
            socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG
        )
        found = await asyncio.get_running_loop().run_in_executor(self._pool, look)
        return [
            ResolveResult(
                hostname=host, host=str(where[0]), port=port, family=kind, proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, where in found
        ]  # fmt: skip

    async def close(self) -> None:
        await self._looks.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


class Outbound:
    """The way out. *resolver* and *tls* are others than the default in tests only."""

    def __init__(
        self,
        destinations: Destinations,
        clock: Clock,
        *,
        timeout_s: float = TIMEOUT_S,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._destinations, self._clock, self._timeout_s = destinations, clock, timeout_s
        self._resolver, self._tls = resolver or PooledResolver(), tls
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        connector = aiohttp.TCPConnector(
            ssl=self._tls or True, resolver=self._resolver, use_dns_cache=False, force_close=True, limit=AT_ONCE,
            socket_factory=self._socket, happy_eyeballs_delay=None,
        )  # fmt: skip
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "indaco"}, timeout=aiohttp.ClientTimeout(total=None),
        )  # fmt: skip

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
        await self._resolver.close()

    async def post(self, post: Post) -> Result:
        """Return what came of it; nothing is raised but for a bug."""
        if why := self._destinations.refusal(post.url):  # settings may have changed since it was given
            return Result(error=why)
        try:
            async with asyncio.timeout(self._timeout_s) as limit:
                return await self._sent(post, limit)
        except TimeoutError:
            return Result(error=f"no answer within {self._timeout_s:g} s")
        except NotAllowed as address:
            return Result(error=f"the name leads to {address}, which is not an allowed address")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Result(error=_told(error))

    async def _sent(self, post: Post, limit: asyncio.Timeout) -> Result:
        assert self._session is not None, "not opened"
        async with self._session.post(
            URL(post.url), data=post.body, headers=post.headers, allow_redirects=False
        ) as response:
            limit.reschedule(None)
            answer = await _beginning(response.content)
            if response.status in _SUCCESS:
                return Result(status=response.status, answer=answer)
            error = f"the answer was {response.status}"
            if response.status in range(300, 400):
                error += "; redirects are not followed: give the address that it leads to"
            retry_after_s = self._retry_after_s(response) if response.status in _RETRIES_LATER else None
            is_gone = response.status == GONE
        return Result(status=response.status, answer=answer, error=error, retry_after_s=retry_after_s, is_gone=is_gone)

    def _retry_after_s(self, response: aiohttp.ClientResponse) -> float | None:
        """Read Retry-After (RFC 9110 §10.2.3): seconds, or a date."""
        text = response.headers.get("Retry-After", "").strip()[:40]
        if text.isascii() and text.isdigit():
            return float(text[:9])
        try:
            at = email.utils.parsedate_to_datetime(text)
        except (TypeError, ValueError, OverflowError):  # the last for a time zone beyond all bounds
            return None
        return max(0.0, (_aware(at) - self._clock.now()).total_seconds())

    def _socket(self, about: aiohttp.AddrInfoType) -> socket.socket:
        """Make the socket for an address, if it may be connected to. Raises: NotAllowed."""
        family, kind, protocol, _, where = about
        if not self._destinations.admits(scoped(str(where[0]))):
            raise NotAllowed(str(where[0]))
        return socket.socket(family, kind, protocol)


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _told(error: Exception) -> str:
    """Return the reason in a few words, without the URL: its query may hold what only the receiver should know."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return "the receiver's certificate is not accepted, or TLS failed"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the name of the host cannot be resolved"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection: {excerpt(error.strerror or type(error.os_error).__name__)}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the receiver closed the connection without an answer"
    return f"the exchange failed: {type(error).__name__}"


async def _beginning(body: aiohttp.StreamReader) -> str:
    """Return what comes of a body in a moment; a receiver that has told its status may leave it at that."""
    try:
        async with asyncio.timeout(BODY_S):
            return _printable(await body.read(MAX_READ))
    except (TimeoutError, aiohttp.ClientError, OSError):
        return ""


def _printable(body: bytes) -> str:
    return "".join(char if char.isprintable() else " " for char in body.decode("utf-8", "replace"))[:MAX_ANSWER].strip()
