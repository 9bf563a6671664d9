"""Adapters are chosen by URL."""

import json
from pathlib import Path

import pytest

from indaco_common.bus.embedded import EmbeddedBus
from indaco_common.bus.rabbitmq import RabbitBus
from indaco_common.clock import SystemClock
from indaco_common.errors import Invalid
from indaco_common.infra import open_bus, open_infra, open_secrets, open_store
from indaco_common.launcher.specs import all_specs, spec_named
from indaco_common.secrets.vault import VaultSecrets
from indaco_common.settings import Settings
from indaco_common.store.mongo import MongoStore
from indaco_common.store.sqlite import SqliteStore


def settings(**values: object) -> Settings:
    return Settings.model_validate(values)


def open_all(some: Settings) -> None:
    open_bus(some, "gateway")
    open_store(some, "gateway")
    open_secrets(some, "gateway", None)


def test_the_bus_is_a_file_or_a_broker() -> None:
    assert isinstance(open_bus(settings(), "x"), EmbeddedBus)
    assert isinstance(open_bus(settings(bus="amqp://a:b@localhost/v"), "x"), RabbitBus)
    assert isinstance(open_bus(settings(bus="amqps://a:b@localhost/v"), "x"), RabbitBus)


def test_each_service_has_a_store_of_its_own(tmp_path: Path) -> None:
    here = open_store(settings(data=tmp_path), "sla")
    there = open_store(settings(data=tmp_path, store=f"sqlite://{tmp_path / 'elsewhere'}"), "sla")
    assert isinstance(here, SqliteStore)
    assert isinstance(there, SqliteStore)
    assert (here._database.path, there._database.path) == (tmp_path / "sla.db", tmp_path / "elsewhere" / "sla.db")


def test_mongodb_databases_are_named_for_their_service() -> None:
    stores = [open_store(settings(store="mongodb://localhost/prod"), name) for name in ("sla", "vault-broker")]
    assert all(isinstance(store, MongoStore) for store in stores)
    assert len({store._name for store in stores}) == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"bus": "kafka://broker"}, "INDACO_BUS: 'kafka'"),
        ({"store": "postgres://db"}, "INDACO_STORE: 'postgres'"),
        ({"secrets": "file:"}, "INDACO_SECRETS: 'file'"),
        ({"secrets": "embedded:"}, "INDACO_SECRETS: embedded: works only in"),
        ({"secrets": "vault+https://vault:8200"}, "set INDACO_VAULT_TOKEN"),
        ({"secrets": "vault+https://vault:8200", "vault_approle_file": "/nowhere"}, "INDACO_VAULT_APPROLE_FILE"),
    ],
)
def test_what_cannot_be_opened_is_told_by_the_variables_name(values: dict[str, str], told: str) -> None:
    with pytest.raises(Invalid) as refused:
        open_all(settings(**values))
    assert refused.value.detail.startswith(told)


@pytest.mark.parametrize("held", ["[]", "{}", "no json", '{"gateway": {"role_id": "r"}}', '{"gateway": []}'])
def test_an_approle_file_that_lacks_the_services_role_is_refused(tmp_path: Path, held: str) -> None:
    file = tmp_path / "roles.json"
    file.write_text(held)
    with pytest.raises(Invalid, match="does not hold an AppRole of gateway"):
        open_secrets(settings(secrets="vault+http://localhost", vault_approle_file=file), "gateway", None)


def test_each_way_to_log_in_makes_secrets(tmp_path: Path) -> None:
    file = tmp_path / "roles.json"
    file.write_text(json.dumps({"gateway": {"role_id": "r", "secret_id": "s"}}))
    for login in ({"vault_token": "t"}, {"vault_approle_file": file}, {"vault_role": "indaco-gateway"}):
        assert isinstance(
            open_secrets(settings(secrets="vault+http://localhost", **login), "gateway", None), VaultSecrets
        )


def test_a_service_that_needs_no_secrets_gets_no_vault(tmp_path: Path) -> None:
    infra = open_infra(spec_named("sla"), settings(data=tmp_path), SystemClock())
    assert infra.secrets is None
    with pytest.raises(AssertionError, match="sla has no vault"):
        _ = infra.vault


def test_a_bus_that_is_given_is_shared(tmp_path: Path) -> None:
    shared = open_bus(settings(data=tmp_path), "all")
    opened = [
        open_infra(spec, settings(data=tmp_path), SystemClock(), bus=shared).bus
        for spec in all_specs()
        if not spec.needs_secrets
    ]
    assert all(bus is shared for bus in opened)
