"""``indaco subscription`` against a gateway and a receiver that are real."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from indaco_common.secrets.embedded import EmbeddedVault
from indaco_common.testing.receiver import Receiver, receiving

from .conftest import Indaco
from .world import ROOT, Issuer, World, running

pytestmark = pytest.mark.usefixtures("quiet")
TEMPLATE = str(ROOT / "examples" / "templates" / "virtual-machine.yaml")


@pytest.fixture
async def world(tmp_path: Path, openbao: EmbeddedVault, issuer: Issuer, quiet: None) -> AsyncIterator[World]:
    async with running(World(tmp_path, openbao, issuer, {"callback_networks": ("127.0.0.0/8",)})) as world:
        yield world


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def test_a_subscription_is_made_tried_out_paused_and_deleted(
    world: World, indaco: Indaco, receiver: Receiver
) -> None:
    made = json.loads(
        (await indaco("subscription", "create", receiver.url, "--type", "deployment.*", "-o", "json")).stdout
    )
    id = made["id"]
    assert made["secret"]
    assert (await indaco("subscription", "list", "-o", "name")).stdout == f"{id}\n"
    shown = await indaco("subscription", "show", id, "-o", "json")
    assert "secret" not in json.loads(shown.stdout)
    assert (await indaco("subscription", "ping", id)).exit_code == 0

    async def is_delivered() -> bool:
        return (await indaco("subscription", "deliveries", id, "--state", "delivered", "-o", "name")).stdout != ""

    await world.until(is_delivered)
    (row,) = (await indaco("subscription", "deliveries", id, "-o", "csv")).stdout.splitlines()[1:]
    assert row.split(",")[1:5] == ["subscription.ping", "delivered", "1", "200"]
    assert (await indaco("subscription", "pause", id)).exit_code == 0
    assert (await indaco("subscription", "ping", id)).exit_code == 5
    assert (await indaco("subscription", "resume", id)).exit_code == 0
    rotated = await indaco("subscription", "rotate-secret", id, "-o", "name")
    assert rotated.stdout.strip() not in ("", made["secret"])
    changed = await indaco(
        "subscription", "update", id, "--type", "deployment.failed", "--description", "pager", "-o", "json"
    )
    assert (json.loads(changed.stdout)["types"], json.loads(changed.stdout)["description"]) == (
        ["deployment.failed"],
        "pager",
    )
    assert (await indaco("subscription", "update", id)).exit_code == 2
    assert (await indaco("subscription", "redeliver", id, "nothing")).exit_code == 4
    assert (await indaco("subscription", "delete", id)).exit_code == 0
    assert (await indaco("subscription", "show", id)).exit_code == 4


async def test_an_address_inside_is_refused_with_why(world: World, indaco: Indaco) -> None:
    refused = await indaco("subscription", "create", "http://169.254.169.254/latest")
    assert refused.exit_code == 6
    assert "  url: " in refused.stderr


async def test_callbacks_are_signed_once_there_is_a_secret_and_their_deliveries_are_seen(
    world: World, indaco: Indaco, receiver: Receiver
) -> None:
    assert (await indaco("subscription", "callback-secret")).exit_code == 4
    secret = (await indaco("subscription", "callback-secret", "--renew", "-o", "name")).stdout.strip()
    assert secret
    facts = await indaco("subscription", "callback-secret", "-o", "json")
    assert secret not in facts.stdout
    made = await indaco("deployment", "create", TEMPLATE, "--group", "cms", "--callback", receiver.url, "-o", "name")
    assert (await indaco("deployment", "callbacks", made.stdout.strip())).exit_code == 0
