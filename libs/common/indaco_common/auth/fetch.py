"""Asking an issuer's servers: only where its record lets us, in little time, for little data, and never past a redirect."""

import asyncio
import errno
import json
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from indaco_common.auth.addresses import address_of, is_allowed
from indaco_common.auth.issuers import TrustedIssuer

MAX_BODY = 1024 * 1024  # bytes
TIMEOUT = aiohttp.ClientTimeout(total=3, connect=2)
MAX_CONNECTIONS = 10  # to one host
OK = 200

_AddressInfo = tuple[Any, Any, int, str, Any]  # as of getaddrinfo


class FetchFailed(Exception):
    """The issuer did not give what was asked for; the text says why, without anything that was sent."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """One answer; *value* is its JSON object."""

    status: int
    value: dict[str, Any]


class IssuerHttp:
    """The way to the issuers' servers; one for a process."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[object, ...], aiohttp.ClientSession] = {}

    async def get(self, issuer: TrustedIssuer, url: str, *, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return the JSON object at *url*. Raises: FetchFailed, also for any status but 200."""
        answer = await self.send(issuer, "GET", url, headers=headers)
        if answer.status != OK:
            raise FetchFailed(f"HTTP status {answer.status}")
        return answer.value

    async def send(
        self,
        issuer: TrustedIssuer,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout = TIMEOUT,
    ) -> Fetched:
        """Send a request, with *form* as its body, and return the answer; what is no JSON object is {} where the status is not 200.

        Raises: FetchFailed, if *issuer* may not be asked at *url*, or there is no sound answer.
        """
        try:
            issuer.check_url(url)
            session = await self._session(issuer)
            async with session.request(
                method, url, headers=headers, data=form, allow_redirects=False, timeout=timeout
            ) as answer:
                return Fetched(answer.status, _object(await _read(answer), is_wanted=answer.status == OK))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise FetchFailed(f"{type(error).__name__}: {error}"[:200]) from None

    async def close(self) -> None:
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    async def _session(self, issuer: TrustedIssuer) -> aiohttp.ClientSession:
        """Return the session for issuers that are reached in the same way; a CA bundle that was replaced is read again."""
        bundle = issuer.ca_bundle
        changed = (await asyncio.to_thread(bundle.stat)).st_mtime_ns if bundle else 0
        key = (bundle, changed, issuer.allow_http, issuer.allow_private)
        if key not in self._sessions:
            context = await asyncio.to_thread(_context, bundle)
            if key not in self._sessions:  # nobody else was as fast
                connector = aiohttp.TCPConnector(
                    limit_per_host=MAX_CONNECTIONS, ssl=context or True, socket_factory=_guard(issuer)
                )
                self._sessions[key] = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._sessions[key]


def _context(bundle: Path | None) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=bundle) if bundle else None


def _guard(issuer: TrustedIssuer) -> Callable[[_AddressInfo], socket.socket]:
    """Return what makes sockets to permitted addresses only: the address connected to is judged, whatever the name said before."""
    loopback, private = issuer.allow_http, issuer.allow_private

    def make(info: _AddressInfo) -> socket.socket:
        family, kind, protocol, _, where = info
        address = address_of(where[0])
        if address is None or not is_allowed(address, loopback=loopback, private=private):
            raise OSError(errno.EACCES, f"{where[0]} is not an address that an issuer may have")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    return make


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_chunked(65536):
        body += chunk
        if len(body) > MAX_BODY:
            raise ValueError(f"the answer is larger than {MAX_BODY} bytes")
    return bytes(body)


def _object(body: bytes, *, is_wanted: bool) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return value
    if is_wanted:
        raise ValueError("the answer is not a JSON object")
    return {}
