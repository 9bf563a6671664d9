"""The embedded issuer over a real socket: each flow from its first request to a principal."""

import base64
import hashlib
import json
import re
import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from joserfc import jwt
from joserfc.jwk import KeySet

from indaco_common.auth import Authenticator, InvalidToken, IssuerHttp, Principal, TrustedIssuer
from indaco_common.clock import ManualClock
from indaco_common.errors import Invalid
from indaco_common.issuer import (
    DEVICE_CODE,
    ISSUER,
    Client,
    Issuer,
    IssuerConfig,
    User,
    create_app,
    hash_password,
    hash_secret,
)

SECRET = secrets.token_urlsafe(32)
ADA = User(
    username="ada",
    password_hash=hash_password("correct horse"),
    name="Ada Lovelace",
    email="ada@example.org",
    groups=("cms", "cms/analysis"),
)
BOB = User(username="bob", password_hash=hash_password("battery staple"), groups=("atlas",))
CLIENTS = (
    Client(
        client_id="dashboard",
        name="Dashboard",
        secret_hash=hash_secret(SECRET),
        redirect_uris=("https://paas.example.org/callback",),
        skip_consent=True,
    ),
    Client(
        client_id="cli",
        name="Command line",
        grants=("authorization_code", "refresh_token", DEVICE_CODE),
        redirect_uris=("http://127.0.0.1/callback", "edu.example.app:/callback"),
    ),
    Client(
        client_id="robot", secret_hash=hash_password("robot-password"), grants=("client_credentials",), groups=("ops",)
    ),
)
VERIFIER = secrets.token_urlsafe(48)
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
CALLBACK = "http://127.0.0.1:43210/callback"
BASIC = {"Authorization": aiohttp.encode_basic_auth("dashboard", SECRET)}


class Keys:
    """A key store in memory."""

    def __init__(self, text: str | None = None) -> None:
        self.text = text

    async def load(self) -> str | None:
        return self.text

    async def save(self, jwks_json: str) -> None:
        self.text = jwks_json


class Site:
    """The issuer under test, and a person's browser that keeps cookies and follows no redirect by itself."""

    def __init__(self, url: str, issuer: Issuer, http: aiohttp.ClientSession, auth: Authenticator) -> None:
        self.url, self.issuer, self.http, self.auth = url, issuer, http, auth

    async def get(self, path: str, **query: str) -> tuple[int, str, Any]:
        async with self.http.get(self.url + path, params=query, allow_redirects=False) as answer:
            return answer.status, await answer.text(), answer.headers

    async def post(self, path: str, headers: Any = None, **form: str) -> tuple[int, str, Any]:
        async with self.http.post(self.url + path, data=form, headers=headers, allow_redirects=False) as answer:
            return answer.status, await answer.text(), answer.headers

    async def tokens(self, headers: Any = None, **form: str) -> tuple[int, dict[str, Any]]:
        status, text, _ = await self.post("/token", headers, **form)
        return status, json.loads(text)

    async def principal(self, token: str) -> Principal:
        return await self.auth.authenticate(f"Bearer {token}")

    async def authorize(self, **changes: str) -> tuple[int, str, Any]:
        query = {
            "client_id": "cli",
            "response_type": "code",
            "redirect_uri": CALLBACK,
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            "state": "s t",
            "nonce": "n1",
        }
        return await self.get("/authorize", **{name: value for name, value in {**query, **changes}.items() if value})

    async def log_in(self, page: str, username: str = "ada", password: str = "correct horse") -> tuple[int, str, Any]:
        return await self.post("/login", **hidden(page), username=username, password=password)

    async def code(self, **changes: str) -> str:
        _, page, _ = await self.authorize(**changes)
        _, _, headers = await self.log_in(page)
        return answer_in(headers)["code"]

    async def exchange(self, code: str, **changes: str) -> tuple[int, dict[str, Any]]:
        form = {
            "grant_type": "authorization_code",
            "client_id": "cli",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": VERIFIER,
        }
        return await self.tokens(**{**form, **changes})


