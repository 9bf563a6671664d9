"""What the broker must hold, as static data: derived from handlers, declared by ``indaco topology apply``."""

from collections.abc import Mapping
from dataclasses import dataclass

from indaco_common.messages import Command, Message

EVENTS, COMMANDS = "indaco.events", "indaco.commands"


@dataclass(frozen=True, slots=True)
class Topology:
    """*bindings*: for each service the messages its handlers take."""

    bindings: Mapping[str, tuple[type[Message], ...]]

    @property
    def services(self) -> tuple[str, ...]:
        return tuple(sorted(self.bindings))

    def routes(self) -> list[tuple[str, str, str]]:
        """Return (exchange, service, routing key), sorted."""
        return sorted(
            (COMMANDS if issubclass(kind, Command) else EVENTS, service, kind.TYPE)
            for service, kinds in self.bindings.items()
            for kind in kinds
        )

    def receivers(self) -> dict[str, tuple[str, ...]]:
        """Return message name → services that take it."""
        found: dict[str, list[str]] = {}
        for _, service, name in self.routes():
            found.setdefault(name, []).append(service)
        return {name: tuple(services) for name, services in found.items()}


def queue(service: str) -> str:
    return f"indaco.{service}"


def retry_exchange(service: str) -> str:
    return f"indaco.{service}.retry"


def retry_queue(service: str, tier: int) -> str:
    return f"indaco.{service}.retry.{tier}"


def dead_queue(service: str) -> str:
    return f"indaco.{service}.dead"
