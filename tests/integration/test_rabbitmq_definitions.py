"""The definitions file that prepares a broker, on a real broker: what each service may do, and what it may not."""

import asyncio
import functools
import importlib.util
import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import aiohttp
import aiormq.exceptions
import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "rabbitmq" / "make_definitions.py"
BINDINGS = [["indaco.events", "sla", "gateway.deployment.requested.v1"], ["indaco.commands", "sla", "sla.quota.#"]]

pytestmark = pytest.mark.rabbitmq


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_definitions", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@dataclass
class Broker:
    """A virtual host made from the definitions; users are renamed, since all virtual hosts share them."""

    amqp: str
    management: str
    session: aiohttp.ClientSession
    vhost: str
    definitions: dict[str, Any]
    passwords: Path

    async def api(self, method: str, path: str, body: object = None) -> Any:
        async with self.session.request(method, f"{self.management}/api/{path}", json=body) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json() if answer.content_type == "application/json" and answer.status == 200 else None

    def name(self, service: str) -> str:
        return f"{service}@{self.vhost}"

    async def login(self, service: str) -> aio_pika.abc.AbstractConnection:
        url = urlsplit(self.amqp)
        return await aio_pika.connect(
            host=url.hostname or "",
            port=url.port or 5672,
            login=self.name(service),
            password=(self.passwords / service).read_text(),
            virtualhost=self.vhost,
        )

    def rename_users(self) -> None:
        for user in self.definitions["users"]:
            user["name"] = self.name(user["name"])
        for grant in [*self.definitions["permissions"], *self.definitions["topic_permissions"]]:
            grant["user"] = self.name(grant["user"])


@pytest.fixture
def passwords(tmp_path: Path) -> Path:
    return tmp_path / "passwords"


@pytest.fixture
async def broker(passwords: Path, tmp_path: Path) -> AsyncIterator[Broker]:
    amqp, management = os.environ.get("INDACO_TEST_AMQP"), os.environ.get("INDACO_TEST_AMQP_MANAGEMENT")
    if not amqp or not management:
        pytest.skip("no RabbitMQ: INDACO_TEST_AMQP and INDACO_TEST_AMQP_MANAGEMENT are not set")
    url = urlsplit(management)
    vhost = f"definitions-{secrets.token_hex(4)}"
    bindings = tmp_path / "bindings.json"
    bindings.write_text(json.dumps(BINDINGS))
    definitions = load_script().definitions(vhost, passwords, load_script().read_bindings(bindings))
    headers = {"Authorization": aiohttp.encode_basic_auth(url.username or "", url.password or "")}
    async with aiohttp.ClientSession(headers=headers) as session:
        base = f"http://{url.hostname}:{url.port}"
        made = Broker(amqp, base, session, vhost, definitions, passwords)
        made.rename_users()
        await made.api("POST", "definitions", definitions)
        try:
            yield made
        finally:
            await made.api("POST", "users/bulk-delete", {"users": [user["name"] for user in definitions["users"]]})
            await made.api("DELETE", f"vhosts/{vhost}")


async def publish(broker: Broker, service: str, exchange: str, routing_key: str) -> None:
    """Publish one message with a confirm; a refusal closes the channel, hence one connection each."""
    connection = await broker.login(service)
    async with connection:
        channel = await connection.channel(on_return_raises=True)
        target = await channel.get_exchange(exchange) if exchange else channel.default_exchange
        await target.publish(aio_pika.Message(b"{}"), routing_key, mandatory=False, timeout=10)


async def refused(operation: Callable[[], Any]) -> bool:
    try:
        await operation()
    except aiormq.exceptions.ChannelAccessRefused:
        return True
    return False


async def test_importing_again_changes_nothing(broker: Broker) -> None:
    async def everything() -> list[Any]:
        kinds = ("exchanges", "queues", "bindings", "permissions", "topic-permissions", "policies")
        whole = [await broker.api("GET", f"{kind}/{broker.vhost}") for kind in kinds if "permissions" not in kind]
        rights = [await broker.api("GET", f"vhosts/{broker.vhost}/{kind}") for kind in kinds if "permissions" in kind]
        names = (
            "name",
            "type",
            "arguments",
            "source",
            "destination",
            "routing_key",
            "user",
            "write",
            "read",
            "pattern",
        )
        return sorted(json.dumps({n: x.get(n) for n in names}, sort_keys=True) for kind in whole + rights for x in kind)

    before = await everything()
    await broker.api("POST", "definitions", broker.definitions)
    assert await everything() == before
    assert len(before) > 5 * 6