def hidden(page: str) -> dict[str, str]:
    return dict(re.findall(r'name="(interaction|csrf)" value="([^"]+)"', page))


def answer_in(headers: Any) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(headers["Location"]).query).items()}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def config() -> IssuerConfig:
    return IssuerConfig(
        issuer=f"http://127.0.0.1:{unused_port()}", audiences=("indaco", "other"), users=(ADA, BOB), clients=CLIENTS
    )


@pytest.fixture
async def site(config: IssuerConfig, clock: ManualClock) -> AsyncIterator[Site]:
    app = create_app(config, Keys(), clock)
    trusted = TrustedIssuer(issuer=config.issuer, audiences=["indaco"], allow_http=True)
    jar = aiohttp.CookieJar(unsafe=True)
    port = urlsplit(config.issuer).port
    async with TestServer(app, port=port), aiohttp.ClientSession(cookie_jar=jar) as http:
        outward = IssuerHttp()
        auth = Authenticator([trusted], clock, outward)
        yield Site(config.issuer, app[ISSUER], http, auth)
        await auth.close()
        await outward.close()


# ── discovery and keys ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_discovery_names_the_endpoints_and_the_purpose(site: Site) -> None:
    _, text, _ = await site.get("/.well-known/openid-configuration")
    document = json.loads(text)
    assert document["issuer"] == site.url
    assert document["code_challenge_methods_supported"] == ["S256"]
    assert document["indaco_purpose"] == "development and demonstrations only"
    _, page, _ = await site.get("/")
    assert "for development and demonstrations only" in page


async def test_published_keys_are_public_halves(site: Site) -> None:
    _, text, _ = await site.get("/jwks")
    keys = json.loads(text)["keys"]
    assert sorted(key["alg"] for key in keys) == ["ES256", "RS256"]
    assert all(not {"d", "p", "q", "dp", "dq", "qi"} & key.keys() for key in keys)


async def test_keys_are_made_once_and_found_again(config: IssuerConfig, clock: ManualClock) -> None:
    store = Keys()
    first, second = Issuer(config, store, clock), Issuer(config, store, clock)
    await first.start()
    await second.start()
    assert store.text is not None
    token = jwt.decode(second.issue_token("ada"), KeySet.import_key_set(json.loads(store.text)))
    assert token.claims["sub"] == "ada"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"keys": []}', '{"keys": [{"kty": "RSA"}]}', "null"])
async def test_stored_keys_that_cannot_be_used_are_said_so(config: IssuerConfig, text: str) -> None:
    with pytest.raises(Invalid, match="stored keys"):
        await Issuer(config, Keys(text)).start()


async def test_tokens_of_the_previous_keys_verify_after_a_rotation(site: Site, clock: ManualClock) -> None:
    old = site.issuer.issue_token("ada", ["cms"])
    await site.issuer.rotate_keys()
    assert (await site.principal(old)).groups == {"cms"}
    new = site.issuer.issue_token("bob")
    clock.advance(timedelta(seconds=31))
    assert (await site.principal(new)).subject == "bob"
    await site.issuer.rotate_keys()
    assert len(json.loads((await site.get("/jwks"))[1])["keys"]) == 4


@pytest.mark.parametrize("alg", ["RS256", "ES256"])
async def test_a_token_for_tests_is_an_rfc_9068_access_token(
    config: IssuerConfig, clock: ManualClock, alg: str
) -> None:
    issuer = Issuer(config.model_copy(update={"signing_alg": alg}), Keys(), clock)
    await issuer.start()
    head, body, _ = issuer.issue_token("ada", ["cms"], lifetime_s=60, claims={"name": "Ada"}).split(".")
    header, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in (head, body))
    assert (header["alg"], header["typ"]) == (alg, "at+jwt")
    assert claims["exp"] - claims["iat"] == 60
    assert {"iss", "sub", "aud", "client_id", "jti", "iat", "exp"} <= claims.keys()
    assert (claims["groups"], claims["wlcg.groups"], claims["name"]) == (["cms"], ["/cms"], "Ada")


