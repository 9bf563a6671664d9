"""orpy 1.0.4 as it is on PyPI, its command and its library, against a whole Indaco with a simulated site."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import orpy.version
import pytest
import pytest_asyncio
from orpy import exceptions
from orpy.client.client import OrpyClient

from indaco_common.testing.federation import Federation

from .test_updates import GROWING
from .whole import federation
from .world import VM

pytestmark = pytest.mark.asyncio(loop_scope="module")
T = TypeVar("T")
NO_TOKEN = "not-a-token"
ABSENT = "11ef3c52-9a1e-77d0-8c4e-0242ac110003"


@dataclass(frozen=True)
class Orpy:
    """Its user. The command of this version takes a token from an oidc-agent alone, whatever its help says: a *socket* where one answers."""

    federation: Federation
    folder: Path
    token: str
    socket: Path

    async def run(self, *arguments: str, account: str = "ada") -> tuple[int, str, str]:
        """Run the command; return its exit code, and what it wrote to standard output and error."""
        agent = {"OIDC_SOCK": str(self.socket), "OIDC_ACCOUNT": account}
        environment = {**os.environ, **agent, "ORCHESTRATOR_URL": self.federation.url, "COLUMNS": "200"}
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).parent / "orpy", *arguments, env=environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode or 0, out.decode(), err.decode()

    async def json(self, *arguments: str) -> Any:
        """Run a command that must succeed, and return what it prints as JSON."""
        code, out, err = await self.run(*arguments, "-f", "json")
        assert code == 0, out + err
        return json.loads(out)

    async def call(self, work: Callable[[OrpyClient], T], token: str | None = None) -> T:
        """Use the library, which blocks, in a thread."""

        def use() -> T:
            client = OrpyClient(self.federation.url, token=token or self.token)
            with client.session:
                return work(client)

        return await asyncio.to_thread(use)

    def file(self, text: str) -> str:
        file = self.folder / "template.yaml"
        file.write_text(text)
        return str(file)

    async def ended(self, id: str, until: str) -> Any:
        """Wait until the deployment has left its transitional state; return it, which must be in the state *until*."""
        async with asyncio.timeout(30):
            while (found := await self.call(lambda c: c.deployments.show(id).to_dict()))["status"].endswith(
                "_IN_PROGRESS"
            ):
                await asyncio.sleep(0.1)
        assert found["status"] == until, found
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def user(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Orpy]:
    folder = tmp_path_factory.mktemp("orpy")
    async with federation(folder / "indaco") as whole:
        user = Orpy(whole, folder, await whole.token("ada"), folder / "agent")
        async with await asyncio.start_unix_server(partial(answer, user.token), user.socket):
            yield user


async def answer(token: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer as oidc-agent does: a request in one object of JSON, and one back."""
    asked = json.loads(await reader.read(4096))
    known = {
        "ada": {"status": "success", "access_token": token},
        "mallory": {"status": "success", "access_token": NO_TOKEN},
    }
    writer.write(
        json.dumps(known[asked["account"]] if asked["request"] == "access_token" else {"status": "failure"}).encode()
    )
    await writer.drain()
    writer.close()


async def test_it_is_the_version_that_the_field_has() -> None:
    assert orpy.version.__version__ == "1.0.4"


async def test_info_and_configuration_know_the_orchestrator(user: Orpy) -> None:
    info = await user.json("info")
    assert "indaco" in info["build"]
    assert info["url"] == user.federation.url + "/"
    shown = await user.json("configuration", "show")
    assert {shown[role] for role in ("cpr_url", "slam_url", "cmdb_url", "im_url")} == {user.federation.url}


