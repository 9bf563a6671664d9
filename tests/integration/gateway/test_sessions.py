"""Logging in from a page at a real provider (npm oidc-provider): the way there and back, and every way in that must not be one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from indaco_common.clock import SystemClock
from indaco_common.errors import Unavailable
from indaco_common.secrets.embedded import EmbeddedVault
from indaco_gateway.model.login import Attempt
from indaco_gateway.model.session import session_id, tokens_path

from .page import CSRF, SECRET, Browser, provider, query, trusted
from .world import VM, Answer, Issuer, World, running

pytestmark = pytest.mark.oidc


@pytest.fixture
async def page(tmp_path: Path, openbao: EmbeddedVault, issuer: Issuer) -> AsyncIterator[World]:
    """A gateway at which pages can log in."""
    secret = tmp_path / "client.secret"
    secret.write_text(SECRET)
    settings = {"issuers": (trusted(provider(), secret),), "rate_guesses": "none"}
    async with running(World(tmp_path / "gateway", openbao, issuer, settings)) as world:
        yield world


@pytest.fixture
async def browser(page: World) -> AsyncIterator[Browser]:
    async with Browser(page) as browser:
        yield browser


async def kept(browser: Browser) -> dict[str, Any]:
    """Return what the vault has of the browser's session."""
    secret = await browser.world.infra.vault.get(tokens_path(session_id(browser.cookie())))
    assert secret is not None
    return secret


async def test_a_login_leads_back_to_the_page_with_a_session(browser: Browser) -> None:
    url = await browser.begin()
    assert query(url)["code_challenge_method"] == "S256"
    assert query(url)["redirect_uri"] == f"{browser.world.url}/v1/login/callback"
    answer = await browser.get(await browser.approve(url))
    assert (answer.status, answer.headers["Location"]) == (303, "/app")
    cookies = answer.headers.getall("Set-Cookie")
    (cookie,) = (each for each in cookies if each.startswith("indaco-session="))
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Path=/" in cookie
    me = await browser.get("/v1/me")
    assert (me.status, me.json["subject"], me.json["groups"]) == (200, "ada", ["physics", "physics/simulation"])


async def test_a_request_that_changes_something_needs_our_header_and_our_origin(browser: Browser) -> None:
    await browser.log_in()
    key = {"json": {"name": "default"}}
    for headers in (
        {},
        {**CSRF, "Origin": "https://evil.example"},
        {**CSRF, "Sec-Fetch-Site": "cross-site"},
        {**CSRF, "Sec-Fetch-Site": "same-site"},
    ):
        answer = await browser.send("POST", "/v1/keys", headers=headers, **key)
        assert (answer.status, answer.json["code"]) == (403, "cross-site")
    assert (await browser.get("/v1/keys")).json["content"] == []
    own = {**CSRF, "Origin": browser.world.url, "Sec-Fetch-Site": "same-origin"}
    assert (await browser.send("POST", "/v1/keys", headers=own, **key)).status == 202
    answer = await browser.send("POST", "/deployments", headers=CSRF, json={"template": VM, "userGroup": "physics"})
    assert answer.status == 201


async def test_an_authorization_header_counts_and_the_cookie_beside_it_does_not(browser: Browser) -> None:
    await browser.log_in()
    answer = await browser.get("/v1/me", headers={"Authorization": "Bearer nonsense"})
    assert answer.status == 401


async def test_logging_out_ends_the_session_here_and_at_the_issuer(browser: Browser) -> None:
    await browser.log_in()
    cookie, tokens = browser.cookie(), await kept(browser)
    refused = await browser.send("POST", "/v1/logout")
    assert (refused.status, (await browser.get("/v1/me")).status) == (403, 200)
    assert (await browser.send("POST", "/v1/logout", headers=CSRF)).status == 204
    assert browser.cookie() == ""
    browser.use({"indaco-session": cookie})
    answer = await browser.get("/v1/me")
    assert (answer.status, answer.json["code"]) == (401, "session-ended")
    await gone(browser.world, cookie)
    assert (await refreshed(browser, tokens["refresh_token"])).json["error"] == "invalid_grant"
    assert (await browser.send("POST", "/v1/logout", headers=CSRF)).status == 204  # again changes nothing


