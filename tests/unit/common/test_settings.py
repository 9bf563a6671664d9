"""Settings come from the environment; a wrong one is named."""

from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from indaco_common.errors import Invalid
from indaco_common.launcher.specs import all_specs, read
from indaco_common.settings import Settings

KINDS: list[type[BaseSettings]] = [Settings, *(spec.settings for spec in all_specs())]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("INDACO_")]:
        monkeypatch.delenv(name)


def read_all() -> None:
    for kind in KINDS:
        read(kind)


def test_nothing_has_to_be_set() -> None:
    settings = read(Settings)
    assert (settings.bus, settings.store, settings.secrets) == ("embedded:", "sqlite:", "embedded:")
    assert (settings.host, settings.data) == ("127.0.0.1", Path("data"))


@pytest.mark.parametrize("kind", KINDS)
def test_each_setting_has_a_default_and_says_what_it_is(kind: type[BaseSettings]) -> None:
    assert kind()
    unexplained = [name for name, field in kind.model_fields.items() if not field.description]
    assert unexplained == []


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("INDACO_LOG_LEVEL", "loud", "INDACO_LOG_LEVEL: "),
        ("INDACO_PREFETCH", "0", "INDACO_PREFETCH: "),
        ("INDACO_JOURNAL_DAYS", "soon", "INDACO_JOURNAL_DAYS: "),
        ("INDACO_MONGO_DRIVER", "mongoengine", "INDACO_MONGO_DRIVER: "),
        ("INDACO_GATEWAY_PORT", "65536", "INDACO_GATEWAY_PORT: "),
        ("INDACO_GATEWAY_ISSUERS", "not json", "INDACO_GATEWAY_ISSUERS: not valid JSON"),
        ("INDACO_GATEWAY_ISSUERS", '[{"issuer": 1}]', "INDACO_GATEWAY_ISSUERS/0"),
        ("INDACO_ORCHESTRATOR_CLAIM_S", "-1", "INDACO_ORCHESTRATOR_CLAIM_S: "),
    ],
)
def test_a_wrong_value_is_told_by_the_variables_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Invalid) as refused:
        read_all()
    assert refused.value.detail.startswith(told)


def test_a_wrong_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INDACO_VAULT_TOKEN", "s.hunter2")
    assert "hunter2" not in repr(read(Settings))
