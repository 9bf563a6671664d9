"""Settings of the vault broker: ``INDACO_VAULT_BROKER_*``."""

from typing import Annotated

import pydantic
from pydantic_settings import SettingsConfigDict

from indaco_common.settings import ServiceSettings


class VaultBrokerSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="INDACO_VAULT_BROKER_", extra="ignore", use_attribute_docstrings=True)

    credential_ttl_s: Annotated[float, pydantic.Field(ge=60, le=31_536_000)] = 43_200
    """Life of a credential at a site, in seconds; while it is in use the broker replaces it after two thirds of it."""
