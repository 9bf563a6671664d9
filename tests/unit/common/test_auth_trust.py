"""Trust records: profiles, where issuers may be, and what becomes of what was verified when a record changes."""

import asyncio
import ssl
import subprocess
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from indaco_common.auth import Authenticator, FetchFailed, IssuerHttp, TrustedIssuer, TrustTable, groups_of
from indaco_common.auth.addresses import address_of, is_allowed
from indaco_common.clock import ManualClock
from indaco_common.errors import Unavailable

from .auth_world import RSA, Issuer, claims, refused, serving, signed, trusted

# ── profiles ─────────────────────────────────────────────────────────────────────────────────────────────────────────

TOKEN: dict[str, Any] = {
    "groups": ["/g"], "wlcg.groups": ["/w"], "eduperson_entitlement": ["urn:mace:egi.eu:group:e:role=member#aai.egi.eu", "urn:geant:x:group:x"],
    "roles": ["r", "offline_access", "uma_authorization", "default-roles-realm"], "realm_access": {"roles": ["realm-r"]},
    "resource_access": {"in.da/co": {"roles": ["client-r"]}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("profile", "more", "groups"),
    [
        ("auto", {}, {"g", "w", "e", "x"}),
        ("iam", {}, {"g"}),
        ("wlcg", {}, {"w"}),
        ("egi", {}, {"e"}),
        ("aarc", {"entitlement_namespaces": ["urn:geant:x"]}, {"x"}),
        ("keycloak", {}, {"g", "r", "realm-r"}),
        ("keycloak", {"group_claims": ["/resource_access/in.da~1co/roles"]}, {"client-r"}),
        ("iam", {"group_claims": ["wlcg.groups", "/groups"]}, {"g", "w"}),
        ("iam", {"group_claims": ["/realm_access/roles/0", "/roles/x", "/", "/nothing/there"]}, set()),
    ],
)
def test_a_profile_says_where_groups_are_and_the_record_may_say_otherwise(
    profile: str, more: dict[str, Any], groups: set[str]
) -> None:
    record = TrustedIssuer.model_validate(
        {"issuer": "https://a.example", "audiences": ["x"], "profile": profile, **more}
    )
    assert groups_of(TOKEN, record) == groups


def test_a_record_that_says_too_little_is_refused() -> None:
    for given_, words in (
        ({"profile": "aarc"}, "entitlement_namespaces is empty"),
        ({"group_source": "introspection"}, "introspection is not set"),
        ({"profile": "saml"}, "profile"),
        ({"profile": ["iam"]}, "profile"),
        ({"group_source": "ldap"}, "group_source"),
        ({"audience": "x"}, "Extra"),
    ):
        with pytest.raises(ValueError, match=words):
            TrustedIssuer.model_validate({"issuer": "https://a.example", "audiences": ["x"], **given_})


@pytest.mark.parametrize(
    ("changes", "header", "words"),
    [
        ({}, {}, "wlcg.ver"),
        ({"wlcg.ver": "2.0"}, {}, "version"),
        ({"wlcg.ver": "1.0"}, {"kid": ...}, "names no key"),
        ({"wlcg.ver": "1.7"}, {}, ""),
    ],
)
async def test_the_wlcg_profile_needs_its_version_and_a_key_id(
    issuer: Issuer, clock: ManualClock, http: IssuerHttp, changes: dict[str, Any], header: dict[str, Any], words: str
) -> None:
    auth = Authenticator([trusted(issuer, profile="wlcg")], clock, http)
    token = signed(claims(issuer, **changes, **{"wlcg.groups": ["/dune"]}), RSA, **header)
    if words:
        assert words in await refused(auth, token)
    else:
        assert (await auth.verify(token)).groups == {"dune"}
    await auth.close()


async def test_capabilities_are_told_apart_from_other_scopes(auth: Authenticator, issuer: Issuer) -> None:
    token = signed(claims(issuer, scope="openid compute.read storage.read:/cms computer"))
    assert (await auth.verify(token)).capabilities == {"compute.read", "storage.read:/cms"}


# ── where issuers may be ─────────────────────────────────────────────────────────────────────────────────────────────

NEVER = [
    "169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1",
]  # fmt: skip
PRIVATE = [
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "fd00::1",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",
    "2002:a00:1::",
    "198.18.0.1",
]
LOOPBACK = ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]
PUBLIC = ["1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"]


