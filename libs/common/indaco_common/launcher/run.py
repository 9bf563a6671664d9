"""``indaco run``: all services in one process, or one of them."""

import asyncio
import errno
import gc
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import click
import structlog

from indaco_common import telemetry
from indaco_common.bus.port import Bus
from indaco_common.clock import SystemClock
from indaco_common.errors import IndacoError
from indaco_common.infra import open_bus, open_infra, open_secrets
from indaco_common.runtime import Runner
from indaco_common.secrets.embedded import EmbeddedVault
from indaco_common.service import ServiceSpec
from indaco_common.settings import Settings

from . import embedded
from .specs import all_specs, port_of, read, spec_named, whole_topology

USUAL_URL = "http://127.0.0.1:8080"  # where the command line looks if it is not told

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@click.command()
@click.argument("service", required=False)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of store, bus and vault (INDACO_DATA; default: data).",
)
@click.option("--ephemeral", is_flag=True, help="Keep everything in a temporary folder and remove it at the end.")
@click.option(
    "--log", "log_format", type=click.Choice(["json", "console"]), help="How to write logs (to standard error)."
)
def run(service: str | None, data: Path | None, ephemeral: bool, log_format: str | None) -> None:  # noqa: FBT001
    """Run the whole federation in this process, or one SERVICE.

    Without SERVICE nothing else is needed: store and bus are files in the data folder, the vault is a child process, and an issuer
    with a few users comes along. With SERVICE the adapters are named by INDACO_BUS, INDACO_STORE and INDACO_SECRETS.

    \b
    Examples:
      indaco run
      indaco run --ephemeral --log console
      INDACO_BUS=amqp://gateway:…@broker/indaco INDACO_STORE=mongodb://db/indaco \\
        INDACO_SECRETS=vault+https://vault:8200 INDACO_VAULT_TOKEN=… indaco run gateway
    """  # noqa: D301 - click's mark for a paragraph that is not to be wrapped
    if log_format:
        os.environ["INDACO_LOG_FORMAT"] = log_format
    spec = spec_named(service) if service else None
    folder = Path(tempfile.mkdtemp(prefix="indaco-")) if ephemeral else data
    if folder is not None:
        os.environ["INDACO_DATA"] = str(folder)
    try:
        with _told():
            settings = read(Settings)
            telemetry.set_up_logging(settings, is_final=True)
            telemetry.set_up_tracing(settings, service=service)
            asyncio.run(_run_one(spec, settings) if spec else _run_all(settings, ephemeral=ephemeral))
    finally:
        telemetry.flush()
        if ephemeral and folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _told() -> Iterator[None]:
    """Tell what keeps it from starting in one line. Raises: ClickException."""
    try:
        yield
    except IndacoError as error:
        raise click.ClickException(error.detail) from error
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        hint = " (INDACO_<SERVICE>_PORT sets another port)" if error.errno == errno.EADDRINUSE else ""
        raise click.ClickException(f"{error.strerror or error}{where}{hint}") from error


async def _run_one(spec: ServiceSpec, settings: Settings) -> None:
    own = read(spec.settings)
    infra = open_infra(spec, settings, SystemClock())
    runner = Runner(spec.build(infra, own), port=port_of(spec, own), topology=whole_topology())
    await _operate([runner], _stop_requested())


async def _run_all(settings: Settings, *, ephemeral: bool) -> None:
    stop = _stop_requested()
    async with AsyncExitStack() as stack:
        stack.enter_context(embedded.claim(settings.data))
        vault = None
        if settings.secrets == "embedded:":
            vault = EmbeddedVault(settings.data / "vault", ephemeral=ephemeral)
            stack.push_async_callback(vault.stop)
            await vault.start()
        local = await _issuer(settings, vault, stack)
        runners = await _build(settings, vault, stack)
        await _operate(runners, stop, lambda: _announce(settings, local))


async def _issuer(
    settings: Settings, vault: EmbeddedVault | None, stack: AsyncExitStack
) -> embedded.LocalIssuer | None:
    """Start the local issuer, unless the gateway was told whom to trust."""
    if os.environ.get("INDACO_GATEWAY_ISSUERS") or os.environ.get("INDACO_GATEWAY_ISSUERS_FILE"):
        return None
    secrets = open_secrets(settings, "gateway", vault)
    await secrets.start()
    stack.push_async_callback(secrets.stop)
    port = int(os.environ.get("INDACO_ISSUER_PORT", embedded.ISSUER_PORT))
    local = embedded.LocalIssuer(secrets, settings.host, port)
    stack.push_async_callback(local.stop)
    await local.start()
    await embedded.prepare_environment(settings, local.url)
    return local


async def _build(settings: Settings, vault: EmbeddedVault | None, stack: AsyncExitStack) -> list[Runner]:
    shared: Bus | None = None
    if settings.bus.startswith("embedded:"):
        shared = open_bus(settings, "indaco")
        await shared.start()
        stack.push_async_callback(shared.stop)
        await shared.declare(whole_topology())
    runners = []
    for spec in all_specs():
        own = read(spec.settings)
        infra = open_infra(spec, settings, SystemClock(), bus=shared, vault=vault)
        service = spec.build(infra, own)
        runners.append(Runner(service, port=port_of(spec, own), topology=whole_topology(), owns_bus=shared is None))
    return runners


async def _operate(runners: Sequence[Runner], stop: asyncio.Event, ready: Callable[[], None] = lambda: None) -> None:
    """Start in two phases, wait for the stop, and drain."""
    stopping = asyncio.create_task(stop.wait())
    starting = asyncio.create_task(_start(runners))
    try:
        await asyncio.wait({stopping, starting}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            ready()
            await stopping
            log.info("stop.requested")
            await asyncio.gather(*(runner.drain() for runner in runners))
    finally:
        stopping.cancel()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await asyncio.gather(*(runner.stop() for runner in runners), return_exceptions=True)


async def _start(runners: Sequence[Runner]) -> None:
    for runner in runners:
        await runner.serve()
    try:
        for phase in (Runner.connect, Runner.work):
            async with asyncio.TaskGroup() as group:
                for runner in runners:
                    group.create_task(phase(runner))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    gc.freeze()  # what was made so far stays: a full collection need not look at it again, 50 ms and more each time


def _stop_requested() -> asyncio.Event:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def _announce(settings: Settings, local: embedded.LocalIssuer | None) -> None:
    """Say where to go and how to sign in; write the same for programs to ``run.json``."""
    gateway = next(spec for spec in all_specs() if spec.name == "gateway")
    url = f"http://{settings.host}:{port_of(gateway, read(gateway.settings))}"
    about = {"pid": os.getpid(), "url": url, "issuer": local.url if local else None}
    try:
        (settings.data / "run.json").write_text(json.dumps(about))
    except OSError as error:  # a full disk: it is told by the health of who needs it
        log.warning("run_file.unwritten", error=error.strerror)
    lines = [f"Indaco is ready: {url}", f"  data      {settings.data.absolute()}"]
    if local is not None:
        people = ", ".join(f"{name} / {password}" for name, password in local.passwords.items())
        where = "" if url == USUAL_URL else f" --url {url}"
        lines += [
            f"  issuer    {local.url}   (for trying things out; users: {people})",
            f"  sign in   indaco login{where}",
        ]
    lines += [
        "  next      indaco deployment create examples/templates/virtual-machine.yaml --group cms --wait",
        "  stop      Ctrl-C",
    ]
    click.echo("\n".join(lines), err=False)
