"""Events about one node, as the orchestrator tells them."""

from datetime import UTC, datetime
from typing import Any

from indaco_accounting.model import UsageRecord
from indaco_common.contracts.orchestrator import NodeRemoved, NodeStarted, UsageSampled
from indaco_common.contracts.values import Group, Owner, Place
from indaco_common.ids import DeploymentId
from indaco_common.units import ResourceVector

DEPLOYMENT = DeploymentId("01935c2e-0000-7000-8000-000000000001")
START = datetime(2026, 11, 3, 10, 0, tzinfo=UTC)
PLACE = Place(
    provider="recas-bari", kind="openstack", endpoint="https://cloud.example.org", region="RegionOne", project="cms-prod",
    agreement="cms@recas",
)  # fmt: skip


class Node:
    """One node; *changes* replace fields of what is told about it."""

    def __init__(self, start: datetime = START, **changes: Any) -> None:
        self._facts: dict[str, Any] = {
            "deployment_id": DEPLOYMENT, "attempt": 1, "node": "server-0",
            "owner": Owner(issuer="https://iam.example.org/", subject="ada"),
            "group": Group(issuer="https://iam.example.org/", path="cms/analysis"), "place": PLACE,
            "needs": ResourceVector(instances=1, cpu_milli=4000, memory_mib=8192, disk_gib=40, public_ips=1),
            "resource_id": "6F3A0D5E-5C1B-4A38-9D0E-1B6F6A4F2C11", "image": "debian-12", "started_at": start, **changes,
        }  # fmt: skip

    @property
    def id(self) -> str:
        return "{deployment_id}/{attempt}/{node}".format(**self._facts)

    def started(self) -> NodeStarted:
        return NodeStarted(**self._facts)

    def sampled(self, at: datetime, **figures: Any) -> UsageSampled:
        return UsageSampled(**self._facts, sampled_at=at, **figures)

    def removed(self, at: datetime) -> NodeRemoved:
        return NodeRemoved(**self._facts, stopped_at=at)

    def record(self, *events: NodeStarted | UsageSampled | NodeRemoved) -> UsageRecord:
        record = UsageRecord.new(self.id)
        for event in events:
            tell(record, event)
        return record


def tell(record: UsageRecord, event: NodeStarted | UsageSampled | NodeRemoved) -> None:
    match event:
        case NodeStarted():
            record.started(event)
        case UsageSampled():
            record.sampled(event)
        case NodeRemoved():
            record.removed(event)
