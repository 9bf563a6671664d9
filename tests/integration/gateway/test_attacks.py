"""Attacks that go past the token (26 to 30 of the catalogue of attacks; the others are in tests/unit/common/test_auth_attacks.py)."""

import asyncio
import logging
from collections.abc import Iterator

import pytest
import structlog

from indaco_common.clock import SystemClock
from indaco_common.contracts import gateway
from indaco_common.contracts.values import Group, Owner
from indaco_common.envelope import Context, seal
from indaco_common.ids import DeploymentId, deployment_id

from .world import VM, World, needs, running, running_event

HEADERS = {
    "X-Group": "cms", "X-Groups": "cms,indaco-admins", "X-User": "ada", "X-Forwarded-User": "ada", "X-Forwarded-Email": "ada@example.org",
    "X-Forwarded-Groups": "indaco-admins", "X-Remote-User": "ada", "Remote-User": "ada", "X-Auth-Request-User": "ada", "X-Subject": "ada",
    "X-Auth-Request-Groups": "indaco-admins", "X-Forwarded-Access-Token": "x", "X-Original-URL": "/v1/admin/trust/flush", "X-Userinfo": "e30=",
    "X-Rewrite-URL": "/", "X-HTTP-Method-Override": "DELETE", "X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1;by=gateway",
}  # fmt: skip


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """All that is logged in this process, at whatever level."""
    found: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage() + str(record.args))

    root, ear = logging.getLogger(), Ear(logging.DEBUG)
    level = root.level
    root.addHandler(ear)
    root.setLevel(logging.DEBUG)
    with structlog.testing.capture_logs() as events:
        yield found
        found += map(str, events)
    root.setLevel(level)
    root.removeHandler(ear)


@pytest.mark.parametrize("header", HEADERS)
async def test_26_a_header_that_a_proxy_might_set_makes_nobody_of_anybody(world: World, header: str) -> None:
    id = await world.created()
    more = {header: HEADERS[header]}
    assert (await world.get(f"/deployments/{id}", None, headers=more)).status == 401
    for method in ("GET", "DELETE"):
        assert (await world.send(method, f"/deployments/{id}", "eve", headers=more)).status == 404
    me = (await world.get("/v1/me", "eve", headers=more)).json
    assert (me["subject"], me["groups"], me["roles"]) == ("eve", ["atlas"], ["user"])
    refused = await world.send("POST", "/deployments", "eve", headers=more, json={"template": VM, "userGroup": "cms"})
    assert refused.status == 403
    assert (await world.get(f"/deployments/{id}")).json["status"] == "CREATE_IN_PROGRESS"


@pytest.mark.parametrize("header", ["Host", "X-Forwarded-Host"])
async def test_27_the_host_that_a_request_names_is_in_no_link_where_the_gateway_knows_its_own_address(
    world: World, header: str
) -> None:
    known = World(world.folder / "known", world.vault, world.issuer, {"public_url": "https://paas.example.org/"})
    known.folder.mkdir()
    async with running(known):
        answer = await known.send(
            "POST", "/deployments", headers={header: "evil.example"}, json={"template": VM, "userGroup": "cms"}
        )
        assert answer.status == 201
        assert answer.headers["Location"].startswith("https://paas.example.org/deployments/")
        assert "evil.example" not in answer.text


async def test_27_a_host_that_a_request_names_is_told_to_that_caller_alone(world: World) -> None:
    id = await world.created()
    poisoned = await world.get(f"/deployments/{id}", headers={"X-Forwarded-Host": "evil.example"})
    assert "evil.example" in poisoned.text  # its own answer, with which it may do as it likes
    assert "evil.example" not in (await world.get(f"/deployments/{id}")).text
    assert b"evil.example" not in world.files()
    assert (await world.get(f"/deployments/{id}", headers={"X-Forwarded-Host": 'a"><script>'})).text.count(
        "script"
    ) == 0


