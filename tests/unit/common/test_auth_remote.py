"""What an issuer is asked about a token: groups that the token lacks, and everything about one that only it can read."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from indaco_common.auth import Authenticator, IssuerHttp, TrustedIssuer
from indaco_common.auth import remote as remote_module
from indaco_common.clock import ManualClock
from indaco_common.errors import Unavailable

from .auth_world import Issuer, claims, refused, signed, stamp, trusted

DISCOVERY, JWKS, USERINFO, INTROSPECT = "/.well-known/openid-configuration", "/jwks", "/userinfo", "/introspect"
OPAQUE = "an-opaque-token-of-43-characters-0123456789"


@pytest.fixture
def client(tmp_path: Path) -> dict[str, Any]:
    secret = tmp_path / "secret"
    secret.write_text("s/cret\n")
    return {"client_id": "indaco", "client_secret_file": str(secret)}


@pytest.fixture
async def by_userinfo(issuer: Issuer, clock: ManualClock, http: IssuerHttp) -> AsyncIterator[Authenticator]:
    issuer.userinfo = {"sub": "ada", "groups": ["cms"], "email": "ada@example.org"}
    auth = Authenticator([trusted(issuer, group_source="userinfo")], clock, http)
    yield auth
    await auth.close()


@pytest.fixture
async def by_introspection(
    issuer: Issuer, clock: ManualClock, http: IssuerHttp, client: dict[str, Any]
) -> AsyncIterator[Authenticator]:
    issuer.introspected = {
        "active": True,
        "token_type": "bearer",
        **claims(issuer),
        "aud": "other indaco",
        "iss": issuer.url + "/",
    }
    record = trusted(issuer, group_source="introspection", introspection={**client, "opaque_tokens": True})
    auth = Authenticator([record], clock, http)
    yield auth
    await auth.close()


# ── userinfo ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_groups_that_the_token_lacks_are_had_from_userinfo(by_userinfo: Authenticator, issuer: Issuer) -> None:
    token = signed(claims(issuer, groups=..., email=...))
    principal = await by_userinfo.verify(token)
    assert (principal.groups, principal.email, principal.name) == ({"cms"}, "ada@example.org", "Ada Lovelace")
    assert issuer.tokens == [token]


@pytest.mark.parametrize("groups", [["atlas"], []])
async def test_a_token_that_tells_of_groups_needs_no_userinfo_not_even_if_there_are_none(
    by_userinfo: Authenticator, issuer: Issuer, groups: list[str]
) -> None:
    assert (await by_userinfo.verify(signed(claims(issuer, groups=groups)))).groups == set(groups)
    assert issuer.tokens == []


async def test_userinfo_adds_groups_and_names_and_nothing_that_gives_rights(
    by_userinfo: Authenticator, issuer: Issuer
) -> None:
    issuer.userinfo = {"sub": "ada", "groups": ["cms"], "scope": "compute.create", "aud": "x", "exp": 1, "name": "Root"}
    principal = await by_userinfo.verify(signed(claims(issuer, groups=..., scope=...)))
    assert (principal.scopes, principal.name) == (frozenset(), "Ada Lovelace")


async def test_userinfo_of_somebody_else_is_not_used(by_userinfo: Authenticator, issuer: Issuer) -> None:
    issuer.userinfo = {"sub": "root", "groups": ["admins"]}
    assert "somebody else" in await refused(by_userinfo, signed(claims(issuer, groups=...)))


async def test_a_token_that_userinfo_does_not_take_is_refused(by_userinfo: Authenticator, issuer: Issuer) -> None:
    issuer.userinfo = None
    assert "openid" in await refused(by_userinfo, signed(claims(issuer, groups=...)))


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_without_an_answer_nobody_has_groups_and_nobody_gets_in(
    by_userinfo: Authenticator, issuer: Issuer, status: int
) -> None:
    issuer.remote_status = status
    with pytest.raises(Unavailable):
        await by_userinfo.verify(signed(claims(issuer, groups=...)))


async def test_a_forged_token_is_not_shown_to_userinfo(by_userinfo: Authenticator, issuer: Issuer) -> None:
    head, body, sign = signed(claims(issuer, groups=...)).split(".")
    await refused(by_userinfo, f"{head}.{body}.{sign[:-8]}AAAAAAAA")
    await refused(by_userinfo, signed(claims(issuer, groups=..., exp=stamp(-100))))
    assert issuer.tokens == []


async def test_many_at_once_with_one_token_are_one_question_and_it_is_asked_again_after_five_minutes(
    by_userinfo: Authenticator, issuer: Issuer, clock: ManualClock
) -> None:
    issuer.delay_s = 0.02
    token = signed(claims(issuer, groups=...))
    await asyncio.gather(*(by_userinfo.verify(token) for _ in range(20)))
    assert issuer.asked == [DISCOVERY, JWKS, USERINFO]
    for _ in range(4):
        clock.advance(timedelta(seconds=70))
        await by_userinfo.verify(token)
    assert issuer.asked.count(USERINFO) == 1
    clock.advance(timedelta(seconds=20))
    await by_userinfo.verify(token)
    assert issuer.asked.count(USERINFO) == 2


async def test_groups_of_one_token_are_not_those_of_another_of_the_same_user(
    by_userinfo: Authenticator, issuer: Issuer
) -> None:
    assert (await by_userinfo.verify(signed(claims(issuer, groups=...)))).groups == {"cms"}
    issuer.userinfo = {"sub": "ada"}  # what a token without the scope for groups is told
    assert (await by_userinfo.verify(signed(claims(issuer, groups=..., jti="2")))).groups == frozenset()


async def test_a_flood_of_questions_is_turned_away_before_it_reaches_the_issuer(
    by_userinfo: Authenticator, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_module, "AT_ONCE", 3)
    await by_userinfo.verify(signed(claims(issuer)))
    issuer.delay_s = 0.1
    tokens = [signed(claims(issuer, groups=..., jti=str(number))) for number in range(10)]
    found = await asyncio.gather(*(by_userinfo.verify(token) for token in tokens), return_exceptions=True)
    assert sum(isinstance(each, Unavailable) for each in found) == 7
    assert len(issuer.tokens) == 3


async def test_what_is_remembered_of_tokens_is_bounded(
    by_userinfo: Authenticator, issuer: Issuer, clock: ManualClock
) -> None:
    by_userinfo._remote._known.limit = 3
    for number in range(6):
        await by_userinfo.verify(signed(claims(issuer, groups=..., jti=str(number))))
    assert len(by_userinfo._remote._known) == 3


# ── introspection ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_opaque_token_is_what_its_issuer_says_it_is(by_introspection: Authenticator, issuer: Issuer) -> None:
    principal = await by_introspection.verify(OPAQUE)
    assert (principal.issuer, principal.subject, principal.groups) == (issuer.url, "ada", {"cms", "cms/analysis"})
    assert issuer.asked == [DISCOVERY, INTROSPECT]


async def test_groups_of_an_opaque_token_can_be_had_from_userinfo(
    issuer: Issuer, clock: ManualClock, http: IssuerHttp, client: dict[str, Any]
) -> None:
    issuer.introspected = {"active": True, "token_type": "Bearer", **claims(issuer, groups=...)}
    issuer.userinfo = {"sub": "ada", "groups": ["cms"]}
    record = trusted(issuer, group_source="userinfo", introspection={**client, "opaque_tokens": True})
    auth = Authenticator([record], clock, http)
    assert (await auth.verify(OPAQUE)).groups == {"cms"}
    issuer.userinfo = {"sub": "bob", "groups": ["cms"]}
    clock.advance(timedelta(seconds=300))
    assert "somebody else" in await refused(auth, OPAQUE)
    await auth.close()


@pytest.mark.parametrize(("life_s", "questions"), [(3600, 2), (40, 3)])
async def test_an_introspected_token_is_believed_for_a_minute_and_not_beyond_its_end(
    by_introspection: Authenticator, issuer: Issuer, clock: ManualClock, life_s: int, questions: int
) -> None:
    issuer.introspected["exp"] = stamp(life_s)
    for _ in range(3):
        await by_introspection.verify(OPAQUE)
        clock.advance(timedelta(seconds=39))
        if life_s == 40:
            clock.advance(timedelta(seconds=1))
            issuer.introspected["exp"] += 40
    assert issuer.asked.count(INTROSPECT) == questions


async def test_a_token_that_was_revoked_is_out_within_a_minute(
    by_introspection: Authenticator, issuer: Issuer, clock: ManualClock
) -> None:
    await by_introspection.verify(OPAQUE)
    issuer.introspected = {"active": False}
    clock.advance(timedelta(seconds=60))
    assert await refused(by_introspection, OPAQUE) == "The token is not active"


async def test_groups_that_the_token_lacks_are_had_from_introspection(
    by_introspection: Authenticator, issuer: Issuer
) -> None:
    assert (await by_introspection.verify(signed(claims(issuer, groups=...)))).groups == {"cms", "cms/analysis"}
    assert USERINFO not in issuer.asked


async def test_the_secret_is_read_anew_so_that_it_can_be_changed(
    by_introspection: Authenticator, issuer: Issuer, client: dict[str, Any]
) -> None:
    Path(client["client_secret_file"]).write_text("wrong")
    with pytest.raises(Unavailable):
        await by_introspection.verify(OPAQUE)
    Path(client["client_secret_file"]).write_text("s/cret")
    assert (await by_introspection.verify(OPAQUE)).subject == "ada"


@pytest.mark.parametrize("content", [None, "", "x" * 5000])
async def test_a_secret_that_is_not_there_is_no_secret(
    by_introspection: Authenticator, issuer: Issuer, client: dict[str, Any], content: str | None
) -> None:
    file = Path(client["client_secret_file"])
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(Unavailable):
        await by_introspection.verify(OPAQUE)
    assert issuer.tokens == []


@pytest.mark.parametrize(
    "token", ["short", "with space in it all along", "ünïcode-is-not-for-tokens", "x" * 20_000, "a.b.c.d.e=f=g-h"]
)
async def test_what_cannot_be_a_token_is_asked_of_nobody(
    by_introspection: Authenticator, issuer: Issuer, token: str
) -> None:
    with pytest.raises(Exception, match=r"token|authentication"):
        await by_introspection.authenticate(f"Bearer {token}")
    assert issuer.asked == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"client_secret_file": None}, "one of them"),
        ({"client_secret_vault": "issuers/x"}, "one of them"),
        ({"client_secret_file": None, "client_secret_vault": "inputs/x"}, "pattern"),
        ({"endpoint": "http://iam.example/introspect"}, "must be https"),
        ({"client_id": ""}, "client_id"),
    ],
)
def test_an_introspection_client_that_cannot_be_used_is_refused(
    client: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    given = {"issuer": "https://iam.example", "audiences": ["x"], "introspection": {**client, **change}}
    with pytest.raises(ValueError, match=words):
        TrustedIssuer.model_validate(given)
