"""``indaco deployment`` and ``indaco resource`` on what is there: names, tags, locks, shares, machines, SSH, completion."""

import asyncio
import json
import os
import stat
import sys
from pathlib import Path

import pytest

from indaco_common.contracts import gateway, orchestrator, vault
from indaco_common.ids import DeploymentId
from indaco_common.secrets.embedded import EmbeddedVault

from .conftest import Indaco, spoken
from .world import PLACE, VM, World, node, running_event

pytestmark = pytest.mark.usefixtures("quiet")
LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3VK0c3qX8Tt0w5v3F1v8V1s1o5c1qZk2cQG0X4yN5p ada@laptop"
SSH = """#!/bin/sh
# In the place of ssh: notes what it was called with, and what the key's file is while it runs.
{ printf '%s\\n' "$@"; for word; do [ -f "$word" ] && case $word in */key) stat -c '%a' "$word"; cat "$word";; esac; done; } > "$SSH_NOTES"
exit 7
"""


async def made(world: World, name: str, user: str = "ada") -> str:
    answer = await world.send("POST", "/v1/deployments", user, json={"template": VM, "group": "cms", "name": name})
    assert answer.status == 201, answer.text
    return str(answer.json["id"])


async def test_a_deployment_goes_by_its_name_and_by_the_beginning_of_its_id(world: World, indaco: Indaco) -> None:
    id = await made(world, "analysis")
    for word in ("analysis", id[:13], id):
        assert (await indaco("deployment", "show", word, "-o", "name")).stdout == f"{id}\n"
    assert (await indaco("deployment", "show", "analys")).exit_code == 4
    await made(world, "analysis")
    twice = await indaco("deployment", "show", "analysis")
    assert twice.exit_code == 5
    assert "analysis could be 2 deployments" in twice.stderr
    assert (await indaco("deployment", "show", id, "-o", "name")).exit_code == 0


async def test_names_and_tags_are_changed_and_found(world: World, indaco: Indaco) -> None:
    id = await made(world, "first")
    await made(world, "other")
    shown = await indaco("deployment", "tag", "first", "project=higgs", "run=2=b", "--name", "second", "-o", "json")
    assert json.loads(shown.stdout)["tags"] == {"project": "higgs", "run": "2=b"}
    assert (await indaco("deployment", "list", "--tag", "project=higgs", "-o", "name")).stdout == f"{id}\n"
    assert (await indaco("deployment", "list", "--text", "seco", "-o", "name")).stdout == f"{id}\n"
    assert (await indaco("deployment", "list", "--limit", "1", "-o", "name")).stdout.count("\n") == 1
    shown = await indaco("deployment", "tag", "second", "run=")
    assert "project=higgs" in shown.stdout
    assert "run" not in shown.stdout
    assert (await indaco("deployment", "tag", "second")).exit_code == 2


async def test_what_is_locked_is_not_deleted_until_it_is_unlocked(world: World, indaco: Indaco) -> None:
    await made(world, "precious")
    assert (await indaco("deployment", "lock", "precious", "--reason", "results are not copied")).exit_code == 0
    refused = await indaco("deployment", "delete", "precious")
    assert refused.exit_code == 5
    assert "results are not copied" in refused.stderr
    assert "try: indaco deployment unlock ID" in refused.stderr
    assert "results are not copied" in (await indaco("deployment", "show", "precious")).stdout
    assert (await indaco("deployment", "unlock", "precious")).exit_code == 0
    assert (await indaco("deployment", "delete", "precious")).exit_code == 0


async def test_what_is_shared_is_seen_by_the_group_under_its_name(world: World, indaco: Indaco) -> None:
    id = await made(world, "ours")
    bob = world.issuer.token("bob")
    assert (await indaco("deployment", "show", "ours", INDACO_TOKEN=bob)).exit_code == 4
    assert (await indaco("deployment", "share", "ours", "--group", "cms")).exit_code == 0
    assert (await indaco("deployment", "show", "ours", "-o", "name", INDACO_TOKEN=bob)).stdout == f"{id}\n"
    assert (await indaco("deployment", "list", "--scope", "shared", "-o", "name", INDACO_TOKEN=bob)).stdout == f"{id}\n"
    assert (await indaco("deployment", "outputs", "ours", INDACO_TOKEN=bob)).exit_code == 6
    assert "shared with  cms=read" in (await indaco("deployment", "show", "ours")).stdout
    assert (await indaco("deployment", "share", "ours", "--stop", INDACO_GROUP="cms")).exit_code == 0
    assert (await indaco("deployment", "show", "ours", INDACO_TOKEN=bob)).exit_code == 4
    assert (await indaco("deployment", "share", "ours")).exit_code == 2


