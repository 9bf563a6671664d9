"""/v1/login: logging in from a page, by the authorization code flow with PKCE; the page gets a cookie and never a token."""

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import quote, urlencode

import pydantic
import structlog
from aiohttp import web
from pydantic import ConfigDict, Field

from indaco_common.auth import (
    FetchFailed,
    Granted,
    GrantRefused,
    InvalidToken,
    LoginClient,
    Principal,
    TrustedIssuer,
)
from indaco_common.clock import Clock
from indaco_common.errors import IndacoError, Invalid, Unavailable
from indaco_common.web import NoQuery, describe, excerpt, json_response, read_query
from indaco_common.web.ratelimit import Guesses, Rate, client_address
from indaco_gateway.identity.access import Access, owner_of
from indaco_gateway.identity.sessions import CSRF_HEADER, Place, Sessions
from indaco_gateway.model.login import (
    LIFE,
    MAX_ISSUER,
    MAX_RETURN_TO,
    Attempt,
    LoginFailed,
    SpentLogin,
    check_id_token,
    check_issuer,
    digest_of,
    is_path,
    not_begun,
    tag_of,
)
from indaco_gateway.settings import GatewaySettings

TAG = "sessions"
MAX_TABS = 5  # logins of one browser that are under way
MAX_CODE, STATE_LENGTH = 4096, 43  # characters
_ERRORS = frozenset(
    {"access_denied", "login_required", "consent_required", "interaction_required", "temporarily_unavailable"}
)

_log = structlog.get_logger(__name__)


class LoginQuery(pydantic.BaseModel):
    """*issuer* may be left out where there is one. *return_to*: a path here that the browser is sent to afterwards."""

    model_config = ConfigDict(extra="forbid")

    issuer: Annotated[str, Field(max_length=MAX_ISSUER)] = ""
    return_to: Annotated[str, Field(min_length=1, max_length=MAX_RETURN_TO)] = "/"


class LoginIssuer(pydantic.BaseModel):
    """*client_id*: as what programs sign in by the device flow; *login_url*: where a page sends its user."""

    issuer: str
    client_id: str | None = None
    login_url: str | None = None


class LoginIssuers(pydantic.BaseModel):
    content: list[LoginIssuer]


