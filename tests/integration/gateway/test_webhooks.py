"""Webhooks and callbacks on a whole gateway: what is told to whom, signed how, and what becomes of what does not arrive."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from indaco_common.contracts import orchestrator
from indaco_common.contracts.values import Failure
from indaco_common.envelope import Context
from indaco_common.errors import Conflict
from indaco_common.ids import DeploymentId
from indaco_common.secrets.embedded import EmbeddedVault
from indaco_common.secrets.vault import VaultSecrets
from indaco_common.testing.federation import free_ports
from indaco_common.testing.receiver import Receiver, receiving
from indaco_gateway.api.subscriptions import Subscriptions
from indaco_gateway.model import delivery, subscription
from indaco_gateway.model.subscription import Subscription
from indaco_gateway.webhooks import cloudevents, listeners, signing
from indaco_gateway.webhooks.deliveries import CRASHED
from indaco_gateway.webhooks.shares import SHARE

from .world import PLACE, Answer, Issuer, World, running, running_event

LOOPBACK = {"callback_networks": ("127.0.0.0/8",)}


@pytest.fixture
async def world(tmp_path: Path, openbao: EmbeddedVault, issuer: Issuer) -> AsyncIterator[World]:
    async with running(World(tmp_path, openbao, issuer, LOOPBACK)) as world:
        yield world


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries are as in life, but a thousand times shorter."""
    monkeypatch.setattr(delivery, "FIRST_PAUSE_S", delivery.FIRST_PAUSE_S / 1000)
    monkeypatch.setattr(delivery, "LONGEST_PAUSE_S", 0.1)


async def subscribe(world: World, receiver: Receiver, user: str = "ada", **terms: Any) -> dict[str, Any]:
    answer = await world.send("POST", "/v1/subscriptions", user, json={"url": receiver.url, **terms})
    assert answer.status == 201, answer.text
    made: dict[str, Any] = answer.json
    return made


def started(id: str, attempt: int = 1) -> orchestrator.AttemptStarted:
    return orchestrator.AttemptStarted(deployment_id=DeploymentId(id), attempt=attempt, place=PLACE)


def failed(id: str) -> orchestrator.DeploymentFailed:
    return orchestrator.DeploymentFailed(
        deployment_id=DeploymentId(id), reason=Failure(code="no-place", detail="nothing fits")
    )


def deleted(id: str) -> orchestrator.DeploymentDeleted:
    return orchestrator.DeploymentDeleted(deployment_id=DeploymentId(id))


async def deliveries(world: World, id: str, user: str = "ada", **query: str) -> list[dict[str, Any]]:
    answer = await world.get(f"/v1/subscriptions/{id}/deliveries", user, params=query)
    found: list[dict[str, Any]] = answer.json["content"]
    return found


async def shown(world: World, id: str, user: str = "ada") -> dict[str, Any]:
    found: dict[str, Any] = (await world.get(f"/v1/subscriptions/{id}", user)).json
    return found


async def test_a_subscriber_is_told_every_step_as_a_signed_cloud_event(world: World, receiver: Receiver) -> None:
    made = await subscribe(world, receiver)
    id = await world.created()
    await world.say(started(id))
    await world.say(running_event(id))
    received = sorted(await receiver.has(3), key=lambda each: each.json["sequence"])
    assert [each.type for each in received] == ["deployment.requested", "attempt.started", "deployment.running"]
    assert all(each.is_signed_with(made["secret"]) for each in received)
    assert all(each.headers["Content-Type"].startswith("application/cloudevents+json") for each in received)
    event = received[-1].json
    assert event["specversion"] == "1.0"
    assert event["id"] == received[-1].id
    assert event["subject"] == f"deployment/{id}"
    assert event["sequence"] == "000000000003"
    assert event["data"]["step"] | {"at": ""} == {
        "number": 3, "at": "", "type": "orchestrator.deployment.running", "status": "CREATE_COMPLETE", "title": "Running", "detail": "1 nodes",
        "event": "/indaco/orchestrator#000000000002.00",
    }  # fmt: skip
    summary = event["data"]["deployment"]
    assert (summary["id"], summary["status"], summary["group"]) == (id, "CREATE_COMPLETE", "cms")
    assert "outputs" not in summary


async def test_types_group_and_deployment_narrow_a_subscription(world: World, receiver: Receiver) -> None:
    wanted, other = await world.created(), await world.created()
    await subscribe(world, receiver, types=["deployment.*"], deployment=wanted)
    await subscribe(world, receiver, types=["*.started"], group="/cms")
    await subscribe(world, receiver, group="cms/analysis")
    await world.say(started(other), running_event(other), started(wanted), running_event(wanted))
    received = await receiver.has(3)
    found = sorted((each.type, each.json["subject"].removeprefix("deployment/")) for each in received)
    assert found == sorted([
        ("attempt.started", other), ("attempt.started", wanted), ("deployment.running", wanted),
    ])  # fmt: skip


