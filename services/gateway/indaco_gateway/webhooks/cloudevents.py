"""What a webhook is sent: a CloudEvents 1.0 event in structured JSON, with a step of the timeline and a summary of the deployment."""

from datetime import datetime

import pydantic
import pydantic_core

from indaco_gateway.api import shown
from indaco_gateway.model.delivery import Delivery
from indaco_gateway.model.operation import Operation, Step

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
SOURCE = "/indaco/gateway"
TYPE = "indaco.{}.v1"  # of a type in the patterns of subscriptions


class StepData(pydantic.BaseModel):
    """Both as /v1 shows them to whoever may read the deployment: no outputs, no template, no secrets."""

    step: Step
    deployment: shown.DeploymentSummary


class _Subscription(pydantic.BaseModel):
    id: str


class PingData(pydantic.BaseModel):
    subscription: _Subscription


class CloudEvent(pydantic.BaseModel):
    """https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md; *sequence* orders the events of one subject."""

    specversion: str = "1.0"
    id: str
    source: str = SOURCE
    type: str
    subject: str
    time: datetime
    datacontenttype: str = "application/json"
    sequence: str | None = None
    data: StepData | PingData


def of_step(delivery: Delivery, operation: Operation, step: Step) -> bytes:
    """Return the event of *step*; the summary is of the deployment as it stands now."""
    event = CloudEvent(
        id=delivery.id, type=TYPE.format(delivery.type), subject=f"deployment/{operation.id}", time=step.at,
        sequence=f"{step.number:012d}", data=StepData(step=step, deployment=shown.summary(operation)),
    )  # fmt: skip
    return pydantic_core.to_json(event, exclude_none=True)


def of_ping(delivery: Delivery, subscription: str) -> bytes:
    event = CloudEvent(
        id=delivery.id, type=TYPE.format(delivery.type), subject=f"subscription/{subscription}", time=delivery.created_at,
        data=PingData(subscription=_Subscription(id=subscription)),
    )  # fmt: skip
    return pydantic_core.to_json(event, exclude_none=True)
