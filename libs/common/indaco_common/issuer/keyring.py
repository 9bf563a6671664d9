"""The issuer's signing keys and the tokens that they sign."""

import asyncio
import base64
import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey

from indaco_common.clock import Clock
from indaco_common.errors import Invalid
from indaco_common.issuer.config import IssuerConfig, KeyStore, User

_ALGS = ["RS256", "ES256"]
_GENERATIONS = 2  # the signing one, and one that live tokens may still name


class KeyRing:
    """RSA and EC keys, the newest of each first; made at the first start and kept in the :class:`KeyStore`."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._keys = KeySet([])

    async def load(self) -> None:
        """Take the keys from the store, or make and store them.

        Raises: Invalid, if the store holds something else; the store's own errors.
        """
        text = await self._store.load()
        if text is None:
            await self._keep(await asyncio.to_thread(_new_keys))
            return
        try:
            keys = KeySet.import_key_set(json.loads(text))
            if not all(any(key.alg == alg and key.is_private for key in keys.keys) for alg in _ALGS):
                raise Invalid("The issuer's stored keys are incomplete; remove them and it makes new ones")
        except (JoseError, ValueError, TypeError, KeyError):
            raise Invalid("The issuer's stored keys cannot be read; remove them and it makes new ones") from None
        self._keys = keys

    async def rotate(self) -> None:
        """Sign with new keys from now on; the previous ones stay published, so that live tokens still verify."""
        kept = list(self._keys.keys)[: len(_ALGS) * (_GENERATIONS - 1)]
        await self._keep([*await asyncio.to_thread(_new_keys), *kept])

    def public(self) -> Mapping[str, object]:
        """Return the JWKS to publish."""
        return dict(self._keys.as_dict(private=False))

    def sign(self, claims: dict[str, Any], *, typ: str, alg: str) -> str:
        key = next(key for key in self._keys.keys if key.alg == alg)
        return jwt.encode({"alg": alg, "kid": key.kid, "typ": typ}, claims, key, algorithms=[alg])

    def open(self, token: str) -> jwt.Token | None:
        """Return a token of our own, or None where the signature is not ours."""
        try:
            return jwt.decode(token, self._keys, algorithms=_ALGS)
        except (JoseError, ValueError):
            return None

    async def _keep(self, keys: Iterable[Any]) -> None:
        fresh = KeySet(list(keys))
        await self._store.save(json.dumps(fresh.as_dict(private=True)))
        self._keys = fresh


class Minter:
    """Makes the tokens; knows the profile: RFC 9068 with the group claims of INDIGO IAM and of WLCG."""

    def __init__(self, config: IssuerConfig, keys: KeyRing, clock: Clock) -> None:
        self._config = config
        self._keys = keys
        self._clock = clock

    def access_token(
        self,
        *,
        subject: str,
        client_id: str,
        scopes: Iterable[str],
        groups: Iterable[str],
        audience: str,
        claims: Mapping[str, object] | None = None,
        lifetime_s: int | None = None,
    ) -> str:
        """Return a signed access token; group claims are there where a scope asks for them."""
        granted, now = frozenset(scopes), self._now()
        content: dict[str, Any] = {
            "iss": self._config.issuer,
            "sub": subject,
            "aud": audience,
            "client_id": client_id,
            "iat": now,
            "nbf": now,
            "exp": now + (self._config.access_token_s if lifetime_s is None else lifetime_s),
            "jti": secrets.token_urlsafe(16),
            "scope": " ".join(sorted(granted)),
            **group_claims(groups, granted),
            **(claims or {}),
        }
        return self._keys.sign(content, typ="at+jwt", alg=self._config.signing_alg)

    def id_token(
        self, user: User, *, client_id: str, scopes: frozenset[str], auth_time: datetime, nonce: str | None, access: str
    ) -> str:
        """Return the ID token that goes with the access token *access*."""
        now = self._now()
        half = hashlib.sha256(access.encode()).digest()[:16]
        content: dict[str, Any] = {
            "iss": self._config.issuer,
            "sub": user.subject,
            "aud": client_id,
            "iat": now,
            "exp": now + self._config.access_token_s,
            "auth_time": int(auth_time.timestamp()),
            "at_hash": base64.urlsafe_b64encode(half).rstrip(b"=").decode(),
            **user_claims(user, scopes),
            **group_claims(user.groups, scopes),
        }
        if nonce is not None:
            content["nonce"] = nonce
        return self._keys.sign(content, typ="JWT", alg=self._config.signing_alg)

    def _now(self) -> int:
        return int(self._clock.now().timestamp())


def user_claims(user: User, scopes: frozenset[str]) -> dict[str, object]:
    """Return what *scopes* allow to tell about *user*."""
    claims: dict[str, object] = {}
    if "profile" in scopes:
        claims |= {"preferred_username": user.username, "name": user.name or user.username}
    if "email" in scopes and user.email:
        claims |= {"email": user.email, "email_verified": True}
    return claims


def group_claims(groups: Iterable[str], scopes: frozenset[str]) -> dict[str, object]:
    """Return the group claims: INDIGO IAM's without a leading slash, WLCG's with one."""
    paths = list(groups)
    claims: dict[str, object] = {}
    if scopes & {"groups", "profile"}:
        claims["groups"] = paths
    if "wlcg.groups" in scopes:
        claims |= {"wlcg.groups": [f"/{path}" for path in paths], "wlcg.ver": "1.0"}
    return claims


def _new_keys() -> list[RSAKey | ECKey]:
    rsa = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)
    ec = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, auto_kid=True)
    return [rsa, ec]