async def test_nobody_is_told_of_what_is_not_theirs_to_read(world: World, receiver: Receiver) -> None:
    await subscribe(world, receiver, "eve", scope="readable")
    await subscribe(world, receiver, "bob", scope="readable")
    id = await world.created()
    await world.say(running_event(id))
    shared = await world.send("PUT", f"/v1/deployments/{id}/shares/cms", json={"access": "read"})
    assert shared.status == 200, shared.text
    await world.say(deleted(id))
    assert [each.type for each in await receiver.has(2)] == ["deployment.shared", "deployment.deleted"]


async def test_an_operator_is_told_of_every_deployment_for_a_day_after_the_last_token(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await subscribe(world, receiver, "root", scope="readable", types=["deployment.*"])
    assert made["claims_expire_at"] > made["created_at"]
    id = await world.created()
    assert [each.type for each in await receiver.has(1)] == ["deployment.requested"]
    monkeypatch.setattr(subscription, "CLAIMS_LAST", subscription.CLAIMS_LAST * 0)
    await world.say(running_event(id))
    monkeypatch.undo()
    await world.say(deleted(id))
    assert [each.type for each in await receiver.has(2)] == ["deployment.requested", "deployment.deleted"]


async def test_what_is_no_longer_readable_when_it_is_sent_is_withheld(world: World, quick: None) -> None:
    async with receiving(answers=[500] * 3, answer_headers={"Retry-After": "0"}) as receiver:
        made = await subscribe(world, receiver, "bob", scope="readable", types=["deployment.running"])
        id = await world.created()
        await world.send("PUT", f"/v1/deployments/{id}/shares/cms", json={"access": "read"})
        await world.say(running_event(id))
        await receiver.has(1)
        await world.send("DELETE", f"/v1/deployments/{id}/shares/cms")

        async def is_withheld() -> bool:
            return [each["state"] for each in await deliveries(world, made["id"], "bob")] == ["withheld"]

        await world.until(is_withheld)
        assert len(receiver.received) <= 3


async def test_a_delivery_that_fails_is_tried_again_under_its_id_until_it_is_taken(world: World, quick: None) -> None:
    async with receiving(answers=[500, 302, 404]) as receiver:
        made = await subscribe(world, receiver, types=["deployment.running"])
        id = await world.created()
        await world.say(running_event(id))
        received = await receiver.has(4)
        assert len({each.id for each in received}) == 1
        assert all(each.is_signed_with(made["secret"]) for each in received)

        async def is_delivered() -> bool:
            return [each["state"] for each in await deliveries(world, made["id"])] == ["delivered"]

        await world.until(is_delivered)
        (found,) = await deliveries(world, made["id"])
        assert (found["tries"], found["status"], found["answer"]) == (4, 200, "thanks")


async def test_a_delivery_that_is_never_taken_dies_and_can_be_retried_by_hand(world: World, quick: None) -> None:
    async with receiving(answers=[500] * delivery.MAX_TRIES, answer_text="no\x00\tway" + "!" * 900) as receiver:
        made = await subscribe(world, receiver, types=["deployment.running"])
        id = await world.created()
        await world.say(running_event(id))
        await receiver.has(delivery.MAX_TRIES)

        async def is_dead() -> bool:
            return (await shown(world, made["id"]))["dead"] == 1

        await world.until(is_dead)
        (found,) = await deliveries(world, made["id"], state="dead")
        assert (found["tries"], found["status"], found["error"]) == (delivery.MAX_TRIES, 500, "the answer was 500")
        assert found["answer"].startswith("no  way!")
        assert len(found["answer"]) == 200
        retried = await world.send("POST", f"/v1/subscriptions/{made['id']}/deliveries/{found['id']}/retry")
        assert retried.status == 202
        last = (await receiver.has(delivery.MAX_TRIES + 1))[-1]
        assert last.id == found["id"]


async def test_a_receiver_that_takes_nothing_pauses_its_subscription_with_the_reason(
    tmp_path: Path, openbao: EmbeddedVault, issuer: Issuer, quick: None
) -> None:
    settings = {**LOOPBACK, "dead_deliveries": 2}
    async with running(World(tmp_path, openbao, issuer, settings)) as world, receiving(answers=[500] * 99) as receiver:
        made = await subscribe(world, receiver, types=["deployment.running", "deployment.deleted"])
        id = await world.created()
        await world.say(running_event(id), deleted(id))

        async def is_paused() -> bool:
            return (await shown(world, made["id"]))["state"] == "paused"

        await world.until(is_paused)
        assert (await shown(world, made["id"]))["reason"] == "2 deliveries in a row were given up"
        count = len(receiver.received)
        await world.say(running_event(await world.created()))
        await asyncio.sleep(0.2)
        assert len(receiver.received) == count
        receiver.answers.clear()
        resumed = await world.send("POST", f"/v1/subscriptions/{made['id']}/resume")
        assert resumed.json["state"] == "active"
        await world.say(running_event(await world.created()))
        assert (await receiver.has(count + 1))[-1].type == "deployment.running"


async def test_a_delivery_that_cannot_be_made_holds_up_no_other_and_lets_none_be_sent_again(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "CLAIM_S", 0.3)
    monkeypatch.setattr(delivery, "LONGEST_REST_S", 0.1)
    make, broken = cloudevents.of_step, await world.created()

    def fails(one: delivery.Delivery, *arguments: Any) -> bytes:
        if one.deployment == broken:
            raise ValueError(one.type)
        return make(one, *arguments)

    monkeypatch.setattr(cloudevents, "of_step", fails)
    made = await subscribe(world, receiver, types=["attempt.started"])
    ids = [await world.created() for _ in range(3)]
    await world.say(*(started(id) for id in (broken, *ids)))

    async def are_tried() -> bool:
        found = {each["deployment"]: each for each in await deliveries(world, made["id"])}
        return found[broken]["tries"] and all(found[id]["state"] == "delivered" for id in ids)

    await world.until(are_tried)
    await asyncio.sleep(0.6)
    assert len(receiver.received) == 3
    (kept,) = await deliveries(world, made["id"], state="waiting")
    assert (kept["deployment"], kept["error"]) == (broken, CRASHED.error)


async def test_410_pauses_at_once(world: World) -> None:
    async with receiving(answers=[410]) as receiver:
        made = await subscribe(world, receiver)
        await world.created()

        async def is_paused() -> bool:
            return (await shown(world, made["id"]))["reason"] == "the receiver answered 410 Gone"

        await world.until(is_paused)
        assert [each["state"] for each in await deliveries(world, made["id"])] == ["dead"]


async def test_retry_after_is_heeded(world: World) -> None:
    async with receiving(answers=[429], answer_headers={"Retry-After": "60"}) as receiver:
        made = await subscribe(world, receiver, types=["deployment.requested"])
        await world.created()
        await receiver.has(1)

        async def is_put_off() -> bool:
            return (await deliveries(world, made["id"]))[0]["tries"] == 1

        await world.until(is_put_off)
        (found,) = await deliveries(world, made["id"])
        pause = datetime.fromisoformat(found["next_at"]) - datetime.fromisoformat(found["created_at"])
        assert timedelta(seconds=60) <= pause <= timedelta(seconds=70)  # by itself it would be some 5 s


async def test_a_ping_is_sent_to_whoever_wants_no_other_event(world: World, receiver: Receiver) -> None:
    made = await subscribe(world, receiver, types=["node.started"])
    answer = await world.send("POST", f"/v1/subscriptions/{made['id']}/ping")
    assert answer.status == 202
    (ping,) = await receiver.has(1)
    assert (ping.type, ping.id) == ("subscription.ping", answer.json["id"])
    assert ping.json["data"] == {"subscription": {"id": made["id"]}}
    assert ping.is_signed_with(made["secret"])


async def test_after_a_rotation_both_secrets_sign_and_neither_is_shown_again(world: World, receiver: Receiver) -> None:
    made = await subscribe(world, receiver)
    rotated = (await world.send("POST", f"/v1/subscriptions/{made['id']}/rotate")).json
    assert rotated["secret"] != made["secret"]
    assert rotated["previous_until"] > rotated["created_at"]
    await world.created()
    (event,) = await receiver.has(1)
    assert event.is_signed_with(made["secret"])
    assert event.is_signed_with(rotated["secret"])
    everything = (await world.get("/v1/subscriptions")).text + json.dumps(await deliveries(world, made["id"]))
    assert "whsec_" not in everything
    for secret in (made["secret"], rotated["secret"]):
        assert secret.encode() not in world.files()


@pytest.mark.parametrize("is_new", [True, False])
async def test_of_secrets_that_are_made_at_once_every_one_that_is_shown_is_kept(world: World, *, is_new: bool) -> None:
    first = [] if is_new else [await world.send("POST", "/v1/webhook-secret")]
    answers = await asyncio.gather(*(world.send("POST", "/v1/webhook-secret") for _ in range(3)))
    made, lost = ([each for each in answers if each.status == status] for status in (201, 409))
    assert made
    assert len(made) + len(lost) == 3
    assert {each.json["detail"] for each in lost} <= {signing.OVERTAKEN}
    kept = await world.infra.vault.get(f"users/{world.user_id('ada')}/webhooks/callback")
    assert kept is not None
    valid = {kept["secret"], *(each["secret"] for each in kept["previous"])}  # type: ignore[attr-defined]
    assert {each.json["secret"] for each in (*first, *made)} <= valid


async def test_a_rotation_that_lost_a_race_is_told_and_changes_nothing(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await subscribe(world, receiver)
    read, rotate = VaultSecrets.get_version, f"/v1/subscriptions/{made['id']}/rotate"
    answers: list[Answer] = []

    async def overtaken(self: VaultSecrets, path: str) -> tuple[dict[str, object] | None, int]:
        found = await read(self, path)
        monkeypatch.undo()
        answers.append(await world.send("POST", rotate))
        return found

    monkeypatch.setattr(VaultSecrets, "get_version", overtaken)
    lost = await world.send("POST", rotate)
    assert [answers[0].status, lost.status, lost.json["code"]] == [200, 409, "conflict"]
    assert lost.json["detail"] == signing.OVERTAKEN
    await world.send("POST", f"/v1/subscriptions/{made['id']}/ping")
    (ping,) = await receiver.has(1)
    assert ping.is_signed_with(answers[0].json["secret"])
    assert ping.is_signed_with(made["secret"])
    assert len(ping.headers["webhook-signature"].split(" ")) == 2
    assert (await shown(world, made["id"]))["secret_changed_at"] == answers[0].json["created_at"]


async def test_a_subscription_that_changes_sends_what_waits_to_the_new_url(world: World, receiver: Receiver) -> None:
    async with receiving(answers=[503] * 50) as broken:
        made = await subscribe(world, broken, types=["deployment.requested"])
        await world.created()
        await broken.has(1)
        changed = await world.send(
            "PATCH", f"/v1/subscriptions/{made['id']}", json={"url": receiver.url, "description": "moved"}
        )
        assert (changed.status, changed.json["url"], changed.json["types"]) == (
            200,
            receiver.url,
            ["deployment.requested"],
        )

        async def retry() -> bool:
            (found,) = await deliveries(world, made["id"])
            answer = await world.send("POST", f"/v1/subscriptions/{made['id']}/deliveries/{found['id']}/retry")
            return answer.status == 202

        await world.until(retry)
        assert (await receiver.has(1))[0].id == broken.received[0].id


async def test_a_deleted_subscription_leaves_nothing_but_its_tombstone(world: World, receiver: Receiver) -> None:
    made = await subscribe(world, receiver)
    assert (await world.send("DELETE", f"/v1/subscriptions/{made['id']}")).status == 204
    assert (await world.get(f"/v1/subscriptions/{made['id']}")).status == 404
    assert (await world.get("/v1/subscriptions")).json == {"content": []}
    await world.created()
    await asyncio.sleep(0.2)
    assert receiver.received == []
    assert await world.infra.vault.get(f"users/{world.user_id('ada')}/webhooks/{made['id']}") is None


async def test_what_is_left_of_a_deleted_subscription_is_forgotten_later(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "FORGET_AFTER", timedelta())
    made = await subscribe(world, receiver)
    await world.send("DELETE", f"/v1/subscriptions/{made['id']}")

    async def is_gone() -> bool:
        return world.rows()["aggregates"] == 0

    await world.until(is_gone)


async def test_a_subscription_that_is_deleted_while_it_is_read_is_gone_and_nothing_is_noted_in_what_is_left(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, other = [await subscribe(world, receiver, scope="readable") for _ in range(2)]
    seen = Subscriptions._seen

    async def overtaken(self: Subscriptions, one: Subscription, *arguments: Any) -> Subscription:
        if one.id == made["id"]:
            await world.send("DELETE", f"/v1/subscriptions/{one.id}")
        return await seen(self, one, *arguments)

    monkeypatch.setattr(subscription, "CLAIMS_REFRESH", timedelta())
    monkeypatch.setattr(Subscriptions, "_seen", overtaken)
    assert [each["id"] for each in (await world.get("/v1/subscriptions")).json["content"]] == [other["id"]]
    assert (await world.infra.repository(Subscription).get(made["id"])).claims is None
    made = await subscribe(world, receiver, scope="readable")
    assert (await world.get(f"/v1/subscriptions/{made['id']}")).status == 404


async def test_who_only_reads_is_answered_also_where_what_the_token_says_cannot_be_noted(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(_: object) -> None:
        raise Conflict

    made = await subscribe(world, receiver, scope="readable")
    monkeypatch.setattr(subscription, "CLAIMS_REFRESH", timedelta())
    monkeypatch.setattr("indaco_gateway.api.subscriptions.rerun", lost)
    for path in ("/v1/subscriptions", f"/v1/subscriptions/{made['id']}", f"/v1/subscriptions/{made['id']}/deliveries"):
        assert (await world.get(path)).status == 200, path


async def test_subscriptions_are_their_owners_alone(world: World, receiver: Receiver) -> None:
    made = await subscribe(world, receiver)
    one = f"/v1/subscriptions/{made['id']}"
    for user in ("bob", "root"):
        for method, path in (
            ("GET", one), ("PATCH", one), ("DELETE", one), ("POST", f"{one}/pause"), ("POST", f"{one}/resume"), ("POST", f"{one}/rotate"),
            ("POST", f"{one}/ping"), ("GET", f"{one}/deliveries"), ("POST", f"{one}/deliveries/x/retry"),
        ):  # fmt: skip
            body = {"json": {}} if method == "PATCH" else {}
            assert (await world.send(method, path, user, **body)).status == 404, (user, method, path)
    assert (await world.get("/v1/subscriptions", "bob")).json == {"content": []}
    assert (await world.get("/v1/subscriptions", None)).status == 401


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"url": "http://10.0.0.1/"}, "/url"),
        ({"url": "ftp://example.org/"}, "/url"),
        ({"url": "https://user:secret@example.org/"}, "/url"),
        ({"url": "https://example.org:25/"}, "/url"),
        ({"url": "https://example.org/", "types": ["deployment.running", "[a-z]+"]}, "/types/1"),
        ({"url": "https://example.org/", "types": ["deployment.running", "attempt.alive"]}, "/types/1"),
        ({"url": "https://example.org/", "types": []}, "/types"),
        ({"url": "https://example.org/", "group": "/"}, "/group"),
        ({"url": "https://example.org/", "scope": "all"}, "/scope"),
        ({"url": "https://example.org/", "secret": "mine"}, "/secret"),
        ({"types": ["*"]}, "/url"),
    ],
)
async def test_what_is_wrong_with_a_subscription_is_told_where(
    world: World, body: dict[str, Any], pointer: str
) -> None:
    answer = await world.send("POST", "/v1/subscriptions", json=body)
    assert (answer.status, [error["pointer"] for error in answer.json["errors"]]) == (400, [pointer])


