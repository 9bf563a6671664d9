"""What operators type, on files: no service runs."""

import asyncio
import io
import json
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
import structlog
from click.testing import CliRunner, Result
from rich.console import Console

from indaco_common.bus.embedded import EmbeddedBus
from indaco_common.bus.port import Dead, Delivery, Verdict
from indaco_common.contracts import orchestrator
from indaco_common.envelope import Context, Envelope, Sealed, seal, unseal
from indaco_common.errors import Conflict
from indaco_common.ids import DeploymentId
from indaco_common.launcher import COMMANDS, embedded
from indaco_common.launcher.specs import ORDER, all_specs, whole_topology
from indaco_common.launcher.trace import tree_of
from indaco_common.settings import Settings
from indaco_common.store import JournalQuery
from indaco_common.store.port import Entry
from indaco_common.store.sqlite import SqliteStore
from indaco_common.testing.bells import until

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BY_NAME = {command.name: command for command in COMMANDS}


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in [name for name in os.environ if name.startswith("INDACO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("INDACO_DATA", str(tmp_path))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield tmp_path
    structlog.reset_defaults()  # commands set up the logs of their own process
    root.handlers[:] = handlers
    root.setLevel(level)


def indaco(*arguments: str, typed: str = "") -> Result:
    command, *rest = arguments
    return CliRunner().invoke(BY_NAME[command], rest, input=typed)


def alive(attempt: int, *, cause: str | None = None, at: datetime = NOON) -> Sealed:
    message = orchestrator.AttemptAlive(deployment_id=DeploymentId("d-1"), attempt=attempt)
    return seal(message, Context(id=cause), source="orchestrator", version=attempt, index=0, now=at)


def with_bus(data: Path, work: Callable[[EmbeddedBus], Awaitable[None]]) -> None:
    async def main() -> None:
        bus = EmbeddedBus(data / "bus.db")
        await bus.start()
        try:
            await bus.declare(whole_topology())
            await work(bus)
        finally:
            await bus.stop()

    asyncio.run(main())


def bury(data: Path, *messages: Sealed) -> None:
    """Make dead letters of sla."""

    async def refuse(_: Delivery) -> Verdict:
        return Dead("internal-error: ValueError in handlers.py:1")

    async def work(bus: EmbeddedBus) -> None:
        for message in messages:
            await bus.inject("sla", message.body)
        await bus.subscribe("sla", refuse)
        while (await bus.state("sla")).dead < len(messages):
            await asyncio.sleep(0.01)
        await bus.drain("sla")

    with_bus(data, work)


def publish(data: Path, *messages: Sealed) -> None:
    """Put messages into the journal of the orchestrator, as its relay would."""

    async def main() -> None:
        store = SqliteStore(data / "orchestrator.db")
        await store.start()
        await store.settle([Entry("deployment", "d-1", message) for message in messages], NOON)
        await store.stop()

    asyncio.run(main())


def test_all_services_are_found_the_known_ones_in_order() -> None:
    assert tuple(spec.name for spec in all_specs()) == ORDER


def test_no_two_services_want_the_same_port() -> None:
    ports = [spec.port for spec in all_specs()] + [embedded.ISSUER_PORT]
    assert len(set(ports)) == len(ports)


def test_the_topology_is_shown_as_exchange_service_and_message() -> None:
    shown = indaco("topology", "show").output.splitlines()
    assert len(shown) == len(whole_topology().routes())
    assert ["indaco.commands", "vault-broker", "vault.credential.issue.v1"] in [line.split() for line in shown]


def test_an_unknown_service_is_told_with_those_that_there_are() -> None:
    told = indaco("dead", "list", "billing")
    assert told.exit_code == 2
    assert "there are gateway, sla, orchestrator, vault-broker, accounting" in told.output


def test_dead_letters_are_listed_shown_put_back_and_dropped(data: Path) -> None:
    first, second = alive(1), alive(2)
    bury(data, first, second)
    listed = indaco("dead", "list")
    assert [line.split()[1] for line in listed.output.splitlines()] == [first.id, second.id]
    assert "internal-error: ValueError in handlers.py:1" in listed.output
    shown = indaco("dead", "show", "sla", first.id).output
    assert json.loads(shown.partition("\n")[2])["id"] == first.id
    assert indaco("dead", "retry", "sla", first.id).output == "1 put back\n"
    assert indaco("dead", "drop", "sla", typed="n\n").exit_code == 1
    assert indaco("dead", "drop", "sla", "--yes").output == "1 dropped\n"
    assert indaco("dead", "list").output == ""

    async def look(bus: EmbeddedBus) -> None:
        assert (await bus.state("sla")).ready == 1

    with_bus(data, look)


def test_a_dead_letter_that_is_not_there_is_told(data: Path) -> None:
    told = indaco("dead", "show", "sla", "0190")
    assert (told.exit_code, told.output) == (1, "Error: sla has no dead letter 0190\n")


def test_replay_gives_what_was_published_to_one_service_that_takes_it(data: Path) -> None:
    publish(data, *(alive(n) for n in range(1, 4)))
    asked = ("replay", "--from", "orchestrator", "--to", "sla")
    assert indaco(*asked, "--dry-run").output == "3 messages would be given to sla\n"
    assert indaco(*asked, "--type", "orchestrator.attempt.failed.v1").output == "0 messages were given to sla\n"
    assert indaco(*asked, "--since", "2026-03-02").output == "0 messages were given to sla\n"
    assert indaco("replay", "--from", "orchestrator", "--to", "accounting").output.startswith("0 messages")
    assert indaco(*asked, "--since", "2026-03-01").output == "3 messages were given to sla\n"
    heard: list[str] = []

    async def listen(bus: EmbeddedBus) -> None:
        async def note(delivery: Delivery) -> Verdict:
            heard.append(unseal(delivery.body)[0].sequence)
            return Dead("seen")

        await bus.subscribe("sla", note)
        await until(lambda: len(heard) == 3)

    with_bus(data, listen)
    assert heard == sorted(heard)


def test_replay_reads_the_journal_page_by_page(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from indaco_common.launcher import operations

    publish(data, *(alive(n) for n in range(1, 8)))

    async def read_all() -> list[str]:
        query = JournalQuery(limit=2)
        return [e.sequence async for e, _ in operations.published(Settings(), "orchestrator", query)]

    found = asyncio.run(read_all())
    assert (len(found), found) == (7, sorted(found))


def test_a_trace_hangs_every_message_below_its_cause(data: Path) -> None:
    first = alive(1)
    second = alive(2, cause=first.id, at=NOON + timedelta(seconds=2))
    orphan = alive(3, cause="lost", at=NOON + timedelta(seconds=3))
    envelopes = [unseal(one.body)[0] for one in (first, second, orphan)]
    tree = tree_of("d-1", envelopes)
    assert [len(tree.children), len(tree.children[0].children)] == [2, 1]
    printed = io.StringIO()
    Console(width=120, file=printed).print(tree)
    assert "+   2.000 s  orchestrator.attempt.alive.v1  attempt=2" in printed.getvalue()


def test_a_trace_as_json_is_every_envelope_in_order(data: Path) -> None:
    publish(data, *(alive(n, at=NOON + timedelta(seconds=n)) for n in (2, 1, 3)))
    told = indaco("trace", "d-1", "-o", "json")
    envelopes = [Envelope.model_validate(one) for one in json.loads(told.output)]
    assert [envelope.data["attempt"] for envelope in envelopes] == [1, 2, 3]


def test_a_deployment_that_nobody_spoke_of_has_no_trace(data: Path) -> None:
    told = indaco("trace", "d-0")
    assert (told.exit_code, told.output) == (1, "Error: the journals know nothing of d-0\n")


@pytest.mark.parametrize("store", ["sqlite:", "sqlite:other", "sqlite:///{}/other"])
def test_who_only_looks_makes_nothing(
    store: str, data: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(here)
    monkeypatch.setenv("INDACO_DATA", "data")
    monkeypatch.setenv("INDACO_STORE", store.format(here))
    assert indaco("trace", "d-0").output == "Error: the journals know nothing of d-0\n"
    told = indaco("doctor")
    assert told.exit_code == 0
    assert "not there yet, and made at the first start: gateway, sla," in told.output
    assert list(here.iterdir()) == []


def test_who_only_looks_reads_the_files_that_there_are_and_adds_none(data: Path) -> None:
    publish(data, alive(1))
    assert len(json.loads(indaco("trace", "d-1", "-o", "json").output)) == 1
    told = indaco("doctor")
    assert "not there yet, and made at the first start: gateway, sla, vault-broker, accounting\n" in told.output
    assert [file.name for file in data.iterdir()] == ["orchestrator.db"]


def test_doctor_tells_of_a_place_where_no_store_can_be_made(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "taken").write_text("a file")
    monkeypatch.setenv("INDACO_DATA", str(data / "taken" / "data"))
    told = indaco("doctor")
    assert told.exit_code == 1
    assert f"FAIL  store    {data / 'taken' / 'data'}: {data / 'taken'} is no folder" in told.output


def test_a_wrong_setting_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INDACO_BUS", "kafka://broker")
    told = indaco("topology", "verify")
    assert told.exit_code == 1
    assert told.output.startswith("Error: INDACO_BUS: 'kafka' is not known")


def test_doctor_says_what_is_there_and_fails_if_something_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert indaco("doctor").exit_code == 0
    monkeypatch.setenv("INDACO_BUS", "amqp://a:hunter2@127.0.0.1:1/v")
    monkeypatch.setenv("INDACO_SECRETS", "vault+http://127.0.0.1:1")
    told = indaco("doctor")
    assert told.exit_code == 1
    assert [line.split()[1] for line in told.output.splitlines() if line.startswith("FAIL")] == ["bus", "vault"]
    assert "hunter2" not in told.output


def test_a_folder_is_for_one_process(tmp_path: Path) -> None:
    with embedded.claim(tmp_path / "data"), pytest.raises(Conflict, match="is used by another `indaco run`"):
        embedded.claim(tmp_path / "data")
    embedded.claim(tmp_path / "data").close()
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_what_the_user_has_set_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "environ", {"INDACO_SLA_FEDERATION": "mine.yaml"})
    asyncio.run(embedded.prepare_environment(Settings(data=tmp_path), "http://127.0.0.1:1"))
    assert os.environ["INDACO_SLA_FEDERATION"] == "mine.yaml"
    assert json.loads(os.environ["INDACO_GATEWAY_ISSUERS"])[0]["issuer"] == "http://127.0.0.1:1"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_in_its_help(command: click.Command) -> None:
    for one in command.commands.values() if isinstance(command, click.Group) else [command]:
        assert "xample" in (one.help or ""), one.name
