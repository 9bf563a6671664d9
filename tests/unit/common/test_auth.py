"""Access tokens against a real JWKS server on loopback that counts how often it is asked."""

import asyncio
import base64
import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any

import pytest
import structlog
from joserfc import jws
from joserfc.jwk import OctKey, RSAKey

from indaco_common.auth import (
    Authenticator,
    InsufficientScope,
    IssuerHttp,
    Principal,
    TrustedIssuer,
    authenticator,
)
from indaco_common.clock import ManualClock
from indaco_common.errors import Unauthenticated, Unavailable

from .auth_world import EC, NOW, OTHER_RSA, RSA, Issuer, claims, raw, refused, signed, stamp


@pytest.mark.parametrize("key", [RSA, EC], ids=["RS256", "ES256"])
async def test_a_good_token_is_a_principal(auth: Authenticator, issuer: Issuer, key: Any) -> None:
    assert await auth.authenticate(f"Bearer {signed(claims(issuer), key)}") == Principal(
        issuer=issuer.url,
        subject="ada",
        groups=frozenset({"cms", "cms/analysis"}),
        scopes=frozenset({"openid", "offline_access"}),
        name="Ada Lovelace",
        email="ada@example.org",
        expires_at=NOW + timedelta(hours=1),
    )


@pytest.mark.parametrize("prefix", ["Bearer ", "bearer ", "BEARER  ", "Bearer", "bearer"])
async def test_the_header_is_read_leniently(auth: Authenticator, issuer: Issuer, prefix: str) -> None:
    principal = await auth.authenticate(prefix + signed(claims(issuer)))
    assert principal.subject == "ada"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Token x"])
async def test_without_a_bearer_token_nobody_is_anybody(
    auth: Authenticator, issuer: Issuer, header: str | None
) -> None:
    with pytest.raises(Unauthenticated) as caught:
        await auth.authenticate(header)
    assert caught.value.code == "unauthenticated"
    assert issuer.asked == []


async def test_an_alias_of_the_issuer_is_the_canonical_issuer(auth: Authenticator, issuer: Issuer) -> None:
    principal = await auth.authenticate("Bearer " + signed(claims(issuer, iss=issuer.url + "/")))
    assert principal.issuer == issuer.url


# ── what must be refused with no request to anybody ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("alg", ["none", "None", "nOnE", "NONE", "", None, ["RS256"], "HS256", "HS512", "RS1", "EdDSA"])
async def test_an_algorithm_that_proves_nothing_is_refused(auth: Authenticator, issuer: Issuer, alg: Any) -> None:
    for signature in (b"x", b"\0" * 64):
        assert "algorithm" in await refused(auth, raw({"alg": alg, "kid": "rsa-1"}, claims(issuer), signature))
    assert issuer.asked == []


@pytest.mark.parametrize("form", ["PEM", "DER", "JWK"])
async def test_hs256_keyed_with_the_public_key_is_refused(auth: Authenticator, issuer: Issuer, form: str) -> None:
    public = {
        "PEM": RSA.as_pem(private=False),
        "DER": RSA.as_der(private=False),
        "JWK": json.dumps(RSA.as_dict(private=False)).encode(),
    }
    header = {"alg": "HS256", "kid": "rsa-1"}
    signing = raw(header, claims(issuer)).rsplit(".", 1)[0]
    # Made by hand: joserfc refuses to use such a key.
    mac = hmac.new(public[form], signing.encode(), hashlib.sha256).digest()
    await refused(auth, signing + "." + base64.urlsafe_b64encode(mac).rstrip(b"=").decode())
    assert issuer.asked == []


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url + ".evil.example",
        lambda url: url + "//",
        lambda url: url + "/realms/x",
        lambda url: url.replace("127.0.0.1", "127.0.0.1."),
        lambda url: url.replace("http://", "http://iam@"),
        lambda url: url.replace("http://", "HTTP://"),
        lambda url: url.replace("http://", "https://"),
        lambda url: url[:-1],
        lambda _url: "https://evil.example",
        lambda _url: "",
        lambda _url: None,
        lambda url: [url],
        lambda url: {"iss": url},
    ],
)
async def test_an_unknown_issuer_is_never_contacted(auth: Authenticator, issuer: Issuer, change: Any) -> None:
    detail = await refused(auth, signed(claims(issuer, iss=change(issuer.url))))
    assert detail == "The token's issuer is not trusted here"
    assert issuer.asked == []


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"]},
        {"crit": []},
        {"b64": False},
        {"jku": "http://169.254.169.254/latest"},
        {"x5u": "https://evil.example/key"},
        {"jwk": EC.as_dict(private=False)},
        {"x5c": ["MIIB"]},
        {"zip": "DEF"},
        {"kid": ["rsa-1"]},
        {"kid": "k" * 257},
        {"kid": ""},
        {"kid": 7},
        {"typ": "logout+jwt"},
        {"typ": 1},
    ],
)
async def test_a_header_that_asks_for_more_is_refused(
    auth: Authenticator, issuer: Issuer, header: dict[str, Any]
) -> None:
    good = {"alg": "RS256", "kid": "rsa-1"}
    await refused(auth, raw({**good, **header}, claims(issuer)))
    assert issuer.asked == []