async def gone(world: World, cookie: str) -> None:
    """Wait until neither store nor vault has anything of the session."""
    id = session_id(cookie)

    async def is_gone() -> bool:
        left = await world.infra.vault.get(tokens_path(id))
        return left is None and await world.infra.store.load("session", id) is None

    await world.until(is_gone)


async def refreshed(browser: Browser, token: str) -> Answer:
    """Use a refresh token at the issuer, as somebody would who has it and our client's secret."""
    form = {
        "grant_type": "refresh_token",
        "refresh_token": token,
        "client_id": "indaco-dashboard",
        "client_secret": SECRET,
    }
    return await browser.send("POST", f"{provider()}/token", data=form)


# ── ways in that are none


async def test_a_login_comes_back_once(browser: Browser) -> None:
    back = await browser.approve(await browser.begin())
    jar = {cookie.key: cookie.value for cookie in browser.http.cookie_jar}
    assert (await browser.get(back)).status == 303
    browser.use({name: value for name, value in jar.items() if name.startswith("indaco-login-")})
    answer = await browser.get(back)
    assert (answer.status, answer.json["code"]) == (400, "login-failed")
    # Nor did its code go to the issuer twice, which takes back what such a code has given.
    assert (await refreshed(browser, (await kept(browser))["refresh_token"])).status == 200


async def test_logins_that_somebody_makes_up_leave_nothing_in_the_store(page: World, browser: Browser) -> None:
    before = page.rows()
    for refused in ("access_denied", "x"):
        made_up = Attempt.begin(provider(), "/app", SystemClock().now())
        browser.use({f"indaco-login-{made_up.state[:8]}": made_up.cookie()})
        answer = await browser.get(f"/v1/login/callback?error={refused}&state={made_up.state}&iss={provider()}")
        assert (answer.status, answer.headers["Location"].partition("=")[0]) == (303, "/app?login_error")
    forever = replace(made_up, expires_at=made_up.expires_at + timedelta(days=3650))
    browser.use({f"indaco-login-{forever.state[:8]}": forever.cookie()})
    answer = await browser.get(f"/v1/login/callback?code=x&state={forever.state}&iss={provider()}")
    assert (answer.status, answer.json["code"]) == (400, "login-failed")
    assert page.rows() == before


async def test_somebody_elses_login_does_not_become_the_victims_session(page: World, browser: Browser) -> None:
    async with Browser(page) as attacker:
        back = await attacker.approve(await attacker.begin(), "bob")
    await browser.begin()  # the victim is logging in too: the cookie of that is not enough
    assert (await browser.get(back)).status == 400
    assert browser.cookie() == ""
    assert (await browser.get("/v1/me")).status == 401


@pytest.mark.parametrize("iss", ["https://evil.example", "", None])
async def test_an_answer_of_another_issuer_is_refused_and_its_code_goes_nowhere(
    browser: Browser, iss: str | None
) -> None:
    back = await browser.approve(await browser.begin())
    parameters = query(back)
    if iss is None:
        del parameters["iss"]
    else:
        parameters["iss"] = iss
    answer = await browser.get("/v1/login/callback", params=parameters)
    assert (answer.status, answer.json["code"]) == (400, "login-failed")
    assert (await browser.get(back)).status == 303  # the code was not used up, nor was the login


async def test_a_code_of_another_login_is_refused(page: World, browser: Browser) -> None:
    async with Browser(page) as attacker:
        stolen = query(await attacker.approve(await attacker.begin(), "bob"))
    back = query(await browser.approve(await browser.begin()))
    answer = await browser.get("/v1/login/callback", params={**back, "code": stolen["code"]})
    assert answer.status == 400
    assert "invalid_grant" in answer.json["detail"]  # the verifier is not the one of that code's challenge


async def test_a_challenge_that_was_made_plain_on_the_way_gives_no_session(browser: Browser) -> None:
    url = (await browser.begin()).replace("code_challenge_method=S256", "code_challenge_method=plain")
    answer = await browser.get(await browser.approve(url))
    assert answer.headers["Location"] == "/app?login_error=refused"
    assert browser.cookie() == ""


