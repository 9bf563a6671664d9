"""The services that are installed, as their entry points declare them."""

from importlib.metadata import entry_points

import click

from indaco_common import contracts
from indaco_common.bus.topology import Topology
from indaco_common.service import ServiceSpec, topology
from indaco_common.settings import ServiceSettings

GROUP = "indaco.services"
ORDER = ("gateway", "sla", "orchestrator", "vault-broker", "accounting")

_ = contracts  # importing it registers every message


def all_specs() -> list[ServiceSpec]:
    """Return every installed service, the known ones first."""
    found = [entry.load() for entry in entry_points(group=GROUP)]
    return sorted(found, key=lambda spec: (ORDER.index(spec.name) if spec.name in ORDER else len(ORDER), spec.name))


def spec_named(name: str) -> ServiceSpec:
    """Raises: UsageError, naming what there is."""
    specs = {spec.name: spec for spec in all_specs()}
    if name not in specs:
        raise click.UsageError(f"there is no service {name!r}; there are {', '.join(specs)}")
    return specs[name]


def whole_topology() -> Topology:
    return topology(all_specs())


def port_of(spec: ServiceSpec, settings: ServiceSettings) -> int:
    return spec.port if settings.port is None else settings.port
