"""Tokens that end, logins of each kind, and a vault that is sealed, gone or not set up: on a real OpenBao."""

import asyncio
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from joserfc import jwt
from joserfc.jwk import ECKey

from indaco_common.errors import Forbidden, Invalid, Unavailable
from indaco_common.secrets import login as keeping
from indaco_common.secrets.embedded import EmbeddedVault
from indaco_common.secrets.login import AppRoleAuth, JwtAuth, TokenAuth, VaultAuth
from indaco_common.secrets.roles import SERVICES, AppRole
from indaco_common.secrets.setup import apply, setup
from indaco_common.secrets.transport import Transport
from indaco_common.secrets.vault import VaultSecrets

Started = Callable[[VaultAuth], Awaitable[VaultSecrets]]
BROKER = "auth/approle/role/indaco-vault-broker"


class OpenVault(EmbeddedVault):
    """An embedded vault whose root token stays in its directory."""

    def __init__(self, directory: Path, *, ephemeral: bool = True) -> None:
        super().__init__(directory, ephemeral=ephemeral)
        self.directory = directory

    async def _revoke_root(self, transport: Transport) -> None:
        return

    @property
    def root_token(self) -> str:
        return str(json.loads((self.directory / "keys/init.json").read_text())["root_token"])

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, *, token: str = "") -> dict[str, Any]:
        """Send a request as root (or with *token*) and return the answer. Raises HTTPError."""
        request = urllib.request.Request(
            f"{self.address}/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Vault-Token": token or self.root_token},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return dict(json.loads(answer.read() or b"{}"))


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenVault]:
    vault = OpenVault(tmp_path_factory.mktemp("vault"))
    asyncio.run(vault.start())
    yield vault
    asyncio.run(vault.stop())


@pytest.fixture
async def broker(vault: OpenVault) -> AppRole:
    """A credential of the vault-broker, whose role is as the set-up makes it."""
    return (await setup(vault.address, vault.root_token, services=["vault-broker"]))["vault-broker"]


@pytest.fixture
async def started(vault: OpenVault) -> AsyncIterator[Started]:
    async with AsyncExitStack() as stack:

        async def started(auth: VaultAuth) -> VaultSecrets:
            secrets = VaultSecrets(vault.address, auth)
            await secrets.start()
            stack.push_async_callback(secrets.stop)
            return secrets

        yield started


def login(role: AppRole) -> AppRoleAuth:
    return AppRoleAuth(role.role_id, role.secret_id)


def token_of(secrets: VaultSecrets) -> str:
    return secrets._keeper.token


async def test_a_token_that_was_revoked_is_replaced_once_for_all_callers(
    vault: OpenVault, broker: AppRole, started: Started
) -> None:
    secrets = await started(login(broker))
    vault.call("POST", "auth/token/revoke-self", token=token_of(secrets))
    with structlog.testing.capture_logs() as logged:
        await asyncio.gather(*(secrets.put(f"leases/revoked/{n}", {"n": n}) for n in range(20)))
    assert [entry["event"] for entry in logged] == ["vault_token.replaced"]
    assert await secrets.get("leases/revoked/19") == {"n": 19}


async def test_a_token_is_renewed_before_it_ends(vault: OpenVault, broker: AppRole, started: Started) -> None:
    vault.call("POST", BROKER, {"token_ttl": "2s", "token_max_ttl": "1h"})
    secrets = await started(login(broker))
    first = token_of(secrets)
    await asyncio.sleep(3.2)
    await secrets.put("leases/renewed", {"a": 1})
    await secrets.ping()
    assert token_of(secrets) == first


async def test_a_token_that_reaches_its_longest_life_is_replaced_in_good_time(
    vault: OpenVault, broker: AppRole, started: Started
) -> None:
    vault.call("POST", BROKER, {"token_ttl": "1s", "token_max_ttl": "2s"})
    secrets = await started(login(broker))
    first = token_of(secrets)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        await secrets.put("leases/replaced", {"a": 1})
        await asyncio.sleep(0.1)
    assert token_of(secrets) != first


async def test_a_wrong_secret_id_is_refused(broker: AppRole, started: Started) -> None:
    with pytest.raises(Forbidden):
        await started(AppRoleAuth(broker.role_id, "b7a4f1f0-0000-4000-8000-000000000000"))


async def test_a_withdrawn_secret_id_makes_the_service_not_ready(
    vault: OpenVault, broker: AppRole, started: Started
) -> None:
    secrets = await started(login(broker))
    vault.call("POST", f"{BROKER}/secret-id/destroy", {"secret_id": broker.secret_id})
    vault.call("POST", "auth/token/revoke-self", token=token_of(secrets))
    with pytest.raises(Forbidden):
        await secrets.get("leases/withdrawn")
    with pytest.raises(Unavailable):
        await secrets.ping()


async def test_a_secret_id_in_a_file_is_read_at_each_login(
    vault: OpenVault, broker: AppRole, started: Started, tmp_path: Path
) -> None:
    file = tmp_path / "secret-id"
    auth = AppRoleAuth(broker.role_id, secret_id_file=file)
    with pytest.raises(Unavailable):
        await started(auth)
    file.write_text(broker.secret_id + "\n")
    secrets = await started(auth)
    file.write_text((await setup(vault.address, vault.root_token, services=["vault-broker"]))["vault-broker"].secret_id)
    vault.call("POST", f"{BROKER}/secret-id/destroy", {"secret_id": broker.secret_id})
    vault.call("POST", "auth/token/revoke-self", token=token_of(secrets))
    assert await secrets.get("leases/by-file") is None


