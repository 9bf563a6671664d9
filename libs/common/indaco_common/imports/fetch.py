"""Fetches texts for an operator: https alone, from an allow-list, to public addresses, within limits of time and size.

The address is checked where the socket is made, which is after the name was resolved and for every way an address can be written; so what was
checked is what is connected to, and a name that resolves to another address the second time gains nothing.
"""

import asyncio
import socket
import ssl
from ipaddress import ip_address
from types import TracebackType
from typing import Literal, Self

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from indaco_common.addresses import AddressPolicy, is_public
from indaco_common.errors import Invalid, PolicyRefused, Unavailable
from indaco_tosca.library import refusal_of

from .allowed import AllowList, shown
from .lock import MAX_TEXT_BYTES

TIMEOUT_S = 5.0  # for one text, with its redirects
MAX_HOPS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
CHUNK = 64 * 1024


class NotPublic(Exception):
    """The address that a name resolved to."""


class Fetcher:
    """A source of texts on the network. *may_connect*, *resolver* and *tls* are others than the default in tests only."""

    origin: Literal["https"] = "https"

    def __init__(
        self,
        allowed: AllowList,
        *,
        may_connect: AddressPolicy = is_public,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._allowed, self._may_connect, self._resolver = allowed, may_connect, resolver
        self._tls, self._timeout_s = tls, timeout_s

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            ssl=self._tls or True, resolver=self._resolver, use_dns_cache=False, force_close=True,
            socket_factory=self._socket, happy_eyeballs_delay=None,
        )  # fmt: skip
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "indaco"},
        )  # fmt: skip
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    def covers(self, url: str) -> bool:
        return not self._refusal(_parsed(url))

    async def text(self, url: str) -> bytes:
        """Raises: PolicyRefused, for what must not be fetched; Unavailable, for what cannot; Invalid."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._followed(url)
        except TimeoutError:
            raise Unavailable(f"{url}: there was no whole answer within {self._timeout_s:g} s") from None
        except NotPublic as address:
            raise PolicyRefused(f"{url}: it leads to {address}, which is not a public address") from None
        except aiohttp.ClientError as error:
            raise Unavailable(f"{url}: {shown(str(error))}") from None

    async def _followed(self, url: str) -> bytes:
        target = _parsed(url)
        for _ in range(MAX_HOPS + 1):
            if refusal := self._refusal(target):
                raise PolicyRefused(f"{shown(str(target))} {refusal}")
            async with self._session.get(target, allow_redirects=False) as response:
                if response.status not in REDIRECTS:
                    return await _body(url, response)
                target = target.join(_parsed(response.headers.get("Location", "")))
        raise PolicyRefused(f"{url}: it redirects more than {MAX_HOPS} times")

    def _refusal(self, url: URL) -> str:
        """Return why *url* must not be fetched, or nothing."""
        if refusal := refusal_of(str(url)):
            return refusal
        return "" if self._allowed.admits(url) else "is not on the allow-list of https hosts and paths"

    def _socket(self, about: aiohttp.AddrInfoType) -> socket.socket:
        """Make the socket for an address, if it may be connected to. Raises: NotPublic."""
        family, kind, protocol, _, where = about
        if not self._may_connect(ip_address(str(where[0]))):
            raise NotPublic(str(where[0]))
        return socket.socket(family, kind, protocol)


def _parsed(url: str) -> URL:
    try:
        return URL(url)
    except ValueError:
        raise Invalid(f"{shown(url)!r} is not a URL") from None


async def _body(url: str, response: aiohttp.ClientResponse) -> bytes:
    """Return the body, whatever its type is said to be. Raises: Unavailable; Invalid."""
    if response.status != 200:  # noqa: PLR2004
        raise Unavailable(f"{url}: the answer was {response.status}")
    if (encoding := response.headers.get("Content-Encoding", "identity")) != "identity":
        raise Invalid(f"{url}: it comes in the encoding {encoding[:40]!r}, which was not asked for and is not undone")
    body = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK):
        body += chunk
        if len(body) > MAX_TEXT_BYTES:
            raise Invalid(f"{url}: it has more than {MAX_TEXT_BYTES} bytes")
    return bytes(body)
