"""Forged, stolen, stretched and misdirected tokens, by the numbers of the project's catalogue of attacks.

1 to 19 are single tokens; each says whom it may make us ask. 14 and 15 are good tokens that claim groups: they must grant nothing.
20 to 25 are about what is remembered and who is asked. 26 to 30 go past the token: tests/integration/gateway/test_attacks.py.
Nothing of any token may be in a log, at whatever level.
"""

import asyncio
import base64
import gzip
import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import structlog
from joserfc import jwe, jws
from joserfc.jwk import ECKey, RSAKey

from indaco_common.auth import Authenticator, InvalidToken, IssuerHttp, TrustedIssuer
from indaco_common.auth.authenticator import REMEMBER_FOR
from indaco_common.auth.remote import USERINFO_FOR
from indaco_common.clock import ManualClock
from indaco_common.errors import Unauthenticated, Unavailable

from .auth_world import OTHER_RSA, RSA, Issuer, claims, raw, refused, serving, signed, stamp, trusted

NOBODY: frozenset[str] = frozenset()
KEYS = frozenset({"/.well-known/openid-configuration", "/jwks"})
P384 = ECKey.generate_key("P-384", {"kid": "ec-384", "use": "sig"})
FOR_ENCRYPTION = RSAKey.generate_key(2048, {"kid": "enc", "use": "enc"})

Make = Callable[[Issuer], str]


@dataclass(frozen=True)
class Attack:
    """A token, and what of its issuer may be asked because of it."""

    make: Make
    asks: frozenset[str] = NOBODY


def b64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def with_header(**header: Any) -> Attack:
    return Attack(lambda issuer: raw({"alg": "RS256", "kid": "rsa-1", **header}, claims(issuer)))


def with_claims(**changes: Any) -> Attack:
    return Attack(lambda issuer: signed(claims(issuer, **changes)), KEYS)


def signed_text(text: str) -> str:
    """Sign claims that no JSON library would write."""
    return jws.serialize_compact(
        {"alg": "RS256", "kid": "rsa-1", "typ": "at+jwt"}, text, RSA, registry=jws.JWSRegistry(algorithms=["RS256"])
    )


def with_text(change: Callable[[str], str], asks: frozenset[str] = KEYS) -> Attack:
    return Attack(lambda issuer: signed_text(change(json.dumps(claims(issuer)))), asks)


def by_mac(secret: bytes, alg: str = "HS256") -> Attack:
    """A token whose MAC has a public key for its secret; made by hand, since no library lends itself to it."""

    def make(issuer: Issuer) -> str:
        signing = raw({"alg": alg, "kid": "rsa-1"}, claims(issuer)).rsplit(".", 1)[0]
        return signing + "." + b64(hmac.new(secret, signing.encode(), hashlib.sha256).digest())

    return Attack(make)


def from_issuer(change: Callable[[str], Any]) -> Attack:
    return Attack(lambda issuer: signed(claims(issuer, iss=change(issuer.url))))


def broken(change: Callable[[str, str, str], str], asks: frozenset[str] = KEYS) -> Attack:
    return Attack(lambda issuer: change(*signed(claims(issuer)).split(".")), asks)


def encrypted(content: bytes, **header: str) -> str:
    registry = jwe.JWERegistry(algorithms=["RSA-OAEP", "A128GCM", "DEF"])
    return jwe.encrypt_compact(
        {"alg": "RSA-OAEP", "enc": "A128GCM", **header}, content, FOR_ENCRYPTION, registry=registry
    )


