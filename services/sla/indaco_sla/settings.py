"""Settings of sla: ``INDACO_SLA_*``."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic_settings import SettingsConfigDict

from indaco_common.settings import ServiceSettings


class SlaSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="INDACO_SLA_", extra="ignore", use_attribute_docstrings=True)

    federation: Path | Literal["demo"] | None = None
    """The federation file: providers and agreements, put into the registry at each start; ``demo``: the one that comes along."""
    refresh_s: Annotated[float, pydantic.Field(gt=0, le=3600)] = 2.0
    """How old providers and the use of ledgers may be for ranking (agreements: 15 times that); admission is always exact."""
    report_s: Annotated[float, pydantic.Field(ge=0.05, le=3600)] = 5.0
    """How often ledgers that have changed are told of, for those who show quotas; admission does not wait for it."""
