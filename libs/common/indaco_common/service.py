"""What a service is made of, and what it is given: the same five things for each."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web

from .bus.port import Bus
from .bus.topology import Topology
from .clock import Clock
from .handling import handled_types
from .hints import Hints
from .messages import Message
from .metrics import Metrics
from .secrets.port import Secrets
from .settings import ServiceSettings, Settings
from .store.aggregate import Aggregate
from .store.port import Store
from .store.repository import Repository

A = TypeVar("A", bound=Aggregate)


@dataclass(frozen=True, slots=True)
class Infra:
    """The adapters of one service, opened; built by :mod:`indaco_common.infra` from the URLs in the settings."""

    service: str
    settings: Settings
    clock: Clock
    store: Store
    bus: Bus
    secrets: Secrets | None
    metrics: Metrics
    hints: Hints

    def repository(self, kind: type[A]) -> Repository[A]:
        return Repository(self.store, kind, source=self.service, clock=self.clock, saved=self.hints.saved)

    @property
    def vault(self) -> Secrets:
        """The vault, of a service that was declared to need one."""
        assert self.secrets is not None, f"{self.service} has no vault"
        return self.secrets


@dataclass(frozen=True, slots=True)
class Service:
    """One service, built. *starting* runs once all is connected and before messages come; *tasks* run until the stop."""

    infra: Infra
    handlers: Sequence[object]
    routes: Sequence[web.AbstractRouteDef] = ()
    starting: Sequence[Callable[[], Awaitable[None]]] = ()
    tasks: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    closing: Sequence[Callable[[], Awaitable[None]]] = ()
    app_options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A service before it is built: enough to know its place in the topology and its settings."""

    name: str
    settings: type[ServiceSettings]
    handlers: tuple[type, ...]
    build: Callable[[Infra, Any], Service]
    port: int
    needs_secrets: bool = False

    @property
    def messages(self) -> tuple[type[Message], ...]:
        return handled_types(self.handlers)


def topology(specs: Sequence[ServiceSpec]) -> Topology:
    return Topology({spec.name: spec.messages for spec in specs})