async def test_a_type_that_no_event_has_is_refused_with_the_nearest_and_one_of_earlier_days_stays(
    world: World, receiver: Receiver
) -> None:
    made = await subscribe(world, receiver)
    one = f"/v1/subscriptions/{made['id']}"
    answer = await world.send("PATCH", one, json={"types": ["deployment.complete"]})
    assert (answer.status, [error["pointer"] for error in answer.json["errors"]]) == (400, ["/types/0"])
    assert answer.json["errors"][0]["detail"].endswith(
        "would match none; the nearest are deployment.deleted, deployment.reset, deployment.deleting"
    )
    async with world.infra.repository(Subscription).edit(made["id"], Context()) as known:
        known.terms = known.terms.model_copy(update={"types": ("node.vanished",)})
    assert (await shown(world, made["id"]))["types"] == ["node.vanished"]
    changed = await world.send("PATCH", one, json={"description": "of earlier days"})
    assert (changed.status, changed.json["types"]) == (200, ["node.vanished"])


async def test_a_user_has_a_bounded_number_of_subscriptions_also_in_a_burst(
    tmp_path: Path, openbao: EmbeddedVault, issuer: Issuer, receiver: Receiver
) -> None:
    async with running(World(tmp_path, openbao, issuer, {**LOOPBACK, "max_subscriptions": 3})) as world:
        answers: list[Answer] = await asyncio.gather(
            *(world.send("POST", "/v1/subscriptions", json={"url": receiver.url}) for _ in range(6))
        )
        assert sorted(answer.status for answer in answers) == [201, 201, 201, 409, 409, 409]
        assert len((await world.get("/v1/subscriptions")).json["content"]) == 3