async def test_28_a_message_is_no_request_whoever_it_says_it_is_from(world: World) -> None:
    """Who may put messages on the broker: tests/integration/test_rabbitmq_definitions.py. What comes makes nobody an owner."""
    issuer, id = world.issuer.url, deployment_id(world.issuer.url, "root", "forged")
    request = gateway.DeploymentRequested(
        deployment_id=id, owner=Owner(issuer=issuer, subject="eve"), group=Group(issuer=issuer, path="cms"), template=VM, inputs={},
        nodes={"server": needs()},
    )  # fmt: skip
    forged = Context(auth_type="user", auth_id=f"root@{issuer}")
    for message, source in ((request, "gateway"), (running_event(str(id)), "orchestrator")):
        envelope = seal(message, forged, source=source, version=1, index=0, now=SystemClock().now())
        await world.infra.bus.inject("gateway", envelope.body)
    mine = await world.created()
    await world.say(running_event(mine))
    for user in ("eve", "ada", "root"):
        assert (await world.get(f"/deployments/{id}", user)).status == 404
    assert (await world.get(f"/deployments/{mine}", "eve")).status == 404
    assert str(DeploymentId(id)) not in (await world.get("/deployments", "root")).text


@pytest.mark.parametrize(
    "claims", [{"email": "root@example.org", "email_verified": True, "name": "root", "preferred_username": "root"}]
)
async def test_29_an_operators_name_and_address_make_no_operator(world: World, claims: dict[str, object]) -> None:
    id = await world.created()
    token = world.issuer.token("eve", ("atlas",), claims=claims)
    headers = {"Authorization": f"Bearer {token}"}
    assert (await world.get("/v1/me", None, headers=headers)).json["roles"] == ["user"]
    assert (await world.get(f"/deployments/{id}", None, headers=headers)).status == 404
    assert (await world.send("POST", "/v1/admin/trust/flush", None, headers=headers)).status == 403


@pytest.mark.parametrize("path", ["/deployments", "/v1/me", "/v1/deployments"])
async def test_30_a_token_in_the_query_string_is_refused_and_in_no_log(
    world: World, logged: list[str], path: str
) -> None:
    token = world.issuer.token()
    for headers in ({}, {"Authorization": f"Bearer {token}"}):
        answer = await world.get(f"{path}?access_token={token}", None, headers=headers)
        assert answer.status == 401
        assert token not in answer.text + str(answer.headers)
    assert "access_token=" + token not in "".join(logged)
    # The client of this test logs nothing; the gateway's line tells of the route alone.
    assert token.split(".")[2] not in "".join(logged)


async def test_no_token_is_in_an_answer_or_a_log_good_or_bad(world: World, logged: list[str]) -> None:
    good = world.issuer.token()
    head, body, signature = good.split(".")
    for token in (
        good,
        f"{head}.{body}.{signature[:-6]}AAAAAA",
        world.issuer.token(lifetime_s=-120),
        good + "x" * 20_000,
    ):
        for path in ("/deployments", "/v1/me", "/deployments/x", "/v1/nothing"):
            answer = await world.get(path, None, headers={"Authorization": f"Bearer {token}"})
            assert token.split(".")[2][:20] not in answer.text + str(answer.headers)
    told = "".join(logged)
    assert signature[:20] not in told
    assert body[:40] not in told


@pytest.mark.parametrize(
    "head",
    [
        "GET /v1/me HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\x01",
        "GET /v1/me HTTP/1.1\r\nHost: h\r\nAuthorization : Bearer {token}",
        "GET /v1/me HTTP/1.1\r\nHost: h\r\nCookie: indaco-session={token}\x00",
        "GET /v1/me?access_token={token} HTTP/9.1\r\nHost: h",
    ],
)
async def test_no_token_of_a_request_that_is_no_http_is_in_a_log(
    world: World, logged: list[str], caplog: pytest.LogCaptureFixture, head: str
) -> None:
    token = world.issuer.token()
    reader, writer = await asyncio.open_connection("127.0.0.1", world.runner.port)
    writer.write(head.format(token=token).encode() + b"\r\n\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()
    assert token not in caplog.text + "".join(logged)
