"""The issuer as an application: discovery, keys, and the endpoints for programs and for people."""

from collections.abc import Iterable, Mapping
from html import escape

from aiohttp import web
from aiohttp.typedefs import Handler

from indaco_common.clock import Clock, SystemClock
from indaco_common.issuer import pages
from indaco_common.issuer.browser import Browser, Refused
from indaco_common.issuer.config import DEFAULT_SCOPES, IssuerConfig, KeyStore
from indaco_common.issuer.grants import Grants
from indaco_common.issuer.keyring import KeyRing, Minter
from indaco_common.issuer.oauth import Desk, OAuthError
from indaco_common.issuer.state import Attempts, State
from indaco_common.web import Health
from indaco_common.web import create_app as create_web_app

_MAX_FORM = 64 * 1024


class Issuer:
    """An OpenID Connect issuer within this process, for development and demonstrations.

    Everything but its keys is in memory: after a restart people log in again, and refresh tokens are gone.
    """

    def __init__(self, config: IssuerConfig, keys: KeyStore, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        self.config = config
        self._ring = KeyRing(keys)
        self._minter = Minter(config, self._ring, clock)
        self._desk = Desk(
            config=config,
            clock=clock,
            keys=self._ring,
            minter=self._minter,
            state=State(clock),
            client_attempts=Attempts(clock, 5),
            users={user.username: user for user in config.users},
            subjects={user.subject: user for user in config.users},
            clients={client.client_id: client for client in config.clients},
        )

    async def start(self) -> None:
        """Load the signing keys, or make them; the application does this when it starts."""
        await self._ring.load()

    async def rotate_keys(self) -> None:
        """Sign with new keys; the previous ones stay published."""
        await self._ring.rotate()

    def issue_token(
        self,
        sub: str,
        groups: Iterable[str] = (),
        *,
        scopes: Iterable[str] = DEFAULT_SCOPES,
        audience: str | None = None,
        lifetime_s: int | None = None,
        client_id: str = "indaco-test",
        claims: Mapping[str, object] | None = None,
    ) -> str:
        """Return an access token without a flow (tests, and the embedded mode's own tools)."""
        return self._minter.access_token(
            subject=sub,
            client_id=client_id,
            scopes=scopes,
            groups=groups,
            audience=audience or self.config.audiences[0],
            claims=claims,
            lifetime_s=lifetime_s,
        )

    def application(self) -> web.Application:
        routes = [
            web.get("/", self._home),
            web.get("/.well-known/openid-configuration", self._discovery),
            web.get("/.well-known/oauth-authorization-server", self._discovery),
            web.get("/jwks", self._jwks),
            *Grants(self._desk).routes(),
            *Browser(self._desk).routes(),
        ]
        app = create_web_app("issuer", routes=routes, health=Health(), middlewares=[_errors], max_body=_MAX_FORM)
        app[ISSUER] = self
        app.on_startup.append(self._on_startup)
        return app

    async def _on_startup(self, _app: web.Application) -> None:
        await self.start()

    async def _home(self, _request: web.Request) -> web.Response:
        body = (
            f"<p>This is <strong>{escape(self.config.issuer)}</strong>. Programs begin at its discovery document.</p>"
        )
        return pages.page("Identity provider", body)

    async def _jwks(self, _request: web.Request) -> web.Response:
        return web.json_response(self._ring.public(), headers={"Cache-Control": "public, max-age=300"})

    async def _discovery(self, _request: web.Request) -> web.Response:
        url = self._desk.url
        document = {
            "issuer": self.config.issuer,
            "authorization_endpoint": url("/authorize"),
            "token_endpoint": url("/token"),
            "device_authorization_endpoint": url("/device_authorization"),
            "userinfo_endpoint": url("/userinfo"),
            "revocation_endpoint": url("/revoke"),
            "end_session_endpoint": url("/logout"),
            "jwks_uri": url("/jwks"),
            "scopes_supported": sorted({*DEFAULT_SCOPES, *(s for c in self.config.clients for s in c.scopes)}),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": sorted({grant for client in self.config.clients for grant in client.grants}),
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            "claims_supported": [
                *("sub", "iss", "aud", "exp", "iat", "auth_time", "name", "preferred_username", "email"),
                *("email_verified", "groups", "wlcg.groups", "wlcg.ver"),
            ],
            "indaco_purpose": "development and demonstrations only",
        }
        return web.json_response(document, headers={"Cache-Control": "public, max-age=300"})


ISSUER = web.AppKey("issuer", Issuer)


def create_app(config: IssuerConfig, keys: KeyStore, clock: Clock | None = None) -> web.Application:
    """Return the issuer's application; ``app[ISSUER]`` is the :class:`Issuer` behind it."""
    return Issuer(config, keys, clock).application()


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell OAuth's own errors in OAuth's own words, and people in a page."""
    try:
        return await handler(request)
    except OAuthError as error:
        return error.response()
    except Refused as error:
        return pages.page("This does not work", "", error=str(error), status=error.status)
