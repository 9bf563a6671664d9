"""Agreements and providers as they are shown: in whatever order sla's word comes, and to whom."""

from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from indaco_common.auth import Principal
from indaco_common.contracts import sla
from indaco_common.contracts.values import Group
from indaco_common.errors import Forbidden, Invalid
from indaco_common.units import ResourceVector
from indaco_gateway.api.agreements import AgreementsQuery, may_see, query_of, resources_of
from indaco_gateway.identity.policy import Roles
from indaco_gateway.model.agreement_view import AgreementState, AgreementView
from indaco_gateway.model.provider_view import ProviderView

from .builders import NOW

ISSUER, OTHER = "https://iam.example.org/", "https://other.example.org/"
DAY = timedelta(days=1)


def signed(path: str = "cms", issuer: str = ISSUER, **changes: Any) -> sla.AgreementSigned:
    known: dict[str, Any] = {
        "agreement_id": "a", "group": Group(issuer=issuer, path=path), "provider": "SITE-A", "region": "one", "project": "p",
        "limits": ResourceVector(instances=4), "valid_from": NOW - DAY, "valid_to": NOW + DAY,
    }  # fmt: skip
    return sla.AgreementSigned(**{**known, **changes})


def quota(revision: int, used: int, held: int = 0, limit: int = 4) -> sla.QuotaChanged:
    return sla.QuotaChanged(
        ledger_id="a", revision=revision, provider="SITE-A", region="one", limits=ResourceVector(instances=limit),
        used=ResourceVector(instances=used), held=ResourceVector(instances=held), as_of=NOW,
    )  # fmt: skip


def view(path: str = "cms", issuer: str = ISSUER, **changes: Any) -> AgreementView:
    found = AgreementView(id="a")
    found.signed(signed(path, issuer, **changes), "000000000001.00")
    return found


def who(*groups: str, issuer: str = ISSUER) -> Principal:
    return Principal(issuer, "ada", frozenset(groups), frozenset(), None, None, NOW)


def test_whatever_the_order_the_newest_word_is_shown() -> None:
    said = [
        ("signed", signed(), "000000000001.00"), ("signed", signed(project="q", suspended=True), "000000000012.00"),
        ("quota", quota(3, used=1), ""), ("quota", quota(9, used=2, held=1), ""),
    ]  # fmt: skip
    for order in permutations(said):
        found = AgreementView(id="a")
        for kind, event, sequence in (*order, *order):
            if isinstance(event, sla.AgreementSigned):
                assert kind == "signed"
                found.signed(event, sequence)
            else:
                found.stands(event)
        assert (found.project, found.suspended) == ("q", True)
        assert resources_of(found)["instances"].model_dump() == {"limit": 4, "used": 2, "held": 1, "free": 1}


def test_a_provider_is_shown_as_it_was_registered_last() -> None:
    found = ProviderView(id="SITE-A")
    for state, sequence in (("maintenance", "000000000010.00"), ("active", "000000000009.00")):
        event = sla.ProviderRegistered(
            provider_id="SITE-A", kind="openstack", state=state, regions=("one",), simulated=True
        )
        found.registered(event, sequence)
    assert (found.state, found.kind, found.regions, found.simulated) == ("maintenance", "openstack", ("one",), True)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, AgreementState.VALID),
        ({"valid_from": NOW}, AgreementState.VALID),
        ({"valid_to": NOW}, AgreementState.EXPIRED),
        ({"valid_from": NOW + timedelta(seconds=1)}, AgreementState.UPCOMING),
        ({"suspended": True}, AgreementState.SUSPENDED),
    ],
)
def test_its_state_depends_on_the_hour(changes: dict[str, Any], expected: AgreementState) -> None:
    assert view(**changes).state(NOW) is expected


def test_limits_lowered_below_what_is_in_use_leave_nothing_free_and_a_class_that_went_is_shown() -> None:
    found = view()
    assert resources_of(found) == {}
    found.stands(quota(1, used=3, held=2, limit=0))
    assert resources_of(found)["instances"].model_dump() == {"limit": 0, "used": 3, "held": 2, "free": 0}


NOBODY = Roles(ISSUER)


@pytest.mark.parametrize(
    ("path", "principal", "roles", "expected"),
    [
        ("cms", who("cms"), NOBODY, True),
        ("cms", who("cms", issuer=OTHER), Roles(OTHER), False),
        ("cms/analysis", who("cms"), NOBODY, False),
        ("cms", who("cms/analysis"), NOBODY, False),
        ("cms", who("cm"), NOBODY, False),
        ("cms/analysis", who(), Roles(ISSUER, administered=frozenset({"cms"})), True),
        ("cmsx", who(), Roles(ISSUER, administered=frozenset({"cms"})), False),
        ("cms", who(), Roles(ISSUER, audited=frozenset({ISSUER})), True),
        ("cms", who(issuer=OTHER), Roles(OTHER, operated=frozenset({OTHER})), False),
        ("cms", who(issuer=OTHER), Roles(OTHER, operated=frozenset({"*"})), True),
    ],
)
def test_who_sees_an_agreement_finds_it_in_the_list_too(
    path: str, principal: Principal, roles: Roles, *, expected: bool
) -> None:
    found = view(path)
    assert may_see(found, principal, roles) is expected
    query = query_of(AgreementsQuery(), principal, roles)
    issuer = query.equal.get("group.issuer", ISSUER)
    lines = dict(query.contains).get("audience")
    assert (issuer == ISSUER and (lines is None or any(text in found.audience for text in lines))) is expected


def test_one_that_is_known_by_its_quota_alone_is_nobodys_to_see() -> None:
    found = AgreementView(id="a")
    found.stands(quota(1, used=1))
    everywhere = Roles(ISSUER, operated=frozenset({"*"}))
    assert not may_see(found, who("cms"), everywhere)
    assert query_of(AgreementsQuery(), who("cms"), everywhere).none_of == {"group.path": [None]}


def test_a_group_may_be_named_by_its_members_its_administrators_and_those_who_read_all() -> None:
    asked = AgreementsQuery(group="/cms/analysis")
    for principal, roles in (
        (who("cms/analysis"), NOBODY), (who(), Roles(ISSUER, administered=frozenset({"cms"}))), (who(), Roles(ISSUER, audited=frozenset({ISSUER}))),
    ):  # fmt: skip
        assert query_of(asked, principal, roles).equal["group.path"] == "cms/analysis"
    with pytest.raises(Forbidden):
        query_of(asked, who("cms"), NOBODY)
    with pytest.raises(Invalid):
        query_of(AgreementsQuery(cursor="x"), who("cms"), NOBODY)
