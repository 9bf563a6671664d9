"""Deployments from the catalogue: through the whole gateway, with the cards that come with Indaco and with a folder of one's own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.gateway.catalogue_files import TEMPLATE, write

from indaco_common.contracts import gateway
from indaco_common.secrets.embedded import EmbeddedVault

from .world import Issuer, World, running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "cards"
    write(root, card="groups: [cms]")
    return root


@pytest.fixture
async def offering(folder: Path, tmp_path: Path, openbao: EmbeddedVault, issuer: Issuer) -> AsyncIterator[World]:
    settings = {"catalogue": str(folder), "catalogue_refresh_s": 60}
    async with running(World(tmp_path / "data", openbao, issuer, settings)) as world:
        await world.until(lambda: _is_read(world))
        yield world


async def _is_read(world: World) -> bool:
    return (await world.get("/v1/catalogue")).status == 200


async def test_a_card_is_deployed_as_the_text_that_it_stands_for(offering: World) -> None:
    id = await offering.created("catalogue:machine", parameters={"cpus": 4})
    assert (await offering.get(f"/deployments/{id}/template")).text == TEMPLATE + "# 1.0.0\n"
    (request,) = [each for each in await offering.messages() if isinstance(each, gateway.DeploymentRequested)]
    assert (request.template, request.inputs) == (TEMPLATE + "# 1.0.0\n", {"cpus": 4})


async def test_a_card_is_for_the_group_that_is_acted_for(offering: World) -> None:
    for reference, user in (
        ("catalogue:machine", "eve"),
        ("catalogue:none", "ada"),
        ("catalogue:machine@2.0.0", "ada"),
    ):
        answer = await offering.create(reference, user=user)
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (400, "/template")
    assert (await offering.create("catalogue:machine", userGroup="cms/analysis")).status == 400


async def test_a_repeat_gets_the_same_deployment_though_a_newer_version_came(offering: World, folder: Path) -> None:
    first = await offering.created("catalogue:machine", key="k")
    write(folder, versions=("1.1.0",), card="groups: [cms]")
    assert (await offering.send("POST", "/v1/catalogue/reload", "root")).status == 200
    assert await offering.created("catalogue:machine", key="k") == first
    assert (await offering.get(f"/deployments/{first}/template")).text == TEMPLATE + "# 1.0.0\n"
    assert (await offering.create("catalogue:machine@1.0.0", key="k")).status == 422


async def test_a_repeat_gets_the_same_deployment_though_its_card_is_gone(offering: World, folder: Path) -> None:
    first = await offering.created("catalogue:machine", key="k")
    write(folder, card="groups: [atlas]")
    assert (await offering.send("POST", "/v1/catalogue/reload", "root")).status == 200
    assert await offering.created("catalogue:machine", key="k") == first
    assert (await offering.create("catalogue:machine", key="another")).status == 400


async def test_the_cards_that_come_with_us_are_offered(world: World) -> None:
    await world.until(lambda: _is_read(world))
    names = [card["name"] for card in (await world.get("/v1/catalogue")).json["content"]]
    assert "virtual-machine" in names
    assert (await world.get("/v1/catalogue/status", "root")).json["problems"] == []
