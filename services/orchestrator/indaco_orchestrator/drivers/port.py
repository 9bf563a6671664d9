"""The driver contract: what the orchestrator asks of one kind of cloud."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, NewType, Protocol

from indaco_common.contracts.values import NodeKind, Place, PortRule
from indaco_common.errors import Unavailable
from indaco_common.units import ResourceVector

ResourceId = NewType("ResourceId", str)
Credential = Mapping[str, str]
CALL_TIMEOUT_S = 10.0


class NotSent(Unavailable):
    """The site did not take the request, so it has had no effect: refused connection, 503, known to be down."""

    code = "not-sent"


class Ability(StrEnum):
    """What a kind of cloud can do beyond the contract."""

    USER_DATA = "user-data"
    PUBLIC_IP = "public-ip"
    USAGE = "usage"
    POWER = "power"


@dataclass(frozen=True, slots=True)
class NodeKey:
    """Names a resource for ever: the driver tags what it makes with it, and finds it by it."""

    deployment: str
    attempt: int
    node: str

    def __str__(self) -> str:
        return f"{self.deployment}.{self.attempt}.{self.node}"


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """What to make. *user* is the account that gets *ssh_keys*; *user_data* a shell script to run once as root.

    A container runs *command* (empty: the image's own) in *environment*; a bucket has *hostname* as its name.
    """

    needs: ResourceVector
    kind: NodeKind = "machine"
    flavor: str = ""
    image: str = ""
    hostname: str = ""
    user: str = "debian"
    ssh_keys: tuple[str, ...] = ()
    ports: tuple[PortRule, ...] = ()
    user_data: str = ""
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    tags: Mapping[str, str] = field(default_factory=dict)


class Phase(StrEnum):
    CREATING = "creating"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class ResourceState:
    """What the cloud says of one resource. *ports*: port asked for → port to connect to at *public_addresses*; *url*: of a bucket."""

    id: ResourceId
    phase: Phase
    private_addresses: tuple[str, ...] = ()
    public_addresses: tuple[str, ...] = ()
    ports: Mapping[int, int] = field(default_factory=dict)
    started_at: datetime | None = None
    reason: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Capacity:
    limit: ResourceVector
    used: ResourceVector


@dataclass(frozen=True, slots=True)
class UsageSample:
    """Cumulative since the resource was made, over all its runs."""

    cpu_s: float = 0.0
    network_in_bytes: int = 0
    network_out_bytes: int = 0


class ProviderDriver(Protocol):
    """One kind of cloud, bound to one place by :meth:`open`. Every call returns within 10 s and may be repeated.

    Errors are instructions to the core: ``NoCapacity`` another place; ``CredentialRejected`` issue again; ``SpecRejected`` give up;
    ``Unavailable`` the same call later (``NotSent``: and it certainly had no effect). Nothing else may escape. A call that was cancelled or timed out may have had its effect.
    """

    kind: ClassVar[str]
    abilities: ClassVar[frozenset[Ability]]

    @classmethod
    async def open(cls, place: Place) -> "ProviderDriver":
        """Return a driver for *place*; connects lazily."""

    async def close(self) -> None: ...

    async def create(self, key: NodeKey, spec: NodeSpec, credential: Credential) -> ResourceId:
        """Ask for the resource and return; a second call with the same *key* finds the first by its tag."""

    async def find(self, key: NodeKey, credential: Credential) -> ResourceId | None:
        """Return what bears *key*, in whatever phase, also what an uncertain create left behind."""

    async def describe(self, id: ResourceId, credential: Credential) -> ResourceState: ...

    async def delete(self, id: ResourceId, credential: Credential) -> None:
        """Ask for removal; what is absent already is not an error."""

    async def capacity(self, credential: Credential) -> Capacity: ...

    async def usage(self, id: ResourceId, credential: Credential) -> UsageSample: ...

    async def start(self, id: ResourceId, credential: Credential) -> None:
        """Ask for a stopped resource to run again, maybe at other addresses and ports; asked of those with ``Ability.POWER`` alone.

        What runs already, or is absent, is no error. Once this has returned ``describe`` no longer says that it is stopped, unless it
        has stopped again. ``NoCapacity`` and ``SpecRejected`` are answers to whoever wished for it: it is not asked again.
        """

    async def stop(self, id: ResourceId, credential: Credential) -> None:
        """Ask for a resource to stand still and keep its place, its disks and its key: the mirror of :meth:`start`."""