async def test_the_log_is_the_timeline_and_watching_gives_one_event_a_line(world: World, indaco: Indaco) -> None:
    id = await made(world, "x")
    await world.say(running_event(id))
    log = (await indaco("deployment", "log", "x")).stdout.splitlines()
    assert [line.split("  ", 1)[1] for line in log] == ["Request accepted: for the group cms", "Running: 1 nodes"]
    await indaco("deployment", "delete", "x")
    await world.say(orchestrator.DeploymentDeleted(deployment_id=running_event(id).deployment_id))
    watched = await indaco("deployment", "watch", id, "-o", "json")
    assert [json.loads(line)["number"] for line in watched.stdout.splitlines()] == [1, 2, 3, 4]
    assert (await indaco("deployment", "list", "-o", "name")).stdout == ""
    assert (await indaco("deployment", "show", "x", "-o", "name")).stdout == f"{id}\n"  # of one that is gone, too
    assert (await indaco("deployment", "list", "--all", "-o", "name")).stdout == f"{id}\n"
    assert (await indaco("deployment", "list", "--status", "delete_complete", "-o", "name")).stdout == f"{id}\n"


async def running(world: World, outputs: dict[str, object]) -> str:
    id = await made(world, "server")
    await world.say(
        orchestrator.NodeStarted(**{**node(id), "public_address": "192.0.2.7"}), running_event(id, outputs=outputs)
    )
    return id


async def test_outputs_and_machines_are_shown_and_one_output_is_bare(world: World, indaco: Indaco) -> None:
    id = await running(world, {"url": "https://x", "n": {"a": 1}})
    assert json.loads((await indaco("deployment", "outputs", "server")).stdout) == {"url": "https://x", "n": {"a": 1}}
    assert (await indaco("deployment", "outputs", id, "url")).stdout == "https://x\n"
    absent = await indaco("deployment", "outputs", id, "uri")
    assert (absent.exit_code, absent.stderr.splitlines()[0]) == (4, "error: there is no output uri; there are: url, n")
    shown = (await indaco("deployment", "show", "server")).stdout
    assert "output url" in shown
    listed = await indaco("resource", "list", "server")
    assert listed.stdout.splitlines()[1].split()[:3] == ["server-0", "STARTED", "192.0.2.7"]
    assert (await indaco("resource", "show", "server", "server-0", "-o", "name")).stdout == "server-0\n"
    assert (await indaco("resource", "show", "server", "agent-0")).exit_code == 4


async def test_an_update_changes_inputs_and_is_waited_for(world: World, indaco: Indaco, tmp_path: Path) -> None:
    growing = VM.replace("            count: 1\n", "            count: {get_input: machines}\n").replace(
        "    hostname:\n", "    machines:\n      type: integer\n      default: 1\n\n    hostname:\n"
    )
    (tmp_path / "growing.yaml").write_text(growing)
    options = ("--group", "cms", "--name", "grows", "-o", "name")
    id = (await indaco("deployment", "create", str(tmp_path / "growing.yaml"), *options)).stdout.strip()
    await world.say(orchestrator.NodeStarted(**node(id)), running_event(id))
    assert (await indaco("deployment", "update", "grows")).exit_code == 2
    refused = await indaco("deployment", "update", "grows", "--set", "machines=0")
    assert refused.exit_code in {5, 6}, refused.output
    waiting = asyncio.create_task(
        indaco("deployment", "update", "grows", "--set", "machines=2", "--wait", "--timeout", "20s")
    )

    async def is_asked() -> bool:
        return any(isinstance(message, gateway.DeploymentUpdateRequested) for message in await world.messages())

    await world.until(is_asked)
    await world.say(running_event(id, slots=("u1",), nodes=("server-0", "server-1")))
    result = await waiting
    assert (result.exit_code, "UPDATE_COMPLETE" in result.stdout) == (0, True), result.output


async def key_of_ada(world: World, openbao: EmbeddedVault) -> None:
    """Make the key as the broker does."""
    await world.send("POST", "/v1/keys", json={"name": "default"})
    broker = openbao.secrets_for("vault-broker")
    await broker.start()
    kept = {"private_key": "the private half\n", "public_key": LINE}
    await broker.put(f"users/{world.user_id('ada')}/keys/default", kept)
    await broker.stop()
    made = vault.KeyCreated(
        user_id=world.user_id("ada"), name="default", public_key=LINE, fingerprint="f", generated=True
    )
    await world.say(made, source="vault-broker")