# ── authorization code with PKCE ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_person_logs_in_and_the_client_gets_tokens(site: Site) -> None:
    status, page, _ = await site.authorize()
    assert status == 200
    assert "Command line" in page
    status, _, headers = await site.log_in(page)
    assert status == 303
    assert headers["Location"].startswith(CALLBACK + "?")
    answer = answer_in(headers)
    assert (answer["state"], answer["iss"]) == ("s t", site.url)
    status, tokens = await site.exchange(answer["code"])
    assert (status, tokens["expires_in"]) == (200, 3600)
    principal = await site.principal(tokens["access_token"])
    assert principal.subject == ADA.subject != "ada"
    assert principal.groups == {"cms", "cms/analysis"}
    assert principal.scopes == {"openid", "profile", "email", "offline_access", "groups", "wlcg.groups"}
    assert (principal.name, principal.email) == ("Ada Lovelace", "ada@example.org")


async def test_an_id_token_is_for_the_client_and_no_access_token(site: Site) -> None:
    _, tokens = await site.exchange(await site.code())
    body = tokens["id_token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    assert (claims["aud"], claims["nonce"], claims["preferred_username"]) == ("cli", "n1", "ada")
    with pytest.raises(InvalidToken):
        await site.principal(tokens["id_token"])


async def test_a_code_is_good_once_and_its_reuse_takes_back_what_it_gave(site: Site) -> None:
    code = await site.code()
    _, tokens = await site.exchange(code)
    assert (await site.exchange(code))[1]["error"] == "invalid_grant"
    status, answer = await site.tokens(
        grant_type="refresh_token", client_id="cli", refresh_token=tokens["refresh_token"]
    )
    assert (status, answer["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": "x" * 43},
        {"code_verifier": ""},
        {"code_verifier": CHALLENGE},
        {"redirect_uri": "http://127.0.0.1:43211/callback"},
        {"code": "guess"},
    ],
)
async def test_a_code_is_worth_nothing_to_another(site: Site, changes: dict[str, str]) -> None:
    code = await site.code()
    status, answer = await site.exchange(**{"code": code, **changes})
    assert (status, answer["error"]) == (400, "invalid_grant")


async def test_a_code_is_for_its_client_and_for_a_minute(site: Site, clock: ManualClock) -> None:
    code = await site.code()
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
    assert (await site.tokens(BASIC, **form))[1]["error"] == "invalid_grant"
    clock.advance(timedelta(seconds=60))
    assert (await site.exchange(code))[1]["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": ""}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "admin"}, "invalid_scope"),
        ({"resource": "https://evil.example"}, "invalid_target"),
        ({"prompt": "none"}, "login_required"),
    ],
)
async def test_a_bad_request_is_told_to_the_client(site: Site, changes: dict[str, str], error: str) -> None:
    status, _, headers = await site.authorize(**changes)
    assert status == 303
    assert (answer_in(headers)["error"], answer_in(headers)["state"]) == (error, "s t")


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "nobody"},
        {"client_id": "robot"},
        {"redirect_uri": ""},
        {"redirect_uri": "https://evil.example/callback"},
        {"redirect_uri": "http://127.0.0.1:1/callback/../evil"},
        {"redirect_uri": "http://127.0.0.1:1/callback?x=1"},
        {"redirect_uri": "http://127.0.0.1@evil.example/callback"},
        {"redirect_uri": "http://127.0.0.1:80@evil.example/callback"},
        {"redirect_uri": "http://127.0.0.1:x/callback"},
        {"redirect_uri": "http://127.0.0.2:1/callback"},
        {"redirect_uri": "https://127.0.0.1:1/callback"},
        {"redirect_uri": "https://paas.example.org/callback"},
    ],
)
async def test_nobody_is_redirected_to_an_address_that_is_not_registered(site: Site, changes: dict[str, str]) -> None:
    status, page, headers = await site.authorize(**changes)
    assert status == 400
    assert "Location" not in headers
    assert "<form" not in page