async def test_an_id_token_of_another_login_is_refused(browser: Browser) -> None:
    url = await browser.begin()
    answer = await browser.get(await browser.approve(url.replace(query(url)["nonce"], "x" * 43)))
    assert (answer.status, "another login" in answer.json["detail"]) == (400, True)
    assert browser.cookie() == ""


@pytest.mark.parametrize(
    "path", ["//evil.example", "/\\evil.example", "https://evil.example", "evil", "/\t/evil.example", "javascript:alert(1)", "/é", ""]
)  # fmt: skip
async def test_a_login_leads_to_nobody_elses_page(browser: Browser, path: str) -> None:
    answer = await browser.get("/v1/login", params={"return_to": path})
    assert answer.status == 400
    assert "Set-Cookie" not in answer.headers


async def test_where_a_login_leads_cannot_be_changed_on_the_way(browser: Browser) -> None:
    back = await browser.approve(await browser.begin())
    name, value = next(
        (each.key, each.value) for each in browser.http.cookie_jar if each.key.startswith("indaco-login-")
    )
    forged = Attempt.of_cookie(value)
    assert forged is not None
    browser.use({name: replace(forged, return_to="/elsewhere").cookie()})
    assert (await browser.get(back)).status == 400


async def test_a_cookie_that_was_planted_before_a_login_opens_nothing_after_it(browser: Browser) -> None:
    planted = "A" * 43
    browser.use({"indaco-session": planted})
    assert (await browser.get("/v1/me")).status == 401
    await browser.log_in()
    assert browser.cookie() not in ("", planted)
    browser.use({"indaco-session": planted})
    assert (await browser.get("/v1/me")).status == 401


async def test_a_new_login_ends_the_session_that_the_browser_had(browser: Browser) -> None:
    await browser.log_in()
    first = browser.cookie()
    await browser.log_in()
    assert browser.cookie() != first
    await gone(browser.world, first)
    assert (await browser.get("/v1/me")).status == 200


@pytest.mark.parametrize("header", ["Host", "X-Forwarded-Host"])
async def test_a_request_does_not_say_where_codes_are_sent(browser: Browser, header: str) -> None:
    answer = await browser.get("/v1/login", headers={header: "evil.example"})
    if header == "Host":
        assert answer.status == 400
    else:
        assert query(answer.headers["Location"])["redirect_uri"] == f"{browser.world.url}/v1/login/callback"


async def test_behind_https_cookies_are_secure_and_the_hosts_alone(page: World) -> None:
    page.settings = {**page.settings, "public_url": "https://paas.example.org/indaco"}
    async with running(World(page.folder.with_name("https"), page.vault, page.issuer, page.settings)) as world:
        answer = await world.get("/v1/login", user=None, allow_redirects=False)
        cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith("__Host-indaco-login-")
        assert "Secure" in cookie
        assert "Domain" not in cookie
        assert query(answer.headers["Location"])["redirect_uri"] == "https://paas.example.org/indaco/v1/login/callback"
        planted = await world.get("/v1/me", user=None, headers={"Cookie": f"indaco-session={'A' * 43}"})
        assert planted.json["code"] == "unauthenticated"  # without the prefix it is no cookie of ours


# ── how long it lasts


async def age(browser: Browser, **changes: float) -> None:
    """Make the session's access token old: *renew* and *expire* are seconds from now."""
    path, now = tokens_path(session_id(browser.cookie())), SystemClock().now().timestamp()
    tokens = await kept(browser)
    token, expires_at, _ = tokens["access"][""]
    tokens["access"][""] = [
        token,
        now + changes["expire"] if "expire" in changes else expires_at,
        now + changes["renew"],
    ]
    await browser.world.infra.vault.put(path, tokens)


@asynccontextmanager
async def another(page: World) -> AsyncIterator[World]:
    """A second gateway on the same store, which remembers nothing."""
    async with running(World(page.folder, page.vault, page.issuer, page.settings)) as world:
        yield world


async def test_a_token_is_renewed_once_for_all_requests_of_all_gateways(page: World, browser: Browser) -> None:
    await browser.log_in()
    before = await kept(browser)
    await age(browser, renew=-1, expire=-1)
    async with another(page) as second, another(page) as third:
        calls = [browser.get(f"{world.url}/v1/me") for world in (second, third) for _ in range(10)]
        assert {answer.status for answer in await asyncio.gather(*calls)} == {200}
    after = await kept(browser)
    assert after["serial"] == 1
    assert after["refresh_token"] != before["refresh_token"]
    assert after["access"][""][0] != before["access"][""][0]


