"""/v1/providers, /v1/agreements, /v1/quotas and /v1/usage on a running gateway, which has heard of them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from indaco_common.contracts import orchestrator, sla
from indaco_common.contracts.values import Group, Owner
from indaco_common.ids import DeploymentId
from indaco_common.secrets.embedded import EmbeddedVault
from indaco_common.units import ResourceVector
from indaco_gateway.api import usage

from .world import GROUPS, PLACE, Answer, Issuer, World, running

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FROM = {"from": (NOW - 10 * DAY).isoformat().replace("+00:00", "Z")}
GROUPS |= {"dan": ("cms", "cms/admins"), "aud": ("auditors",)}


@pytest.fixture
async def world(tmp_path: Path, openbao: EmbeddedVault, issuer: Issuer) -> AsyncIterator[World]:
    roles = [
        {"role": "group-admin", "issuer": issuer.url, "group": "{group}/admins"},
        {"role": "auditor", "issuer": issuer.url, "group": "auditors"},
    ]
    async with running(World(tmp_path, openbao, issuer, {"roles": roles, "rate_read": "none"})) as world:
        yield world


def provider(id: str, **changes: Any) -> sla.ProviderRegistered:
    known: dict[str, Any] = {"kind": "openstack", "state": "active", "regions": ("one", "two")}
    return sla.ProviderRegistered(provider_id=id, **{**known, **changes})


def agreement(world: World, id: str, path: str = "cms", **changes: Any) -> sla.AgreementSigned:
    known: dict[str, Any] = {
        "group": Group(issuer=world.issuer.url, path=path), "provider": "SITE-A", "region": "one", "project": "p",
        "limits": ResourceVector(instances=4, cpu_milli=8000), "valid_from": NOW - DAY, "valid_to": NOW + DAY,
    }  # fmt: skip
    return sla.AgreementSigned(agreement_id=id, **{**known, **changes})


def quota(id: str, revision: int = 1, **changes: Any) -> sla.QuotaChanged:
    known: dict[str, Any] = {
        "provider": "SITE-A",
        "region": "one",
        "limits": ResourceVector(instances=4, cpu_milli=8000),
        "as_of": NOW,
    }
    return sla.QuotaChanged(ledger_id=id, revision=revision, **{**known, **changes})


def ids(answer: Answer, name: str = "id") -> list[str]:
    assert answer.status == 200, answer.text
    return [each[name] for each in answer.json["content"]]


async def pages(world: World, path: str, user: str = "ada") -> list[str]:
    """Return the ids of all pages, by their links."""
    found: list[str] = []
    following: str | None = path
    while following:
        answer = await world.get(following.removeprefix(world.url), user)
        found += ids(answer)
        following = answer.json.get("next")
        assert answer.headers.get("Link") == (f'<{following}>; rel="next"' if following else None)
    return found


def is_problem(answer: Answer, status: int, code: str) -> bool:
    assert answer.status == status, answer.text
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    return bool(answer.json["code"] == code)


# ── providers


async def test_providers_are_shown_to_everybody_as_they_were_registered_last(world: World) -> None:
    assert ids(await world.get("/v1/providers")) == []
    await world.say(
        provider("SITE-B"), provider("SITE-A"), provider("SITE-B", state="maintenance", simulated=True), source="sla"
    )
    answer = await world.get("/v1/providers", "eve")
    assert answer.json == {"content": [
        {"id": "SITE-A", "kind": "openstack", "regions": ["one", "two"], "state": "active", "simulated": False},
        {"id": "SITE-B", "kind": "openstack", "regions": ["one", "two"], "state": "maintenance", "simulated": True},
    ]}  # fmt: skip
    assert ids(await world.get("/v1/providers?state=maintenance")) == ["SITE-B"]
    assert (await world.get("/v1/providers/SITE-B")).json == answer.json["content"][1]
    assert is_problem(await world.get("/v1/providers/SITE-C"), 404, "not-found")
    known = {"If-None-Match": answer.headers["ETag"]}
    assert (await world.get("/v1/providers", headers=known)).status == 304


async def test_a_state_that_no_provider_can_be_in_is_told(world: World) -> None:
    answer = await world.get("/v1/providers?state=asleep")
    assert is_problem(answer, 400, "invalid")
    assert "'maintenance'" in answer.json["errors"][0]["detail"]


async def test_lists_are_paged_in_the_order_of_ids(world: World) -> None:
    names = [f"SITE-{number:02d}" for number in range(7)]
    await world.say(*map(provider, names), *(agreement(world, name) for name in names), source="sla")
    for path in ("/v1/providers", "/v1/agreements"):
        for limit in (1, 3, 7, 100):
            assert await pages(world, f"{path}?limit={limit}") == names


@pytest.mark.parametrize("path", ["/v1/providers", "/v1/agreements", "/v1/quotas", "/v1/usage"])
async def test_what_is_wrong_with_a_query_is_told(world: World, path: str) -> None:
    wrong = ["limit=0", "limit=9999", "colour=red", "limit=1&limit=2"] + (["cursor=x"] if path != "/v1/usage" else [])
    for query in wrong:
        answer = await world.get(f"{path}?{query}")
        assert is_problem(answer, 400, "invalid")
        assert answer.json["errors"][0]["pointer"] == f"?{query.partition('=')[0]}"
    assert is_problem(await world.get(path, None), 401, "unauthenticated")


# ── agreements and quotas


async def test_agreements_are_those_of_the_callers_groups(world: World) -> None:
    other = Group(issuer="https://other.example.org/", path="cms")
    await world.say(
        agreement(world, "cms-a"), agreement(world, "cms-b", provider="SITE-B"), agreement(world, "deep", "cms/analysis"),
        agreement(world, "below", "cms/software"), agreement(world, "atlas-a", "atlas"), agreement(world, "theirs", group=other),
        source="sla",
    )  # fmt: skip
    seen = {
        "ada": ["cms-a", "cms-b", "deep"], "bob": ["cms-a", "cms-b"], "eve": ["atlas-a"], "dan": ["below", "cms-a", "cms-b", "deep"],
        "aud": ["atlas-a", "below", "cms-a", "cms-b", "deep"], "root": ["atlas-a", "below", "cms-a", "cms-b", "deep"],
    }  # fmt: skip
    for user, expected in seen.items():
        assert ids(await world.get("/v1/agreements", user)) == expected, user
        assert ids(await world.get("/v1/quotas", user), "agreement") == expected, user
        for id in ("cms-a", "cms-b", "deep", "below", "atlas-a", "theirs"):
            assert ((await world.get(f"/v1/agreements/{id}", user)).status == 200) is (id in expected), (user, id)
    assert ids(await world.get("/v1/agreements?group=cms/analysis")) == ["deep"]
    assert ids(await world.get("/v1/agreements?group=/cms&provider=SITE-B")) == ["cms-b"]
    assert ids(await world.get("/v1/agreements?group=cms/software", "dan")) == ["below"]
    assert is_problem(await world.get("/v1/agreements?group=atlas"), 403, "forbidden")


async def test_an_agreement_is_shown_with_what_it_grants_and_until_when(world: World) -> None:
    await world.say(
        agreement(world, "a", user_limits=ResourceVector(instances=2)), agreement(world, "old", valid_from=NOW - 2 * DAY, valid_to=NOW - DAY),
        agreement(world, "new", valid_from=NOW + HOUR), agreement(world, "off", suspended=True), source="sla",
    )  # fmt: skip
    assert (await world.get("/v1/agreements/a")).json == {
        "id": "a", "group": "cms", "issuer": world.issuer.url, "provider": "SITE-A", "region": "one", "project": "p", "state": "valid",
        "limits": {"instances": 4, "cpu_milli": 8000}, "user_limits": {"instances": 2},
        "valid_from": (NOW - DAY).isoformat().replace("+00:00", "Z"), "valid_to": (NOW + DAY).isoformat().replace("+00:00", "Z"),
    }  # fmt: skip
    found = {each["id"]: each["state"] for each in (await world.get("/v1/agreements")).json["content"]}
    assert found == {"a": "valid", "old": "expired", "new": "upcoming", "off": "suspended"}


async def test_quotas_say_what_is_used_held_and_free_in_whatever_order_it_was_heard(world: World) -> None:
    newest = quota("a", 9, used=ResourceVector(instances=2, cpu_milli=3000), held=ResourceVector(instances=1))
    await world.say(newest, quota("a", 5, used=ResourceVector(instances=4)), quota("nobodys", 1), source="sla")
    assert ids(await world.get("/v1/quotas", "root"), "agreement") == []
    await world.say(agreement(world, "a"), agreement(world, "b"), source="sla")
    [a, b] = (await world.get("/v1/quotas?group=cms")).json["content"]
    assert a == {
        "agreement": "a", "group": "cms", "issuer": world.issuer.url, "provider": "SITE-A", "region": "one", "state": "valid",
        "resources": {
            "cpu_milli": {"limit": 8000, "used": 3000, "held": 0, "free": 5000}, "instances": {"limit": 4, "used": 2, "held": 1, "free": 1},
        },
        "as_of": NOW.isoformat().replace("+00:00", "Z"),
    }  # fmt: skip
    assert (b["resources"], "as_of" in b) == ({}, False)


# ── usage


def machine(
    world: World,
    name: str,
    hours: float,
    *,
    user: str = "ada",
    group: str = "cms",
    ago: timedelta = DAY,
    **changes: Any,
) -> dict[str, Any]:
    return {
        "deployment_id": DeploymentId(f"d-{user}"), "attempt": 1, "node": name, "owner": Owner(issuer=world.issuer.url, subject=user),
        "group": Group(issuer=world.issuer.url, path=group), "place": PLACE, "needs": ResourceVector(instances=1, cpu_milli=2000, memory_mib=4096),
        "started_at": NOW - ago, "stopped_at": NOW - ago + hours * HOUR, **changes,
    }  # fmt: skip


def life(
    world: World, name: str, hours: float, **changes: Any
) -> list[orchestrator.NodeStarted | orchestrator.NodeRemoved]:
    facts = machine(world, name, hours, **changes)
    return [orchestrator.NodeRemoved(**facts), orchestrator.NodeStarted(**facts)]  # the wrong way round


async def used(world: World, user: str = "ada", **query: Any) -> Any:
    answer = await world.get("/v1/usage", user, params={**FROM, **query})
    assert answer.status == 200, answer.text
    return answer.json


async def test_usage_is_ones_own_by_provider_unless_asked_otherwise(world: World) -> None:
    there = PLACE.model_copy(update={"provider": "SITE-B", "simulated": True})
    await world.say(
        *life(world, "server-0", 1), *life(world, "server-1", 2, place=there), *life(world, "server-0", 3, attempt=2, group="cms/analysis"),
        *life(world, "server-0", 5, user="bob"), *life(world, "disk-0", 9, needs=ResourceVector(buckets=1)),
    )  # fmt: skip
    for _ in range(2):
        found = await used(world)
        assert (found["by"], found["rows"], found["from"]) == ("provider", 2, FROM["from"])
        assert found["content"] == [
            {"provider": "SITE-A", "core_hours": 8, "memory_gib_hours": 16, "wall_hours": 4, "machines": 2, "running": 0, "simulated": False},
            {"provider": "SITE-B", "core_hours": 4, "memory_gib_hours": 8, "wall_hours": 2, "machines": 1, "running": 0, "simulated": True},
        ]  # fmt: skip
        await world.say(*life(world, "server-0", 1))  # again, under other ids
    assert found["total"]["core_hours"] == 12
    assert (await used(world, group="cms"))["total"]["core_hours"] == 6
    assert [row["deployment"] for row in (await used(world, by="deployment"))["content"]] == ["d-ada"]
    assert (await used(world, "eve"))["content"] == []
    assert (await used(world, to=(NOW - DAY + HOUR).isoformat().replace("+00:00", "Z")))["total"]["wall_hours"] == 3


async def test_what_runs_counts_until_now(world: World) -> None:
    facts = machine(world, "server-0", 0, ago=2 * HOUR)
    await world.say(orchestrator.NodeStarted(**facts))
    first = (await used(world))["total"]
    assert (first["machines"], first["running"]) == (1, 1)
    since_h = 2 + (datetime.now(UTC) - NOW) / HOUR
    assert 2 <= first["wall_hours"] <= round(since_h, 6)
    await world.say(orchestrator.NodeRemoved(**{**facts, "stopped_at": NOW - HOUR}))
    assert (await used(world))["total"] == {
        "core_hours": 2, "memory_gib_hours": 4, "wall_hours": 1, "machines": 1, "running": 0, "simulated": False
    }  # fmt: skip


async def test_a_groups_usage_is_its_members_to_see_and_by_member_its_administrators(world: World) -> None:
    await world.say(
        *life(world, "n", 1), *life(world, "n", 2, user="bob"), *life(world, "n", 4, user="eve", group="atlas")
    )
    group = {"scope": "group", "group": "cms"}
    assert (await used(world, "ada", **group))["total"]["wall_hours"] == 3
    for user in ("dan", "aud", "root"):
        rows = (await used(world, user, **group, by="owner"))["content"]
        assert [(row["owner"]["subject"], row["wall_hours"]) for row in rows] == [("bob", 2), ("ada", 1)]
    for user in ("aud", "root"):
        rows = (await used(world, user, scope="all", by="group", limit=1))["content"]
        assert rows[0]["group"] == {"issuer": world.issuer.url, "path": "atlas"}
    refused = [
        ("ada", {**group, "by": "owner"}), ("bob", {**group, "by": "deployment"}), ("eve", group), ("ada", {"scope": "all"}),
        ("dan", {"scope": "all"}), ("dan", {"scope": "group", "group": "atlas"}),
    ]  # fmt: skip
    for user, query in refused:
        assert is_problem(await world.get("/v1/usage", user, params=query), 403, "forbidden"), (user, query)


async def test_many_records_are_read_in_pages_and_too_many_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "PAGE", 3)
    for number in range(10):
        await world.say(*life(world, f"n-{number}", 1, ago=DAY + (number % 4) * HOUR))
        await world.say(orchestrator.NodeStarted(**machine(world, f"r-{number}", 0)))
    found = (await used(world))["total"]
    assert (found["machines"], found["running"]) == (20, 10)
    monkeypatch.setattr(usage, "MAX_RECORDS", 12)
    answer = await world.get("/v1/usage", params=FROM)
    assert is_problem(answer, 400, "invalid")
    assert answer.json["errors"][0]["pointer"] == "?from"
    recent = {"from": (NOW - DAY + 2 * HOUR).isoformat().replace("+00:00", "Z")}
    assert (await world.get("/v1/usage", params=recent)).json["total"]["machines"] == 10
