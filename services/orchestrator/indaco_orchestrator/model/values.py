"""What a deployment is made of, and the times it goes by."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

import pydantic
from pydantic import AwareDatetime

from indaco_common.contracts.gateway import PowerAction
from indaco_common.contracts.values import Failure, Place
from indaco_common.units import ResourceVector


class Status(StrEnum):
    NEW = "new"
    AWAITING_PLACE = "awaiting-place"
    AWAITING_CREDENTIAL = "awaiting-credential"
    CREATING = "creating"
    RUNNING = "running"
    UPDATING = "updating"
    CLEANING = "cleaning"
    FAILED = "failed"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things may take; *claim* is longer than a turn and a site's delay in showing a machine together."""

    wait: timedelta = timedelta(minutes=10)  # for an answer of sla or the vault broker
    attempt: timedelta = timedelta(hours=1)  # for all nodes of an attempt to run
    unreachable: timedelta = timedelta(minutes=5)  # a building site may be silent
    claim: timedelta = timedelta(seconds=60)
    alive: timedelta = timedelta(minutes=5)  # between renewals of a hold: a third of its life
    poll: timedelta = timedelta(seconds=2)  # while building or cleaning; grows with the age of the state to poll_max
    poll_max: timedelta = timedelta(seconds=15)
    watch: timedelta = timedelta(seconds=30)
    sample: timedelta = timedelta(minutes=5)
    delete: timedelta = timedelta(minutes=10)  # until debris that resists is reported
    force: timedelta = timedelta(seconds=30)  # until ``force`` gives debris up
    action: timedelta = timedelta(minutes=5)  # for a machine to start or stop


@dataclass(frozen=True, slots=True)
class Moment:
    """When a decision is taken. Messages sent before *heard* have been handled: a deadline after it may be our own outage."""

    now: datetime
    timing: Timing = field(default_factory=Timing)
    heard: datetime | None = None

    def passed(self, deadline: datetime | None) -> bool:
        return deadline is not None and self.now >= deadline and (self.heard is None or self.heard >= deadline)


class Part(pydantic.BaseModel):
    """A changeable part of a deployment's state."""


class Wish(Part):
    """A user wants a machine started or stopped, by the action of this number."""

    action: PowerAction
    number: int
    since: AwareDatetime


class Node(Part):
    """One machine, container or bucket that runs, or ran and is not cleaned yet."""

    attempt: int
    name: str
    place: Place
    needs: ResourceVector
    image: str = ""
    resource_id: str = ""
    public_addresses: tuple[str, ...] = ()
    private_addresses: tuple[str, ...] = ()
    ports: dict[int, int] = pydantic.Field(default_factory=dict)
    url: str = ""
    started_at: AwareDatetime
    run: int = 1  # how many times it ran, the present one included
    stopped_at: AwareDatetime | None = None  # None: it runs
    answered: int = 0  # the highest number of an action on it that is over
    wish: Wish | None = None  # the action that is not


class Taken(Part):
    """A reservation in use: by the live attempt, one of its slots, or debris."""

    attempt: int
    slot: str
    agreement: str


class Debris(Part):
    """What may be left at a place that was given up; slot ``main`` stands for the whole attempt."""

    attempt: int
    slot: str
    place: Place
    nodes: set[str]  # every name for which a create may have been sent
    since: AwareDatetime
    settles_at: AwareDatetime  # from then on a look that finds nothing counts
    quiet: int = 0  # such looks in a row that found nothing
    reported: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """A machine that a turn saw running."""

    resource_id: str
    public_addresses: tuple[str, ...] = ()
    private_addresses: tuple[str, ...] = ()
    ports: dict[int, int] = field(default_factory=dict)
    started_at: datetime | None = None
    url: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    cpu_s: float
    network_in_bytes: int
    network_out_bytes: int


@dataclass(slots=True)
class Findings:
    """What one turn of calls has shown, for the attempt, slot and claim (*token*) under which it was made."""

    attempt: int
    slot: str
    token: datetime | None
    started: dict[str, Started] = field(default_factory=dict)  # all that run, known before or not
    stopped: set[str] = field(default_factory=set)  # known, and standing still
    refused: dict[str, tuple[int, Failure]] = field(
        default_factory=dict
    )  # known: number of an action, and why it cannot be done
    gone: set[str] = field(default_factory=set)
    failure: Failure | None = None  # the place cannot do it
    rejected: set[int] = field(default_factory=set)  # attempts whose credential is dead or missing
    swept: dict[tuple[int, str], bool] = field(default_factory=dict)
    sent: bool = False
    reached: bool = False  # the current place answered
    trouble: Failure | None = None  # the last error met, for people
    samples: dict[str, Sample] = field(default_factory=dict)
    outputs: dict[str, object] | None = None  # None: not resolved
    secret_outputs: tuple[str, ...] = ()