def shapes(token: str) -> list[str]:
    head, body, signature = token.split(".")
    return [
        "",
        "opaque",
        f"{head}.{body}",
        f"{head}.{body}.",
        f"{head}.{body}.{signature}.x",
        f"{head}.{body}.{signature}.x.y",
        f"{head}.{body}.{signature}=",
        f"{head}.{body}.{signature[:-1]}",
        f"{head}.{body}.{signature[:-1]}" + ("B" if signature[-1] != "B" else "C"),
        f"{head}.{body}.{signature.replace('_', '/').replace('-', '+')}+/",
        f".{body}.{signature}",
        f"{head}..{signature}",
        f"{head}.{body}.{signature}".replace(".", ".\u200b", 1),
        "A" * 20_000,
        "W10.W10.eA",
        raw('{"alg":"RS256","alg":"none"}', "{}"),
        raw('{"alg":"RS256"}', '{"exp":NaN}'),
        raw('{"alg":"RS256"}', "[" * 5000),
        raw("\ud83d".encode("utf-8", "surrogatepass").decode("latin-1"), "{}"),
    ]


async def test_a_token_of_another_shape_is_refused(auth: Authenticator, issuer: Issuer) -> None:
    good = signed(claims(issuer))
    for token in shapes(good)[1:]:
        await refused(auth, token)
    assert issuer.fetches <= 1


async def test_a_claim_named_twice_is_refused(auth: Authenticator, issuer: Issuer) -> None:
    twice = json.dumps(claims(issuer))[:-1] + ', "groups": ["admins"]}'
    registry = jws.JWSRegistry(algorithms=["RS256"])
    token = jws.serialize_compact({"alg": "RS256", "kid": "rsa-1"}, twice, RSA, registry=registry)
    assert "twice" in await refused(auth, token)
    assert issuer.asked == []


# ── what the signature and the claims must show ──────────────────────────────────────────────────────────────────────


async def test_a_wrong_signature_is_refused(auth: Authenticator, issuer: Issuer) -> None:
    assert "signature" in await refused(auth, signed(claims(issuer), OTHER_RSA))
    head, _, signature = signed(claims(issuer)).split(".")
    other = raw({}, claims(issuer, sub="root")).split(".")[1]
    assert "signature" in await refused(auth, f"{head}.{other}.{signature}")
    zeros = raw({"alg": "ES256", "kid": "ec-1"}, claims(issuer), b"\0" * 64)
    assert "signature" in await refused(auth, zeros)


async def test_a_key_is_used_for_its_own_algorithm_only(auth: Authenticator, issuer: Issuer) -> None:
    await refused(auth, raw({"alg": "ES256", "kid": "rsa-1"}, claims(issuer), b"\1" * 64))
    await refused(auth, raw({"alg": "RS256", "kid": "ec-1"}, claims(issuer), b"\1" * 256))
    assert "not one that its issuer uses" in await refused(auth, raw({"alg": "PS256", "kid": "rsa-1"}, claims(issuer)))


async def test_without_a_kid_the_only_fitting_key_is_used_and_never_one_of_several(
    auth: Authenticator, issuer: Issuer
) -> None:
    assert (await auth.authenticate("Bearer " + signed(claims(issuer), RSA, kid=...))).subject == "ada"
    issuer.keys.append(RSAKey.generate_key(2048, {"kid": "rsa-2", "use": "sig"}))
    auth.forget()
    await refused(auth, signed(claims(issuer, sub="bob"), RSA, kid=...))


