"""The services that are installed, as their entry points declare them."""

from importlib.metadata import entry_points
from typing import TypeVar

import click
import pydantic
from pydantic_settings import BaseSettings, SettingsError

from indaco_common import contracts
from indaco_common.bus.topology import Topology
from indaco_common.errors import Invalid
from indaco_common.service import ServiceSpec, topology
from indaco_common.settings import ServiceSettings

GROUP = "indaco.services"
ORDER = ("gateway", "sla", "orchestrator", "vault-broker", "accounting")

S = TypeVar("S", bound=BaseSettings)
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


def read(kind: type[S]) -> S:
    """Read settings from the environment. Raises: Invalid, naming the variable."""
    prefix = kind.model_config.get("env_prefix", "")
    try:
        return kind()
    except pydantic.ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name, *where = (str(part) for part in first["loc"])
        raise Invalid(f"{prefix}{name.upper()}{''.join(f'/{part}' for part in where)}: {first['msg']}") from None
    except SettingsError as error:
        field = str(error).partition('field "')[2].partition('"')[0]
        raise Invalid(f"{prefix}{field.upper()}: not valid JSON") from None
