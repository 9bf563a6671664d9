"""Who may do what, for every route and every kind of caller: a table written by hand, against a gateway that runs.

The routes are those of the gateway's own router: one that the table does not know fails a test.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from indaco_common.auth import TrustedIssuer
from indaco_common.contracts import sla
from indaco_common.contracts.values import Group
from indaco_common.secrets.embedded import EmbeddedVault
from indaco_common.testing.federation import AUDIENCE, MemoryKeys
from indaco_common.units import ResourceVector
from indaco_gateway.api import plans

from .world import VM, Issuer, World, running

# ada's deployment is of the group cms. Of the others, each has what its name says, and no more.
PRINCIPALS = (
    "owner", "member", "reader", "changer", "admin", "operator", "auditor", "namesake", "stranger", "nobody", "readonly",
)  # fmt: skip
ALL = ("cms", "readers", "changers")
GROUPS: dict[str, tuple[str, ...]] = {
    "owner": ALL, "member": ("cms",), "reader": ("readers",), "changer": ("changers",), "admin": ("cms/admins",), "operator": ("indaco-admins",),
    "auditor": ("auditors",), "stranger": ("atlas",), "readonly": ALL,
    # the same subject and every group of all the others, at another issuer
    "namesake": (*ALL, "cms/admins", "indaco-admins", "auditors"),
}  # fmt: skip

# One sign per principal, in their order: + allowed, 1: 401, 3: 403, 4: 404 as if there were nothing.
#                 omrca oans nr
PUBLIC = "+++++ ++++ ++"
CALLER = "+++++ ++++ 1+"  # about themselves, or a list that has what they may see
WRITER = "+++++ ++++ 13"
READ = "+4+++ ++44 1+"
OWN = "+4333 3344 1+"
OWN_WRITE = "+4333 3344 13"
CHANGE = "+43++ +344 13"
MINE = "+4444 4444 1+"
MINE_WRITE = "+4444 4444 13"
AGREED = "++44+ ++44 1+"  # an agreement of cms: its members and administrators, those who see everything
OPERATORS = "33333 +3+3 13"  # namesake is an operator too: of the other issuer's users

ONE, NATIVE = "/deployments/{id}", "/v1/deployments/{id}"
KEY, PLAN, SUBSCRIPTION = "/v1/keys/{name}", "/v1/plans/{id}", "/v1/subscriptions/{id}"
CARD = "/v1/catalogue/{name}"
CREATE = {"template": VM}
TABLE: dict[str, tuple[str, Any]] = {
    "GET /": (PUBLIC, None),
    "GET /info": (PUBLIC, None),
    "GET /configuration": (CALLER, None),
    "GET /livez": (PUBLIC, None),
    "GET /readyz": (PUBLIC, None),
    "GET /metrics": (PUBLIC, None),
    # INDIGO's
    "GET /deployments": (CALLER, None),
    "POST /deployments": (WRITER, {**CREATE, "userGroup": "{group}"}),
    f"GET {ONE}": (READ, None),
    f"PUT {ONE}": (CHANGE, {"template": VM, "parameters": {}}),
    f"PATCH {ONE}": (CHANGE, {"status": "DELETE_FAILED"}),
    f"DELETE {ONE}": (CHANGE, None),
    f"GET {ONE}/template": (READ, None),
    f"GET {ONE}/outputs": (OWN, None),
    f"GET {ONE}/timeline": (READ, None),
    f"GET {ONE}/events": (READ, None),
    f"GET {ONE}/log": (OWN, None),
    f"GET {ONE}/extrainfo": (OWN, None),
    f"GET {ONE}/resources": (READ, None),
    f"GET {ONE}/resources/filter": (READ, None),
    f"GET {ONE}/resources/{{rid}}": (READ, None),
    f"POST {ONE}/resources/{{rid}}/actions": (CHANGE, {"type": "start"}),
    "POST /schedules": (CALLER, {}),
    "GET /schedules": (CALLER, None),
    "GET /schedules/{id}": (CALLER, None),
    "GET /schedules/{id}/template": (CALLER, None),
    "GET /schedules/{id}/events": (CALLER, None),
    # ours
    "GET /v1/deployments": (CALLER, None),
    "POST /v1/deployments": (WRITER, {**CREATE, "group": "{group}"}),
    f"GET {NATIVE}": (READ, None),
    f"PATCH {NATIVE}": (CHANGE, {"name": "x"}),
    f"DELETE {NATIVE}": (CHANGE, None),
    f"PUT {NATIVE}/lock": (CHANGE, {"reason": "x"}),
    f"DELETE {NATIVE}/lock": (CHANGE, None),
    f"PUT {NATIVE}/shares/{{group}}": (OWN_WRITE, {"access": "read"}),
    f"DELETE {NATIVE}/shares/{{group}}": (OWN_WRITE, None),
    f"POST {NATIVE}/actions": (CHANGE, {"action": "stop"}),
    f"GET {NATIVE}/timeline": (READ, None),
    f"GET {NATIVE}/events": (READ, None),
    f"GET {NATIVE}/outputs": (OWN, None),
    f"GET {NATIVE}/resources": (READ, None),
    f"GET {NATIVE}/template": (READ, None),
    f"GET {NATIVE}/callback-deliveries": (OWN, None),
    f"POST {NATIVE}/callback-deliveries/{{delivery}}/retry": (OWN_WRITE, None),
    "POST /v1/plans": (CALLER, {**CREATE, "group": "{group}"}),
    f"GET {PLAN}": (MINE, None),
    "GET /v1/keys": (CALLER, None),
    "POST /v1/keys": (WRITER, {"name": "another"}),
    f"GET {KEY}": (MINE, None),
    f"DELETE {KEY}": (MINE_WRITE, None),
    f"POST {KEY}/reveal": (MINE_WRITE, None),
    "GET /v1/catalogue": (CALLER, None),
    "GET /v1/catalogue/status": (OPERATORS, None),
    "POST /v1/catalogue/reload": (OPERATORS, None),
    f"GET {CARD}": (CALLER, None),
    f"GET {CARD}/{{version}}": (CALLER, None),
    f"GET {CARD}/{{version}}/form": (CALLER, None),
    "GET /v1/subscriptions": (CALLER, None),
    "POST /v1/subscriptions": (WRITER, {"url": "https://example.org/hook"}),
    f"GET {SUBSCRIPTION}": (MINE, None),
    f"PATCH {SUBSCRIPTION}": (MINE_WRITE, {"description": "x"}),
    f"DELETE {SUBSCRIPTION}": (MINE_WRITE, None),
    f"POST {SUBSCRIPTION}/pause": (MINE_WRITE, None),
    f"POST {SUBSCRIPTION}/resume": (MINE_WRITE, None),
    f"POST {SUBSCRIPTION}/rotate": (MINE_WRITE, None),
    f"POST {SUBSCRIPTION}/ping": (MINE_WRITE, None),
    f"GET {SUBSCRIPTION}/deliveries": (MINE, None),
    f"POST {SUBSCRIPTION}/deliveries/{{delivery}}/retry": (MINE_WRITE, None),
    "GET /v1/webhook-secret": (CALLER, None),
    "POST /v1/webhook-secret": (WRITER, None),
    "GET /v1/providers": (CALLER, None),
    "GET /v1/providers/{provider}": (CALLER, None),
    "GET /v1/agreements": (CALLER, None),
    "GET /v1/agreements/{agreement}": (AGREED, None),
    "GET /v1/quotas": (CALLER, None),
    "GET /v1/usage": (CALLER, None),
    "GET /v1/me": (CALLER, None),
    "GET /v1/login": (PUBLIC, None),
    "GET /v1/login/callback": (PUBLIC, None),
    "GET /v1/login/issuers": (PUBLIC, None),
    "POST /v1/logout": (PUBLIC, None),
    "POST /v1/admin/trust/flush": (OPERATORS, None),
    "GET /v1/openapi.json": (PUBLIC, None),
    "GET /v1/asyncapi.json": (PUBLIC, None),
    "GET /v1/docs": (PUBLIC, None),
}  # fmt: skip

# 404 in these, of something that is not the deployment or the like in the path: it is theirs to look, and there is nothing yet.
NOT_MADE = {"GET /v1/webhook-secret", *(route for route in TABLE if "{delivery}" in route)}


def expected(kind: str, principal: str) -> str:
    return kind.replace(" ", "")[PRINCIPALS.index(principal)]


def routes(world: World) -> set[str]:
    """Return what the gateway answers: without the twins that end in a slash, and without HEAD."""
    assert world.runner._web is not None
    assert world.runner._web.app is not None
    found = {
        (route.method, route.resource.canonical) for route in world.runner._web.app.router.routes() if route.resource
    }
    return {
        f"{method} {path}" for method, path in found
        if method not in ("HEAD", "OPTIONS", "*") and not (path.endswith("/") and (method, path[:-1] or None) in found)
    }  # fmt: skip


@dataclass
class Scene:
    """A gateway that trusts two issuers, and what ada has there."""

    world: World
    other: Issuer
    made: dict[str, str] = field(default_factory=dict)

    def token(self, principal: str) -> str | None:
        if principal == "nobody":
            return None
        issuer = self.other if principal == "namesake" else self.world.issuer
        subject = "ada" if principal in ("owner", "readonly", "namesake") else principal
        scopes = {"scopes": ("openid", "groups")} if principal == "readonly" else {}
        return issuer.token(subject, GROUPS[principal], **scopes)

    async def send(self, principal: str, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """Return the status and, of an error, its sentence."""
        token = self.token(principal)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        options = {} if body is None else {"json": body}
        url = self.world.url + path
        async with self.world.http.request(method, url, headers=headers, allow_redirects=False, **options) as answer:
            assert answer.status < 500 or answer.status == 501, await answer.text()
            if answer.status < 400:
                return answer.status, "" if "event-stream" in answer.content_type else await answer.text()
            told = json.loads(await answer.text())
            return answer.status, str(told.get("detail", told.get("message")))

    async def make(self, path: str, body: Mapping[str, Any], name: str = "id") -> str:
        status, text = await self.send("owner", "POST", path, body)
        assert status in (201, 202), text
        return str(json.loads(text)[name])

    async def deployment(self) -> str:
        id = await self.make("/v1/deployments", {**CREATE, "group": "cms"})
        for group, access in (("readers", "read"), ("changers", "change")):
            status, text = await self.send("owner", "PUT", f"/v1/deployments/{id}/shares/{group}", {"access": access})
            assert status == 200, text
        return id

    async def filled(self, path: str, *, fresh: bool) -> tuple[str, str]:
        """Return *path* with ids of what ada has in it, and the id that it is about; *fresh*: of something that nobody has touched."""
        makers: dict[str, Callable[[], Awaitable[str]]] = {
            ONE: self.deployment,
            NATIVE: self.deployment,
            PLAN: lambda: self.make("/v1/plans", {**CREATE, "group": "cms"}),
            SUBSCRIPTION: lambda: self.make("/v1/subscriptions", {"url": "https://example.org/hook"}),
            KEY: lambda: self.make("/v1/keys", {"name": f"key{len(self.made)}"}, "name"),
        }
        start = next((start for start in makers if path.startswith(start)), None)
        if start is None:
            about = "AGREED" if "{agreement}" in path else ""
            return path.format(
                id="x", name="virtual-machine", version="latest", provider="SITE-A", agreement="AGREED"
            ), about
        if fresh or start not in self.made:
            self.made[start] = await makers[start]()
            self.made[f"{start} {len(self.made)}"] = ""
        id = self.made[start]
        rid = await self._rid(id) if "{rid}" in path else ""
        return path.format(id=id, name=id, rid=rid, group=quote("readers"), delivery="x", version="latest"), id

    async def _rid(self, deployment: str) -> str:
        _, text = await self.send("owner", "GET", f"/deployments/{deployment}/resources")
        return str(json.loads(text)["content"][0]["uuid"])

    async def outcome(self, principal: str, route: str, body: Any, *, changes: bool) -> str:
        """Ask, and return the sign of what came of it; *changes*: what was asked about is not the same afterwards."""
        method, _, template = route.partition(" ")
        path, id = await self.filled(template, fresh=changes)
        if isinstance(body, dict):
            group = GROUPS.get(principal, ("cms",))[0]
            body = {name: group if value == "{group}" else value for name, value in body.items()}
        status, sentence = await self.send(principal, method, path, body)
        if status == 404 and route in NOT_MADE and not (id and id in sentence):
            return "+"
        return {401: "1", 403: "3", 404: "4"}.get(status, "+")


@pytest.fixture
async def scene(
    tmp_path: Path, openbao: EmbeddedVault, issuer: Issuer, keys: MemoryKeys, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    monkeypatch.setattr(plans, "WAIT_S", 0.01)  # there is no sla here that would say where a plan goes
    other = Issuer(keys)
    await other.start()
    trusted = tuple(TrustedIssuer(issuer=each.url, audiences=(AUDIENCE,), allow_http=True) for each in (issuer, other))
    rules = [
        {"role": "auditor", "issuer": issuer.url, "group": "auditors"},
        {"role": "group-admin", "issuer": issuer.url, "group": "{group}/admins"},
        {"role": "operator", "issuer": other.url, "group": "indaco-admins"},
        {"role": "auditor", "issuer": other.url, "group": "auditors"},
        {"role": "group-admin", "issuer": other.url, "group": "{group}/admins"},
    ]
    settings = {
        "issuers": trusted, "roles": rules, "write_scopes": ("offline_access",), "rate_plan": "none", "rate_write": "none", "rate_read": "none",
        "rate_events": "none", "rate_guesses": "none",
    }  # fmt: skip
    try:
        async with running(World(tmp_path, openbao, issuer, settings)) as world:
            limits = ResourceVector(instances=1)
            await world.say(
                sla.ProviderRegistered(provider_id="SITE-A", kind="simulated", state="active", regions=("one",)),
                sla.AgreementSigned(
                    agreement_id="AGREED", group=Group(issuer=issuer.url, path="cms"), provider="SITE-A", region="one", project="p",
                    limits=limits, valid_from=datetime(2020, 1, 1, tzinfo=UTC), valid_to=datetime(2090, 1, 1, tzinfo=UTC),
                ),
                source="sla",
            )  # fmt: skip
            yield Scene(world, other)
    finally:
        await other.stop()


async def test_every_route_is_in_the_table_and_every_line_of_the_table_is_a_route(world: World) -> None:
    assert routes(world) - TABLE.keys() == set(), "say in TABLE who may use these"
    assert TABLE.keys() - routes(world) == set(), "these are gone"


@pytest.mark.parametrize("principal", PRINCIPALS)
async def test_each_caller_may_do_what_the_table_says_and_nothing_else(scene: Scene, principal: str) -> None:
    wrong = []
    for route, (kind, body) in TABLE.items():
        changes = expected(kind, principal) == "+" and not route.startswith("GET ")
        async with asyncio.timeout(30):
            found = await scene.outcome(principal, route, body, changes=changes)
        if found != expected(kind, principal):
            wrong.append(f"{principal}: {route}: {found} instead of {expected(kind, principal)}")
    assert wrong == []