async def test_too_many_that_wait_for_a_receiver_that_takes_nothing_pause_its_subscription(
    tmp_path: Path, openbao: EmbeddedVault, issuer: Issuer
) -> None:
    settings = {**LOOPBACK, "max_waiting_deliveries": 3}
    async with running(World(tmp_path, openbao, issuer, settings)) as world, receiving(answers=[500] * 99) as receiver:
        made = await subscribe(world, receiver)
        id = await world.created()

        async def has_failed() -> bool:
            return [each["tries"] for each in await deliveries(world, made["id"])] == [1]

        await world.until(has_failed)
        await world.say(*(started(id, attempt) for attempt in range(1, 5)))

        async def is_paused() -> bool:
            return (await shown(world, made["id"]))["state"] == "paused"

        await world.until(is_paused)
        found = await shown(world, made["id"])
        assert (found["reason"], found["waiting"], found["dead"]) == ("more than 3 deliveries were waiting", 3, 1)


# ── receivers that hang


class Hanging:
    """A receiver with many addresses that takes connections, and never answers. *most*: those that were open at a time."""

    HOSTS = tuple(f"127.0.2.{n}" for n in range(1, 49))

    def __init__(self) -> None:
        (self.port,), self.most = free_ports(1), 0
        self.open: set[asyncio.StreamWriter] = set()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        self.most = max(self.most, len(self.open))
        await reader.read()  # until one of the two hangs up
        writer.close()
        self.open.discard(writer)