@pytest.mark.parametrize("kid", ["../../dev/null", "' OR 1=1 --", "http://169.254.169.254/", "rsa-1\u0000"])
async def test_a_hostile_kid_is_only_a_name(auth: Authenticator, issuer: Issuer, kid: str) -> None:
    await refused(auth, signed(claims(issuer), RSA, kid=kid))
    assert set(issuer.asked) <= {"/.well-known/openid-configuration", "/jwks"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"exp": stamp(-61)}, "expired"),
        ({"exp": ...}, "never expires"),
        ({"exp": str(stamp(60))}, "number of seconds"),
        ({"exp": stamp(60) + 0.5}, "number of seconds"),
        ({"exp": True}, "number of seconds"),
        ({"exp": 10**30}, "out of range"),
        ({"exp": stamp(90_000)}, "lives longer"),
        ({"nbf": stamp(61)}, "not valid yet"),
        ({"iat": stamp(61)}, "not valid yet"),
        ({"iat": "now"}, "number of seconds"),
        ({"aud": ...}, "audience"),
        ({"aud": "another"}, "another service"),
        ({"aud": "indaco.evil"}, "another service"),
        ({"aud": "ind"}, "another service"),
        ({"aud": ["x", 1]}, "audience"),
        ({"aud": 5}, "audience"),
        ({"aud": []}, "another service"),
        ({"nonce": "n"}, "ID token"),
        ({"at_hash": "h"}, "ID token"),
        ({"wlcg.ver": "2.0"}, "WLCG"),
        ({"sub": ...}, "subject"),
        ({"sub": ""}, "subject"),
        ({"sub": 7}, "subject"),
        ({"sub": "a" * 256}, "subject"),
        ({"sub": "аda"}, "subject"),
        ({"sub": "ada\n"}, "subject"),
        ({"groups": "cms"}, "list of names"),
        ({"groups": [["cms"]]}, "list of names"),
        ({"groups": {"cms": True}}, "list of names"),
        ({"groups": ["g"] * 1001}, "more than 1000"),
    ],
)
async def test_claims_that_do_not_hold_are_refused(
    auth: Authenticator, issuer: Issuer, changes: dict[str, Any], words: str
) -> None:
    assert words in await refused(auth, signed(claims(issuer, **changes)))


async def test_a_minute_of_skew_is_forgiven(auth: Authenticator, issuer: Issuer) -> None:
    for changes in ({"exp": stamp(-59), "iat": stamp(-3600)}, {"nbf": stamp(59)}, {"iat": stamp(59)}):
        assert (await auth.authenticate("Bearer " + signed(claims(issuer, **changes)))).subject == "ada"


async def test_an_audience_may_be_one_of_a_list(auth: Authenticator, issuer: Issuer) -> None:
    assert (await auth.authenticate("Bearer " + signed(claims(issuer, aud=["x", "indaco"])))).subject == "ada"


async def test_an_issuer_without_audiences_must_be_told_so(
    issuer: Issuer, clock: ManualClock, http: IssuerHttp
) -> None:
    with pytest.raises(ValueError, match="audiences is empty"):
        TrustedIssuer(issuer=issuer.url, allow_http=True)
    lax = TrustedIssuer(issuer=issuer.url, audiences=["indaco"], require_audience=False, allow_http=True)
    auth = Authenticator([lax], clock, http)
    assert (await auth.authenticate("Bearer " + signed(claims(issuer, aud=...)))).subject == "ada"
    assert "another service" in await refused(auth, signed(claims(issuer, aud="another")))


async def test_nothing_of_the_token_reaches_the_log(auth: Authenticator, issuer: Issuer) -> None:
    token = signed(claims(issuer, exp=stamp(-100)))
    with structlog.testing.capture_logs() as lines:
        await refused(auth, token)
    assert any(each["event"] == "auth.token_refused" for each in lines)
    assert all(part not in str(lines) for part in token.split("."))


