"""Tokens of a real OpenID Connect provider (npm oidc-provider) through the authenticator."""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest

from indaco_common.auth import Authenticator, InvalidToken, TrustedIssuer
from indaco_common.clock import SystemClock

pytestmark = pytest.mark.oidc


@dataclass(frozen=True)
class Provider:
    """The provider that the environment names, and a client of it that may act for itself."""

    issuer: str
    client_id: str
    secret: str
    http: aiohttp.ClientSession

    async def token(self, **form: str) -> str:
        async with self.http.get(self.issuer + "/.well-known/openid-configuration") as answer:
            endpoint = (await answer.json())["token_endpoint"]
        headers = {"Authorization": aiohttp.encode_basic_auth(self.client_id, self.secret)}
        async with self.http.post(
            endpoint, data={"grant_type": "client_credentials", **form}, headers=headers
        ) as answer:
            assert answer.status == 200, await answer.text()
            return str((await answer.json())["access_token"])

    def trusted(self, **changes: object) -> Authenticator:
        record = {"issuer": self.issuer, "audiences": ["indaco"], "allow_http": True, **changes}
        return Authenticator([TrustedIssuer.model_validate(record)], SystemClock(), self.http)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    issuer = os.environ.get("INDACO_TEST_OIDC_ISSUER")
    if not issuer:
        pytest.skip("INDACO_TEST_OIDC_ISSUER names no OpenID Connect provider")
    client_id = os.environ.get("INDACO_TEST_OIDC_CLIENT_ID", "indaco-test")
    secret = os.environ.get("INDACO_TEST_OIDC_CLIENT_SECRET", "")
    async with aiohttp.ClientSession() as http:
        yield Provider(issuer.rstrip("/"), client_id, secret, http)


async def test_a_clients_own_token_is_accepted(provider: Provider) -> None:
    token = await provider.token(scope="groups wlcg.groups")
    principal = await provider.trusted().authenticate(f"Bearer {token}")
    assert (principal.issuer, principal.subject) == (provider.issuer, provider.client_id)
    assert principal.groups
    assert all(not group.startswith("/") for group in principal.groups)
    assert principal.scopes == {"groups", "wlcg.groups"}


async def test_a_token_for_another_audience_is_refused(provider: Provider) -> None:
    token = await provider.token()
    with pytest.raises(InvalidToken, match="another service"):
        await provider.trusted(audiences=["elsewhere"]).authenticate(f"Bearer {token}")


async def test_an_algorithm_that_was_not_agreed_is_refused(provider: Provider) -> None:
    token = await provider.token()
    with pytest.raises(InvalidToken, match="algorithm"):
        await provider.trusted(algs=["ES512"]).authenticate(f"Bearer {token}")


async def test_a_changed_token_is_refused(provider: Provider) -> None:
    head, body, signature = (await provider.token()).split(".")
    changed = ("A" if signature[0] != "A" else "B") + signature[1:]
    with pytest.raises(InvalidToken, match="signature"):
        await provider.trusted().authenticate(f"Bearer {head}.{body}.{changed}")
