"""The script that runs a command on servers of its own."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers import LOCAL, OPENBAO, free_block

from indaco_common.errors import Unavailable
from indaco_common.testing.backing import NEEDED, RealBacking

SAY = ["sh", "-c", "echo $INDACO_TEST_VAULT_ADDR; exit 3"]


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    if not OPENBAO.has_program():
        pytest.skip(f"OpenBao: not found: {OPENBAO.advice}")
    others = {name: value for name, value in os.environ.items() if name not in NEEDED}
    environment = {**others, "INDACO_LOCAL": str(tmp_path / "local"), "INDACO_PORTS": str(free_block())}
    yield environment
    call(environment, "wipe", "openbao")


def call(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(LOCAL / "all.sh"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_a_command_is_told_where_its_servers_are_and_they_stop_after_it(environment: dict[str, str]) -> None:
    done = call(environment, "run", "openbao", "--", *SAY)
    assert done.stdout.startswith("http"), done.stderr
    assert done.returncode == 3
    assert "stopped" in call(environment, "status", "openbao").stdout


def test_a_server_that_ran_before_runs_after(environment: dict[str, str]) -> None:
    call(environment, "start", "openbao")
    assert call(environment, "run", "openbao", "--", *SAY).returncode == 3
    assert "running" in call(environment, "status", "openbao").stdout


def test_a_server_that_cannot_run_is_left_out_and_the_command_runs(environment: dict[str, str]) -> None:
    done = call(environment | {"BAO_BIN": "/nonexistent"}, "run", "openbao", "--", *SAY)
    assert (done.stdout.strip(), done.returncode) == ("", 3)
    assert "no OpenBao binary" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["openbao"], ["openbao", "--"]])
def test_a_call_without_a_command_says_how_it_is_made(arguments: list[str], environment: dict[str, str]) -> None:
    done = call(environment, "run", *arguments)
    assert "SERVER... -- COMMAND" in done.stdout
    assert done.returncode == 2


async def test_what_no_server_was_named_for_has_nothing_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NEEDED:
        monkeypatch.delenv(name, raising=False)
    backing = RealBacking(tmp_path)
    with pytest.raises(Unavailable, match="INDACO_TEST_AMQP"):
        await backing.start()
    await backing.stop()
