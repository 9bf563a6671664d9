"""Opens the adapters that the URLs in the settings name. The one place that knows all of them."""

import json
from pathlib import Path
from urllib.parse import urlsplit

from .bus.embedded import EmbeddedBus
from .bus.port import Bus
from .clock import Clock
from .errors import Invalid
from .hints import Hints
from .metrics import Metrics
from .secrets.embedded import EmbeddedVault
from .secrets.login import AppRoleAuth, JwtAuth, TokenAuth, VaultAuth
from .secrets.port import Secrets
from .secrets.vault import VaultSecrets
from .service import Infra, ServiceSpec
from .settings import Settings
from .store.port import Store
from .store.sqlite import SqliteStore


def open_bus(settings: Settings, name: str) -> Bus:
    """Return the bus of *settings*, not started. Raises: Invalid, for a scheme that is not known."""
    scheme, _, _ = settings.bus.partition(":")
    match scheme:
        case "embedded":
            return EmbeddedBus(settings.data / "bus.db")
        case "amqp" | "amqps":
            from .bus.rabbitmq import RabbitBus  # noqa: PLC0415 - a tenth of the start is spared where it is not used

            return RabbitBus(settings.bus, connection_name=name)
        case _:
            raise Invalid(f"INDACO_BUS: {scheme!r} is not known; use embedded: or amqp://user:password@host/vhost")


def store_file(settings: Settings, service: str) -> Path | None:
    """Return where the store of *service* lies, or will lie; None, if it is on a server."""
    scheme, _, rest = settings.store.partition(":")
    if scheme != "sqlite":
        return None
    return (Path(rest.removeprefix("//")) if rest.strip("/") else settings.data) / f"{service}.db"


def open_store(settings: Settings, service: str) -> Store:
    """Return the store of *service*, not started. Raises: Invalid."""
    if (file := store_file(settings, service)) is not None:
        return SqliteStore(file, synchronous=settings.sqlite_synchronous)
    match scheme := settings.store.partition(":")[0]:
        case "mongodb" | "mongodb+srv":
            from .store.mongo import MongoStore  # noqa: PLC0415 - as above

            name = urlsplit(settings.store).path.strip("/") or "indaco"
            return MongoStore(settings.store, f"{name}_{service.replace('-', '_')}", driver=settings.mongo_driver)
        case _:
            raise Invalid(f"INDACO_STORE: {scheme!r} is not known; use sqlite: or mongodb://host/database")


def open_secrets(settings: Settings, service: str, vault: EmbeddedVault | None) -> Secrets:
    """Return the secrets of *service*, not started; *vault* is the child of the embedded mode. Raises: Invalid."""
    scheme, _, rest = settings.secrets.partition(":")
    match scheme:
        case "embedded" if vault is not None:
            return vault.secrets_for(service)
        case "embedded":
            raise Invalid(
                "INDACO_SECRETS: embedded: works only in `indaco run` without a service; name vault+http(s)://"
            )
        case "vault+http" | "vault+https":
            return VaultSecrets(f"{scheme.removeprefix('vault+')}:{rest}", _auth(settings, service))
        case _:
            raise Invalid(f"INDACO_SECRETS: {scheme!r} is not known; use embedded: or vault+https://host:port")


def _auth(settings: Settings, service: str) -> VaultAuth:
    if settings.vault_token is not None:
        return TokenAuth(settings.vault_token.get_secret_value())
    if settings.vault_approle_file is not None:
        return _approle(settings.vault_approle_file, service)
    if settings.vault_role:
        return JwtAuth(mount="kubernetes", role=settings.vault_role)
    raise Invalid(
        "set INDACO_VAULT_TOKEN, INDACO_VAULT_APPROLE_FILE or INDACO_VAULT_ROLE to say how to log in to the vault"
    )


def _approle(file: Path, service: str) -> AppRoleAuth:
    try:
        mine = json.loads(file.read_text())[service]
        return AppRoleAuth(mine["role_id"], mine["secret_id"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise Invalid(f"INDACO_VAULT_APPROLE_FILE: {file} does not hold an AppRole of {service}") from error


def open_infra(
    spec: ServiceSpec, settings: Settings, clock: Clock, *, bus: Bus | None = None, vault: EmbeddedVault | None = None
) -> Infra:
    """Return the adapters of one service; a *bus* that is given is shared, and its owner starts and stops it."""
    return Infra(
        service=spec.name,
        settings=settings,
        clock=clock,
        store=open_store(settings, spec.name),
        bus=bus or open_bus(settings, spec.name),
        secrets=open_secrets(settings, spec.name, vault) if spec.needs_secrets else None,
        metrics=Metrics(spec.name),
        hints=Hints(),
    )