ATTACKS: dict[str, Attack] = {
    **{f"1 alg {alg}": Attack(lambda issuer, alg=alg: raw({"alg": alg}, claims(issuer))) for alg in ("none", "None", "nOnE")},  # type: ignore[misc]
    "1 alg none without a signature": Attack(lambda issuer: raw({"alg": "none"}, claims(issuer), b"")),
    "2 HS256 with the public key as PEM": by_mac(RSA.as_pem(private=False)),
    "2 HS256 with the public key as DER": by_mac(RSA.as_der(private=False)),
    "2 HS256 with the public key as JWK": by_mac(json.dumps(RSA.as_dict(private=False)).encode()),
    "2 HS256 with the public key as for SSH": by_mac(b"ssh-rsa " + base64.b64encode(RSA.as_der(private=False))),
    "2 HS256 with nothing": by_mac(b""),
    "3 ES256 with an RSA key": Attack(lambda i: raw({"alg": "ES256", "kid": "rsa-1"}, claims(i), b"\1" * 64), KEYS),
    "3 RS256 with an EC key": Attack(lambda i: raw({"alg": "RS256", "kid": "ec-1"}, claims(i), b"\1" * 256), KEYS),
    "3 ES384 with a P-256 key": Attack(lambda i: raw({"alg": "ES384", "kid": "ec-1"}, claims(i), b"\1" * 96)),
    "3 ES256 with a P-384 key": Attack(lambda i: raw({"alg": "ES256", "kid": "ec-384"}, claims(i), b"\1" * 64), KEYS),
    "3 PS256 where RS256 was agreed": Attack(lambda i: raw({"alg": "PS256", "kid": "rsa-1"}, claims(i))),
    "4 ECDSA with r = s = 0": Attack(lambda i: raw({"alg": "ES256", "kid": "ec-1"}, claims(i), b"\0" * 64), KEYS),
    "4 ECDSA with r = s = 0 in DER": Attack(lambda i: raw({"alg": "ES256", "kid": "ec-1"}, claims(i), b"0\6\2\1\0\2\1\0"), KEYS),
    "5 kid is a path": Attack(lambda i: signed(claims(i), kid="../../dev/null"), KEYS),
    "5 kid is SQL": Attack(lambda i: signed(claims(i), kid="' OR 1=1 --"), KEYS),
    "5 kid is an address": Attack(lambda i: signed(claims(i), kid="http://169.254.169.254/"), KEYS),
    "5 kid of 10 kB": with_header(kid="k" * 10_000),
    "5 kid is a list": with_header(kid=["rsa-1"]),
    "5 no kid and a stranger's key": Attack(lambda i: signed(claims(i), OTHER_RSA, kid=...), KEYS),
    "6 the key comes along": with_header(jwk=OTHER_RSA.as_dict(private=False)),
    "7 jku elsewhere": with_header(jku="https://evil.example/jwks"),
    "7 jku at the metadata service": with_header(jku="http://169.254.169.254/latest"),
    "7 x5u elsewhere": with_header(x5u="https://evil.example/key"),
    "7 x5c": with_header(x5c=["MIIB"]),
    "8 a suffix": from_issuer(lambda url: url + ".evil.example"),
    "8 a prefix": from_issuer(lambda url: url[:-1]),
    "8 userinfo": from_issuer(lambda url: url.replace("//", "//iam@")),
    "8 another port": from_issuer(lambda url: url + "1"),
    "8 upper case": from_issuer(lambda url: url.replace("http:", "HTTP:")),
    "8 a double slash": from_issuer(lambda url: url + "//"),
    "8 a path": from_issuer(lambda url: url + "/realms/x"),
    "8 an IDN": from_issuer(lambda _: "https://iаm.example"),
    "8 a trailing dot": from_issuer(lambda url: url.replace("127.0.0.1", "127.0.0.1.")),
    "8 another scheme": from_issuer(lambda url: url.replace("http:", "https:")),
    "8 an unknown one": from_issuer(lambda _: "https://evil.example"),
    "8 a list": from_issuer(lambda url: [url]),
    "8 none": from_issuer(lambda _: ...),
    "9 no audience": with_claims(aud=...),
    "9 another service": with_claims(aud="another"),
    "9 a longer name": with_claims(aud="indaco.evil"),
    "9 a shorter name": with_claims(aud="inda"),
    "9 a mixed list": with_claims(aud=["indaco", 1]),
    "9 a number": with_claims(aud=5),
    "10 expired by 61 s": with_claims(exp=stamp(-61)),
    "10 valid in 61 s": with_claims(nbf=stamp(61)),
    "10 issued in 61 s": with_claims(iat=stamp(61)),
    "10 no expiry": with_claims(exp=...),
    "10 the expiry is text": with_claims(exp=str(stamp(60))),
    "10 the expiry is a fraction": with_claims(exp=stamp(60) + 0.5),
    "10 the expiry is NaN": with_text(lambda text: text.replace(str(stamp(3600)), "NaN"), NOBODY),
    "10 the expiry is 1e400": with_text(lambda text: text.replace(str(stamp(3600)), "1e400")),
    "10 the expiry is beyond time": with_claims(exp=10**30),
    "10 a life of a week": with_claims(exp=stamp(7 * 86_400)),
    "11 an ID token by its nonce": with_claims(nonce="n"),
    "11 an ID token by at_hash": with_claims(at_hash="h"),
    "11 an ID token by its type": with_claims(typ="ID"),
    "11 a refresh token by its type": with_claims(typ="Refresh"),
    "11 an offline token by its type": with_claims(typ="Offline"),
    "11 an ID token by its use": with_claims(token_use="id"),
    "11 a refresh token of INDIGO IAM": Attack(lambda i: raw({"alg": "none"}, {"iss": i.url, "jti": "x"}, b"")),
    "11 a token that is bound to a key": with_claims(cnf={"jkt": "x"}),
    "11 a logout token": with_header(typ="logout+jwt"),
    "11 a security event": with_claims(events={"http://schemas.openid.net/event/backchannel-logout": {}}),
    "12 no subject": with_claims(sub=...),
    "12 an empty subject": with_claims(sub=""),
    "12 a number": with_claims(sub=7),
    "12 256 characters": with_claims(sub="a" * 256),
    "12 a Cyrillic a": with_claims(sub="аda"),
    "12 a zero-width space": with_claims(sub="ada\u200b"),
    "13 other claims than were signed": broken(
        lambda head, _, sign: f"{head}.{b64(json.dumps({'iss': 'x', 'sub': 'root', 'groups': ['admins']}).encode())}.{sign}", NOBODY
    ),
    "13 groups said twice": with_text(lambda text: text[:-1] + ', "groups": ["admins"]}', NOBODY),
    "13 groups are text": with_claims(groups="admins"),
    "13 groups are nested": with_claims(groups=[["admins"]]),
    "13 10,000 groups": Attack(lambda i: signed(claims(i, groups=["g"] * 10_000))),
    "13 1,001 groups": with_claims(groups=["g"] * 1_001),
    "16 crit": with_header(crit=["exp"]),
    "16 an empty crit": with_header(crit=[]),
    "16 b64": with_header(b64=False),
    "17 encrypted": Attack(lambda i: encrypted(json.dumps(claims(i)).encode())),
    "17 a signed token, encrypted": Attack(lambda i: encrypted(signed(claims(i)).encode(), cty="JWT")),
    "17 a bomb, encrypted": Attack(lambda _: encrypted(b"a" * 200_000, zip="DEF")),
    "17 a zipped payload": with_header(zip="DEF"),
    "17 a payload that is gzip": Attack(lambda _: raw({"alg": "RS256"}, gzip.compress(b"{}" * 9000).decode("latin-1"))),
    "18 20 kB of signature": broken(lambda head, body, _: f"{head}.{body}.{'A' * 20_000}", NOBODY),
    "18 20 kB of claims": Attack(lambda i: signed(claims(i, padding="x" * 20_000))),
    "18 9 kB of header": with_header(padding="x" * 9_000),
    "19 cut short": broken(lambda head, body, sign: f"{head}.{body}.{sign[:-4]}"),
    "19 no signature": broken(lambda head, body, _: f"{head}.{body}.", NOBODY),
    "19 padded": broken(lambda head, body, sign: f"{head}.{body}.{sign}=", NOBODY),
    "19 another spelling": broken(lambda head, body, sign: f"{head}.{body}.{_respelled(sign)}", NOBODY),
    "19 a line break": broken(lambda head, body, sign: f"{head}.{body}.{sign[:8]}\u2028{sign[8:]}", NOBODY),
    "19 longer": broken(lambda head, body, sign: f"{head}.{body}.{sign}AAAA"),
}  # fmt: skip


