"""A browser that logs in at npm's oidc-provider, step by step, so that a test can change what is in between."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from yarl import URL

from indaco_common.auth import TrustedIssuer

from .world import Answer, World

PASSWORDS = {"ada": "ada-password", "bob": "bob-password"}
SECRET = "indaco-dashboard-on-this-machine-only"  # of deploy/local/oidc_accounts.json
CSRF = {"X-Indaco-CSRF": "1"}


def provider() -> str:
    """Return the provider that the environment names; skip the test where there is none."""
    issuer = os.environ.get("INDACO_TEST_OIDC_ISSUER")
    if not issuer:
        pytest.skip("INDACO_TEST_OIDC_ISSUER names no OpenID Connect provider")
    return issuer.rstrip("/")


def trusted(issuer: str, secret_file: Any, **changes: Any) -> TrustedIssuer:
    """Return the record of the provider, with a client that pages log in as."""
    login = {
        "client_id": "indaco-dashboard",
        "client_secret_file": secret_file,
        "prompt": "consent",
        "scopes": ["openid", "offline_access", "groups"],
    }
    record = {"issuer": issuer, "audiences": ["indaco"], "allow_http": True, "login": login, **changes}
    return TrustedIssuer.model_validate(record)


@dataclass
class Browser:
    """One cookie jar; no redirect is followed unless a method says so."""

    world: World
    http: aiohttp.ClientSession = field(init=False)

    async def __aenter__(self) -> Self:
        self.http = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.close()

    async def send(self, method: str, url: str, **options: Any) -> Answer:
        url = url if url.startswith("http") else self.world.url + url
        async with self.http.request(method, url, allow_redirects=False, **options) as answer:
            return Answer(answer.status, answer.headers, await answer.text())

    async def get(self, url: str, **options: Any) -> Answer:
        return await self.send("GET", url, **options)

    async def begin(self, path: str = "/v1/login?return_to=/app") -> str:
        """Begin a login; return the address at the issuer."""
        answer = await self.get(path)
        assert answer.status == 303, answer.text
        return answer.headers["Location"]

    async def approve(self, url: str, user: str = "ada") -> str:
        """Do at the issuer what a person does; return the address that leads back to us."""
        for _ in range(10):
            answer = await self.get(url)
            if answer.status == 200:
                form = {"login": user, "password": PASSWORDS[user]}
                answer = await self.send("POST", url, data=form)
            assert answer.status in (302, 303), answer.text
            parts = urlsplit(url)
            url = answer.headers["Location"]
            url = url if url.startswith("http") else f"{parts.scheme}://{parts.netloc}{url}"
            if urlsplit(url).path == "/v1/login/callback":
                return url
        raise AssertionError("the issuer goes round in circles")

    async def log_in(self, user: str = "ada") -> Answer:
        """Log in; return the answer of the callback."""
        answer = await self.get(await self.approve(await self.begin(), user))
        assert answer.status == 303, answer.text
        return answer

    def cookie(self) -> str:
        """Return the value of the session's cookie, or ""."""
        found = self.http.cookie_jar.filter_cookies(URL(self.world.url)).get("indaco-session")
        return found.value if found is not None else ""

    def use(self, cookies: Mapping[str, str]) -> None:
        self.http.cookie_jar.update_cookies(cookies, URL(self.world.url))


def query(url: str) -> dict[str, str]:
    """Return the parameters of an address."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
