"""Secret inputs and outputs: in the vault, with their owner, and nowhere else."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from indaco_common.secrets.embedded import EmbeddedVault

from .world import COMPOSE, World, running_event

SECRET = "a-secret-that-only-the-machine-may-know"
OUTPUT = "a-secret-that-only-the-owner-may-know"


@pytest.fixture
def logged() -> Iterator[list[object]]:
    """Everything that is logged, as it would be written."""
    lines: list[object] = []

    def keep(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        lines.append(json.dumps(event, default=repr))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.format_exc_info, keep]
    )
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    yield lines
    logging.getLogger().removeHandler(handler)
    structlog.configure(**before)


async def test_a_secret_input_is_in_the_vault_and_nowhere_else(logged: list[object], world: World) -> None:
    answer = await world.create(COMPOSE, key="k", parameters={"service_token": SECRET})
    assert answer.status == 201
    id = answer.json["uuid"]
    assert await world.secret(f"inputs/{id}") == {"service_token": SECRET}
    (request,) = await world.messages()
    assert request.model_dump()["secret_inputs"] == ("service_token",)
    bodies = [
        await world.get(f"/deployments/{id}{part}") for part in ("", "/timeline", "/log", "/outputs", "/resources")
    ]
    assert all(SECRET not in body.text for body in (answer, *bodies))
    assert logged
    assert all(SECRET not in str(line) for line in logged)
    files = world.files()
    assert COMPOSE.splitlines()[0].encode() in files
    assert SECRET.encode() not in files


@pytest.mark.parametrize("parameters", [{"service_token": [SECRET]}, {"service_token": SECRET, "nonsense": 1}])
async def test_a_refusal_keeps_nothing_of_a_secret(
    logged: list[object], world: World, parameters: dict[str, object]
) -> None:  # fmt: skip
    answer = await world.create(COMPOSE, parameters=parameters)
    assert answer.status == 400
    assert SECRET not in answer.text
    assert all(SECRET not in str(line) for line in logged)
    assert SECRET.encode() not in world.files()
    assert not any(world.rows().values())


async def test_secret_outputs_are_for_their_owner_alone(world: World, openbao: EmbeddedVault) -> None:
    id = await world.created()
    secrets = openbao.secrets_for("orchestrator")
    await secrets.start()
    await secrets.put(f"outputs/{id}", {"key": OUTPUT})
    await secrets.stop()
    await world.say(running_event(id, outputs={"ip": "192.0.2.7"}, secret_outputs=("key",)))
    shown = await world.get(f"/deployments/{id}")
    assert shown.json["outputs"] == {"ip": "192.0.2.7", "key": "secret: see /outputs"}
    outputs = await world.get(f"/deployments/{id}/outputs")
    assert outputs.json == {"ip": "192.0.2.7", "key": OUTPUT}
    assert outputs.headers["Cache-Control"] == "no-store"
    assert (await world.get(f"/deployments/{id}/outputs", "bob")).status == 404
    assert (await world.get(f"/deployments/{id}/outputs", "root")).status == 403
    assert OUTPUT.encode() not in world.files()