async def test_a_missing_scope_is_named(auth: Authenticator, issuer: Issuer) -> None:
    principal = await auth.authenticate("Bearer " + signed(claims(issuer, scope="openid")))
    principal.require_scope("openid", "x")
    with pytest.raises(InsufficientScope) as caught:
        principal.require_scope("offline_access", "fts:submit-transfer")
    assert caught.value.extra["scope"] == "fts:submit-transfer offline_access"


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_many_first_tokens_are_one_fetch(auth: Authenticator, issuer: Issuer) -> None:
    issuer.delay_s = 0.02
    tokens = [signed(claims(issuer, sub=f"user-{number}"), EC) for number in range(20)]
    await asyncio.gather(*(auth.authenticate(f"Bearer {token}") for token in tokens))
    assert issuer.asked == ["/.well-known/openid-configuration", "/jwks"]


async def test_a_caller_who_leaves_does_not_stop_the_fetch_for_the_others(auth: Authenticator, issuer: Issuer) -> None:
    issuer.delay_s = 0.05
    first = asyncio.create_task(auth.authenticate("Bearer " + signed(claims(issuer))))
    await asyncio.sleep(0.02)
    second = asyncio.create_task(auth.authenticate("Bearer " + signed(claims(issuer, sub="bob"))))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).subject == "bob"
    assert issuer.fetches == 1


async def test_a_flood_of_unknown_kids_is_one_fetch_in_thirty_seconds(
    auth: Authenticator, issuer: Issuer, clock: ManualClock
) -> None:
    await auth.authenticate("Bearer " + signed(claims(issuer)))
    clock.advance(timedelta(seconds=30))
    tokens = [raw({"alg": "RS256", "kid": f"random-{number}"}, claims(issuer)) for number in range(50)]
    await asyncio.gather(*(refused(auth, token) for token in tokens))
    assert issuer.fetches == 2
    clock.advance(timedelta(seconds=29))
    await refused(auth, tokens[0])
    assert issuer.fetches == 2


async def test_a_new_key_is_accepted_with_one_fetch_and_the_old_one_no_longer(
    auth: Authenticator, issuer: Issuer, clock: ManualClock
) -> None:
    await auth.authenticate("Bearer " + signed(claims(issuer)))
    fresh = RSAKey.generate_key(2048, {"kid": "rsa-2", "use": "sig", "alg": "RS256"})
    issuer.keys = [fresh]
    clock.advance(timedelta(seconds=31))
    assert (await auth.authenticate("Bearer " + signed(claims(issuer), fresh))).subject == "ada"
    assert issuer.fetches == 2
    await refused(auth, signed(claims(issuer, sub="bob")))


async def test_old_keys_serve_while_new_ones_are_fetched_and_through_an_outage(
    auth: Authenticator, issuer: Issuer, clock: ManualClock
) -> None:
    def token() -> str:
        seconds = (clock.now() - NOW).total_seconds()
        return "Bearer " + signed(claims(issuer, iat=stamp(seconds), exp=stamp(seconds + 3600)))

    await auth.authenticate(token())
    issuer.status = 503
    for fetches, hours in ((2, 1), (3, 23), (4, 23)):
        clock.advance(timedelta(hours=hours, minutes=1))
        assert (await auth.authenticate(token())).subject == "ada"
        async with asyncio.timeout(10):  # the new keys are asked for behind the answer
            while issuer.fetches < fetches or any(held.refresh for held in auth._keys._held.values()):
                await asyncio.sleep(0.005)
    assert issuer.fetches == 4
    clock.advance(timedelta(hours=1))
    with pytest.raises(Unavailable) as caught:
        await auth.authenticate(token())
    assert caught.value.retry_after_s == 5
    issuer.status = 200
    clock.advance(timedelta(seconds=5))
    assert (await auth.authenticate(token())).subject == "ada"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (302, None),
        (500, None),
        (200, b"[]"),
        (200, b'{"keys": 1}'),
        (200, b'{"keys": []}'),
        (200, b" " * 1_100_000),
        (200, b"[" * 99_999),
    ],
)
async def test_keys_that_cannot_be_had_are_a_503_and_not_asked_for_at_once(
    auth: Authenticator, issuer: Issuer, status: int, body: bytes | None
) -> None:
    issuer.status, issuer.body = status, body
    for _ in range(3):
        with pytest.raises(Unavailable):
            await auth.authenticate("Bearer " + signed(claims(issuer)))
    assert issuer.asked == ["/.well-known/openid-configuration", "/jwks"]