async def test_a_session_spares_the_password_but_not_the_question(site: Site) -> None:
    await site.code()
    _, page, _ = await site.authorize(state="two")
    assert "You are logged in as Ada Lovelace" in page
    _, _, headers = await site.post("/consent", **hidden(page), decision="allow")
    assert answer_in(headers)["state"] == "two"
    _, page, _ = await site.authorize()
    _, _, headers = await site.post("/consent", **hidden(page), decision="deny")
    assert answer_in(headers)["error"] == "access_denied"
    _, page, _ = await site.authorize()
    _, page, _ = await site.post("/consent", **hidden(page), decision="switch")
    assert "Password" in page
    _, page, _ = await site.authorize(prompt="login")
    assert "Password" in page
    assert answer_in((await site.authorize(prompt="none"))[2])["error"] == "consent_required"


async def test_the_installations_own_dashboard_is_not_asked_about(site: Site) -> None:
    await site.code()
    ours = {"client_id": "dashboard", "redirect_uri": "https://paas.example.org/callback"}
    _, _, headers = await site.authorize(**ours)
    assert headers["Location"].startswith("https://paas.example.org/callback?code=")
    form = {"grant_type": "authorization_code", "code": answer_in(headers)["code"], "code_verifier": VERIFIER}
    status, tokens = await site.tokens(BASIC, **form, redirect_uri=ours["redirect_uri"])
    assert status == 200
    assert "refresh_token" in tokens


async def test_another_account_cannot_answer_a_question_put_to_the_first(site: Site) -> None:
    await site.code()
    _, question, _ = await site.authorize()
    _, other, _ = await site.authorize(prompt="login")
    await site.log_in(other, "bob", "battery staple")
    status, page, _ = await site.post("/consent", **hidden(question), decision="allow")
    assert status == 200
    assert "Password" in page


async def test_logging_out_ends_the_session(site: Site) -> None:
    await site.code()
    _, page, _ = await site.get("/logout")
    assert (await site.post("/logout", **hidden(page)))[0] == 200
    assert "Password" in (await site.authorize())[1]


# ── the pages ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_pages_run_no_script_and_load_nothing(site: Site) -> None:
    _, page, headers = await site.authorize()
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self' http://127.0.0.1:43210;" in policy
    style = re.search(r"<style>(.*?)</style>", page)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    assert not re.search(r"<script|https?://|src=|\son\w+=", page)
    assert page.count("<label") == page.count("<input id=")
    assert 'lang="en"' in page


async def test_a_native_applications_scheme_is_a_form_target(site: Site) -> None:
    _, _, headers = await site.authorize(redirect_uri="edu.example.app:/callback")
    assert "form-action 'self' edu.example.app:;" in headers["Content-Security-Policy"]


async def test_cookies_are_out_of_reach_of_scripts_and_of_other_sites(site: Site) -> None:
    _, page, first = await site.authorize()
    _, _, second = await site.log_in(page)
    for headers in (first, second):
        for cookie in headers.getall("Set-Cookie"):
            assert "HttpOnly" in cookie
            assert "SameSite=Lax" in cookie


async def test_a_form_from_elsewhere_is_refused(site: Site) -> None:
    _, page, _ = await site.authorize()
    values = {"username": "ada", "password": "correct horse"}
    status, _, _ = await site.post("/login", **{**hidden(page), "csrf": "guess"}, **values)
    assert status == 403
    status, _, _ = await site.post("/login", **{**hidden(page), "interaction": "guess"}, **values)
    assert status == 400
    site.http.cookie_jar.clear()
    status, _, _ = await site.post("/login", **hidden(page), **values)
    assert status == 403


async def test_the_sixth_wrong_password_within_a_minute_must_wait(site: Site, clock: ManualClock) -> None:
    _, page, _ = await site.authorize()
    for _ in range(5):
        status, answer, _ = await site.log_in(page, password="wrong")
        assert status == 401
        assert "User name or password is wrong" in answer
    status, _, headers = await site.log_in(page)
    assert (status, headers["Retry-After"]) == (429, "61")
    assert (await site.log_in(page, "bob", "wrong"))[0] == 401
    clock.advance(timedelta(seconds=61))
    assert (await site.log_in(page))[0] == 303


