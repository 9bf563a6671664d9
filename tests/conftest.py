"""What all tests share: real servers, and what it means that one is not there.

A server that cannot be had skips the tests that need it, and the summary says which and what to do. With ``INDACO_CI=1`` nothing may
be skipped: the run fails and lists what was. The one exception are skips whose reason begins with "corpus:".
"""

import asyncio
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from indaco_common.errors import Unavailable
from indaco_common.secrets.embedded import EmbeddedVault

from .servers import MONGODB, OPENBAO, RABBITMQ, SERVERS, Server, running

pytest.register_assert_rewrite("indaco_common.testing")

ALLOWED = "corpus:"
OTHERS = {
    "docker": ("Docker Engine or VM image", "run deploy/local/docker.sh start"),
    "oidc": ("OpenID Connect provider", "set INDACO_TEST_OIDC_ISSUER or run deploy/local/all.sh start"),
}


def pytest_sessionstart() -> None:
    """Heed interrupts: a job in a shell's background begins with them ignored, and what the tests start would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Broker:
    """A RabbitMQ broker: *url* as an administrator, and its management API."""

    url: str
    management: str


@dataclass(frozen=True)
class VaultServer:
    """A vault, and a token that may do everything there."""

    address: str
    token: str


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    with running(RABBITMQ) as values:
        found = _or_skip(RABBITMQ, values)
        yield Broker(found["INDACO_TEST_AMQP"], found["INDACO_TEST_AMQP_MANAGEMENT"])


@pytest.fixture(scope="session")
def amqp_url(broker: Broker) -> str:
    return broker.url


@pytest.fixture(scope="session")
def amqp_management(broker: Broker) -> str:
    return broker.management


@pytest.fixture(scope="session")
def mongodb_url() -> Iterator[str]:
    with running(MONGODB) as values:
        yield _or_skip(MONGODB, values)["INDACO_TEST_MONGODB"]


@pytest.fixture(scope="session")
def vault_server() -> Iterator[VaultServer]:
    with running(OPENBAO) as values:
        found = _or_skip(OPENBAO, values)
        yield VaultServer(found["INDACO_TEST_VAULT_ADDR"], found["INDACO_TEST_VAULT_TOKEN"])


@pytest.fixture(scope="session")
def openbao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedVault]:
    """The vault of the embedded mode, in memory: no server is needed but the one that comes with the package."""
    vault = EmbeddedVault(tmp_path_factory.mktemp("openbao"), ephemeral=True)
    try:
        asyncio.run(vault.start())
    except Unavailable as error:
        pytest.skip(f"OpenBao: {error.detail}")
    yield vault
    asyncio.run(vault.stop())


def _or_skip(server: Server, values: dict[str, str] | None) -> dict[str, str]:
    if values is None:
        pytest.skip(f"{server.name}: not found: {server.advice}")
    return values


# ── nothing is skipped silently


def _skips(config: pytest.Config) -> list[tuple[pytest.TestReport, str]]:
    """Return what was skipped, with its reason."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    return [(report, _reason(report)) for report in skipped]


def _reason(report: pytest.TestReport) -> str:
    where = report.longrepr
    text = where[2] if isinstance(where, tuple) else str(where)
    return text.removeprefix("Skipped: ")


def _forbidden(config: pytest.Config) -> list[tuple[pytest.TestReport, str]]:
    if os.environ.get("INDACO_CI") != "1":
        return []
    return [(report, reason) for report, reason in _skips(config) if not reason.startswith(ALLOWED)]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test is a failure: whoever runs it must know that all was tried."""
    if _forbidden(session.config) and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    skipped = _skips(config)
    for server in SERVERS:
        count = sum(server.marker in report.keywords for report, _ in skipped) if server.named() is None else 0
        if count:
            terminalreporter.write_line(
                f"{server.name}: not found, {count} tests skipped: {server.advice}", yellow=True
            )
    for marker, (name, advice) in OTHERS.items():
        if count := sum(marker in report.keywords for report, _ in skipped):
            terminalreporter.write_line(f"{name}: not found, {count} tests skipped: {advice}", yellow=True)
    if forbidden := _forbidden(config):
        terminalreporter.section("skipped although INDACO_CI=1", red=True)
        for report, reason in forbidden:
            terminalreporter.write_line(f"{report.nodeid}: {reason}", red=True)
