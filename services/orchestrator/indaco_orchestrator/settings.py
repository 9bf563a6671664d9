"""Settings of the orchestrator: ``INDACO_ORCHESTRATOR_*``; times in seconds."""

from datetime import timedelta
from typing import Annotated

import pydantic
from pydantic_settings import SettingsConfigDict

from indaco_common.settings import ServiceSettings

from .model.values import Timing

Seconds = Annotated[float, pydantic.Field(gt=0, le=31_536_000)]


class OrchestratorSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="INDACO_ORCHESTRATOR_", extra="ignore", use_attribute_docstrings=True)

    wait_s: Seconds = 600
    """How long an answer of sla or the vault broker may take."""
    attempt_s: Seconds = 3600
    """How long all nodes of an attempt may take to run, unless the user says otherwise."""
    unreachable_s: Seconds = 300
    """How long a site may be silent while something is built there; then the next place is tried."""
    claim_s: Seconds = 60
    """How long one turn of calls may take; longer than a call plus the site's delay in showing a machine."""
    alive_s: Seconds = 300
    """How often a hold of quota is renewed while building."""
    poll_s: Seconds = 2
    """First interval between looks at what is being built or removed."""
    poll_max_s: Seconds = 15
    """Last interval of the same."""
    watch_s: Seconds = 30
    """Interval between looks at what runs."""
    sample_s: Seconds = 300
    """Interval between usage samples."""
    delete_s: Seconds = 600
    """After how long a deletion that does not end is reported as failed (it is tried on)."""
    force_s: Seconds = 30
    """After how long a forced deletion gives up on what resists."""

    def timing(self) -> Timing:
        names = (
            "wait",
            "attempt",
            "unreachable",
            "claim",
            "alive",
            "poll",
            "poll_max",
            "watch",
            "sample",
            "delete",
            "force",
        )
        return Timing(**{name: timedelta(seconds=getattr(self, f"{name}_s")) for name in names})