@pytest.fixture
async def hanging() -> AsyncIterator[Hanging]:
    found = Hanging()
    async with await asyncio.start_server(found.take, Hanging.HOSTS, found.port):
        yield found
    for writer in [*found.open]:
        writer.close()
        await writer.wait_closed()


async def pinged(world: World, user: str, *urls: str) -> None:
    """Subscribe to each URL, and let something wait for each."""
    for url in urls:
        answer = await world.send("POST", "/v1/subscriptions", user, json={"url": url, "types": ["node.started"]})
        assert answer.status == 201, answer.text
        assert (await world.send("POST", f"/v1/subscriptions/{answer.json['id']}/ping", user)).status == 202


async def test_a_host_that_never_answers_keeps_its_share_alone_and_others_are_served_at_once(
    world: World, receiver: Receiver, hanging: Hanging
) -> None:
    for user in ("ada", "bob", "eve"):
        await pinged(world, user, *[f"http://{hanging.HOSTS[0]}:{hanging.port}/{n}" for n in range(14)])
    await pinged(world, "root", receiver.url)
    await receiver.has(1, within_s=3)
    await asyncio.sleep(1.5)  # the timer has asked for the others again
    assert hanging.most == len(hanging.open) == SHARE


async def test_an_owner_whose_many_hosts_never_answer_keeps_one_share_and_others_are_served_at_once(
    world: World, receiver: Receiver, hanging: Hanging
) -> None:
    urls = [f"http://{host}:{hanging.port}/" for host in hanging.HOSTS]
    ids = [await world.created(callback=url) for url in urls[:40]]
    await world.say(*(started(id) for id in ids))
    await pinged(world, "ada", *urls[40:])
    await world.say(started(await world.created(user="bob", callback=receiver.url)))
    await receiver.has(1, within_s=3)
    await asyncio.sleep(1.5)
    assert hanging.most == len(hanging.open) == SHARE


