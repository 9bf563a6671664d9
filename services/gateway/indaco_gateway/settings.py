"""Settings of the gateway: ``INDACO_GATEWAY_*``."""

from typing import Annotated

import pydantic
from pydantic_settings import SettingsConfigDict

from indaco_common.auth import TrustedIssuer
from indaco_common.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="INDACO_GATEWAY_", extra="ignore", use_attribute_docstrings=True)

    issuers: tuple[TrustedIssuer, ...] = ()
    """Whose tokens are accepted, as a JSON list; none in ``indaco run``: the issuer that it brings along."""
    admin_groups: tuple[str, ...] = ()
    """Groups (``path`` within the first issuer) whose members may see and delete every deployment of their issuer."""
    write_scopes: tuple[str, ...] = ()
    """One of these scopes is needed to create and delete; empty: none (INDIGO: ``offline_access`` or ``fts:submit-transfer``)."""
    max_listeners: Annotated[int, pydantic.Field(ge=1, le=100_000)] = 2000
    """Event streams at once."""
    catalogue: str = ""
    """Service catalogue: a folder, or ``git+https://host/path?ref=main&folder=catalogue`` (also ssh, file); empty: ours; ``none``: none."""
    catalogue_refresh_s: Annotated[float, pydantic.Field(ge=1, le=86_400)] = 30
    """How often the gateway looks whether the catalogue has changed."""
    public_url: str = ""
    """Where users reach it, for links; empty: as each request says (``X-Forwarded-*`` are heeded)."""
