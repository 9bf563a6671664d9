"""Settings of the gateway: ``INDACO_GATEWAY_*``."""

from pathlib import Path
from typing import Annotated

import pydantic
from pydantic_settings import SettingsConfigDict

from indaco_common.auth import TrustedIssuer
from indaco_common.settings import ServiceSettings
from indaco_common.web.ratelimit import RATE

from .identity.policy import RoleRule
from .webhooks.destinations import parse_ports

RateText = Annotated[str, pydantic.Field(pattern=f"^(?:{RATE})$")]


class GatewaySettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="INDACO_GATEWAY_", extra="ignore", use_attribute_docstrings=True)

    issuers: tuple[TrustedIssuer, ...] = ()
    """Whose tokens are accepted, as a JSON list; none in ``indaco run``: the issuer that it brings along."""
    issuers_file: Path | None = None
    """A YAML or JSON file with ``issuers`` and ``roles``, in place of ``issuers``; read again when it changes (docs/howto/trust-an-issuer.md)."""
    issuers_refresh_s: Annotated[float, pydantic.Field(ge=0.05, le=3600)] = 10
    """How often the gateway looks whether the issuers file has changed."""
    admin_groups: tuple[str, ...] = ()
    """Groups whose members, as the first issuer asserts them, are operators of that issuer's deployments: short for rules in ``roles``."""
    roles: tuple[RoleRule, ...] = ()
    """Which groups make operators, auditors and group administrators, as a JSON list; beside those of the issuers file."""
    write_scopes: tuple[str, ...] = ()
    """One of these scopes is needed to create and delete; empty: none (INDIGO: ``offline_access`` or ``fts:submit-transfer``)."""
    max_listeners: Annotated[int, pydantic.Field(ge=1, le=100_000)] = 2000
    """Event streams, and requests that wait for news of a timeline, at once in one process."""
    max_user_listeners: Annotated[int, pydantic.Field(ge=1, le=100_000)] = 200
    """The same of one user, so that nobody takes the place of all others."""
    catalogue: str = ""
    """Service catalogue: a folder, or ``git+https://host/path?ref=main&folder=catalogue`` (also ssh, file); empty: ours; ``none``: none."""
    catalogue_refresh_s: Annotated[float, pydantic.Field(ge=1, le=86_400)] = 30
    """How often the gateway looks whether the catalogue has changed."""
    public_url: str = ""
    """Where users reach it, for links; empty: as each request says (``X-Forwarded-*`` are heeded)."""
    rate_read: RateText = "6000/60"
    """Requests that read, per user and gateway process: at once / seconds in which they come back; ``none``: no limit."""
    rate_write: RateText = "1200/60"
    """The same for requests that change something."""
    rate_plan: RateText = "120/60"
    """The same for plans (dry runs) and for questions about usage."""
    rate_events: RateText = "1200/60"
    """The same for event streams, when they are opened."""
    rate_guesses: RateText = "120/60"
    """Tokens and sessions that are not accepted, per address (IPv6: per /64); those that are known to be good are let through."""
    trusted_proxies: tuple[pydantic.IPvAnyNetwork, ...] = ()
    """Networks of reverse proxies, as a JSON list: from these the address of ``X-Forwarded-For`` counts for ``rate_guesses``."""
    monitoring_url: str = ""
    """Where users find the monitoring, for ``GET /configuration``."""
    vault_url: str = ""
    """The vault that users store credentials in, for ``GET /configuration``; not the one that the services use."""
    session_idle_s: Annotated[float, pydantic.Field(ge=1, le=7 * 86_400)] = 3600
    """A session of a page ends when it was not used for so long."""
    session_s: Annotated[float, pydantic.Field(ge=1, le=30 * 86_400)] = 43_200
    """And in any case so long after its login."""
    max_sessions: Annotated[int, pydantic.Field(ge=1, le=1000)] = 20
    """Sessions of one user; one more ends the oldest."""
    callback_networks: tuple[pydantic.IPvAnyNetwork, ...] = ()
    """Networks that callbacks and webhooks may lead to beside public addresses, as a JSON list: ``["10.0.0.0/8"]``; for trying out ``["127.0.0.0/8"]``."""
    callback_ports: str = "80,443,1024-65535"
    """Ports that they may lead to."""
    max_subscriptions: Annotated[int, pydantic.Field(ge=0, le=1000)] = 20
    """Webhook subscriptions of one user."""
    max_waiting_deliveries: Annotated[int, pydantic.Field(ge=1, le=1000)] = 300
    """Deliveries of one subscription that wait; of more the oldest are given up, and a receiver that takes nothing is paused."""
    dead_deliveries: Annotated[int, pydantic.Field(ge=1, le=1000)] = 5
    """Deliveries in a row that are given up before a subscription is paused."""

    @pydantic.field_validator("callback_ports")
    @classmethod
    def _are_ports(cls, value: str) -> str:
        parse_ports(value)
        return value
