"""Credential issuers: the same lease again, revocation, and the table of them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

import indaco_vault_broker.issuers
from indaco_common.clock import ManualClock
from indaco_common.contracts.values import Place
from indaco_common.errors import CredentialRejected, PolicyRefused, Unavailable
from indaco_common.simulation import break_site, parse_endpoint
from indaco_orchestrator.drivers.simulated import SimulatedDriver
from indaco_vault_broker.issuers import Issuers
from indaco_vault_broker.issuers.port import CredentialIssuer

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def place(kind: str, folder: Path) -> Place:
    return Place(provider="alpha", kind=kind, endpoint=f"{kind}:{folder}", region="r", project="p", agreement="a")


class Kept:
    """The one call of a vault that issuers make."""

    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, object]] = {}

    async def get(self, path: str) -> dict[str, object] | None:
        return self.secrets.get(path)


@pytest.fixture
def vault() -> Kept:
    return Kept()


@pytest.fixture
async def issuers(vault: Kept) -> AsyncIterator[Issuers]:
    issuers = Issuers(vault, ManualClock(NOW))  # type: ignore[arg-type]
    yield issuers
    await issuers.close()


@pytest.mark.parametrize("kind", ["docker", "simulated", "unheard-of"])
class TestEveryIssuer:
    async def test_the_same_lease_gives_the_same_secret(self, issuers: Issuers, kind: str, tmp_path: Path) -> None:
        issuer, where = issuers.issuer_for(place(kind, tmp_path)), place(kind, tmp_path)
        first, *others = await asyncio.gather(*(issuer.issue(where, "d/1/1", 600) for _ in range(4)))
        assert others == [first] * 3
        assert timedelta(0) <= first.expires_at - (NOW + timedelta(seconds=600)) <= timedelta(seconds=1)

    async def test_a_lease_may_be_revoked_twice_and_before_it_was_issued(
        self, issuers: Issuers, kind: str, tmp_path: Path
    ) -> None:
        issuer, where = issuers.issuer_for(place(kind, tmp_path)), place(kind, tmp_path)
        for _ in range(2):
            await issuer.revoke(where, "d/1/1")

    async def test_a_secret_does_not_show_in_a_representation(
        self, issuers: Issuers, kind: str, tmp_path: Path
    ) -> None:
        issued = await issuers.issuer_for(place(kind, tmp_path)).issue(place(kind, tmp_path), "d/1/1", 600)
        assert "secret" not in repr(issued)
        assert issued.secret["kind"] == kind


async def test_a_kind_without_an_issuer_gets_what_an_operator_put_into_the_vault(
    issuers: Issuers, vault: Kept, tmp_path: Path
) -> None:
    vault.secrets["providers/alpha"] = {"username": "indaco", "password": "p"}
    where = place("unheard-of", tmp_path)
    issued = await issuers.issuer_for(where).issue(where, "d/1/1", 600)
    assert issued.secret == {"username": "indaco", "password": "p", "kind": "unheard-of"}


async def test_an_issuer_that_cannot_be_loaded_is_unavailable(
    issuers: Issuers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = EntryPoint("broken", "no.such.module:Issuer", "indaco.issuers")
    monkeypatch.setattr(indaco_vault_broker.issuers, "entry_points", lambda **_: EntryPoints([broken]))
    with pytest.raises(Unavailable):
        issuers.issuer_for(place("broken", tmp_path))


async def test_one_issuer_serves_a_kind(issuers: Issuers, tmp_path: Path) -> None:
    first: CredentialIssuer = issuers.issuer_for(place("docker", tmp_path))
    assert issuers.issuer_for(place("docker", tmp_path / "other")) is first


class TestSimulated:
    async def test_a_revoked_credential_is_rejected_by_the_driver_from_then_on(
        self, issuers: Issuers, tmp_path: Path
    ) -> None:
        where = place("simulated", tmp_path)
        issuer, driver = issuers.issuer_for(where), await SimulatedDriver.open(where, clock=ManualClock(NOW))
        issued = await issuer.issue(where, "d/1/1", 600)
        await driver.capacity(issued.secret)
        await issuer.revoke(where, "d/1/1")
        with pytest.raises(CredentialRejected):
            await driver.capacity(issued.secret)
        with pytest.raises(PolicyRefused):
            await issuer.issue(where, "d/1/1", 600)
        await driver.capacity((await issuer.issue(where, "d/1/2", 600)).secret)
        await driver.close()

    async def test_a_site_that_is_down_issues_and_revokes_nothing(self, issuers: Issuers, tmp_path: Path) -> None:
        where = place("simulated", tmp_path)
        issuer = issuers.issuer_for(where)
        break_site(parse_endpoint(where.endpoint, "alpha")[0], down=True)
        with pytest.raises(Unavailable):
            await issuer.issue(where, "d/1/1", 600)
        with pytest.raises(Unavailable):
            await issuer.revoke(where, "d/1/1")

    async def test_a_wrong_endpoint_is_unavailable(self, issuers: Issuers) -> None:
        where = place("simulated", Path("x?speed=1"))
        with pytest.raises(Unavailable, match="speed"):
            await issuers.issuer_for(where).issue(where, "d/1/1", 600)
