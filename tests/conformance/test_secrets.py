"""The secrets conformance suite on the embedded vault, and on a remote one where there is one."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from indaco_common.secrets.embedded import EmbeddedVault
from indaco_common.secrets.login import AppRoleAuth
from indaco_common.secrets.port import Secrets
from indaco_common.secrets.setup import setup
from indaco_common.secrets.vault import VaultSecrets
from indaco_common.testing.conformance_secrets import SecretsConformance, SecretsOf


class RemoteVault:
    """A vault that somebody else runs, set up for Indaco."""

    def __init__(self, address: str, token: str) -> None:
        self._address = address
        self._roles = asyncio.run(setup(address, token, secret_id_ttl="1h"))

    def secrets_for(self, service: str) -> VaultSecrets:
        role = self._roles[service]
        return VaultSecrets(self._address, AppRoleAuth(role.role_id, role.secret_id))


@pytest.fixture(scope="module", params=["embedded", pytest.param("remote", marks=pytest.mark.vault)])
def vault(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedVault | RemoteVault]:
    if request.param == "remote":
        server = request.getfixturevalue("vault_server")
        yield RemoteVault(server.address, server.token)
        return
    embedded = EmbeddedVault(tmp_path_factory.mktemp("vault"))
    asyncio.run(embedded.start())
    yield embedded
    asyncio.run(embedded.stop())


class TestSecrets(SecretsConformance):
    @pytest.fixture
    async def secrets_of(self, vault: EmbeddedVault | RemoteVault) -> AsyncIterator[SecretsOf]:
        async with AsyncExitStack() as started:

            async def secrets_of(service: str) -> Secrets:
                secrets = vault.secrets_for(service)
                await secrets.start()
                started.push_async_callback(secrets.stop)
                return secrets

            yield secrets_of

    @pytest.fixture
    async def secrets(self, secrets_of: SecretsOf) -> Secrets:
        return await secrets_of("vault-broker")


def test_every_policy_is_in_one_file_of_the_package() -> None:
    policies = Path(__file__).parents[2] / "libs/common/indaco_common/secrets/policies"
    assert sorted(file.stem for file in policies.iterdir()) == ["gateway", "orchestrator", "setup", "vault-broker"]