async def test_a_deployment_is_created_grown_refused_more_shown_and_deleted(user: Orpy) -> None:
    made = await user.json("deployment", "create", user.file(GROWING), "num_cpus=1")
    id = made["uuid"]
    assert (made["status"], made["userGroup"]) == ("CREATE_IN_PROGRESS", "cms")
    running = await user.ended(id, "CREATE_COMPLETE")
    assert running["cloudProviderName"] == "SITE-A"
    code, template, _ = await user.run("deployment", "template", id, "-f", "value")
    assert (code, template.rstrip("\n")) == (0, GROWING.rstrip("\n"))

    updated = await user.json("deployment", "update", id, user.file(GROWING), "machines=3")
    assert (updated["uuid"], updated["status"]) == (id, "UPDATE_IN_PROGRESS")
    grown = await user.ended(id, "UPDATE_COMPLETE")
    assert grown["outputs"]["node_ip"] == running["outputs"]["node_ip"]
    resources = await user.json("resource", "list", id)
    assert [(r["toscaNodeName"], r["state"], r["requiredBy"]) for r in resources] == [("server", "STARTED", [])] * 3
    one = await user.json("resource", "show", id, resources[2]["uuid"])
    properties = {entry["class"]: entry for entry in json.loads(one["metadata"]["VirtualMachineInfo"])["vmProperties"]}
    assert (properties["system"]["instance_name"], properties["system"]["cpu.count"]) == ("server-2", 1)

    await user.json("deployment", "update", id, user.file(GROWING), "machines=6")
    refused = await user.ended(id, "UPDATE_FAILED")
    assert "QUOTA: instances" in refused["statusReason"]
    assert refused["outputs"] == grown["outputs"]
    assert [r["state"] for r in await user.json("resource", "list", id)] == ["STARTED"] * 3

    for output in ("table", "json", "yaml", "value"):
        code, out, err = await user.run("deployment", "show", id, "--long", "-f", output)
        assert code == 0, err
        assert id in out
    assert (await user.run("deployment", "delete", id))[:2] == (0, "")
    await user.ended(id, "DELETE_COMPLETE")
    assert id not in {d["uuid"] for d in await user.json("deployment", "list")}


async def test_the_outputs_of_all_machines_follow_a_growth(user: Orpy) -> None:
    text = GROWING.replace(
        "{get_attribute: [server, public_address, 0]}\n", "{get_attribute: [server, public_address]}\n", 1
    )
    id = (await user.call(lambda c: c.deployments.create(text))).uuid
    first = await user.ended(id, "CREATE_COMPLETE")
    await user.call(lambda c: c.deployments.update(id, text, parameters={"machines": 2}))
    second = await user.ended(id, "UPDATE_COMPLETE")
    assert len(second["outputs"]["node_ip"]) == 2
    assert first["outputs"]["node_ip"] == second["outputs"]["node_ip"][:1]
    await user.call(lambda c: c.deployments.delete(id))
    await user.ended(id, "DELETE_COMPLETE")


async def test_lists_longer_than_a_page_do_not_break_it(user: Orpy) -> None:
    made = [(await user.call(lambda c: c.deployments.create(VM))).uuid for _ in range(12)]
    listed = [d.uuid for d in await user.call(lambda c: c.deployments.list())]
    assert listed == made[::-1]
    assert [d["uuid"] for d in await user.json("deployment", "list")] == made[::-1]
    for id in made:
        await user.call(lambda c, id=id: c.deployments.delete(id))  # type: ignore[misc]
    for id in made:
        await user.ended(id, "DELETE_COMPLETE")


async def test_what_is_wrong_is_an_error_of_its_own_kind_with_our_sentence(user: Orpy) -> None:
    with pytest.raises(exceptions.UnauthorizedError):
        await user.call(lambda c: c.deployments.list(), token=NO_TOKEN)
    with pytest.raises(exceptions.NotFoundError, match=f"The deployment <{ABSENT}> doesn't exist"):
        await user.call(lambda c: c.deployments.show(ABSENT))
    with pytest.raises(exceptions.BadRequestError, match="cannot be accepted"):
        await user.call(lambda c: c.deployments.create("no: [tosca"))
    with pytest.raises(exceptions.NotFoundError):
        await user.call(lambda c: c.deployments.update(ABSENT, VM))
    id = (await user.call(lambda c: c.deployments.create(VM))).uuid
    with pytest.raises(exceptions.NotFoundError, match="The resource <x>"):
        await user.call(lambda c: c.resources.show(id, "x"))
    await user.ended(id, "CREATE_COMPLETE")
    with pytest.raises(exceptions.ClientError, match="Only machines of a kind that runs can be added"):
        await user.call(lambda c: c.deployments.update(id, VM, parameters={"num_cpus": 8}))
    await user.call(lambda c: c.deployments.delete(id))
    with pytest.raises(exceptions.ConflictError, match="Deployment already in DELETE_"):
        await user.call(lambda c: c.deployments.delete(id))
    await user.ended(id, "DELETE_COMPLETE")


async def test_the_command_tells_errors_and_fails(user: Orpy) -> None:
    code, _, err = await user.run("deployment", "show", ABSENT)
    assert (code, "doesn't exist" in err) == (1, True)
    code, _, err = await user.run("deployment", "list", account="mallory")
    assert code == 1
    assert NO_TOKEN not in err
    code, _, err = await user.run("deployment", "create", user.file("no: [tosca"))
    assert (code, "cannot be accepted" in err) == (1, True)
