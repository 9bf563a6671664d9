"""Builds the gateway."""

from aiohttp import web

from indaco_common.imports import PinnedImports
from indaco_common.service import Infra, Service, ServiceSpec
from indaco_common.web import Face

from .api.actions import Actions
from .api.catalogue import CatalogueApi
from .api.deployment_parts import DeploymentParts
from .api.deployments import Deployments as NativeDeployments
from .api.docs import Docs, face_of
from .api.events import Events
from .api.keys import Keys
from .api.login import LoginApi
from .api.me import MeApi
from .api.plans import Plans
from .api.trust import TrustApi
from .assembly.federation import FederationViews
from .assembly.webhooks import Webhooks
from .catalogue.served import ServiceCatalogue
from .catalogue.sources import source_of
from .handlers import Federation, Usage, Viewing
from .identity.access import Access
from .identity.exchange import Exchanges
from .identity.limits import Limits
from .identity.sessions import Sessions
from .indigo.deployments import Deployments
from .indigo.misc import Misc
from .indigo.parts import Parts
from .indigo.resources import Resources
from .inquiries import Inquiries, Inquiring
from .live import Live
from .model.inquiry import Inquiry
from .model.keyring import KeyRing
from .model.login import SpentLogin
from .model.operation import Operation
from .model.session import Session
from .revision import Revisions
from .settings import GatewaySettings
from .submission import Submissions


def face(request: web.Request) -> Face:
    """INDIGO's error bodies at the root, RFC 9457 under /v1."""
    return face_of(request.path)


def build(infra: Infra, settings: GatewaySettings) -> Service:
    operations, keyrings = infra.repository(Operation), infra.repository(KeyRing)
    access = Access(settings, operations, infra.clock, Limits(settings, infra.metrics.registry), infra.vault)
    sessions = Sessions(access, infra.repository(Session), infra.repository(SpentLogin), infra.clock, settings)
    access.session_token = sessions.token
    exchanges = Exchanges(access, sessions, infra.clock)
    access.delegation = exchanges.ensure
    imports = PinnedImports(infra.settings.imports)
    source = source_of(settings.catalogue, infra.settings.data)
    catalogue = ServiceCatalogue(source, infra.clock, settings.catalogue_refresh_s, imports.closure)
    webhooks = Webhooks(infra, settings, operations, access)
    allowed = webhooks.destinations
    submissions = Submissions(operations, keyrings, infra.store, infra.vault, infra.clock, imports, catalogue, allowed)
    revisions = Revisions(operations, infra.store, infra.vault, infra.clock, imports, catalogue, allowed)
    live = Live(operations, infra.hints, settings.max_listeners, settings.max_user_listeners)
    asked = infra.repository(Inquiry)
    inquiries = Inquiries(asked, infra.hints, infra.clock, imports, catalogue)
    federation = FederationViews(infra, access)
    routes = [
        *Misc(access, settings).routes(),
        *Deployments(access, submissions, revisions, operations, infra.clock).routes(),
        *Parts(access, infra.store, infra.vault).routes(),
        *Resources(access, operations, infra.clock).routes(),
        *Events(access, live, infra.clock).routes(),
        *NativeDeployments(access, submissions, operations, infra.clock).routes(),
        *Actions(access, operations, infra.clock).routes(),
        *DeploymentParts(access, infra.store, infra.vault, live).routes(),
        *Plans(access, inquiries).routes(),
        *Keys(access, keyrings, infra.vault).routes(),
        *CatalogueApi(access, catalogue).routes(),
        *MeApi(access).routes(),
        *LoginApi(access, sessions, infra.clock, settings).routes(),
        *TrustApi(access).routes(),
        *federation.routes(),
        *webhooks.routes(),
    ]
    routes += Docs(routes).routes()
    return Service(
        infra, handlers=(Viewing(operations, keyrings, webhooks.announcements, infra.clock), webhooks.delivering, Inquiring(asked), sessions, *federation.handlers), routes=routes, starting=(access.open, webhooks.open),
        tasks={"trust": access.run, "event streams": live.run, "plans": inquiries.run, "catalogue": catalogue.run, **webhooks.tasks}, closing=(exchanges.close, access.close, webhooks.close), app_options={"face": face},
    )  # fmt: skip


SERVICE = ServiceSpec(
    "gateway",
    GatewaySettings,
    handlers=(Viewing, Inquiring, Federation, Usage),
    build=build,
    port=8080,
    needs_secrets=True,
)