async def test_a_discovery_document_of_another_issuer_is_not_used(auth: Authenticator, issuer: Issuer) -> None:
    issuer.claimed = "https://evil.example"
    with pytest.raises(Unavailable):
        await auth.authenticate("Bearer " + signed(claims(issuer)))
    assert issuer.fetches == 0


async def test_a_pinned_jwks_needs_no_discovery(issuer: Issuer, clock: ManualClock, http: IssuerHttp) -> None:
    trusted = TrustedIssuer(
        issuer="https://iam.example", jwks_uri=issuer.url + "/jwks", audiences=["indaco"], allow_http=True
    )
    auth = Authenticator([trusted], clock, http)
    assert (await auth.authenticate("Bearer " + signed(claims(issuer, iss="https://iam.example")))).subject == "ada"
    assert issuer.asked == ["/jwks"]


async def test_keys_that_are_weak_foreign_or_broken_are_passed_over(auth: Authenticator, issuer: Issuer) -> None:
    weak = {
        "kty": "RSA",
        "kid": "weak",
        "e": "AQAB",
        "n": base64.urlsafe_b64encode(b"\xff" * 128).rstrip(b"=").decode(),
    }
    encryption = {**RSA.as_dict(private=False), "kid": "enc", "use": "enc"}
    secret = OctKey.generate_key(256, {"kid": "oct"}).as_dict(private=True)
    broken: list[Any] = [
        {"kty": "RSA", "kid": "broken", "n": 1, "e": "!"},
        {"kty": "EC", "crv": "P-999"},
        {"kty": "XYZ"},
    ]
    issuer.keys = [weak, encryption, secret, *broken, RSA]
    for kid in ("weak", "enc", "oct", "broken"):
        await refused(auth, signed(claims(issuer), RSA, kid=kid))
    assert (await auth.authenticate("Bearer " + signed(claims(issuer)))).subject == "ada"


# ── the cache of verified tokens ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_verified_token_is_remembered_for_a_minute_and_never_beyond_its_end(
    auth: Authenticator, issuer: Issuer, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    check = authenticator._check_signature
    monkeypatch.setattr(authenticator, "_check_signature", lambda given, key: (seen.append("x"), check(given, key)))
    token = "Bearer " + signed(claims(issuer, exp=stamp(90)))
    for seconds, checks in ((0, 1), (59, 1), (1, 2), (29, 2), (1, 3), (0, 4)):
        clock.advance(timedelta(seconds=seconds))
        await auth.authenticate(token)
        assert len(seen) == checks
    clock.advance(timedelta(seconds=60))
    await refused(auth, token.removeprefix("Bearer "))


async def test_the_memory_of_verified_tokens_is_bounded(auth: Authenticator, issuer: Issuer) -> None:
    auth._verified.limit = 3
    for number in range(5):
        await auth.authenticate("Bearer " + signed(claims(issuer, sub=f"user-{number}"), EC))
    assert [known.principal.subject for known, _ in auth._verified._known.values()] == ["user-2", "user-3", "user-4"]


# ── the trust table ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "url",
    [
        "http://iam.example",
        "ftp://iam.example",
        "https://user:pw@iam.example",
        "https://169.254.169.254",
        "https://",
        "http://10.0.0.1",
    ],
)
def test_an_issuer_must_be_reached_safely(url: str) -> None:
    with pytest.raises(ValueError, match="an issuer's URL"):
        TrustedIssuer(issuer=url, audiences=["indaco"], allow_http=True)


async def test_http_on_loopback_needs_consent_and_two_issuers_share_no_name(http: IssuerHttp) -> None:
    with pytest.raises(ValueError, match="must be https"):
        TrustedIssuer(issuer="http://127.0.0.1:1", audiences=["indaco"])
    one = TrustedIssuer(issuer="https://one.example", aliases=["https://one.example/"], audiences=["a"])
    two = TrustedIssuer(issuer="https://one.example/", audiences=["a"])
    with pytest.raises(ValueError, match="two issuers"):
        Authenticator([one, two], ManualClock(), http)


def test_a_shared_secret_algorithm_cannot_be_configured() -> None:
    for alg in ("HS256", "none"):
        with pytest.raises(ValueError, match="algs"):
            TrustedIssuer.model_validate({"issuer": "https://one.example", "audiences": ["a"], "algs": [alg]})