async def test_ssh_gets_address_account_and_a_key_that_is_gone_afterwards(
    world: World, indaco: Indaco, environment: dict[str, str | None], openbao: EmbeddedVault, tmp_path: Path
) -> None:
    await key_of_ada(world, openbao)
    id = await running(world, {"ssh_endpoint": "ssh://192.0.2.7:2222", "creds": {"user": "debian"}})
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "ssh"
    program.write_text(SSH)
    program.chmod(0o755)
    (tmp_path / "run").mkdir()
    environment |= {
        "PATH": f"{program.parent}:{os.environ['PATH']}", "SSH_NOTES": str(tmp_path / "notes"), "XDG_RUNTIME_DIR": str(tmp_path / "run"),
    }  # fmt: skip
    assert await ended(environment, "ssh", "server", "--", "ls", "-l") == 7
    *words, mode, key = (tmp_path / "notes").read_text().splitlines()
    assert words[:2] == ["-p", "2222"]
    assert words[-7:] == ["IdentitiesOnly=yes", "-l", "debian", "--", "192.0.2.7", "ls", "-l"]
    assert f"HostKeyAlias={id}-server-0" in words
    assert "ConnectTimeout=30" in words  # an address where nobody answers is not waited for without end
    assert (mode, key) == ("600", "the private half")
    (identity,) = [word for word in words if word.endswith("/key")]
    assert identity.startswith(str(tmp_path / "run"))
    assert list((tmp_path / "run").iterdir()) == []
    assert await ended(environment, "ssh", "server", "server-0", "-l", "root", "-p", "22", "-i", str(program)) == 7
    words = (tmp_path / "notes").read_text().splitlines()
    assert words[:2] == ["-p", "22"]
    assert words[-7:] == ["-i", str(program), "-o", "IdentitiesOnly=yes", "-l", "root", "--", "192.0.2.7"][1:]
    assert (await indaco("ssh", "server", "--print")).stdout == "ssh://debian@192.0.2.7:2222\n"


async def test_ssh_says_that_a_machine_is_simulated(
    world: World, environment: dict[str, str | None], tmp_path: Path
) -> None:
    id = await made(world, "server")
    there = PLACE.model_copy(update={"simulated": True})
    await world.say(
        orchestrator.AttemptStarted(deployment_id=DeploymentId(id), attempt=1, place=there),
        orchestrator.NodeStarted(**{**node(id), "public_address": "192.0.2.7", "place": there}), running_event(id),
    )  # fmt: skip
    program = tmp_path / "ssh"
    program.write_text("#!/bin/sh\nexit 7\n")
    program.chmod(0o755)
    process = await spoken("ssh", "server", environment=environment | {"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    _, said = await process.communicate()
    assert (process.returncode, said.decode()) == (7, "the machine is simulated: nobody may answer there\n")


async def ended(environment: dict[str, str | None], *arguments: str) -> int | None:
    process = await spoken(*arguments, environment=environment)
    await process.communicate()
    return process.returncode


async def completed(environment: dict[str, str | None], words: str) -> list[str]:
    """Return what bash would be offered behind *words*."""
    known = {**os.environ, **{name: value for name, value in environment.items() if value}}
    known |= {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1), "_INDACO_COMPLETE": "bash_complete"}
    program = "from indaco_client.cli import main; main(prog_name='indaco')"
    process = await asyncio.create_subprocess_exec(
        "python", "-c", program, env={**known, "PATH": f"{Path(sys.executable).parent}:{known['PATH']}"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert err == b""
    return [line.partition(",")[2] for line in out.decode().splitlines() if line]


async def test_shells_complete_commands_names_and_ids_which_are_remembered_for_a_minute(
    world: World, environment: dict[str, str | None], tmp_path: Path, indaco: Indaco
) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "_INDACO_COMPLETE" in (await indaco("completion", shell)).stdout
    assert "deployment" in await completed(environment, "indaco dep")
    assert await completed(environment, "indaco context us") == ["use"]
    id = await made(world, "analysis")
    assert await completed(environment, "indaco deployment show ana") == ["analysis"]
    await made(world, "anaconda")
    assert await completed(environment, f"indaco deployment show {id[:5]}") == [id]
    assert await completed(environment, "indaco deployment show ana") == ["analysis"]  # of the minute before
    (cache,) = (tmp_path / "home" / ".cache" / "indaco").iterdir()
    assert stat.S_IMODE(cache.stat().st_mode) == 0o600
    os.utime(cache, (0, 0))
    assert sorted(await completed(environment, "indaco ssh ana")) == ["anaconda", "analysis"]
    cache.unlink()
    nobody = {**environment, "INDACO_URL": "http://127.0.0.1:9"}
    assert await completed(nobody, "indaco deployment show ana") == []
