"""Groups of the token profiles in the field, and names that must grant nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indaco_common.auth import Entitlement, InvalidToken, TrustedIssuer, group_path, groups_of, parse_entitlement

ISSUER = TrustedIssuer(issuer="https://iam.example", audiences=["indaco"])
EGI = TrustedIssuer(
    issuer="https://aai.egi.eu/auth/realms/egi",
    audiences=["indaco"],
    entitlement_namespaces=["urn:mace:egi.eu"],
    entitlement_authorities=["aai.egi.eu"],
)


@pytest.mark.parametrize(
    ("claims", "groups"),
    [
        ({}, set()),
        ({"groups": []}, set()),
        ({"groups": ["cms", "cms/analysis"]}, {"cms", "cms/analysis"}),
        ({"wlcg.groups": ["/cms", "/cms/analysis"]}, {"cms", "cms/analysis"}),
        ({"groups": ["cms"], "wlcg.groups": ["/cms", "/atlas"]}, {"cms", "atlas"}),
        ({"entitlements": ["urn:geant:iam.example:group:cms:analysis"]}, {"cms/analysis"}),
        ({"roles": ["admins"]}, set()),
    ],
)
def test_every_profile_gives_the_same_paths(claims: dict[str, object], groups: set[str]) -> None:
    assert groups_of(claims, ISSUER) == groups


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "//a",
        "a//b",
        "a/../b",
        "../a",
        "a/.",
        "a%2Fb",
        "a b",
        "a\n",
        "группа",
        "a/",
        "a" * 129,
        "a/" * 130 + "a",
        "x=y",
        "vo/role=vm_operator",
        "a;b",
    ],
)
def test_a_name_that_is_not_a_plain_path_grants_nothing(name: str) -> None:
    assert group_path(name) is None
    assert groups_of({"groups": [name]}, ISSUER) == frozenset()


@given(st.text(max_size=60))
def test_a_path_has_one_spelling(text: str) -> None:
    path = group_path(text)
    if path is not None:
        assert group_path(path) == path
        assert text in {path, "/" + path}


@pytest.mark.parametrize(
    ("urn", "expected"),
    [
        (
            "urn:mace:egi.eu:group:vo.access.egi.eu:role=member#aai.egi.eu",
            Entitlement("urn:mace:egi.eu", "vo.access.egi.eu", "member", "aai.egi.eu"),
        ),
        ("URN:Geant:Example.org:group:cms", Entitlement("urn:geant:example.org", "cms", None, None)),
        ("urn:geant:h.eu:sub:group:A:b", Entitlement("urn:geant:h.eu:sub", "A/b", None, None)),
        ("urn:geant:h.eu:group:a%2Bb", Entitlement("urn:geant:h.eu", "a+b", None, None)),
        ("urn:geant:h.eu:group:a%2Fb", None),
        ("urn:geant:h.eu:group:", None),
        ("urn:geant:h.eu:group:role=member", None),
        ("urn:geant:h.eu:group:a:role=", None),
        ("urn:geant:h.eu:group:a::b", None),
        ("urn:geant:h.eu:groups:a", None),
        ("urn:geant:group:a", None),
        ("urn:geant:h.eu:group:a#x#y", None),
        ("urn:geant:h.eu:group:a#", None),
        ("x urn:geant:h.eu:group:a", None),
        ("urn:mace:egi.eu:res:sla", None),
    ],
)
def test_group_urns_are_parsed_whole(urn: str, expected: Entitlement | None) -> None:
    assert parse_entitlement(urn) == expected


@pytest.mark.parametrize(
    ("urn", "groups"),
    [
        ("urn:mace:egi.eu:group:vo.a:role=member#aai.egi.eu", {"vo.a"}),
        ("urn:mace:egi.eu:group:vo.a:sub:role=member#aai.egi.eu", {"vo.a/sub"}),
        ("URN:MACE:EGI.EU:group:vo.a#aai.egi.eu", {"vo.a"}),
        ("urn:mace:egi.eu:group:vo.a:role=vm_operator#aai.egi.eu", {"vo.a/role=vm_operator"}),
        ("urn:mace:egi.eu:group:vo.a:role=member#evil.example", set()),
        ("urn:mace:egi.eu:group:vo.a:role=member#aai.egi.eu.evil", set()),
        ("urn:mace:egi.eu:group:vo.a:role=member", set()),
        ("urn:mace:evil.eu:group:vo.a:role=member#aai.egi.eu", set()),
        ("urn:mace:egi-eu:group:vo.a:role=member#aai.egi.eu", set()),
    ],
)
def test_only_the_agreed_namespace_and_authority_grant(urn: str, groups: set[str]) -> None:
    assert groups_of({"eduperson_entitlement": [urn]}, EGI) == groups


def test_an_issuer_asserts_only_the_groups_it_may() -> None:
    issuer = ISSUER.model_copy(update={"allowed_groups": ("/cms", "atlas/")})
    claims = {"groups": ["cms", "cms/x", "cmsx", "atlas/y", "admins"]}
    assert groups_of(claims, issuer) == {"cms", "cms/x", "atlas/y"}


@pytest.mark.parametrize("value", ["cms", {"cms": 1}, [1], [["cms"]], 5, True])
def test_a_group_claim_of_another_type_is_refused(value: object) -> None:
    with pytest.raises(InvalidToken):
        groups_of({"groups": value}, ISSUER)
