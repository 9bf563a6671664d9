"""``indaco provider|agreement|quota|usage`` on what the gateway was told of the federation."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from indaco_common.contracts import orchestrator, sla
from indaco_common.contracts.values import Group, Owner
from indaco_common.units import ResourceVector

from .conftest import Indaco
from .world import World, node

pytestmark = pytest.mark.usefixtures("quiet")
LIMITS = ResourceVector(instances=4, cpu_milli=8000)


@pytest.fixture
async def federation(world: World) -> World:
    """Two providers, an agreement of cms with one, and how its quota stands."""
    cms = Group(issuer=world.issuer.url, path="cms")
    await world.say(
        sla.ProviderRegistered(provider_id="SITE-A", kind="openstack", state="active", regions=("one", "two")),
        sla.ProviderRegistered(provider_id="SITE-B", kind="simulated", state="maintenance", regions=("one",), simulated=True),
        sla.AgreementSigned(
            agreement_id="cms-a", group=cms, provider="SITE-A", region="one", project="cms", limits=LIMITS,
            valid_from=datetime(2026, 1, 1, tzinfo=UTC), valid_to=datetime(2096, 1, 1, tzinfo=UTC),
        ),
        sla.AgreementSigned(
            agreement_id="atlas-a", group=Group(issuer=world.issuer.url, path="atlas"), provider="SITE-A", region="one", project="atlas",
            limits=LIMITS, valid_from=datetime(2026, 1, 1, tzinfo=UTC), valid_to=datetime(2096, 1, 1, tzinfo=UTC),
        ),
        sla.QuotaChanged(
            ledger_id="cms-a", revision=1, provider="SITE-A", region="one", limits=LIMITS, used=ResourceVector(instances=1, cpu_milli=2000),
            held=ResourceVector(instances=1), as_of=world.infra.clock.now(),
        ),
        source="sla",
    )  # fmt: skip
    return world


async def test_providers_are_listed_with_their_state(federation: World, indaco: Indaco) -> None:
    lines = [line.split() for line in (await indaco("provider", "list")).stdout.splitlines()]
    assert lines[1:] == [
        ["SITE-A", "openstack", "active", "one,", "two"],
        ["SITE-B", "simulated", "maintenance", "one", "(simulated)"],
    ]
    assert (await indaco("provider", "list", "--state", "active", "-o", "name")).stdout == "SITE-A\n"
    assert json.loads((await indaco("provider", "show", "SITE-B", "-o", "json")).stdout)["simulated"] is True
    assert (await indaco("provider", "show", "SITE-C")).exit_code == 4


async def test_agreements_and_quotas_are_those_of_ones_groups(federation: World, indaco: Indaco) -> None:
    listed = (await indaco("agreement", "list")).stdout.splitlines()
    assert [line.split()[:5] for line in listed[1:]] == [["cms-a", "cms", "SITE-A", "one", "valid"]]
    assert "cpu_milli 8000, instances 4" in listed[1]
    assert (await indaco("agreement", "show", "cms-a", "-o", "name")).stdout == "cms-a\n"
    assert (await indaco("agreement", "show", "atlas-a")).exit_code == 4
    assert (await indaco("agreement", "list", "--group", "atlas")).exit_code == 6
    lines = [line.split() for line in (await indaco("quota", INDACO_GROUP="cms")).stdout.splitlines()[1:]]
    assert ["cms", "SITE-A", "one", "cpu_milli", "8000", "2000", "0", "6000"] in lines
    assert ["cms", "SITE-A", "one", "instances", "4", "1", "1", "2"] in lines
    (kept,) = json.loads((await indaco("quota", "-o", "json")).stdout)
    assert kept["resources"]["instances"] == {"limit": 4, "used": 1, "held": 1, "free": 2}


async def test_usage_is_added_up_as_it_is_asked_for(world: World, indaco: Indaco) -> None:
    ended = world.infra.clock.now() - timedelta(minutes=1)
    known = {
        **node("d-1"), "owner": Owner(issuer=world.issuer.url, subject="ada"), "group": Group(issuer=world.issuer.url, path="cms"),
        "started_at": ended - timedelta(hours=2),
    }  # fmt: skip
    await world.say(orchestrator.NodeRemoved(**known, stopped_at=ended))
    shown = await indaco("usage")
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert [line[:2] for line in lines[1:]] == [["SITE-A", "2.0"], ["all", "1"]]
    assert lines[2][2] == "2.0"
    assert shown.stderr.startswith("from ")
    rows = (await indaco("usage", "--by", "deployment", "-o", "csv")).stdout.splitlines()
    assert rows[1].split(",")[:2] == ["d-1", "2.0"]
    assert (await indaco("usage", "-o", "name")).stdout == "SITE-A\n"
    of_group = json.loads(
        (await indaco("usage", "--scope", "group", "--by", "group", "-o", "json", INDACO_GROUP="cms")).stdout
    )
    assert (of_group["total"]["core_hours"], of_group["content"][0]["group"]["path"]) == (2.0, "cms")
    today = ended.date().isoformat()
    assert (await indaco("usage", "--from", "2001-01-01", "--to", "2002-01-01T12:00:00Z", "-o", "name")).stdout == ""
    assert (await indaco("usage", "--to", today, "--from", "2999-01-01")).exit_code == 6
    assert (await indaco("usage", "--from", "yesterday")).exit_code == 2
    assert (await indaco("usage", "--scope", "all")).exit_code == 6
