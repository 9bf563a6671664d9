"""Settings of accounting: ``INDACO_ACCOUNTING_*``."""

from pathlib import Path
from typing import Annotated

import pydantic
from pydantic_settings import SettingsConfigDict

from indaco_common.settings import ServiceSettings

from .exporters.apel import UserName


class AccountingSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="INDACO_ACCOUNTING_", extra="ignore", use_attribute_docstrings=True)

    spool: Path | None = None
    """Folder that SSM sends from (``path_type: directory``); unset: ``accounting/apel/outgoing`` in the data folder."""
    export_every_s: Annotated[float, pydantic.Field(ge=0, le=2_592_000)] = 3600
    """Time between two exports to APEL, in seconds; 0: only when asked for by ``POST /exports``."""
    export_simulated: bool = False
    """Whether usage at simulated sites is exported as well: for rehearsals, never towards a real repository."""
    site_names: dict[str, str] = pydantic.Field(default_factory=dict)
    """GOCDB name of each provider's site, as JSON; a provider that is not named goes by its own id."""
    user_name: UserName = UserName.PSEUDONYM
    """How users appear in exports: ``subject`` (subject@issuer), ``pseudonym``, or ``withheld``."""
    pseudonym_key: pydantic.SecretStr = pydantic.SecretStr("")
    """Secret of the pseudonyms: without it, who knows a subject can find its pseudonym; changing it makes new people of all."""
    metrics_labelsets: Annotated[int, pydantic.Field(ge=1, le=50_000)] = 2000
    """How many combinations of provider, region, project and vo have usage counters of their own; the rest are ``other``."""
