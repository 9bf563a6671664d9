"""Settings of the orchestrator: ``INDACO_ORCHESTRATOR_*``; times in seconds."""

import dataclasses
from datetime import timedelta
from typing import Annotated

import pydantic
from pydantic_settings import SettingsConfigDict

from indaco_common.settings import ServiceSettings

from .model.values import Timing

Seconds = Annotated[float, pydantic.Field(gt=0, le=31_536_000)]


MAX_CLAIM_S = 120  # three quarters of it, a turn, end before the runtime's own time limit for a timer


class OrchestratorSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="INDACO_ORCHESTRATOR_", extra="ignore", use_attribute_docstrings=True)

    wait_s: Seconds = 600
    """How long an answer of sla or the vault broker may take."""
    attempt_s: Seconds = 3600
    """How long all nodes of an attempt may take to run, unless the user says otherwise."""
    unreachable_s: Seconds = 300
    """How long a site may be silent while something is built there; then the next place is tried."""
    claim_s: Annotated[float, pydantic.Field(gt=0, le=MAX_CLAIM_S)] = 60
    """How long a turn of calls has a deployment for itself; longer than a call plus the site's delay in showing a machine."""
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
    """After how long a forced deletion gives up on what resists; not before a turn that was under way has lost its claim."""

    action_s: Seconds = 300
    """How long a machine may take to start or stop before its user hears that it did not."""

    def timing(self) -> Timing:
        names = (field.name for field in dataclasses.fields(Timing))
        times = {name: timedelta(seconds=getattr(self, f"{name}_s")) for name in names}
        return Timing(**{**times, "force": max(times["force"], times["claim"])})