async def test_a_name_is_shown_and_never_run(site: Site) -> None:
    _, page, _ = await site.authorize()
    _, page, _ = await site.log_in(page, '"><script>alert(1)</script>', "x")
    assert "<script" not in page
    assert "&lt;script&gt;" in page


# ── device flow ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def begin_device(site: Site) -> dict[str, Any]:
    _, text, _ = await site.post("/device_authorization", client_id="cli")
    return dict(json.loads(text))


async def poll(site: Site, device: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    return await site.tokens(grant_type=DEVICE_CODE, client_id="cli", device_code=device["device_code"])


async def approve_page(site: Site, device: dict[str, Any]) -> str:
    """Return the page with the question, after the code and the password."""
    url = urlsplit(device["verification_uri_complete"])
    _, page, _ = await site.get(url.path, **{name: values[0] for name, values in parse_qs(url.query).items()})
    typed = device["user_code"].lower().replace("-", " ")
    _, page, _ = await site.post("/device", **hidden(page), user_code=typed)
    _, page, _ = await site.log_in(page)
    return page


async def test_a_device_gets_tokens_once_a_person_has_approved(site: Site, clock: ManualClock) -> None:
    device = await begin_device(site)
    assert re.fullmatch(r"[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}", device["user_code"])
    assert (await poll(site, device))[1]["error"] == "authorization_pending"
    page = await approve_page(site, device)
    assert device["user_code"] in page
    clock.advance(timedelta(seconds=5))
    assert (await poll(site, device))[1]["error"] == "authorization_pending"
    _, page, _ = await site.post("/consent", **hidden(page), decision="allow")
    assert "Device approved" in page
    status, tokens = await poll(site, device)
    assert status == 200
    assert (await site.principal(tokens["access_token"])).subject == ADA.subject
    assert (await poll(site, device))[1]["error"] == "invalid_grant"


async def test_a_device_that_is_refused_is_told_so(site: Site) -> None:
    device = await begin_device(site)
    page = await approve_page(site, device)
    await site.post("/consent", **hidden(page), decision="deny")
    assert (await poll(site, device))[1]["error"] == "access_denied"
    status, _, _ = await site.post("/consent", **hidden(page), decision="allow")
    assert status == 400


async def test_a_device_that_asks_too_often_is_slowed_down(site: Site, clock: ManualClock) -> None:
    device = await begin_device(site)
    answers = []
    for seconds in (0, 4, 9, 10):
        clock.advance(timedelta(seconds=seconds))
        answers.append((await poll(site, device))[1]["error"])
    assert answers == ["authorization_pending", "slow_down", "slow_down", "slow_down"]
    clock.advance(timedelta(seconds=20))
    assert (await poll(site, device))[1]["error"] == "authorization_pending"


async def test_a_device_code_expires(site: Site, clock: ManualClock) -> None:
    device = await begin_device(site)
    page = await approve_page(site, device)
    clock.advance(timedelta(seconds=600))
    assert (await poll(site, device))[1]["error"] == "expired_token"
    assert (await site.post("/consent", **hidden(page), decision="allow"))[0] == 400


async def test_guessing_user_codes_is_stopped(site: Site, clock: ManualClock) -> None:
    _, page, _ = await site.get("/device")
    statuses = [(await site.post("/device", **hidden(page), user_code="BBBB-BBBB"))[0] for _ in range(11)]
    assert statuses == [400] * 10 + [429]
    clock.advance(timedelta(minutes=1))
    assert (await site.post("/device", **hidden(page), user_code="BBBB-BBBB"))[0] == 400


# ── refresh ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def refresh(site: Site, token: str, **more: str) -> tuple[int, dict[str, Any]]:
    return await site.tokens(grant_type="refresh_token", client_id="cli", refresh_token=token, **more)


async def test_each_refresh_gives_the_next_token_and_an_old_one_ends_them_all(site: Site) -> None:
    _, first = await site.exchange(await site.code())
    _, second = await refresh(site, first["refresh_token"])
    _, third = await refresh(site, second["refresh_token"])
    assert len({each["refresh_token"] for each in (first, second, third)}) == 3
    assert (await site.principal(third["access_token"])).subject == ADA.subject
    assert (await refresh(site, first["refresh_token"]))[1]["error"] == "invalid_grant"
    assert (await refresh(site, third["refresh_token"]))[1]["error"] == "invalid_grant"


async def test_a_refresh_can_narrow_the_scopes_and_never_widen_them(site: Site) -> None:
    _, first = await site.exchange(await site.code(scope="openid offline_access"))
    _, second = await refresh(site, first["refresh_token"], scope="openid email")
    assert second["scope"] == "openid"
    assert (await refresh(site, second["refresh_token"], scope="email"))[1]["error"] == "invalid_scope"
    _, third = await refresh(site, second["refresh_token"])
    assert third["scope"] == "offline_access openid"


async def test_a_refresh_token_is_for_its_client_and_ends(site: Site, clock: ManualClock) -> None:
    _, first = await site.exchange(await site.code())
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    assert (await site.tokens(BASIC, **form))[1]["error"] == "invalid_grant"
    clock.advance(timedelta(days=30))
    assert (await refresh(site, first["refresh_token"]))[1]["error"] == "invalid_grant"


async def test_without_offline_access_there_is_no_refresh_token(site: Site) -> None:
    _, tokens = await site.exchange(await site.code(scope="openid groups"))
    assert "refresh_token" not in tokens
    assert tokens["scope"] == "groups openid"


async def test_a_revoked_token_is_of_no_use(site: Site) -> None:
    _, tokens = await site.exchange(await site.code())
    await site.post("/revoke", BASIC, token=tokens["refresh_token"])
    _, tokens = await refresh(site, tokens["refresh_token"])
    assert (await site.post("/revoke", client_id="cli", token=tokens["refresh_token"]))[0] == 200
    assert (await refresh(site, tokens["refresh_token"]))[1]["error"] == "invalid_grant"


# ── client credentials, and clients ──────────────────────────────────────────────────────────────────────────────────


async def test_a_client_acts_for_itself(site: Site) -> None:
    headers = {"Authorization": aiohttp.encode_basic_auth("robot", "robot-password")}
    status, tokens = await site.tokens(headers, grant_type="client_credentials")
    assert status == 200
    assert not {"refresh_token", "id_token"} & tokens.keys()
    principal = await site.principal(tokens["access_token"])
    assert (principal.subject, principal.groups) == ("robot", {"ops"})
    assert not {"openid", "offline_access"} & principal.scopes
    form = {"client_id": "robot", "client_secret": "robot-password", "grant_type": "client_credentials"}
    _, tokens = await site.tokens(**form, audience="other")
    with pytest.raises(InvalidToken, match="another service"):
        await site.principal(tokens["access_token"])
    assert (await site.tokens(**form, scope="openid"))[1]["error"] == "invalid_scope"


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"client_id": "nobody", "grant_type": "client_credentials"}, 401, "invalid_client"),
        ({"client_id": "robot", "grant_type": "client_credentials"}, 401, "invalid_client"),
        ({"client_id": "robot", "client_secret": "x", "grant_type": "client_credentials"}, 401, "invalid_client"),
        ({"client_id": "cli", "client_secret": "x", "grant_type": "refresh_token"}, 401, "invalid_client"),
        ({"client_id": "cli", "grant_type": "client_credentials"}, 400, "unauthorized_client"),
        ({"client_id": "cli", "grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"client_id": "cli"}, 400, "unsupported_grant_type"),
        ({"client_id": "cli", "grant_type": "x" * 5000}, 400, "invalid_request"),
        ({"client_id": "cli", "grant_type": "refresh_token"}, 400, "invalid_grant"),
    ],
)
async def test_a_client_that_may_not_is_told_why(site: Site, form: dict[str, str], status: int, error: str) -> None:
    got, answer = await site.tokens(**form)
    assert (got, answer["error"]) == (status, error)