async def test_a_host_with_many_webhooks_that_answers_fast_serves_all_of_them_in_no_time(
    world: World, receiver: Receiver
) -> None:
    for user in ("ada", "bob", "eve", "root"):
        for n in range(19):
            await subscribe(world, receiver, user, types=["node.started"], description=str(n))
    every = [
        (user, one["id"])
        for user in ("ada", "bob", "eve", "root")
        for one in (await world.get("/v1/subscriptions", user)).json["content"]
    ]
    await asyncio.gather(*(world.send("POST", f"/v1/subscriptions/{id}/ping", user) for user, id in every))
    assert len({each.id for each in await receiver.has(len(every), within_s=4)}) == 76


# ── callbacks


async def test_a_callback_is_told_of_acceptance_completion_and_deletion_with_indigos_object(
    world: World, receiver: Receiver
) -> None:
    secret = (await world.send("POST", "/v1/webhook-secret")).json["secret"]
    id = await world.created(callback=receiver.url)
    await world.say(started(id))
    await receiver.has(1)
    await world.say(running_event(id, outputs={"ip": "192.0.2.7"}, secret_outputs=("password",)))
    await receiver.has(2)
    await world.send("DELETE", f"/deployments/{id}")
    await world.say(deleted(id))
    received = await receiver.has(3)
    assert [each.json["status"] for each in received] == ["CREATE_IN_PROGRESS", "CREATE_COMPLETE", "DELETE_COMPLETE"]
    assert [each.json["event"] for each in received] == ["attempt.started", "deployment.running", "deployment.deleted"]
    assert all(each.is_signed_with(secret) for each in received)
    complete = received[1].json
    assert (complete["uuid"], complete["links"], complete["step"]) == (id, [], 3)
    assert complete["outputs"] == {"ip": "192.0.2.7", "password": "secret: see /outputs"}
    assert complete["createdBy"] == {"issuer": world.issuer.url, "subject": "ada"}

    async def are_delivered() -> bool:
        found = (await world.get(f"/v1/deployments/{id}/callback-deliveries")).json["content"]
        return [each["state"] for each in found] == ["delivered"] * 3

    await world.until(are_delivered)


async def test_a_callback_is_told_of_each_failure(world: World, receiver: Receiver) -> None:
    id = await world.created(callback=receiver.url)
    await world.say(failed(id))
    await receiver.has(1)
    await world.send("DELETE", f"/deployments/{id}")
    await world.say(
        orchestrator.DeploymentDeleteFailed(
            deployment_id=DeploymentId(id), reason=Failure(code="stuck", detail="it hangs")
        )
    )
    received = await receiver.has(2)
    assert [each.json["status"] for each in received] == ["CREATE_FAILED", "DELETE_FAILED"]
    assert received[0].json["statusReason"] == "nothing fits"
    assert "webhook-signature" not in received[0].headers  # nobody has made a secret


async def test_a_dead_callback_is_seen_by_its_owner_and_retried(world: World, quick: None) -> None:
    async with receiving(answers=[500] * delivery.MAX_TRIES) as receiver:
        id = await world.created(callback=receiver.url)
        await world.say(running_event(id))
        await receiver.has(delivery.MAX_TRIES)
        path = f"/v1/deployments/{id}/callback-deliveries"

        async def is_dead() -> bool:
            return [each["state"] for each in (await world.get(path)).json["content"]] == ["dead"]

        await world.until(is_dead)
        (found,) = (await world.get(path)).json["content"]
        assert (await world.get(path, "bob")).status == 404
        assert (await world.send("POST", f"{path}/nothing/retry")).status == 404
        assert (await world.send("POST", f"{path}/{found['id']}/retry")).status == 202
        assert (await receiver.has(delivery.MAX_TRIES + 1))[-1].id == found["id"]