def _respelled(part: str) -> str:
    """Return base64url for the same bytes with bits set that do not count."""
    table = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return part[:-1] + table[table.index(part[-1]) ^ 1]


class Watch(logging.Handler):
    """Hears all that is logged; knows which tokens were sent."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.sent: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage() + str(record.args) + str(record.exc_info))

    def assert_silence(self) -> None:
        text = "\n".join(self.lines)
        for token in self.sent:
            for part in token.split("."):
                assert len(part) < 20 or part[:20] not in text


@pytest.fixture(autouse=True)
def watch() -> Iterator[Watch]:
    found, root = Watch(), logging.getLogger()
    level = root.level
    root.addHandler(found)
    root.setLevel(logging.DEBUG)
    with structlog.testing.capture_logs() as events:
        yield found
    root.setLevel(level)
    root.removeHandler(found)
    found.lines += map(str, events)
    found.assert_silence()


@pytest.mark.parametrize("name", ATTACKS)
async def test_an_attack_by_a_token_is_a_401_asks_nobody_it_need_not_and_is_in_no_log(
    auth: Authenticator, issuer: Issuer, watch: Watch, name: str
) -> None:
    issuer.keys.append(P384)
    attack = ATTACKS[name]
    token = attack.make(issuer)
    watch.sent.append(token)
    with pytest.raises(Unauthenticated) as caught:
        await auth.authenticate(f"Bearer {token}")
    assert token not in str(caught.value)
    assert set(issuer.asked) <= attack.asks
    assert len(issuer.asked) <= len(attack.asks)


def test_every_attack_by_a_single_token_is_in_the_list() -> None:
    assert {int(name.split()[0]) for name in ATTACKS} == {*range(1, 14), 16, 17, 18, 19}


async def test_without_a_kid_a_token_is_not_tried_with_one_key_after_the_other(
    auth: Authenticator, issuer: Issuer
) -> None:
    """5: with one key it is that one; with two there is no telling."""
    assert (await auth.verify(signed(claims(issuer), kid=...))).subject == "ada"
    issuer.keys.append(RSAKey.generate_key(2048, {"kid": "rsa-2", "use": "sig"}))
    auth.forget()
    await refused(auth, signed(claims(issuer), kid=...))


# ── 14, 15: groups that are claimed and not granted ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "group",
    ["admins", "cmsx", "a/../cms", "/cms//x", "cms%2Fadmins", "cms/./x", "CMS", " cms", "cms/role=admin", "https://b"],
)
async def test_a_group_that_the_issuer_may_not_assert_or_that_is_no_plain_path_is_not_granted(
    issuer: Issuer, clock: ManualClock, http: IssuerHttp, group: str
) -> None:  # fmt: skip
    auth = Authenticator([trusted(issuer, allowed_groups=["/cms"])], clock, http)
    principal = await auth.verify(signed(claims(issuer, groups=[group, "/cms/good"])))
    assert principal.groups == {"cms/good"}
    await auth.close()


async def test_a_group_belongs_to_the_issuer_that_asserts_it(
    issuer: Issuer, clock: ManualClock, http: IssuerHttp
) -> None:
    async with serving() as other:
        auth = Authenticator([trusted(issuer), trusted(other)], clock, http)
        one = await auth.verify(signed(claims(issuer)))
        two = await auth.verify(signed(claims(other)))
        assert one.groups == two.groups
        assert (one.issuer, one.subject) != (two.issuer, two.subject)
        assert issuer.asked == other.asked
        await auth.close()


@pytest.mark.parametrize(
    "urn",
    [
        "urn:mace:egi.eu:group:vo.x:role=member#evil.example", "urn:mace:egi.eu:group:vo.x:role=member#aai.egi.eu.evil",
        "urn:mace:egi.eu:group:vo.x:role=member#aai.egi.eu#aai.egi.eu", "urn:mace:egi.eu:group:vo.x:role=member",
        "urn:mace:evil.eu:group:vo.x#aai.egi.eu", "urn:mace:egiXeu:group:vo.x#aai.egi.eu", "urn:mace:egi.eu:res:group:vo.x#aai.egi.eu",
        "x urn:mace:egi.eu:group:vo.x#aai.egi.eu", "urn:mace:egi.eu:group:vo.x:role=#aai.egi.eu", "urn:mace:egi.eu:group:a%2Fb#aai.egi.eu",
    ],
)  # fmt: skip
async def test_an_entitlement_that_was_not_agreed_grants_nothing(
    issuer: Issuer, clock: ManualClock, http: IssuerHttp, urn: str
) -> None:
    auth = Authenticator([trusted(issuer, profile="egi")], clock, http)
    good = (
        "URN:mace:EGI.eu:group:vo.y:role=vm_operator#aai.egi.eu"  # the namespace is case-insensitive, the group is not
    )
    principal = await auth.verify(signed(claims(issuer, groups=["vo.x"], eduperson_entitlement=[urn, good])))
    assert principal.groups == {"vo.y/role=vm_operator"}
    await auth.close()


# ── 20 to 23: what is remembered ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_user_who_left_a_group_is_out_within_the_caches_bound(
    issuer: Issuer, clock: ManualClock, http: IssuerHttp
) -> None:
    """20"""
    auth = Authenticator([trusted(issuer, group_source="userinfo")], clock, http)
    token = signed(claims(issuer, groups=...))
    issuer.userinfo = {"sub": "ada", "groups": ["cms"]}
    assert (await auth.verify(token)).groups == {"cms"}
    issuer.userinfo = {"sub": "ada", "groups": []}
    clock.advance(USERINFO_FOR - timedelta(seconds=1))
    assert (await auth.verify(token)).groups == {"cms"}
    clock.advance(timedelta(seconds=1))
    assert (await auth.verify(token)).groups == frozenset()
    await auth.close()


async def test_a_withdrawn_key_is_refused_after_the_next_refresh_also_for_tokens_that_are_remembered(
    auth: Authenticator, issuer: Issuer, clock: ManualClock
) -> None:
    """21"""
    old, fresh = signed(claims(issuer)), RSAKey.generate_key(2048, {"kid": "rsa-2", "use": "sig"})
    await auth.verify(old)
    issuer.keys = [fresh]
    clock.advance(timedelta(seconds=30))
    assert (await auth.verify(signed(claims(issuer), fresh))).subject == "ada"
    assert issuer.fetches == 2
    assert timedelta(seconds=30) < REMEMBER_FOR
    await refused(auth, old)  # it had been good half a minute ago


async def test_a_flood_of_kids_is_one_request_in_thirty_seconds(
    auth: Authenticator, issuer: Issuer, clock: ManualClock
) -> None:
    """22"""
    await auth.verify(signed(claims(issuer)))
    for second in range(90):
        await asyncio.gather(*(refused(auth, signed(claims(issuer), kid=f"{second}-{each}")) for each in range(3)))
        clock.advance(timedelta(seconds=1))
    assert issuer.fetches == 1 + 2  # at 30 s and at 60 s


async def test_keys_outlive_their_server_by_two_days_and_no_longer(
    auth: Authenticator, issuer: Issuer, clock: ManualClock
) -> None:
    """23"""
    token = signed(claims(issuer, exp=stamp(86_000)))
    await auth.verify(token)
    issuer.status = 503
    clock.advance(timedelta(hours=23))
    assert (await auth.verify(token)).subject == "ada"
    clock.advance(timedelta(hours=25, minutes=1))
    with pytest.raises(Unavailable):
        await auth.verify(token)


# ── 24, 25: opaque tokens ────────────────────────────────────────────────────────────────────────────────────────────

OPAQUE = "kZx0_opaque-Token~of.an+issuer/0123456789"


@pytest.fixture
def record(issuer: Issuer, tmp_path: Any) -> TrustedIssuer:
    secret = tmp_path / "secret"
    secret.write_text("s/cret\n")
    client = {"client_id": "indaco", "client_secret_file": str(secret), "opaque_tokens": True}
    issuer.introspected = {"active": True, "token_type": "Bearer", **claims(issuer)}
    return trusted(issuer, introspection=client)


@pytest.mark.parametrize(
    "answer",
    [
        {"active": False}, {"active": "true"}, {"active": 1}, {}, {"active": True}, {"active": True, "exp": stamp(-100)},
        {"active": True, "exp": stamp(60), "sub": "ada", "aud": "another"}, {"active": True, "exp": stamp(60), "aud": "indaco"},
        {"active": True, "exp": stamp(60), "sub": "ada", "aud": "indaco", "iss": "https://evil.example"},
        {"active": True, "sub": "ada", "aud": "indaco"},
        {"active": True, "exp": stamp(60), "sub": "ada", "aud": "indaco"}, {"active": True, "exp": stamp(60), "sub": "ada", "aud": "indaco", "token_type": "DPoP"},
    ],
)  # fmt: skip
async def test_an_opaque_token_that_its_issuer_does_not_vouch_for_is_refused(
    issuer: Issuer, clock: ManualClock, http: IssuerHttp, record: TrustedIssuer, watch: Watch, answer: dict[str, Any]
) -> None:
    """24"""
    auth, issuer.introspected = Authenticator([record], clock, http), answer
    watch.sent.append(OPAQUE)
    await refused(auth, OPAQUE)
    await refused(auth, OPAQUE)
    assert issuer.tokens == [OPAQUE]  # a refusal is remembered too
    await auth.close()


@pytest.mark.parametrize("trouble", ["wrong client", "time-out", "500", "no server"])
async def test_when_nobody_can_be_asked_about_an_opaque_token_it_is_not_accepted(
    issuer: Issuer, clock: ManualClock, http: IssuerHttp, record: TrustedIssuer, watch: Watch, trouble: str
) -> None:
    """24"""
    match trouble:
        case "wrong client":
            issuer.client = "Basic eA=="
        case "time-out":
            issuer.delay_s = 10
        case "500":
            issuer.remote_status = 500
        case _:
            assert record.introspection is not None
            closed = record.introspection.model_copy(update={"endpoint": "http://127.0.0.1:9/introspect"})
            record = record.model_copy(update={"introspection": closed})
    auth = Authenticator([record], clock, http)
    watch.sent += [OPAQUE, "s/cret"]
    with pytest.raises(Unavailable):
        await auth.verify(OPAQUE)
    await auth.close()


async def test_an_opaque_token_is_shown_to_the_one_issuer_that_has_such(
    issuer: Issuer, clock: ManualClock, http: IssuerHttp, record: TrustedIssuer, watch: Watch
) -> None:
    """25"""
    watch.sent += [OPAQUE, "s/cret"]
    async with serving() as other:
        client = {"client_id": "indaco", "client_secret_vault": "issuers/other"}
        auth = Authenticator([trusted(other, introspection=client), record], clock, http)
        assert (await auth.verify(OPAQUE)).subject == "ada"
        assert (issuer.tokens, other.asked) == ([OPAQUE], [])
        await auth.close()
    other_client = {**client, "opaque_tokens": True}
    rival = TrustedIssuer.model_validate(
        {"issuer": "https://b.example", "audiences": ["x"], "introspection": other_client}
    )
    with pytest.raises(ValueError, match="opaque tokens are either"):
        Authenticator([record, rival], clock, http)


@pytest.mark.parametrize("name", [name for name in ATTACKS if name[:2] in ("1 ", "6 ", "8 ", "17", "18", "19")])
async def test_what_looks_like_a_jwt_is_never_sent_to_be_looked_at(
    issuer: Issuer, clock: ManualClock, http: IssuerHttp, record: TrustedIssuer, name: str
) -> None:
    """25: a forged token must not be turned into a question."""
    auth = Authenticator([record], clock, http)
    with pytest.raises(InvalidToken):
        await auth.verify(ATTACKS[name].make(issuer))
    assert issuer.tokens == []
    await auth.close()
