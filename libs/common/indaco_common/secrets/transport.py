"""HTTP to a Vault or OpenBao server: one session, bounded answers, failures as Indaco's errors.

Errors are raised outside the ``except`` blocks on purpose: an aiohttp exception may hold request headers, hence a
token, and must not travel along as ``__context__``.
"""

import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from indaco_common.errors import Forbidden, IndacoError, Invalid, PayloadTooLarge, Unavailable
from indaco_common.secrets.port import MAX_SECRET_BYTES

OK, NO_CONTENT, BAD_REQUEST, FORBIDDEN, NOT_FOUND, TOO_LARGE = 200, 204, 400, 403, 404, 413
# Consistency not reached yet, request rate limited, standby in disaster recovery, performance standby.
_LATER = frozenset({412, 429, 472, 473})
_CLIENT_ERRORS = range(400, 500)
_MAX_ANSWER_BYTES = 6 * MAX_SECRET_BYTES + 65536  # the server writes `<` as six characters, and adds its own members
_CONNECT_TIMEOUT_S = 3.0
_MAX_CONNECTIONS = 32  # beyond 32 in flight one OpenBao gains no throughput, only latency


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said; ``body`` may hold secrets, so it is not in the ``repr``."""

    status: int
    body: dict[str, Any] = field(repr=False)

    @property
    def data(self) -> dict[str, Any]:
        """The answer's ``data`` member, empty if it has none."""
        return self.body.get("data") or {}

    @property
    def is_absent(self) -> bool:
        """Whether a 404 means "nothing there", and not "there is no such mount": only the latter has an explanation."""
        return self.status == NOT_FOUND and not self.body.get("errors")

    def says(self, phrase: str) -> bool:
        """Whether one of the server's error texts contains *phrase*."""
        return any(phrase in str(text) for text in self.body.get("errors") or ())


def refusal(answer: Answer, action: str) -> IndacoError:
    """Return the error that *answer*, which is not a success, means to whoever tried *action* (a phrase, no secret)."""
    if answer.status == FORBIDDEN:
        return Forbidden(f"the vault does not allow to {action}")
    if answer.status == TOO_LARGE or answer.says("value being too large"):
        return PayloadTooLarge(f"the vault found it too large to {action}")
    if answer.status == NOT_FOUND:
        return Unavailable(f"the vault has no place to {action}: it is not set up for Indaco")
    if answer.status in _LATER or answer.says("pgrading from non-versioned"):  # a KV mount's first moments
        return Unavailable(f"the vault cannot {action} at the moment (HTTP {answer.status})")
    if answer.status in _CLIENT_ERRORS:
        return Invalid(f"the vault refused to {action} (HTTP {answer.status})")
    return Unavailable(f"the vault failed to {action} (HTTP {answer.status})")


class Transport:
    """Requests to one server; open from :meth:`open` to :meth:`close`, and again after that."""

    def __init__(self, url: str, *, ca_file: Path | None = None, timeout_s: float = 10.0) -> None:
        self._base = URL(url) / "v1"
        self.origin = str(self._base.origin())  # without user information
        self._ca_file = ca_file
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(_CONNECT_TIMEOUT_S, timeout_s))
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Make the session; connections follow with the first requests. Raises Invalid, if the CA file is unusable."""
        if self._session is not None:
            return
        verify = _tls_context(self._ca_file) if self._base.scheme == "https" else True
        connector = aiohttp.TCPConnector(limit=_MAX_CONNECTIONS, keepalive_timeout=60, ssl=verify)
        self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout)

    async def close(self) -> None:
        """Close the connections; a second call does nothing."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def send(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request and return the answer, whatever its status.

        Redirects are not followed: they would carry the token to another host.
        Raises: Unavailable, if there is no complete answer in time.
        """
        if self._session is None:
            raise Unavailable("the connection to the vault is not open")
        every = {"X-Vault-Request": "true"} | dict(headers or {}) | ({"X-Vault-Token": token} if token else {})
        try:
            async with self._session.request(
                method, _join(self._base, path), data=body, headers=every, allow_redirects=False
            ) as response:
                return Answer(response.status, await _decode(response))
        except IndacoError:
            raise
        except (TimeoutError, OSError, aiohttp.ClientError, ValueError) as error:
            reason = _reason(error)
        raise Unavailable(f"the vault at {self.origin} does not answer: {reason}")


def encode(value: Mapping[str, object]) -> bytes:
    """Return *value* as JSON. Raises Invalid, if it is not JSON, and PayloadTooLarge, without showing any of it."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError):
        text = b""
    if not text:
        raise Invalid("a secret must be made of JSON values")
    if len(text) > MAX_SECRET_BYTES:
        raise PayloadTooLarge(f"a secret has {MAX_SECRET_BYTES} bytes at most, this one has {len(text)}")
    return text


async def _decode(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """Return the JSON object of the answer, or an empty one: proxies in front of a vault answer in HTML."""
    content = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        content += chunk
        if len(content) > _MAX_ANSWER_BYTES:
            raise Unavailable("the vault's answer is larger than any secret may be")
    try:
        value = json.loads(content) if content else {}
    except ValueError:
        value = {}
    return value if isinstance(value, dict) else {}


def _join(base: URL, path: str) -> URL:
    plain, _, query = path.partition("?")
    return base.joinpath(*plain.split("/")).with_query(query)


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise Invalid(f"the vault's CA file {ca_file} cannot be used: {error.strerror}") from error


def _reason(error: Exception) -> str:
    """Describe a failed request in words that cannot hold a header or a body."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return os.strerror(error.errno) if error.errno else type(error.os_error).__name__
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return type(error).__name__