@pytest.mark.parametrize(
    "url",
    ["http://10.1.2.3/", "http://[::ffff:10.1.2.3]/", "http://169.254.169.254/latest/", "https://x:y@example.org/"],
)
async def test_a_callback_that_leads_inside_is_refused_with_the_request(world: World, url: str) -> None:
    for path, group in (("/deployments", "userGroup"), ("/v1/deployments", "group")):
        body = {"template": "x", group: "cms", "callback": url}
        answer = await world.send("POST", path, json=body)
        assert answer.status == 400
        assert [error["pointer"] for error in answer.json["errors"]] == ["/callback"]
    assert world.rows()["aggregates"] == 0


async def test_the_secret_for_callbacks_is_shown_when_it_is_made_and_never_again(world: World) -> None:
    assert (await world.get("/v1/webhook-secret")).status == 404
    made = await world.send("POST", "/v1/webhook-secret")
    assert (made.status, made.json["secret"][:6]) == (201, "whsec_")
    facts = await world.get("/v1/webhook-secret")
    assert facts.json == {"created_at": made.json["created_at"]}
    assert made.headers["Cache-Control"] == "no-store"
    again = await world.send("POST", "/v1/webhook-secret")
    assert again.json["previous_until"] > again.json["created_at"]


# ── nothing is lost, and nobody pays who does not listen


async def test_nothing_is_written_for_a_deployment_that_nobody_listens_to(world: World, receiver: Receiver) -> None:
    await subscribe(world, receiver, "bob")
    before = world.rows()["aggregates"]
    id = await world.created()
    version = (await world.get(f"/deployments/{id}")).json["version"]
    await world.say(started(id), running_event(id))
    assert world.rows()["aggregates"] == before + 1
    assert (await world.get(f"/deployments/{id}")).json["version"] == version + 2
    assert receiver.received == []


async def test_another_gateway_on_the_same_store_learns_of_a_subscription_within_its_settling_time(
    world: World, openbao: EmbeddedVault, issuer: Issuer, receiver: Receiver
) -> None:
    await subscribe(world, receiver, deployment="none")  # a file's other readers learn of new lists when they start
    async with running(World(world.folder, openbao, issuer, LOOPBACK)) as other:
        made = await subscribe(other, receiver, types=["deployment.requested"])
        await asyncio.sleep(listeners.POLL_S * 1.5)
        await world.created()
        assert [each.type for each in await receiver.has(1)] == ["deployment.requested"]
        await world.send("DELETE", f"/v1/subscriptions/{made['id']}")
        await asyncio.sleep(listeners.POLL_S * 1.5)
        await other.created()
        await asyncio.sleep(0.3)
        assert len(receiver.received) == 1


async def test_what_waits_is_sent_after_a_restart(
    tmp_path: Path, openbao: EmbeddedVault, issuer: Issuer, quick: None
) -> None:
    async with receiving(answers=[500] * 99) as receiver:
        async with running(World(tmp_path, openbao, issuer, LOOPBACK)) as world:
            await subscribe(world, receiver, types=["deployment.requested"])
            await world.created()
            await receiver.has(2)
        receiver.answers.clear()
        count = len(receiver.received)
        async with running(World(tmp_path, openbao, issuer, LOOPBACK)):
            assert (await receiver.has(count + 1))[-1].id == receiver.received[0].id


