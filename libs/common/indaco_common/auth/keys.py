"""The public keys of the issuers: fetched once, refreshed in the background, kept through an outage, never on demand of a flood."""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import structlog
from joserfc.jwk import ECKey, RSAKey, import_key

from indaco_common.auth.issuers import TrustedIssuer, check_url
from indaco_common.auth.principal import InvalidToken
from indaco_common.clock import Clock
from indaco_common.errors import Unavailable

REFRESH_AFTER = timedelta(hours=1)  # WLCG profile: 6 h recommended, not more often than hourly
KEEP_FOR = timedelta(hours=48)  # through an outage of the issuer; WLCG profile: 1 to 4 days
UNKNOWN_KID_EVERY = timedelta(seconds=30)
RETRY_AFTER = timedelta(seconds=5)  # after a failed fetch with no keys to fall back on
MAX_BODY = 1024 * 1024
TIMEOUT = aiohttp.ClientTimeout(total=3, connect=2)
MIN_RSA_BITS = 2048
MAX_KEYS = 100

Key = RSAKey | ECKey
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Held:
    """What is known of one issuer's keys."""

    keys: tuple[Key, ...] = ()
    fetched_at: datetime | None = None
    tried_at: datetime | None = None
    refresh: asyncio.Task[None] | None = field(default=None, repr=False)


class KeyCache:
    """The keys of all trusted issuers; one fetch at a time for each."""

    def __init__(self, clock: Clock, session: aiohttp.ClientSession) -> None:
        self._clock = clock
        self._session = session
        self._held: dict[str, _Held] = {}

    async def find(self, issuer: TrustedIssuer, kid: str | None, alg: str) -> Key:
        """Return the key that a token of *issuer* must have been signed with.

        Raises: InvalidToken, if there is no such key; Unavailable, if no keys could be had.
        """
        held = self._held.setdefault(issuer.issuer, _Held())
        await self._make_fresh(issuer, held)
        key = _choose(held.keys, kid, alg)
        if key is None and self._may_ask(held, UNKNOWN_KID_EVERY):
            await self._refresh(issuer, held)
            key = _choose(held.keys, kid, alg)
        if key is None:
            raise InvalidToken("The token was signed with a key that its issuer does not publish")
        return key

    def forget(self) -> None:
        """Distrust every key now; the next token fetches them again (an administrator's flush)."""
        for held in self._held.values():
            held.keys, held.fetched_at, held.tried_at = (), None, None

    async def close(self) -> None:
        """Stop the fetches that are under way."""
        tasks = [held.refresh for held in self._held.values() if held.refresh is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _make_fresh(self, issuer: TrustedIssuer, held: _Held) -> None:
        """Have keys that may be used: at once where they are fresh or merely old, by a fetch where there are none."""
        age = self._clock.now() - held.fetched_at if held.fetched_at else None
        if age is not None and age <= REFRESH_AFTER:
            return
        if age is not None and age <= KEEP_FOR:
            if self._may_ask(held, UNKNOWN_KID_EVERY):
                self._start(issuer, held)
            return
        if self._may_ask(held, RETRY_AFTER):
            await self._refresh(issuer, held)
        if held.fetched_at is None or self._clock.now() - held.fetched_at > KEEP_FOR:
            raise Unavailable("The issuer of the token cannot be reached", retry_after_s=RETRY_AFTER.total_seconds())

    def _may_ask(self, held: _Held, every: timedelta) -> bool:
        """Say whether the issuer may be asked now; a fetch under way may always be waited for."""
        return held.refresh is not None or held.tried_at is None or self._clock.now() - held.tried_at >= every

    async def _refresh(self, issuer: TrustedIssuer, held: _Held) -> None:
        # Shielded: the caller who started the fetch may go away while others wait for it.
        await asyncio.shield(self._start(issuer, held))

    def _start(self, issuer: TrustedIssuer, held: _Held) -> asyncio.Task[None]:
        if held.refresh is None:
            held.tried_at = self._clock.now()
            held.refresh = asyncio.create_task(self._fetch(issuer, held), name=f"keys of {issuer.issuer}")
        return held.refresh

    async def _fetch(self, issuer: TrustedIssuer, held: _Held) -> None:
        """Replace the keys; never raises, so that it needs no guard: what went wrong is in the log and the keys stay."""
        try:
            uri = issuer.jwks_uri or await self._discover(issuer)
            keys = _usable(await self._get(uri))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            _log.warning(
                "auth.keys_unavailable", issuer=issuer.issuer, reason=type(error).__name__, detail=str(error)[:200]
            )
        else:
            held.keys, held.fetched_at = keys, self._clock.now()
            _log.info("auth.keys_fetched", issuer=issuer.issuer, keys=len(keys))
        finally:
            held.refresh = None

    async def _discover(self, issuer: TrustedIssuer) -> str:
        document = await self._get(issuer.issuer.rstrip("/") + "/.well-known/openid-configuration")
        if document.get("issuer") not in (issuer.issuer, *issuer.aliases):
            raise ValueError("the discovery document is of another issuer")
        uri = document.get("jwks_uri")
        if not isinstance(uri, str):
            raise ValueError("the discovery document names no jwks_uri")  # noqa: TRY004 - caught as one kind of failure
        check_url(uri, allow_http=issuer.allow_http)
        return uri

    async def _get(self, url: str) -> dict[str, Any]:
        async with self._session.get(url, allow_redirects=False, timeout=TIMEOUT) as answer:
            if answer.status != 200:  # noqa: PLR2004
                raise ValueError(f"HTTP status {answer.status}")
            body = bytearray()
            async for chunk in answer.content.iter_chunked(65536):
                body += chunk
                if len(body) > MAX_BODY:
                    raise ValueError(f"the answer is larger than {MAX_BODY} bytes")
        try:
            value = json.loads(body)
        except RecursionError:
            raise ValueError("the answer is nested too deeply") from None
        if not isinstance(value, dict):
            raise ValueError("the answer is not a JSON object")  # noqa: TRY004 - caught as one kind of failure
        return value


def _usable(document: dict[str, Any]) -> tuple[Key, ...]:
    """Return the public signature keys of a JWKS; what is unknown, weak or malformed is passed over (RFC 7517 §5)."""
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise ValueError("the JWKS has no list of keys")  # noqa: TRY004 - caught as one kind of failure
    keys = tuple(key for key in map(_imported, entries[:MAX_KEYS]) if key is not None)
    if not keys:
        raise ValueError("no usable key is published")
    return keys


def _imported(entry: object) -> Key | None:
    if not isinstance(entry, dict) or entry.get("kty") not in {"RSA", "EC"} or entry.get("use", "sig") != "sig":
        return None
    try:
        key = import_key(entry)
    except Exception:  # noqa: BLE001 - one malformed key, however it is malformed, must not hide the good ones
        return None
    is_weak = isinstance(key, RSAKey) and key.public_key.key_size < MIN_RSA_BITS
    return key if isinstance(key, RSAKey | ECKey) and not is_weak else None


def _choose(keys: tuple[Key, ...], kid: str | None, alg: str) -> Key | None:
    """Return the key for (*kid*, *alg*); without a kid the only key that fits, never one of several."""
    fitting = [key for key in keys if _fits(key, alg) and (kid is None or key.kid == kid)]
    return fitting[0] if len(fitting) == 1 else None


def _fits(key: Key, alg: str) -> bool:
    if key.alg not in (None, alg):
        return False
    if isinstance(key, RSAKey):
        return alg[:2] in {"RS", "PS"}
    return key.curve_name == _CURVES.get(alg)
