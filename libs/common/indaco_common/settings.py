"""Settings: from the environment (``INDACO_*``), each with a default and a docstring, from which the table in the docs is made."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic_settings import BaseSettings, SettingsConfigDict

Port = Annotated[int, pydantic.Field(ge=0, le=65535)]


class Settings(BaseSettings):
    """What all services share."""

    model_config = SettingsConfigDict(env_prefix="INDACO_", extra="ignore", use_attribute_docstrings=True)

    data: Path = Path("data")
    """Folder of the embedded store, bus and vault."""
    bus: str = "embedded:"
    """``embedded:`` (a durable queue in ``data``), or ``amqp://user:password@host/vhost``."""
    store: str = "sqlite:"
    """``sqlite:`` (a file per service in ``data``), or ``mongodb://host/database``."""
    mongo_driver: Literal["motor", "pymongo"] = "motor"
    """Which client speaks to MongoDB."""
    secrets: str = "embedded:"
    """``embedded:`` (a local OpenBao, started by ``indaco run``), or ``vault+http(s)://host:port``."""
    vault_token: pydantic.SecretStr | None = None
    """A vault token; else the AppRole below."""
    vault_approle_file: Path | None = None
    """A JSON file ``{service: {"role_id", "secret_id"}}``, mode 0600."""
    vault_role: str = ""
    """Role for a login with the Kubernetes service account (``auth/kubernetes``)."""
    vault_mount: str = "indaco"
    """KV version 2 mount that holds all secrets."""
    imports: Path | None = None
    """Folder of pinned imports (``indaco imports``), with the same content for gateway and orchestrator; none: the bundled types alone."""
    host: str = "127.0.0.1"
    """Address that the HTTP servers listen on."""
    topology: Literal["apply", "verify"] = "verify"
    """``apply``: declare the broker's objects at the start; ``verify``: an administrator has (``indaco topology apply``)."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is logged."""
    log_format: Literal["json", "console"] = "json"
    """JSON lines, or for reading."""
    otlp_endpoint: str = ""
    """OTLP/HTTP collector for traces, such as ``http://127.0.0.1:4318``; empty: no traces leave the process."""
    journal_days: Annotated[int, pydantic.Field(ge=1, le=3650)] = 30
    """How long published messages stay in the journal, for ``indaco trace`` and ``indaco replay``."""
    prefetch: Annotated[int, pydantic.Field(ge=1, le=500)] = 16
    """Messages that one service handles at once."""
    sqlite_synchronous: Literal["FULL", "NORMAL"] = "FULL"
    """FULL survives a power cut; NORMAL may lose the last commits in one, never in a crash of the process."""


class ServiceSettings(BaseSettings):
    """Base of one service's own settings; ``INDACO_<SERVICE>_*``."""

    model_config = SettingsConfigDict(extra="ignore", use_attribute_docstrings=True)

    port: Port | None = None
    """Port of its HTTP server: the service's usual one unless set; 0 takes any that is free."""