async def test_a_gateway_that_died_before_it_told_anyone_tells_when_the_message_comes_again(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The view is saved, and the process dies before the subscription is: the message was not acknowledged, so it is handled again."""
    from indaco_gateway.webhooks.announcing import Announcements

    await subscribe(world, receiver, types=["deployment.running"])
    id = await world.created()
    announce, died = Announcements.announce, []

    async def dies_once(self: Announcements, *arguments: Any) -> None:
        if not died:
            died.append(True)
            raise ConnectionAbortedError
        await announce(self, *arguments)

    monkeypatch.setattr(Announcements, "announce", dies_once)
    event = running_event(id)
    from indaco_common.clock import SystemClock
    from indaco_common.envelope import seal

    body = seal(event, Context(), source="orchestrator", version=1, index=0, now=SystemClock().now()).body
    await world.infra.bus.inject("gateway", body)
    await world.until(world._is_quiet)
    assert died
    await asyncio.sleep(0.1)
    assert receiver.received == []
    await world.infra.bus.inject("gateway", body)
    assert [each.type for each in await receiver.has(1)] == ["deployment.running"]
    await world.infra.bus.inject("gateway", body)
    await world.until(world._is_quiet)
    await asyncio.sleep(0.2)
    assert len(receiver.received) == 1


async def test_a_sender_that_died_behind_the_sending_is_followed_by_one_that_sends_the_same_again(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receiver has it, and nobody knows: when the claim ends it is sent again, under the same id."""
    from indaco_gateway.webhooks.deliveries import Delivering

    monkeypatch.setattr(delivery, "CLAIM_S", 0.3)
    settle, died = Delivering._settle_subscription, []

    async def dies_once(self: Delivering, *arguments: Any) -> None:
        if not died:
            died.append(True)
            raise ConnectionAbortedError
        await settle(self, *arguments)

    monkeypatch.setattr(Delivering, "_settle_subscription", dies_once)
    made = await subscribe(world, receiver, types=["deployment.requested"])
    await world.created()
    first, second = await receiver.has(2)
    assert died
    assert (first.id, first.json["data"]["step"]) == (second.id, second.json["data"]["step"])

    async def is_delivered() -> bool:
        return [(each["state"], each["tries"]) for each in await deliveries(world, made["id"])] == [("delivered", 1)]

    await world.until(is_delivered)
    assert len(receiver.received) == 2


async def test_without_a_vault_no_try_is_spent(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from indaco_common.errors import Unavailable
    from indaco_gateway.webhooks.signing import WebhookSecrets

    made = await subscribe(world, receiver, types=["deployment.requested"])
    signer = WebhookSecrets.signer

    async def away(*_: object) -> None:
        raise Unavailable("the vault is sealed")

    monkeypatch.setattr(WebhookSecrets, "signer", away)
    await world.created()
    await asyncio.sleep(0.3)
    (found,) = await deliveries(world, made["id"])
    assert (found["state"], found["tries"], receiver.received) == ("waiting", 0, [])
    monkeypatch.setattr(WebhookSecrets, "signer", signer)
    await receiver.has(1)


async def test_what_changes_a_deployment_without_a_step_tells_nobody_of_the_last_step_again(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "KEPT", 1)
    made = await subscribe(world, receiver)
    id = await world.created()
    await receiver.has(1)
    ping = f"/v1/subscriptions/{made['id']}/ping"
    await world.send("POST", ping)

    async def is_forgotten() -> bool:
        return [(each["type"], each["state"]) for each in await deliveries(world, made["id"])] == [
            ("subscription.ping", "delivered")
        ]

    await world.until(is_forgotten)
    named = await world.send("PATCH", f"/v1/deployments/{id}", json={"name": "anew"})
    assert named.status == 200, named.text
    await asyncio.sleep(0.1)
    await world.send("POST", ping)
    received = await receiver.has(3)
    assert [each.type for each in received] == ["deployment.requested", "subscription.ping", "subscription.ping"]


async def test_a_users_step_that_was_not_told_is_told_with_the_next_event(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from indaco_gateway.webhooks.announcing import Announcements

    await subscribe(world, receiver)
    monkeypatch.setattr(Announcements, "_saved", lambda *_: None)
    world.infra.hints._saved["operation"].clear()
    id = await world.created()
    await world.say(started(id))
    received = sorted(await receiver.has(2), key=lambda each: each.json["sequence"])
    assert [each.type for each in received] == ["deployment.requested", "attempt.started"]


async def test_neither_secrets_nor_what_a_url_may_hide_are_in_the_log(
    world: World, receiver: Receiver, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = await world.send(
        "POST", "/v1/subscriptions", json={"url": f"{receiver.url}?key=hunter2", "types": ["deployment.*"]}
    )
    broken = await world.send(
        "POST", "/v1/subscriptions", json={"url": f"http://127.0.0.1:{free_ports(1)[0]}/?key=hunter2"}
    )
    secret = (await world.send("POST", "/v1/webhook-secret")).json["secret"]
    await world.created(callback=f"{receiver.url}?key=hunter2")
    await receiver.has(1)
    assert receiver.received[0].path == "/hook?key=hunter2"

    async def has_failed() -> bool:
        return [each["tries"] for each in await deliveries(world, broken.json["id"])] == [1]

    await world.until(has_failed)
    out, err = capfd.readouterr()
    assert "delivery.tried" in out + err
    for hidden in ("hunter2", "whsec_", "v1,", answer.json["secret"], secret):
        assert hidden not in out + err


async def test_metrics_count_what_became_of_deliveries(world: World) -> None:
    async with receiving(answers=[500]) as receiver:
        await subscribe(world, receiver, types=["deployment.requested"])
        await world.created()
        await receiver.has(1)

        async def is_counted() -> bool:
            return (
                'indaco_deliveries_total{kind="subscription",outcome="failed"} 1.0'
                in (await world.get("/metrics")).text
            )

        await world.until(is_counted)
        text = (await world.get("/metrics")).text
        assert 'indaco_delivery_duration_seconds_count{kind="subscription"} 1.0' in text