async def test_what_the_issuer_has_ended_ends_the_session(page: World, browser: Browser) -> None:
    await browser.log_in()
    tokens = await kept(browser)
    assert (
        await refreshed(browser, tokens["refresh_token"])
    ).status == 200  # by a process that died before it could keep the next
    await age(browser, renew=-1)
    async with another(page) as second:
        answer = await browser.get(f"{second.url}/v1/me")
        assert (answer.status, answer.json["code"]) == (401, "session-ended")
        await gone(second, browser.cookie())


async def test_a_session_ends_when_it_is_not_used_and_takes_its_tokens_along(page: World) -> None:
    page.settings = {**page.settings, "session_idle_s": 1}
    async with (
        running(World(page.folder.with_name("idle"), page.vault, page.issuer, page.settings)) as world,
        Browser(world) as browser,
    ):
        await browser.log_in()
        for _ in range(4):
            await asyncio.sleep(0.4)
            assert (await browser.get("/v1/me")).status == 200
        await asyncio.sleep(1.1)
        assert (await browser.get("/v1/me")).status == 401
        await gone(world, browser.cookie())


async def test_a_session_ends_however_much_it_is_used(page: World) -> None:
    page.settings = {**page.settings, "session_s": 1}
    async with (
        running(World(page.folder.with_name("short"), page.vault, page.issuer, page.settings)) as world,
        Browser(world) as browser,
    ):
        await browser.log_in()
        cookie = browser.cookie()
        assert (await browser.get("/v1/me")).status == 200
        await asyncio.sleep(1.1)
        browser.use({"indaco-session": cookie})
        assert (await browser.get("/v1/me")).status == 401
        await gone(world, cookie)


async def test_one_session_too_many_ends_the_oldest(page: World) -> None:
    page.settings = {**page.settings, "max_sessions": 2}
    async with (
        running(World(page.folder.with_name("few"), page.vault, page.issuer, page.settings)) as world,
        AsyncExitStack() as stack,
    ):
        browsers = [await stack.enter_async_context(Browser(world)) for _ in range(3)]
        for browser in browsers:
            await browser.log_in()
        assert [(await browser.get("/v1/me")).status for browser in browsers] == [401, 200, 200]


async def test_a_session_is_good_at_every_gateway_and_its_end_too(page: World, browser: Browser) -> None:
    await browser.log_in()
    async with another(page) as second:
        assert (await browser.get(f"{second.url}/v1/me")).status == 200
        cookie = browser.cookie()
        await browser.send("POST", "/v1/logout", headers=CSRF)
        browser.use({"indaco-session": cookie})
        assert (await browser.get(f"{second.url}/v1/me")).status == 401


# ── what is said, and what is not


async def test_anybody_can_ask_where_to_log_in(page: World, browser: Browser) -> None:
    (one,) = (await browser.get("/v1/login/issuers")).json["content"]
    assert one["issuer"] == provider()
    assert one["login_url"].startswith(f"{page.url}/v1/login?issuer=http%3A%2F%2F127.0.0.1")
    assert (await browser.get(one["login_url"])).status == 303


async def test_no_token_is_in_an_answer_a_log_or_the_store(page: World, browser: Browser) -> None:
    answers: list[str] = []
    with capture_logs() as logs:
        back = await browser.approve(await browser.begin())
        for answer in (await browser.get(back), await browser.get("/v1/me")):
            answers += [answer.text, str(answer.headers.items())]
        first = await kept(browser)
        await age(browser, renew=-1)
        async with another(page) as second:
            await browser.get(f"{second.url}/v1/me")
        last, cookie = await kept(browser), browser.cookie()
        answers.append((await browser.send("POST", "/v1/logout", headers=CSRF)).text)
        await gone(page, cookie)
    secrets = {each["refresh_token"] for each in (first, last)} | {each["access"][""][0] for each in (first, last)}
    assert len(secrets) == 4
    secrets |= {secret.rsplit(".", 1)[-1] for secret in secrets} | {query(back)["code"], SECRET}
    stored = page.files()
    for secret in secrets:
        assert secret not in str(logs)
        assert secret not in "".join(answers)
        assert secret.encode() not in stored
    assert cookie.encode() not in stored
    assert cookie not in str(logs)