@pytest.mark.parametrize("loopback", [False, True])
@pytest.mark.parametrize("private", [False, True])
def test_an_address_is_judged_by_where_it_leads(*, loopback: bool, private: bool) -> None:
    def allowed(text: str) -> bool:
        address = address_of(text)
        assert address is not None
        return is_allowed(address, loopback=loopback, private=private)

    assert not any(map(allowed, NEVER))
    assert {*map(allowed, PRIVATE)} == {private}
    assert {*map(allowed, LOOPBACK)} == {loopback}
    assert all(map(allowed, PUBLIC))


@given(st.integers(0, 2**32 - 1))
def test_wrapping_an_address_in_ipv6_changes_nothing(number: int) -> None:
    plain = ip_address(number)
    for wrapped in (f"::ffff:{plain}", f"64:ff9b::{plain}"):
        assert address_of(wrapped) == plain


@pytest.mark.parametrize("host", ["10.0.0.1", "127.0.0.1", "[::1]", "169.254.169.254", "[::ffff:10.0.0.1]", "0.0.0.0"])
def test_a_record_names_no_address_that_it_may_not_have(host: str) -> None:
    for given_ in ({"issuer": f"https://{host}"}, {"issuer": "https://a.example", "jwks_uri": f"https://{host}/jwks"}):
        with pytest.raises(ValueError, match="public address"):
            TrustedIssuer.model_validate({"audiences": ["x"], **given_})


async def test_a_name_that_leads_to_a_private_address_is_not_connected_to(
    issuer: Issuer, clock: ManualClock, http: IssuerHttp
) -> None:
    """The name is judged where the connection is made: what it stood for a moment ago does not matter."""
    record = TrustedIssuer(issuer="https://localhost", audiences=("indaco",))
    with pytest.raises(FetchFailed, match="not an address that an issuer may have"):
        await http.get(record, "https://localhost:" + issuer.url.rsplit(":", 1)[1] + "/jwks")
    auth = Authenticator([record], clock, http)
    with pytest.raises(Unavailable):
        await auth.verify(signed(claims(issuer, iss="https://localhost")))
    assert issuer.asked == []
    await auth.close()