async def test_a_given_token_is_used_as_long_as_it_lives_and_not_revoked(vault: OpenVault, tmp_path: Path) -> None:
    def new_token() -> str:
        made = vault.call("POST", "auth/token/create", {"policies": ["indaco-vault-broker"], "ttl": "1h"})
        return str(made["auth"]["client_token"])

    file = tmp_path / "token"
    file.write_text(new_token())
    secrets = VaultSecrets(vault.address, TokenAuth(file=file))
    await secrets.start()
    vault.call("POST", "auth/token/revoke-self", token=file.read_text())
    with pytest.raises(Forbidden):
        await secrets.get("leases/by-token")
    file.write_text(new_token())
    assert await secrets.get("leases/by-token") is None
    await secrets.stop()
    assert vault.call("GET", "auth/token/lookup-self", token=file.read_text())["data"]["policies"]


async def test_a_root_token_needs_no_renewal(vault: OpenVault, started: Started) -> None:
    secrets = await started(TokenAuth(vault.root_token))
    await secrets.ping()
    assert await secrets.get("leases/by-root") is None


async def test_a_login_with_a_signed_token_in_a_file(vault: OpenVault, started: Started, tmp_path: Path) -> None:
    key = ECKey.generate_key("P-256")
    vault.call("POST", "sys/auth/kubernetes", {"type": "jwt"})
    vault.call("POST", "auth/kubernetes/config", {"jwt_validation_pubkeys": [key.as_pem(private=False).decode()]})
    role = {
        "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"], "token_ttl": "1h",
        "token_policies": ["indaco-orchestrator"], "token_no_default_policy": True,
    }  # fmt: skip
    vault.call("POST", "auth/kubernetes/role/indaco-orchestrator", role)
    claims = {"sub": "orchestrator", "aud": "vault", "iat": int(time.time()), "exp": int(time.time()) + 600}
    file = tmp_path / "token"
    file.write_text(jwt.encode({"alg": "ES256"}, claims, key))
    secrets = await started(JwtAuth("indaco-orchestrator", jwt_file=file))
    await secrets.put("outputs/by-jwt", {"a": 1})
    with pytest.raises(Forbidden):
        await secrets.list("leases")
    file.write_text("not.a.token")
    with pytest.raises(Forbidden):
        await started(JwtAuth("indaco-orchestrator", jwt_file=file))


async def test_credentials_do_not_show_in_a_repr() -> None:
    shown = repr([TokenAuth("s.hush"), AppRoleAuth("id", "hush"), AppRole("id", "hush")])
    assert "hush" not in shown


async def test_a_sealed_vault_is_unavailable_until_it_is_unsealed(tmp_path: Path) -> None:
    vault = OpenVault(tmp_path, ephemeral=False)
    address = await vault.start()
    secrets = vault.secrets_for("vault-broker")
    await secrets.start()
    await secrets.put("leases/sealed", {"a": 1})
    vault.call("PUT", "sys/seal")
    with pytest.raises(Unavailable, match="sealed"):
        await secrets.ping()
    for attempt in (secrets.get("leases/sealed"), secrets.put("leases/sealed", {}), secrets.unwrap("s.any")):
        with pytest.raises(Unavailable):
            await attempt
    await vault.stop()
    with pytest.raises(Unavailable):
        await secrets.get("leases/sealed")
    assert await vault.start() == address  # the static seal opens it
    await secrets.ping()
    assert await secrets.get("leases/sealed") == {"a": 1}
    await secrets.stop()
    await vault.stop()


async def test_a_vault_that_was_not_set_up_has_no_place_for_secrets(vault: OpenVault, started: Started) -> None:
    secrets = await started(TokenAuth(vault.root_token))
    vault.call("DELETE", "sys/mounts/indaco")
    try:
        for attempt in (secrets.get("leases/a"), secrets.put("leases/a", {}), secrets.list("leases")):
            with pytest.raises(Unavailable, match="not set up"):
                await attempt
        vault.call("POST", "sys/mounts/indaco", {"type": "kv", "options": {"version": "1"}})
        with pytest.raises(Invalid):
            await setup(vault.address, vault.root_token)
        vault.call("DELETE", "sys/mounts/indaco")
    finally:
        await apply(vault.address, vault.root_token)
    assert await secrets.get("leases/a") is None


async def test_a_second_set_up_keeps_secrets_and_earlier_credentials(vault: OpenVault, started: Started) -> None:
    roles = await setup(vault.address, vault.root_token)
    before = await started(login(roles["vault-broker"]))
    await before.put("leases/kept", {"a": 1})
    again = await setup(vault.address, vault.root_token, secret_id_ttl="720h")
    assert set(roles) == set(again) == set(SERVICES)
    for credential in (roles, again):
        assert await (await started(login(credential["vault-broker"]))).get("leases/kept") == {"a": 1}
    assert vault.call("GET", "indaco/config")["data"]["max_versions"] == 1


async def test_a_set_up_needs_its_policy(vault: OpenVault, broker: AppRole, started: Started) -> None:
    secrets = await started(login(broker))
    with pytest.raises(Forbidden):
        await apply(vault.address, token_of(secrets))
    with pytest.raises(Unavailable):
        await apply("http://127.0.0.1:9", vault.root_token)


async def test_a_login_outlives_an_outage_longer_than_its_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "_RETRY_S", 0.1)
    vault = OpenVault(tmp_path, ephemeral=False)
    await vault.start()
    vault.call("POST", BROKER, {"token_ttl": "1s", "token_max_ttl": "1h"})
    secrets = vault.secrets_for("vault-broker")
    await secrets.start()
    with structlog.testing.capture_logs() as logged:
        await vault.stop()
        await asyncio.sleep(1)
    assert "vault_token.renewal_failed" in [entry["event"] for entry in logged]
    await vault.start()
    await asyncio.sleep(0.5)
    await secrets.ping()
    assert await secrets.get("leases/a") is None
    await secrets.stop()
    await vault.stop()
