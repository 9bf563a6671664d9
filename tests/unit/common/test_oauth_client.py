"""What token endpoints answer, and what a client makes of it; where browsers are sent."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pydantic
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from indaco_common.auth import (
    ExchangeClient,
    FetchFailed,
    GrantRefused,
    IssuerHttp,
    LoginClient,
    OAuthClient,
    TrustedIssuer,
    Want,
)
from indaco_common.auth.clients import Client
from indaco_common.auth.discovery import Discovery
from indaco_common.auth.oauth_client import REFRESH_TOKEN, challenge_of, granted_of
from indaco_common.clock import ManualClock

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GOOD: dict[str, Any] = {"access_token": "a", "token_type": "Bearer", "expires_in": 60}
PUBLIC = LoginClient(client_id="pages")


class Endpoint:
    """An issuer whose answers a test writes."""

    def __init__(self) -> None:
        self.url, self.about, self.status = "", dict[str, Any](), 200
        self.answer: dict[str, Any] = GOOD
        self.asked: list[tuple[dict[str, str], str | None]] = []

    async def discovery(self, _: web.Request) -> web.Response:
        names = {
            name: f"{self.url}/{name}" for name in ("authorization_endpoint", "token_endpoint", "revocation_endpoint")
        }
        return web.json_response({"issuer": self.url, **names, **self.about})

    async def token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append((form, request.headers.get("Authorization")))
        return web.json_response(self.answer, status=self.status)

    @property
    def issuer(self) -> TrustedIssuer:
        return TrustedIssuer(issuer=self.url, audiences=("indaco",), allow_http=True)


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    found, app = Endpoint(), web.Application()
    app.add_routes([
        web.get("/.well-known/openid-configuration", found.discovery), web.post("/token_endpoint", found.token),
        web.post("/revocation_endpoint", found.token),
    ])  # fmt: skip
    async with TestServer(app) as server:
        found.url = str(server.make_url("")).rstrip("/")
        yield found


@pytest.fixture
async def client() -> AsyncIterator[OAuthClient]:
    http, clock = IssuerHttp(), ManualClock()

    async def secret(_: Client) -> str:
        return "s/cret"

    discovery = Discovery(http, clock)
    yield OAuthClient(http, discovery, secret, clock)
    await discovery.close()
    await http.close()


def test_the_challenge_is_that_of_the_standard() -> None:  # RFC 7636, appendix B
    assert challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


@pytest.mark.parametrize(
    ("said", "life"), [(60, 60), ("60", 60), (None, 300), (-1, 300), (True, 300), (1.5, 300), ("x", 300), (10**9, 86_400), ("9" * 50, 300)]
)  # fmt: skip
def test_how_long_a_token_lives_is_read_with_care(said: object, life: int) -> None:
    assert granted_of({**GOOD, "expires_in": said}, (), NOW).expires_at == NOW + timedelta(seconds=life)


@pytest.mark.parametrize(
    "answer",
    [
        {}, {"token_type": "Bearer"}, {**GOOD, "token_type": "mac"}, {**GOOD, "access_token": 1}, {**GOOD, "access_token": "x" * 16385},
        {**GOOD, "access_token": "a\r\nb"}, {**GOOD, "refresh_token": ["a"]}, {**GOOD, "id_token": {}},
    ],
)  # fmt: skip
def test_an_answer_without_a_sound_token_is_none(answer: dict[str, Any]) -> None:
    with pytest.raises(FetchFailed):
        granted_of(answer, (), NOW)


def test_a_refresh_token_may_come_in_the_access_tokens_place() -> None:  # RFC 8693 §2.2.1
    answer = {"access_token": "r", "issued_token_type": REFRESH_TOKEN, "token_type": "N_A"}
    granted = granted_of(answer, ("openid",), NOW)
    assert (granted.access_token, granted.refresh_token, granted.scopes) == ("", "r", {"openid"})
    assert "'r'" not in repr(granted)


async def send_to(endpoint: Endpoint, client: OAuthClient, pages: LoginClient = PUBLIC) -> str:
    return await client.authorization_url(
        endpoint.issuer, pages, redirect_uri="https://us.example/back", state="s", nonce="n", verifier="v"
    )


@pytest.mark.parametrize("methods", [["plain"], []])
async def test_an_issuer_that_knows_pkce_by_plain_text_alone_is_not_used(
    endpoint: Endpoint, client: OAuthClient, methods: list[str]
) -> None:
    endpoint.about = {"code_challenge_methods_supported": methods}
    with pytest.raises(FetchFailed, match="S256"):
        await send_to(endpoint, client)


async def test_an_endpoint_elsewhere_on_plain_http_is_not_used(endpoint: Endpoint, client: OAuthClient) -> None:
    endpoint.about = {"authorization_endpoint": "http://evil.example/authorize"}
    with pytest.raises(FetchFailed, match="https"):
        await send_to(endpoint, client)


async def test_what_is_wanted_goes_along(endpoint: Endpoint, client: OAuthClient) -> None:
    pages = LoginClient(client_id="pages", audience="indaco", resource="urn:indaco", prompt="consent")
    endpoint.about = {"authorization_endpoint": f"{endpoint.url}/authorize?tenant=1"}
    url = await send_to(endpoint, client, pages)
    assert url.startswith(f"{endpoint.url}/authorize?tenant=1&response_type=code&client_id=pages&")
    for part in (
        "audience=indaco",
        "resource=urn%3Aindaco",
        "prompt=consent",
        "code_challenge_method=S256",
        "scope=openid+profile",
    ):
        assert part in url


async def test_a_public_client_says_its_name_and_one_with_a_secret_proves_it(
    endpoint: Endpoint, client: OAuthClient
) -> None:
    private = LoginClient(client_id="pages", client_secret_vault="issuers/pages")
    await client.refresh(endpoint.issuer, PUBLIC, "r", Want())
    await client.refresh(endpoint.issuer, private, "r", Want(scopes=("a", "b")))
    assert endpoint.asked == [
        ({"grant_type": "refresh_token", "refresh_token": "r", "client_id": "pages"}, None),
        ({"grant_type": "refresh_token", "refresh_token": "r", "scope": "a b"}, "Basic cGFnZXM6cyUyRmNyZXQ="),
    ]


async def test_a_secret_goes_in_the_form_where_the_issuer_takes_it_there_alone(
    endpoint: Endpoint, client: OAuthClient
) -> None:
    endpoint.about = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    await client.revoke(endpoint.issuer, LoginClient(client_id="pages", client_secret_vault="issuers/pages"), "r")
    form, header = endpoint.asked[0]
    assert (form["client_id"], form["client_secret"], header) == ("pages", "s/cret", None)


@pytest.mark.parametrize(
    ("status", "answer", "code"),
    [(400, {"error": "invalid_grant"}, "invalid_grant"), (401, {"error": "invalid_client"}, "invalid_client"), (400, {"error": "<script>"}, "http_400"), (403, {}, "http_403")],
)  # fmt: skip
async def test_a_refusal_is_told_by_its_code_alone(
    endpoint: Endpoint, client: OAuthClient, status: int, answer: dict[str, Any], code: str
) -> None:
    endpoint.status, endpoint.answer = status, answer
    with pytest.raises(GrantRefused) as caught:
        await client.exchange(
            endpoint.issuer, ExchangeClient(client_id="x", client_secret_vault="issuers/x"), "token-of-ada"
        )
    assert caught.value.code == code


@pytest.mark.parametrize("status", [302, 429, 500])
async def test_an_endpoint_that_fails_has_said_nothing(endpoint: Endpoint, client: OAuthClient, status: int) -> None:
    endpoint.status = status
    with pytest.raises(FetchFailed) as caught:
        await client.refresh(endpoint.issuer, PUBLIC, "very-secret", Want())
    assert "very-secret" not in str(caught.value)
    assert not await client.revoke(endpoint.issuer, PUBLIC, "very-secret")


@pytest.mark.parametrize(
    ("kind", "given", "why"),
    [
        (LoginClient, {"scopes": ["profile"]}, "openid"),
        (LoginClient, {"scopes": ["openid", "a b"]}, "pattern"),
        (LoginClient, {"client_secret_file": "x", "client_secret_vault": "issuers/x"}, "one of them"),
        (ExchangeClient, {}, "one of them"),
        (LoginClient, {"client_secret_vault": "users/x"}, "pattern"),
    ],
)
def test_a_client_that_cannot_work_is_told(kind: type[pydantic.BaseModel], given: dict[str, Any], why: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=why):
        kind.model_validate({"client_id": "x", **given})