@pytest.mark.parametrize(
    ("service", "exchange", "routing_key"),
    [
        ("gateway", "indaco.events", "gateway.deployment.requested.v1"),
        ("gateway", "indaco.commands", "vault.key.create.v1"),
        ("sla", "indaco.events", "sla.placement.reserved.v1"),
        ("sla", "indaco.commands", "sla.quota.reserve.v1"),
        ("orchestrator", "indaco.events", "orchestrator.node.started.v1"),
        ("orchestrator", "indaco.commands", "vault.credential.issue.v1"),
        ("vault-broker", "indaco.events", "vault.credential.issued.v1"),
        ("accounting", "indaco.events", "accounting.record.opened.v1"),
        ("sla", "indaco.sla.retry", "main"),
    ],
)
async def test_a_service_publishes_its_own_messages(
    broker: Broker, service: str, exchange: str, routing_key: str
) -> None:
    await publish(broker, service, exchange, routing_key)


@pytest.mark.parametrize(
    ("service", "exchange", "routing_key"),
    [
        ("gateway", "indaco.events", "sla.placement.reserved.v1"),
        ("gateway", "indaco.events", "gatewayx.deployment.requested.v1"),
        ("gateway", "indaco.commands", "vault.credential.issue.v1"),
        ("sla", "indaco.commands", "vault.credential.revoke.v1"),
        ("orchestrator", "indaco.commands", "sla.quota.release.v1"),
        ("vault-broker", "indaco.commands", "vault.credential.issue.v1"),
        ("accounting", "indaco.commands", "sla.quota.release.v1"),
        ("accounting", "indaco.events", "orchestrator.node.started.v1"),
        ("sla", "indaco.gateway.retry", "main"),
        ("sla", "", "indaco.orchestrator"),
    ],
)
async def test_a_forged_message_is_refused(broker: Broker, service: str, exchange: str, routing_key: str) -> None:
    assert await refused(lambda: publish(broker, service, exchange, routing_key))


async def test_a_service_reads_its_own_queues_only(broker: Broker) -> None:
    async def read(queue: str) -> None:
        connection = await broker.login("sla")
        async with connection:
            channel = await connection.channel()
            await (await channel.get_queue(queue)).get(fail=False)

    await read("indaco.sla")
    await read("indaco.sla.dead")
    for queue in ("indaco.gateway", "indaco.gateway.dead", "indaco.sla.retry.0"):
        assert await refused(functools.partial(read, queue))


async def test_a_service_declares_and_binds_nothing_but_sees_what_is_there(broker: Broker) -> None:
    async def declare() -> None:
        connection = await broker.login("gateway")
        async with connection:
            await (await connection.channel()).declare_queue("indaco.gateway.more", durable=True)

    async def bind() -> None:
        connection = await broker.login("gateway")
        async with connection:
            queue = await (await connection.channel()).get_queue("indaco.gateway")
            await queue.bind("indaco.events", "#")

    connection = await broker.login("gateway")
    async with connection:
        channel = await connection.channel()
        await channel.declare_queue("indaco.gateway", passive=True)
        await channel.declare_exchange("indaco.events", passive=True)
    assert await refused(declare)
    assert await refused(bind)


async def test_a_message_comes_back_from_the_first_delay_and_a_killer_ends_in_the_dead_queue(broker: Broker) -> None:
    await publish(broker, "sla", "indaco.sla.retry", "0")
    connection = await broker.login("sla")
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(1)
        queue = await channel.get_queue("indaco.sla")
        message = await queue.get(fail=False)
        assert message is None
        deliveries = 0
        async with asyncio.timeout(30):
            while not (dead := await (await channel.get_queue("indaco.sla.dead")).get(fail=False)):
                if message := await queue.get(fail=False):
                    deliveries += 1
                    await message.nack(requeue=True)
                else:
                    await asyncio.sleep(0.05)
        assert deliveries == 21  # the first, and the limit of 20 more
        history: Any = dead.headers["x-death"]
        deaths = {death["reason"] for death in history}
        assert deaths in ({b"expired", b"delivery_limit"}, {"expired", "delivery_limit"})
        await dead.ack()


async def test_bindings_of_a_file_deliver(broker: Broker) -> None:
    await publish(broker, "gateway", "indaco.events", "gateway.deployment.requested.v1")
    await publish(broker, "sla", "indaco.commands", "sla.quota.reserve.v1")
    connection = await broker.login("sla")
    async with connection:
        queue = await (await connection.channel()).get_queue("indaco.sla")
        taken = [await queue.get(timeout=5) for _ in range(2)]
        assert [message.routing_key for message in taken] == [key.replace("#", "reserve.v1") for _, _, key in BINDINGS]
        for message in taken:
            await message.ack()


def test_the_script_prints_json_and_keeps_passwords_from_others(passwords: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--passwords", str(passwords)]
    whole = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    again = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert whole["vhosts"] == again["vhosts"] == [{"name": "indaco"}]
    assert len(whole["queues"]) == 5 * 6
    assert passwords.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in passwords.iterdir()} == {0o600}
    assert not any(file.read_text() in json.dumps(whole) for file in passwords.iterdir())


def test_the_script_says_which_password_is_missing() -> None:
    result = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "INDACO_RABBITMQ_PASSWORD_GATEWAY" in result.stderr