async def test_a_discovery_document_cannot_send_us_where_the_record_does_not_let_us(
    clock: ManualClock, http: IssuerHttp
) -> None:
    asked = []

    async def discovery(request: web.Request) -> web.Response:
        asked.append(request.path)
        base = f"http://127.0.0.1:{request.url.port}"
        return web.json_response({"issuer": base, "jwks_uri": "http://169.254.169.254/latest/meta-data"})

    app = web.Application()
    app.add_routes([web.get("/.well-known/openid-configuration", discovery)])
    async with TestServer(app) as server:
        issuer = Issuer(url=str(server.make_url("")).rstrip("/"))
        auth = Authenticator([trusted(issuer)], clock, http)
        with pytest.raises(Unavailable):
            await auth.verify(signed(claims(issuer)))
        await auth.close()
    assert asked == ["/.well-known/openid-configuration"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that vouches for itself, with its key beside it."""
    folder = tmp_path_factory.mktemp("authority")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
               "subjectAltName=DNS:localhost", "-keyout", str(folder / "key.pem"), "-out", str(folder / "ca.pem")]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return folder / "ca.pem"


async def test_the_authorities_of_a_record_vouch_for_its_servers_and_no_others_do(
    http: IssuerHttp, authority: Path
) -> None:
    async def hello(_: web.Request) -> web.Response:
        return web.json_response({"hello": "there"})

    app, context = web.Application(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    app.add_routes([web.get("/", hello)])
    context.load_cert_chain(authority, authority.with_name("key.pem"))
    server = TestServer(app, scheme="https", host="localhost")
    await server.start_server(ssl=context)
    try:
        url = f"https://localhost:{server.port}/"
        record = TrustedIssuer(issuer=url, audiences=("x",), allow_http=True, ca_bundle=authority)
        assert await http.get(record, url) == {"hello": "there"}
        for other in (None, authority.with_name("absent.pem")):
            with pytest.raises(FetchFailed):
                await http.get(record.model_copy(update={"ca_bundle": other}), url)
    finally:
        await server.close()


# ── records that change ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_record_that_was_taken_out_or_disabled_is_believed_no_longer(
    auth: Authenticator, issuer: Issuer
) -> None:
    token = signed(claims(issuer))
    for records in ([], [trusted(issuer, enabled=False)]):
        auth.trust([trusted(issuer)])
        assert (await auth.verify(token)).subject == "ada"
        auth.trust(records)
        assert await refused(auth, token) == "The token's issuer is not trusted here"


async def test_a_record_that_has_changed_is_in_force_for_tokens_that_were_verified_before(
    auth: Authenticator, issuer: Issuer
) -> None:
    token = signed(claims(issuer))
    assert (await auth.verify(token)).groups == {"cms", "cms/analysis"}
    auth.trust([trusted(issuer, allowed_groups=["cms/analysis"])])
    assert (await auth.verify(token)).groups == {"cms/analysis"}
    auth.trust([trusted(issuer, audiences=["another"])])
    assert "another service" in await refused(auth, token)


async def test_what_has_not_changed_is_not_asked_for_again(auth: Authenticator, issuer: Issuer) -> None:
    token = signed(claims(issuer))
    await auth.verify(token)
    async with serving() as other:
        auth.trust([trusted(issuer), trusted(other)])
        await auth.verify(token)
        await auth.verify(signed(claims(other)))
        assert issuer.fetches == other.fetches == 1


async def test_records_that_contradict_each_other_change_nothing(auth: Authenticator, issuer: Issuer) -> None:
    with pytest.raises(ValueError, match="two issuers claim"):
        auth.trust([trusted(issuer), trusted(issuer, audiences=["another"])])
    assert (await auth.verify(signed(claims(issuer)))).subject == "ada"


async def test_an_issuer_that_is_taken_out_while_it_is_asked_lets_nobody_in(
    auth: Authenticator, issuer: Issuer
) -> None:
    issuer.delay_s = 0.1
    asking = asyncio.create_task(refused(auth, signed(claims(issuer))))
    while not issuer.fetches:
        await asyncio.sleep(0.005)
    auth.trust([])
    assert await asking == "The token's issuer is not trusted here"


async def test_a_flush_forgets_keys_tokens_and_what_issuers_said(
    auth: Authenticator, issuer: Issuer, clock: ManualClock
) -> None:
    token = signed(claims(issuer))
    await auth.verify(token)
    issuer.keys = [issuer.keys[1]]
    clock.advance(timedelta(seconds=1))
    await auth.verify(token)
    auth.forget()
    await refused(auth, token)
    assert issuer.asked.count("/.well-known/openid-configuration") == 2


async def test_a_key_that_is_not_for_verifying_is_passed_over(auth: Authenticator, issuer: Issuer) -> None:
    issuer.keys = [{**RSA.as_dict(private=False), "key_ops": ["encrypt"]}, issuer.keys[1]]
    await refused(auth, signed(claims(issuer)))


def test_a_disabled_issuer_keeps_its_name_and_has_no_opaque_tokens() -> None:
    record = TrustedIssuer.model_validate({
        "issuer": "https://a.example", "audiences": ["x"], "enabled": False,
        "introspection": {"client_id": "x", "client_secret_vault": "issuers/a", "opaque_tokens": True},
    })  # fmt: skip
    table = TrustTable([record])
    assert (table.find("https://a.example"), table.opaque, list(table)) == (None, None, [record])
