"""Builds the gateway."""

from aiohttp import web

from indaco_common.imports import PinnedImports
from indaco_common.service import Infra, Service, ServiceSpec
from indaco_common.web import Face

from .access import Access
from .catalogue import ServiceCatalogue
from .catalogue_api import CatalogueApi
from .catalogue_sources import source_of
from .events import Events
from .handlers import Viewing
from .indigo import misc
from .indigo.deployments import Deployments
from .indigo.parts import Parts
from .keys import Keys
from .model.keyring import KeyRing
from .model.operation import Operation
from .settings import GatewaySettings
from .submission import Submissions


def face(request: web.Request) -> Face:
    """INDIGO's error bodies at the root, RFC 9457 under /v1."""
    return "native" if request.path.startswith("/v1/") else "indigo"


def build(infra: Infra, settings: GatewaySettings) -> Service:
    operations, keyrings = infra.repository(Operation), infra.repository(KeyRing)
    access = Access(settings, operations, infra.clock)
    imports = PinnedImports(infra.settings.imports)
    source = source_of(settings.catalogue, infra.settings.data)
    catalogue = ServiceCatalogue(source, infra.clock, settings.catalogue_refresh_s, imports.closure)
    submissions = Submissions(operations, keyrings, infra.store, infra.vault, infra.clock, imports, catalogue)
    events = Events(access, operations, infra.store, infra.hints, infra.clock, settings.max_listeners)
    routes = [
        *misc.routes(access),
        *Deployments(access, submissions, operations, infra.clock).routes(),
        *Parts(access, infra.store, infra.vault).routes(),
        *events.routes(),
        *Keys(access, keyrings, infra.vault).routes(),
        *CatalogueApi(access, catalogue).routes(),
    ]
    return Service(
        infra, handlers=(Viewing(operations, keyrings, infra.clock),), routes=routes, starting=(access.open,),
        tasks={"event streams": events.run, "catalogue": catalogue.run}, closing=(access.close,), app_options={"face": face},
    )  # fmt: skip


SERVICE = ServiceSpec("gateway", GatewaySettings, handlers=(Viewing,), build=build, port=8080, needs_secrets=True)
