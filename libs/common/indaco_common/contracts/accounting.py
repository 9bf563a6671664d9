"""What accounting says."""

from pydantic import AwareDatetime

from indaco_common.ids import DeploymentId
from indaco_common.messages import Event

from .values import Attempt, NodeName


class _Record(Event):
    deployment_id: DeploymentId
    attempt: Attempt
    node: NodeName
    record_id: str


class RecordOpened(_Record, type="accounting.record.opened.v1"):
    started_at: AwareDatetime


class RecordClosed(_Record, type="accounting.record.closed.v1"):
    """*wall_s* from start to stop; *cpu_s* is that times the vCPUs."""

    started_at: AwareDatetime
    stopped_at: AwareDatetime
    wall_s: float
    cpu_s: float
