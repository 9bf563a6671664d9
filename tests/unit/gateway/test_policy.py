"""Roles by rules, rights by roles."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indaco_common.auth import Principal, TrustedIssuer, TrustTable
from indaco_gateway.identity.policy import Decision, Ownership, Policy, Right, RoleRule

A, B = "https://a.example", "https://b.example"
TABLE = TrustTable([
    TrustedIssuer(issuer=A, aliases=(A + "/",), audiences=("x",)),
    TrustedIssuer(issuer=B, audiences=("x",)),
])  # fmt: skip
RULES = [
    {"role": "operator", "issuer": A, "group": "/ops"},
    {"role": "operator", "issuer": B, "group": "ops", "everywhere": True},
    {"role": "auditor", "issuer": A + "/", "group": "audit/role=reader"},
    {"role": "auditor", "issuer": B, "group": "audit", "everywhere": True},
    {"role": "group-admin", "issuer": A, "group": "{group}/admins"},
    {"role": "group-admin", "issuer": A, "group": "{group}/role=admin"},
    {"role": "group-admin", "issuer": A, "group": "support", "groups": ["/atlas", "cms/analysis"]},
]
OWNER = (A, "ada")


def policy(*rules: dict[str, Any]) -> Policy:
    return Policy([RoleRule.model_validate(rule) for rule in rules or RULES], TABLE)


def caller(*groups: str, issuer: str = A, subject: str = "bob") -> Principal:
    until = datetime(2030, 1, 1, tzinfo=UTC)
    return Principal(issuer, subject, frozenset(groups), frozenset(), "ada", "ada@example.org", until)


def facts(group: str = "cms", **shares: str) -> Ownership:
    return Ownership(OWNER, (A, group), shares)


def decisions(principal: Principal, about: Ownership) -> str:
    """Return what becomes of reading, owning and changing: y(es), n(o) or - (there is nothing)."""
    signs = {Decision.ALLOWED: "y", Decision.REFUSED: "n", Decision.UNSEEN: "-"}
    return "".join(signs[policy().decide(principal, about, right)] for right in (Right.READ, Right.OWN, Right.CHANGE))


@pytest.mark.parametrize(
    ("principal", "about", "expected"),
    [
        (caller(subject="ada"), facts(), "yyy"),
        (caller(subject="ada", issuer=B), facts(), "---"),
        (caller(), facts(), "---"),
        (caller("cms"), facts(), "---"),
        (caller("ops"), facts(), "yny"),
        (caller("ops/x"), facts(), "---"),
        (caller("x/ops"), facts(), "---"),
        (caller("ops", issuer=B), facts(), "yny"),
        (caller("audit/role=reader"), facts(), "ynn"),
        (caller("audit"), facts(), "---"),
        (caller("audit", issuer=B), facts(), "ynn"),
        (caller("cms/admins"), facts(), "yny"),
        (caller("cms/role=admin"), facts(), "yny"),
        (caller("cms/admins"), facts("cms/analysis"), "yny"),
        (caller("cms/analysis/admins"), facts(), "---"),
        (caller("cms/admins"), facts("cmsx"), "---"),
        (caller("admins"), facts(), "---"),
        (caller("cms/admins", issuer=B), facts(), "---"),
        (caller("support"), facts(), "---"),
        (caller("support"), facts("atlas"), "yny"),
        (caller("support"), facts("cms/analysis/x"), "yny"),
        (caller("readers"), facts(readers="read"), "ynn"),
        (caller("readers"), facts(readers="change"), "yny"),
        (caller("readers", "b"), facts(readers="read", b="change"), "yny"),
        (caller("readers/x"), facts(readers="read"), "---"),
        (caller("readers", issuer=B), facts(readers="change"), "---"),
    ],
)
def test_what_becomes_of_a_request(principal: Principal, about: Ownership, expected: str) -> None:
    assert decisions(principal, about) == expected


def test_an_operator_is_one_for_its_own_issuers_users_unless_the_rule_says_everywhere() -> None:
    of_b = Ownership((B, "bob"), (B, "cms"))
    assert decisions(caller("ops"), of_b) == "---"
    assert decisions(caller("ops", issuer=B, subject="eve"), of_b) == "yny"
    roles = policy().roles(caller("ops", "audit", issuer=B))
    assert (roles.names, roles.everywhere) == (("user", "operator", "auditor"), ("operator", "auditor"))


def test_the_roles_of_a_caller_have_names() -> None:
    roles = policy().roles(caller("cms/admins", "support"))
    assert roles.names == ("user", "group-admin")
    assert roles.administered == {"cms", "atlas", "cms/analysis"}
    assert policy().roles(caller("cms")).names == ("user",)


@given(st.sampled_from(["ada@example.org", "root@example.org"]), st.sampled_from(["ada", "root", None]))
def test_an_email_address_or_a_name_decides_nothing(email: str, name: str | None) -> None:
    plain = caller()
    dressed = Principal(plain.issuer, plain.subject, plain.groups, plain.scopes, name, email, plain.expires_at)
    assert decisions(dressed, facts()) == "---"


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"role": "root"}, "role"),
        ({"group": ""}, "at least 1"),
        ({"group": "a/../b"}, "is a group"),
        ({"group": "a b"}, "is a group"),
        ({"group": "role=admin"}, "is a group"),
        ({"group": "a/role="}, "is a group"),
        ({"group": "{group}/admins"}, "for the role group-admin"),
        ({"groups": ["cms"]}, "for the role group-admin"),
        ({"role": "group-admin", "group": "{group}"}, "is a group"),
        ({"role": "group-admin", "group": "{group}/"}, "is a group"),
        ({"role": "group-admin", "group": "x/{group}/admins"}, "is a group"),
        ({"role": "group-admin", "group": "{group}/{group}"}, "is a group"),
        ({"role": "group-admin"}, "either groups, or a pattern"),
        ({"role": "group-admin", "group": "{group}/admins", "groups": ["cms"]}, "either groups, or a pattern"),
        ({"role": "group-admin", "groups": ["cms"], "everywhere": True}, "everywhere"),
        ({"role": "group-admin", "groups": ["a//b"]}, "are groups"),
        ({"email": "ada@example.org"}, "Extra"),
    ],
)
def test_a_rule_that_means_nothing_is_refused(rule: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RoleRule.model_validate({"role": "operator", "issuer": A, "group": "ops", **rule})


def test_a_rule_of_an_issuer_that_is_not_trusted_is_refused() -> None:
    with pytest.raises(ValueError, match="not trusted"):
        policy({"role": "operator", "issuer": "https://c.example", "group": "ops"})
    with pytest.raises(ValueError, match="more than 1000"):
        policy(*[{"role": "operator", "issuer": A, "group": f"g{number}"} for number in range(1001)])