# ── what may happen while a token is renewed


class Fault:
    """Stands before the vault's ``replace`` of a gateway, for the write that follows the issuer's answer."""

    def __init__(self, world: World, before: Callable[[str], Awaitable[None]]) -> None:
        self._replace, self._before = world.infra.vault.replace, before
        world.infra.vault.replace = self

    async def __call__(self, path: str, secret: Mapping[str, Any], *, version: int) -> int:
        if secret.get("serial") and secret["claim"][0] == "":
            await self._before(path)
        return await self._replace(path, secret, version=version)


@pytest.fixture
async def old(page: World, browser: Browser) -> AsyncIterator[tuple[Browser, World]]:
    """A browser whose token has ended, and a gateway that has yet to renew it."""
    await browser.log_in()
    await age(browser, renew=-1, expire=-1)
    async with another(page) as second:
        yield browser, second


async def test_what_the_issuer_gave_waits_for_a_vault_that_is_away(old: tuple[Browser, World]) -> None:
    browser, second = old
    failures = iter((1, 2, 3))

    async def fail(_: str) -> None:
        if next(failures, None):
            raise Unavailable("the vault does not answer")

    Fault(second, fail)
    assert (await browser.get(f"{second.url}/v1/me")).status == 200
    assert (await kept(browser))["serial"] == 1


async def test_what_could_not_be_written_is_written_later(
    old: tuple[Browser, World], monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, second = old
    monkeypatch.setattr("indaco_common.auth.kept_tokens.WRITE_S", 0.2)
    monkeypatch.setattr("indaco_common.auth.kept.CLAIM", timedelta(seconds=0.5))
    is_away = True

    async def fail(_: str) -> None:
        if is_away:
            raise Unavailable("the vault does not answer")

    Fault(second, fail)
    assert (await browser.get(f"{second.url}/v1/me")).status == 503
    is_away = False
    await asyncio.sleep(0.6)
    assert (await browser.get(f"{second.url}/v1/me")).status == 200
    after = await kept(browser)
    assert (after["serial"], (await refreshed(browser, after["refresh_token"])).status) == (1, 200)


async def test_the_claim_of_a_process_that_died_ends_by_itself(old: tuple[Browser, World]) -> None:
    browser, second = old
    path, tokens = tokens_path(session_id(browser.cookie())), await kept(browser)
    tokens["claim"] = ["somebody", SystemClock().now().timestamp() + 1]
    await second.infra.vault.put(path, tokens)
    begun = asyncio.get_running_loop().time()
    assert (await browser.get(f"{second.url}/v1/me")).status == 200
    assert 0.5 < asyncio.get_running_loop().time() - begun < 5
    assert (await kept(browser))["serial"] == 1


async def test_nobody_waits_for_a_renewal_while_the_token_is_good(old: tuple[Browser, World]) -> None:
    browser, second = old
    path, tokens = tokens_path(session_id(browser.cookie())), await kept(browser)
    now = SystemClock().now().timestamp()
    tokens["claim"] = ["somebody", now + 30]
    tokens["access"][""] = [tokens["access"][""][0], now + 60, now - 1]
    await second.infra.vault.put(path, tokens)
    async with asyncio.timeout(1):
        assert (await browser.get(f"{second.url}/v1/me")).status == 200
    assert (await kept(browser))["serial"] == 0


async def test_a_session_that_is_ended_while_it_is_renewed_leaves_no_token(old: tuple[Browser, World]) -> None:
    browser, second = old
    given: list[str] = []

    async def end(path: str) -> None:
        given.append(str((await second.infra.vault.get(path) or {})["refresh_token"]))
        await second.infra.vault.delete(path)

    Fault(second, end)
    cookie = browser.cookie()
    assert (await browser.get(f"{second.url}/v1/me")).status == 401
    await gone(second, cookie)
    assert (await refreshed(browser, given[0])).json["error"] == "invalid_grant"
