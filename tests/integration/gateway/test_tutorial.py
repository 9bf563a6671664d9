"""The tutorial: its script does what a new user does, and the page in the documentation has its commands."""

import asyncio
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from indaco_common.launcher.embedded import has_docker

from .whole import federation
from .world import ROOT

SCRIPT = ROOT / "scripts" / "tutorial.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        return runpy.run_path(str(SCRIPT))
    finally:
        sys.path.remove(str(SCRIPT.parent))


def commands(page: str) -> list[str]:
    return re.findall(r"^\$ (.*)$", page, re.MULTILINE)


async def test_a_new_user_has_a_machine_after_four_commands(script: dict[str, Any], tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), "--simulated", cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    page = out.decode()
    assert "From nothing to a machine in 4 commands." in page
    first = page.partition("## What else")[0]
    assert [command.split()[1] for command in commands(first)] == ["run", "login", "key", "deployment", "ssh"]
    assert re.search(r"^status +CREATE_COMPLETE$", first, re.MULTILINE)
    assert "127.0.0.1:8085/device?user_code=" in first
    wanted = [f"indaco {' '.join(step.command)}" for step in script["steps"](is_real=False)]
    assert commands(page)[1 : len(wanted) + 1] == wanted


def test_the_page_has_the_commands_of_the_script(script: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "tutorial.md").read_text()
    found = commands(page)
    wanted = [
        [f"indaco {' '.join(step.command)}" for step in script["steps"](is_real=is_real)] for is_real in (True, False)
    ]
    assert found[1 : len(wanted[0]) + 1] in wanted
    assert str(ROOT) not in page


@pytest.mark.docker
async def test_the_machine_is_real_and_one_command_logs_in_to_it(tmp_path: Path) -> None:
    if not await has_docker():
        pytest.skip("no Docker Engine with the machine image")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert re.search(r"^\$ indaco ssh first -- hostname\n(?:.*\n)?vnode0$", out.decode(), re.MULTILINE), out.decode()


async def test_the_programs_of_the_guide_run_as_they_stand(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "howto" / "use-the-client.md").read_text()
    programs = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(programs) == 2
    async with federation(tmp_path) as whole:
        environment = {
            **os.environ,
            "HOME": str(tmp_path),
            "INDACO_URL": whole.url,
            "INDACO_TOKEN": await whole.token("ada"),
        }
        told = [await printed(program, environment) for program in programs]
    assert re.match(r"198\.51\.100\.\d+\n", told[0])
    assert "Request accepted" in told[0]


async def printed(program: str, environment: dict[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()
