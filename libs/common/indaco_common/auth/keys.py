"""The public keys of the issuers: fetched once, refreshed in the background, kept through an outage, never on demand of a flood."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog
from joserfc.jwk import ECKey, RSAKey, import_key

from indaco_common.auth.discovery import Discovery
from indaco_common.auth.fetch import FetchFailed, IssuerHttp
from indaco_common.auth.issuers import TrustedIssuer
from indaco_common.auth.principal import InvalidToken
from indaco_common.clock import Clock
from indaco_common.errors import Unavailable

REFRESH_AFTER = timedelta(hours=1)  # WLCG profile: 6 h recommended, not more often than hourly
KEEP_FOR = timedelta(hours=48)  # through an outage of the issuer; WLCG profile: 1 to 4 days
UNKNOWN_KID_EVERY = timedelta(seconds=30)
RETRY_AFTER = timedelta(seconds=5)  # after a failed fetch with no keys to fall back on
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
    generation: int = 0  # counts how often a key was withdrawn


class KeyCache:
    """The keys of all trusted issuers; one fetch at a time for each."""

    def __init__(self, clock: Clock, http: IssuerHttp, discovery: Discovery) -> None:
        self._clock, self._http, self._discovery = clock, http, discovery
        self._held: dict[str, _Held] = {}
        self._tasks: set[asyncio.Task[None]] = set()

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

    def generation(self, issuer: TrustedIssuer) -> int:
        """Return a number that grows whenever *issuer* withdraws a key: what was verified before may have been by that one."""
        held = self._held.get(issuer.issuer)
        return held.generation if held else 0

    def forget(self, issuers: Iterable[str] | None = None) -> None:
        """Distrust the keys of *issuers* (None: of all) now; the next token fetches them again."""
        for name in list(self._held) if issuers is None else issuers:
            if (held := self._held.get(name)) is not None:
                # What is being fetched now was asked for before: it comes to a place that nobody looks at any more.
                self._held[name] = _Held(generation=held.generation + 1)

    async def close(self) -> None:
        """Stop the fetches that are under way."""
        tasks = list(self._tasks)
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
            self._tasks.add(held.refresh)
            held.refresh.add_done_callback(self._tasks.discard)
        return held.refresh

    async def _fetch(self, issuer: TrustedIssuer, held: _Held) -> None:
        """Replace the keys; never raises, so that it needs no guard: what went wrong is in the log and the keys stay."""
        try:
            uri = issuer.jwks_uri or (await self._discovery.renew(issuer)).url("jwks_uri")
            keys = _usable(await self._http.get(issuer, uri))
        except FetchFailed as error:
            _log.warning("auth.keys_unavailable", issuer=issuer.issuer, reason=str(error))
        else:
            if {*map(_name, held.keys)} - {*map(_name, keys)}:
                held.generation += 1
            held.keys, held.fetched_at = keys, self._clock.now()
            _log.info("auth.keys_fetched", issuer=issuer.issuer, keys=len(keys))
        finally:
            held.refresh = None


def _usable(document: dict[str, Any]) -> tuple[Key, ...]:
    """Return the public signature keys of a JWKS; what is unknown, weak or malformed is passed over (RFC 7517 §5)."""
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise FetchFailed("the JWKS has no list of keys")
    keys = tuple(key for key in map(_imported, entries[:MAX_KEYS]) if key is not None)
    if not keys:
        raise FetchFailed("no usable key is published")
    return keys


def _imported(entry: object) -> Key | None:
    if not isinstance(entry, dict) or entry.get("kty") not in {"RSA", "EC"} or entry.get("use", "sig") != "sig":
        return None
    if "verify" not in entry.get("key_ops", ("verify",)):
        return None
    try:
        key = import_key(entry)
    except Exception:  # noqa: BLE001 - one malformed key, however it is malformed, must not hide the good ones
        return None
    is_weak = isinstance(key, RSAKey) and key.public_key.key_size < MIN_RSA_BITS
    return key if isinstance(key, RSAKey | ECKey) and not is_weak else None


def _name(key: Key) -> str:
    """Return what a key is, whatever it is called (RFC 7638)."""
    return key.thumbprint()


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
