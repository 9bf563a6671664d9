"""testcontainers really starts something: a machine of the image that the docker driver uses, reached by SSH as its users reach it."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # read at import: its sweeper is one more image to pull

import docker
import docker.errors
from testcontainers.core.container import DockerContainer

pytestmark = pytest.mark.docker
IMAGE = os.environ.get("INDACO_TEST_VM_IMAGE", "indaco/vm:12")
SSH = 22
USER, HOSTNAME = "ada", "from-a-template"
USER_DATA = "#!/bin/sh\necho configured >/etc/motd\n"
READY_S = 30
ASK = "hostname; cat /etc/motd; sudo id -un"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key pair as a user has one."""
    path = tmp_path_factory.mktemp("key") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def machine(key: Path) -> Iterator[DockerContainer]:
    try:
        docker.from_env().images.get(IMAGE)  # no pull: it is made here
    except docker.errors.ImageNotFound:
        pytest.skip(f"the Docker Engine has no image {IMAGE}: run deploy/docker/vm-image.sh")
    except docker.errors.DockerException as error:
        pytest.skip(f"no Docker Engine answers: {error}")
    container = DockerContainer(IMAGE, hostname=HOSTNAME).with_exposed_ports(SSH)
    container.with_env("SSH_USER", USER).with_env("SSH_KEY", key.with_suffix(".pub").read_text())
    with container.with_env("USER_DATA", USER_DATA) as started:
        yield started


def on(machine: DockerContainer, key: Path, command: str, user: str = USER) -> subprocess.CompletedProcess[str]:
    options = [
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "BatchMode=yes",
        "ConnectTimeout=5",
        "LogLevel=ERROR",
    ]
    flags = [flag for option in options for flag in ("-o", option)]
    target = ["-i", str(key), "-p", str(machine.get_exposed_port(SSH)), f"{user}@{machine.get_container_host_ip()}"]
    return subprocess.run(["ssh", *flags, *target, command], capture_output=True, text=True, timeout=20, check=False)


def test_a_machine_lets_its_user_in_by_key_and_has_run_what_it_was_told(machine: DockerContainer, key: Path) -> None:
    end = time.monotonic() + READY_S
    answer = on(machine, key, ASK)
    while (
        "configured" not in answer.stdout and time.monotonic() < end
    ):  # the SSH server is up before the script is done
        time.sleep(0.2)
        answer = on(machine, key, ASK)
    assert answer.stdout.split() == [HOSTNAME, "configured", "root"], answer.stderr
    assert on(machine, key, "true", user="root").returncode == 255
