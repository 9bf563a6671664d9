"""What ``indaco run`` brings along so that nothing else is needed: a vault, an issuer with two users, a federation to try."""

import asyncio
import fcntl
import json
import os
import secrets as random
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

import structlog
from aiohttp import ClientSession, UnixConnector, web

from indaco_common import issuer
from indaco_common.errors import Conflict
from indaco_common.secrets.port import Secrets
from indaco_common.settings import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

ISSUER_PORT = 8085
AUDIENCE = "indaco"
CLI, PAGES = "indaco", "indaco-pages"  # the clients that the command line and pages are
KEYS, USERS = "issuer/keys", "issuer/users"
PEOPLE = {
    "ada": ("Ada", ("cms", "cms/analysis")),
    "bob": ("Bob", ("atlas",)),
    "operator": ("Operator", ("indaco-admins",)),
}
DOCKER_SOCKET, VM_IMAGE = "/var/run/docker.sock", "indaco/vm:12"


def claim(data: Path) -> TextIO:
    """Hold *data* for this process; two on one folder would share a queue. Raises: Conflict."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = (data / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise Conflict(
            f"{data} is used by another `indaco run`; stop it, or choose another folder with --data"
        ) from None
    return lock


class VaultKeys:
    """Keeps the issuer's signing keys in the vault."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    async def load(self) -> str | None:
        kept = await self._secrets.get(KEYS)
        return None if kept is None else str(kept["jwks"])

    async def save(self, jwks_json: str) -> None:
        await self._secrets.put(KEYS, {"jwks": jwks_json})


class LocalIssuer:
    """The issuer of the embedded mode, on a port of its own; its users' passwords are made once and kept in the vault."""

    def __init__(self, secrets: Secrets, host: str, port: int) -> None:
        self._secrets, self._host, self._port = secrets, host, port
        self._runner: web.AppRunner | None = None
        self.passwords: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        kept = await self._secrets.get(USERS)
        if kept is None:
            passwords = {name: random.token_urlsafe(9) for name in PEOPLE}
            kept = {name: [password, issuer.hash_password(password)] for name, password in passwords.items()}
            await self._secrets.put(USERS, kept)
        known: dict[str, tuple[str, str]] = {name: tuple(pair) for name, pair in kept.items()}  # type: ignore[arg-type, misc]
        self.passwords = {name: password for name, (password, _) in known.items()}
        users = _users({name: hashed for name, (_, hashed) in known.items()})
        config = issuer.IssuerConfig(
            issuer=self.url, audiences=(AUDIENCE,), users=users, clients=_clients(), device_interval_s=1
        )
        app = issuer.create_app(config, VaultKeys(self._secrets))
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, auto_decompress=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()


def _users(hashes: Mapping[str, str]) -> tuple[issuer.User, ...]:
    return tuple(
        issuer.User(
            username=name, password_hash=hashes[name], name=full, groups=groups, email=f"{name}@indaco.invalid"
        )
        for name, (full, groups) in PEOPLE.items()
    )  # fmt: skip


def _clients() -> tuple[issuer.Client, ...]:
    grants: tuple[issuer.Grant, ...] = ("authorization_code", issuer.DEVICE_CODE, "refresh_token")
    redirects = ("http://127.0.0.1/callback", "http://localhost/callback")
    back = ("http://127.0.0.1/v1/login/callback", "http://localhost/v1/login/callback")
    return (
        issuer.Client(client_id=CLI, name="Indaco command line", grants=grants, redirect_uris=redirects),
        issuer.Client(client_id=PAGES, name="Indaco", redirect_uris=back, skip_consent=True),
    )


def trusted(url: str) -> str:
    """Return the gateway's setting that trusts the local issuer."""
    login = {"client_id": PAGES, "scopes": issuer.DEFAULT_SCOPES}
    record = {"issuer": url, "audiences": [AUDIENCE], "allow_http": True, "cli_client_id": CLI, "login": login}
    return json.dumps([record])


async def prepare_environment(settings: Settings, issuer_url: str) -> None:
    """Set what services read from the environment and the user has not set: whom to trust, and the federation to try."""
    defaults = {
        "INDACO_GATEWAY_ISSUERS": trusted(issuer_url),
        "INDACO_GATEWAY_ADMIN_GROUPS": '["indaco-admins"]',
        "INDACO_SLA_FEDERATION": "demo",
        "INDACO_ISSUER": issuer_url,
        "INDACO_SIMULATED": str(settings.data.absolute() / "simulated"),
        "INDACO_DOCKER_STATE": "active" if await has_docker() else "maintenance",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


async def has_docker() -> bool:
    """Is there a Docker Engine with the machine image?"""
    try:
        async with (
            asyncio.timeout(2),
            ClientSession(connector=UnixConnector(DOCKER_SOCKET)) as session,
            session.get(f"http://docker/images/{VM_IMAGE}/json") as answer,
        ):
            return answer.status == 200  # noqa: PLR2004
    except (OSError, TimeoutError):
        return False
