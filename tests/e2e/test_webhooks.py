"""Webhooks and callbacks over SIGKILL: the process dies in the middle of whatever it does, and nothing is lost."""

import asyncio
import random
from typing import Any

import aiohttp
import pytest

from indaco_common.testing.federation import ALL, Federation
from indaco_common.testing.receiver import Receiver, receiving

from .worlds import MakeFederation, template, until

VM = template("virtual-machine")
DEPLOYMENTS, KILLS = 6, 4
NETWORKS = {"INDACO_GATEWAY_CALLBACK_NETWORKS": '["127.0.0.0/8"]'}


class Caller:
    """A user who insists: a request that met a dead gateway is sent again."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation

    async def send(self, method: str, path: str, *, key: str = "", **options: Any) -> Any:
        headers = {
            "Authorization": f"Bearer {await self._federation.token('ada')}",
            **({"Idempotency-Key": key} if key else {}),
        }
        while True:
            try:
                async with aiohttp.ClientSession() as http, http.request(
                    method, self._federation.url + path, headers=headers, timeout=aiohttp.ClientTimeout(total=10), **options
                ) as answer:  # fmt: skip
                    if answer.status in (200, 201, 204, 409):
                        return await answer.json() if answer.content_length != 0 and answer.status != 204 else None
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.1)


async def kill_now_and_then(federation: Federation, dice: random.Random) -> None:
    for _ in range(KILLS):
        await asyncio.sleep(dice.uniform(0.4, 2.0))
        federation.kill(ALL)
        federation.launch(ALL)
        await federation.ready()


@pytest.mark.timeout(280)
async def test_every_step_is_told_and_every_callback_comes_whenever_the_gateway_is_killed(
    make_federation: MakeFederation,
) -> None:
    dice = random.Random(7)
    federation = make_federation(**NETWORKS)
    await federation.start()
    try:
        async with receiving(answers=[dice.choice((200, 200, 500, 503)) for _ in range(60)]) as receiver:
            await _live_through(federation, receiver, dice)
    finally:
        await federation.stop()


async def _live_through(federation: Federation, receiver: Receiver, dice: random.Random) -> None:
    ada = Caller(federation)
    made = await ada.send("POST", "/v1/subscriptions", json={"url": f"http://127.0.0.1:{receiver.port}/webhook"})
    secret = (await ada.send("POST", "/v1/webhook-secret"))["secret"]
    killing = asyncio.create_task(kill_now_and_then(federation, dice))
    body = {"template": VM, "group": "cms", "callback": f"http://127.0.0.1:{receiver.port}/callback"}
    ids = []
    for number in range(DEPLOYMENTS):
        ids.append((await ada.send("POST", "/v1/deployments", json=body, key=f"crash-{number}"))["id"])
        await asyncio.sleep(dice.uniform(0, 0.5))
    await killing

    async def timeline(id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await ada.send("GET", f"/v1/deployments/{id}/timeline"))["content"]
        return found

    async def have_come_to_an_end() -> bool:
        states = [(await ada.send("GET", f"/v1/deployments/{id}"))["status"] for id in ids]
        return all(state in ("CREATE_COMPLETE", "CREATE_FAILED") for state in states)

    await until(have_come_to_an_end, within_s=90)
    await ada.send("DELETE", f"/v1/deployments/{ids[0]}")

    def told(path: str) -> set[tuple[str, int]]:
        """Return what came to *path*, by deployment and step; the receiver refused some of it at first."""
        found = set()
        for each in (each for each in receiver.received if each.path == path):
            event = each.json
            if path == "/webhook":
                assert each.is_signed_with(made["secret"])
                found.add((event["data"]["deployment"]["id"], event["data"]["step"]["number"]))
            else:
                assert each.is_signed_with(secret)
                found.add((event["uuid"], event["step"]))
        return found

    async def is_all_told() -> bool:
        steps = {(id, step["number"]): step["type"] for id in ids for step in await timeline(id)}
        is_over = "orchestrator.deployment.deleted" in steps.values()
        callbacks = {
            each for each, type in steps.items()
            if type in ("orchestrator.attempt.started", "orchestrator.deployment.running", "orchestrator.deployment.failed", "orchestrator.deployment.deleted")
        }  # fmt: skip
        return is_over and steps.keys() <= told("/webhook") and callbacks <= told("/callback")

    await until(is_all_told, within_s=120, pause_s=0.5)
    waiting = await ada.send("GET", f"/v1/subscriptions/{made['id']}")
    assert (waiting["state"], waiting["dead"]) == ("active", 0)
