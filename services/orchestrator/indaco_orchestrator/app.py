"""Builds the orchestrator."""

from indaco_common.imports import PinnedImports
from indaco_common.service import Infra, Service, ServiceSpec

from .drivers.registry import DriverRegistry
from .handlers import Deploying
from .model.deployment import Deployment
from .planning import Planner
from .settings import OrchestratorSettings
from .turns import Turns


def build(infra: Infra, settings: OrchestratorSettings) -> Service:
    drivers = DriverRegistry()
    turns = Turns(drivers, infra.vault, Planner(infra.store, infra.vault))
    deploying = Deploying(
        infra.repository(Deployment),
        infra.store,
        PinnedImports(infra.settings.imports),
        turns,
        infra.clock,
        settings.timing(),
        infra.hints.heard,
    )
    return Service(infra, handlers=(deploying,), closing=(drivers.close,))


SERVICE = ServiceSpec(
    "orchestrator", OrchestratorSettings, handlers=(Deploying,), build=build, port=8082, needs_secrets=True
)