class LoginApi:
    """What a browser is sent to, and what a program asks before it signs in."""

    def __init__(self, access: Access, sessions: Sessions, clock: Clock, settings: GatewaySettings) -> None:
        self._access, self._sessions, self._clock, self._settings = access, sessions, clock, settings
        rate = Rate.parse("guesses", settings.rate_guesses)
        self._guesses = Guesses(rate) if rate is not None else None

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/login", self.begin, allow_head=False),
            web.get("/v1/login/callback", self.come_back, allow_head=False),
            web.get("/v1/login/issuers", self.issuers),
            web.post("/v1/logout", self.end),
        ]

    @describe("List where one can log in", tag=TAG, answers={200: LoginIssuers}, errors=(400,), public=True)
    async def issuers(self, request: web.Request) -> web.Response:
        """For pages and for programs that nobody has told an issuer."""
        read_query(request, NoQuery)
        place = self._sessions.place(request)
        shown = []
        for each in self._access.authenticator.issuers:
            at = None
            if place is not None and each.login is not None:
                at = f"{place.base}/v1/login?issuer={quote(each.issuer, safe='')}"
            if each.enabled and (at or each.cli_client_id) is not None:
                shown.append(LoginIssuer(issuer=each.issuer, client_id=each.cli_client_id, login_url=at))
        return json_response(LoginIssuers(content=shown))

    @describe(
        "Log in from a page", tag=TAG, query=LoginQuery, answers={303: None}, errors=(400, 503), sends=("Location",), public=True
    )  # fmt: skip
    async def begin(self, request: web.Request) -> web.Response:
        """Sends the browser to the issuer, and from there, logged in, to *return_to*; if the user or the issuer refuses, with
        ``login_error``. Open it in the browser's window: scripts cannot follow it.
        """
        asked, place = read_query(request, LoginQuery), self._place(request)
        if not is_path(asked.return_to):
            raise Invalid('return_to is a path on this server, such as "/": printable ASCII that begins with one slash')
        issuer, client = self._issuer(asked.issuer)
        attempt = Attempt.begin(issuer.issuer, asked.return_to, self._clock.now())
        try:
            url = await self._access.oauth.authorization_url(
                issuer, client, redirect_uri=place.callback, state=attempt.state, nonce=attempt.nonce, verifier=attempt.verifier
            )  # fmt: skip
        except FetchFailed as error:
            raise _unavailable(issuer, error) from None
        response = web.Response(status=303, headers={"Location": url})
        prefix = place.cookie("login-")
        for name in [name for name in request.cookies if name.startswith(prefix)][MAX_TABS - 1 :]:
            _unset(response, place, name)
        _set(response, place, prefix + tag_of(attempt.state), attempt.cookie(), int(LIFE.total_seconds()))
        return response

    @describe(
        "Come back from the issuer", tag=TAG, answers={303: None}, errors=(400, 401, 429, 503), sends=("Location",), public=True
    )  # fmt: skip
    async def come_back(self, request: web.Request) -> web.Response:
        """Where the issuer sends the browser; nobody else has use for it."""
        address = client_address(request, self._settings.trusted_proxies)
        if self._guesses is not None:
            self._guesses.check(address, "")
        try:
            return await self._come_back(request)
        except IndacoError as error:
            if self._guesses is not None and not isinstance(error, Unavailable):
                self._guesses.failed(address, "")
            _log.info("login.failed", code=error.code)
            raise

    @describe(
        "Log out", tag=TAG, answers={204: None}, errors=(403, 503), headers={CSRF_HEADER: "any value; needed with a cookie"}, public=True
    )  # fmt: skip
    async def end(self, request: web.Request) -> web.Response:
        """The session of the cookie ends, here and, as far as it can be done, at the issuer. Without a session nothing happens."""
        await self._sessions.end(request)
        response = web.Response(status=204)
        if (place := self._sessions.place(request)) is not None:
            _unset(response, place, place.cookie("session"))
        return response

    async def _come_back(self, request: web.Request) -> web.Response:
        place, answer = self._place(request), _answer(request)
        state = answer.get("state", "")
        name = place.cookie("login-") + tag_of(state)
        attempt = Attempt.of_cookie(request.cookies.get(name, ""))
        if attempt is None or len(state) != STATE_LENGTH or not state.isascii():
            raise not_begun()
        attempt.check(state, self._clock.now())
        issuer, client = self._issuer(attempt.issuer)
        await self._check_issuer(issuer, answer.get("iss"))
        if "error" in answer:  # which gives nothing: noting it would let anybody fill the store
            return self._refused(place, name, attempt, answer["error"])
        if not await self._sessions.spend(SpentLogin(id=digest_of(state), due_at=attempt.expires_at)):
            raise not_begun()
        granted = await self._redeem(issuer, client, place, attempt, answer.get("code", ""))
        principal = await self._proved(issuer, client, attempt, granted)
        await self._sessions.replace(request)
        cookie = await self._sessions.begin(owner_of(principal), issuer, client, granted)
        response = web.Response(status=303, headers={"Location": attempt.return_to})
        _unset(response, place, name)
        _set(response, place, place.cookie("session"), cookie, int(self._settings.session_s))
        return response

    async def _check_issuer(self, issuer: TrustedIssuer, given: str | None) -> None:
        try:
            says = (await self._access.oauth.metadata(issuer)).values
        except FetchFailed as error:
            raise _unavailable(issuer, error) from None
        is_promised = says.get("authorization_response_iss_parameter_supported") is True
        check_issuer(str(says.get("issuer")), given, is_promised=is_promised)

    async def _redeem(
        self, issuer: TrustedIssuer, client: LoginClient, place: Place, attempt: Attempt, code: str
    ) -> Granted:
        if not code:
            raise LoginFailed("The issuer's answer has no code; begin again")
        try:
            return await self._access.oauth.redeem(
                issuer, client, code=code, verifier=attempt.verifier, redirect_uri=place.callback
            )
        except GrantRefused as error:
            _log.warning("login.code_refused", issuer=issuer.issuer, code=error.code)
            raise LoginFailed(f"The issuer did not accept the code ({error.code}); begin again") from None
        except FetchFailed as error:
            raise _unavailable(issuer, error) from None

    async def _proved(
        self, issuer: TrustedIssuer, client: LoginClient, attempt: Attempt, granted: Granted
    ) -> Principal:
        """Return who has logged in, as both tokens prove it. Raises: LoginFailed, InvalidToken, Unavailable."""
        if granted.id_token is None or not granted.access_token:
            raise LoginFailed("The issuer gave no ID token, or no access token")
        claims = await self._access.authenticator.signed_claims(granted.id_token, issuer)
        check_id_token(claims, client_id=client.client_id, nonce=attempt.nonce, now=self._clock.now())
        principal = await self._access.authenticator.verify(granted.access_token)
        if principal.issuer != issuer.issuer or claims.get(issuer.user_claim, principal.subject) != principal.subject:
            raise InvalidToken("The issuer's ID token and its access token are of two users")
        return principal

    def _refused(self, place: Place, name: str, attempt: Attempt, error: str) -> web.Response:
        code = error if error in _ERRORS else "refused"
        _log.info("login.refused", issuer=attempt.issuer, reason=code)
        path, mark, fragment = attempt.return_to.partition("#")
        location = f"{path}{'&' if '?' in path else '?'}{urlencode({'login_error': code})}{mark}{fragment}"
        response = web.Response(status=303, headers={"Location": location})
        _unset(response, place, name)
        return response

    def _issuer(self, asked: str) -> tuple[TrustedIssuer, LoginClient]:
        """Raises: Invalid."""
        offered = [each for each in self._access.authenticator.issuers if each.enabled and each.login is not None]
        names = ", ".join(each.issuer for each in offered) or "none"
        if asked:
            offered = [each for each in offered if asked in each.names]
        if len(offered) != 1 or offered[0].login is None:
            what = f"One cannot log in at {excerpt(asked)}" if asked else "Say at which issuer to log in"
            raise Invalid(f"{what}; issuers that pages can use: {names}")
        return offered[0], offered[0].login

    def _place(self, request: web.Request) -> Place:
        place = self._sessions.place(request)
        if place is None:
            raise Invalid(
                "Pages can log in at an https address that the gateway knows to be its own: set INDACO_GATEWAY_PUBLIC_URL "
                "(without it, at http://127.0.0.1 or http://localhost)"
            )
        return place


def _answer(request: web.Request) -> Mapping[str, str]:
    """Return what the issuer sent along; more than we know of is not ours to judge. Raises: LoginFailed."""
    limits = {"state": STATE_LENGTH, "code": MAX_CODE, "iss": MAX_ISSUER, "error": MAX_CODE}
    found = {}
    for name, limit in limits.items():
        values = request.query.getall(name, [])
        if len(values) > 1 or any(len(value) > limit for value in values):
            raise LoginFailed(f"The answer has {name} twice, or too long; begin again")
        if values:
            found[name] = values[0]
    return found


def _unavailable(issuer: TrustedIssuer, error: FetchFailed) -> Unavailable:
    _log.warning("login.issuer_unavailable", issuer=issuer.issuer, reason=str(error))
    return Unavailable("The issuer cannot be used for logging in now; try again", retry_after_s=5)


def _set(response: web.Response, place: Place, name: str, value: str, max_age_s: int) -> None:
    response.set_cookie(name, value, max_age=max_age_s, path="/", secure=place.is_secure, httponly=True, samesite="Lax")


def _unset(response: web.Response, place: Place, name: str) -> None:
    response.del_cookie(name, path="/", secure=place.is_secure, httponly=True, samesite="Lax")
