"""An issuer on the loopback for tests of tokens: it can change its keys, fail, hang or redirect, and counts who asks what."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from joserfc import jws, jwt
from joserfc.jwk import ECKey, RSAKey

from indaco_common.auth import Authenticator, InvalidToken, TrustedIssuer

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
RSA = RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig", "alg": "RS256"})
EC = ECKey.generate_key("P-256", {"kid": "ec-1", "use": "sig", "alg": "ES256"})
OTHER_RSA = RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig", "alg": "RS256"})


@dataclass
class Issuer:
    """An issuer that can change its keys, fail, hang or redirect, and counts the requests that reach it."""

    keys: list[Any] = field(default_factory=lambda: [RSA, EC])
    url: str = ""
    claimed: str = ""
    asked: list[str] = field(default_factory=list)
    status: int = 200
    delay_s: float = 0
    body: bytes | None = None
    userinfo: dict[str, Any] | None = None  # None: tokens are refused
    introspected: dict[str, Any] = field(default_factory=lambda: {"active": False})
    client: str = "Basic aW5kYWNvOnMlMkZjcmV0"  # indaco, s/cret
    remote_status: int = 200  # of userinfo and introspection
    tokens: list[str] = field(default_factory=list)  # that were shown to it

    async def discovery(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        names = {"jwks_uri": "jwks", "userinfo_endpoint": "userinfo", "introspection_endpoint": "introspect"}
        urls = {name: f"{self.url}/{path}" for name, path in names.items()}
        return web.json_response({"issuer": self.claimed or self.url, **urls})

    async def tell(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        self.tokens.append(request.headers["Authorization"].removeprefix("Bearer "))
        await asyncio.sleep(self.delay_s)
        if self.remote_status != 200:
            return web.Response(status=self.remote_status)
        return web.Response(status=401) if self.userinfo is None else web.json_response(self.userinfo)

    async def introspect(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        self.tokens.append(str((await request.post())["token"]))
        await asyncio.sleep(self.delay_s)
        if request.headers.get("Authorization") != self.client:
            return web.json_response({"error": "invalid_client"}, status=401)
        return web.json_response(self.introspected, status=self.remote_status)

    async def jwks(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        await asyncio.sleep(self.delay_s)
        headers = {"Location": self.url + "/elsewhere"} if self.status == 302 else {}
        if self.status != 200:
            return web.Response(status=self.status, headers=headers)
        keys = [key if isinstance(key, dict) else key.as_dict(private=False) for key in self.keys]
        return web.Response(body=self.body or json.dumps({"keys": keys}).encode(), content_type="application/json")

    @property
    def fetches(self) -> int:
        return self.asked.count("/jwks")


@asynccontextmanager
async def serving() -> AsyncIterator[Issuer]:
    found = Issuer()
    app = web.Application()
    app.add_routes([
        web.get("/.well-known/openid-configuration", found.discovery), web.get("/jwks", found.jwks),
        web.get("/userinfo", found.tell), web.post("/introspect", found.introspect),
    ])  # fmt: skip
    async with TestServer(app) as server:
        found.url = str(server.make_url("")).rstrip("/")
        yield found


def trusted(issuer: Issuer, **changes: Any) -> TrustedIssuer:
    """Return the record of *issuer* with *changes*."""
    known: dict[str, Any] = {
        "issuer": issuer.url,
        "aliases": [issuer.url + "/"],
        "audiences": ["indaco"],
        "allow_http": True,
    }
    return TrustedIssuer.model_validate({**known, **changes})


async def refused(auth: Authenticator, token: str) -> str:
    """Return why *token* is not accepted; it is a 401, which does not repeat the token."""
    with pytest.raises(InvalidToken) as caught:
        await auth.authenticate(f"Bearer {token}")
    assert caught.value.status == 401
    assert token not in caught.value.detail
    return caught.value.detail


def stamp(seconds: float = 0) -> int:
    return int((NOW + timedelta(seconds=seconds)).timestamp())


def claims(issuer: Issuer, **changes: Any) -> dict[str, Any]:
    """Return good claims with *changes*; a value of ... takes the claim out."""
    good = {
        "iss": issuer.url,
        "sub": "ada",
        "aud": "indaco",
        "iat": stamp(),
        "exp": stamp(3600),
        "scope": "openid offline_access",
        "groups": ["cms", "/cms/analysis"],
        "name": "Ada Lovelace",
        "email": "ada@example.org",
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}


def signed(content: dict[str, Any], key: Any = RSA, **header: Any) -> str:
    default = {"alg": "RS256" if isinstance(key, RSAKey) else "ES256", "kid": key.kid, "typ": "at+jwt"}
    given = {name: value for name, value in {**default, **header}.items() if value is not ...}
    registry = jws.JWSRegistry(algorithms=list(jws.JWSRegistry.algorithms), strict_check_header=False)
    registry.max_payload_length = registry.max_header_length = 1_000_000
    registry.check_header = lambda _header: None  # type: ignore[method-assign]  # an attacker's library checks nothing
    return jwt.encode(given, content, key, registry=registry)


def raw(header: str | dict[str, Any], content: str | dict[str, Any], signature: bytes = b"x") -> str:
    def part(value: str | dict[str, Any]) -> str:
        text = value if isinstance(value, str) else json.dumps(value)
        return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()

    return f"{part(header)}.{part(content)}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