async def test_a_clients_password_cannot_be_guessed(site: Site) -> None:
    form = {"client_id": "robot", "grant_type": "client_credentials"}
    statuses = [(await site.tokens(**form, client_secret="wrong"))[0] for _ in range(6)]
    assert statuses == [401] * 5 + [429]
    assert (await site.tokens(**form, client_secret="robot-password"))[0] == 429


async def test_a_field_that_occurs_twice_is_refused(site: Site) -> None:
    body = "client_id=cli&grant_type=refresh_token&grant_type=client_credentials"
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    async with site.http.post(site.url + "/token", data=body, headers=kind) as answer:
        assert (answer.status, (await answer.json())["error"]) == (400, "invalid_request")
    async with site.http.post(site.url + "/token", json={"client_id": "cli"}) as answer:
        assert (answer.status, (await answer.json())["error"]) == (400, "invalid_request")


# ── userinfo ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_userinfo_tells_what_the_scopes_allow(site: Site, clock: ManualClock) -> None:
    _, tokens = await site.exchange(await site.code(scope="openid email wlcg.groups"))
    async with site.http.get(
        site.url + "/userinfo", headers={"Authorization": f"Bearer {tokens['access_token']}"}
    ) as got:
        assert await got.json() == {
            "sub": ADA.subject,
            "email": "ada@example.org",
            "email_verified": True,
            "wlcg.groups": ["/cms", "/cms/analysis"],
            "wlcg.ver": "1.0",
        }
    clock.advance(timedelta(hours=1))
    for token in (tokens["access_token"], tokens["id_token"], "x", site.issuer.issue_token("nobody")):
        async with site.http.get(site.url + "/userinfo", headers={"Authorization": f"Bearer {token}"}) as got:
            assert got.status == 401
            assert 'error="invalid_token"' in got.headers["WWW-Authenticate"]


# ── configuration ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "http://127.0.0.1:1/"},
        {"issuer": "ftp://x"},
        {"users": (ADA, ADA)},
        {"clients": (CLIENTS[0], CLIENTS[0])},
        {"audiences": ()},
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(change: dict[str, Any]) -> None:
    good = {"issuer": "http://127.0.0.1:1", "users": (ADA,), "clients": CLIENTS}
    IssuerConfig.model_validate(good)
    with pytest.raises(ValueError, match="validation error"):
        IssuerConfig.model_validate({**good, **change})


@pytest.mark.parametrize(
    "client",
    [
        {"client_id": "a", "grants": ["client_credentials"]},
        {"client_id": "a"},
        {"client_id": "a", "redirect_uris": ["javascript:alert(1)"]},
        {"client_id": "a", "redirect_uris": ["/callback"]},
        {"client_id": "a", "redirect_uris": ["https://x.example/#f"]},
        {"client_id": "a", "redirect_uris": ["https://x.example/; script-src *"]},
        {"client_id": "a b", "redirect_uris": ["https://x.example/"]},
        {"client_id": "a", "redirect_uris": ["https://x.example/"], "groups": ["../admins"]},
    ],
)
def test_a_client_that_could_not_be_safe_is_refused(client: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Client.model_validate(client)


def test_a_hash_tells_nothing_and_is_not_shown() -> None:
    assert "correct horse" not in ADA.password_hash
    assert ADA.password_hash not in repr(ADA)
    assert hash_password("a") != hash_password("a")


async def test_the_issuer_can_live_under_a_path(clock: ManualClock) -> None:
    base = f"http://127.0.0.1:{unused_port()}"
    config = IssuerConfig(issuer=base + "/issuer", users=(ADA,), clients=CLIENTS)
    parent = web.Application()
    app = create_app(config, Keys(), clock)
    parent.add_subapp("/issuer", app)
    trusted = TrustedIssuer(issuer=config.issuer, audiences=["indaco"], allow_http=True)
    jar = aiohttp.CookieJar(unsafe=True)
    async with TestServer(parent, port=urlsplit(base).port), aiohttp.ClientSession(cookie_jar=jar) as http:
        outward = IssuerHttp()
        site = Site(config.issuer, app[ISSUER], http, Authenticator([trusted], clock, outward))
        _, tokens = await site.exchange(await site.code())
        assert (await site.principal(tokens["access_token"])).subject == ADA.subject
        await outward.close()
