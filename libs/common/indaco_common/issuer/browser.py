"""The endpoints for people: authorize, log in, approve, enter a device's code, log out."""

import hmac
import re
import secrets
from collections.abc import Mapping
from html import escape
from typing import NoReturn
from urllib.parse import urlencode, urlsplit

import structlog
from aiohttp import web

from indaco_common.issuer import hashes, pages
from indaco_common.issuer.config import Client
from indaco_common.issuer.oauth import Desk, OAuthError, read_form
from indaco_common.issuer.state import (
    AuthorizationRequest,
    Code,
    DeviceGrant,
    DeviceStatus,
    Interaction,
    Session,
    normal_user_code,
)

_BROWSER, _SESSION = "indaco_browser", "indaco_session"
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_CODE_S, _INTERACTION_S = 60, 900
_MAX_TEXT = 1024
_MAX_USERNAME = 65  # one more than a user name has: what is longer is nobody's

_log = structlog.get_logger(__name__)


class Refused(Exception):
    """A person is shown why it cannot go on."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Browser:
    """One method for a page; which page comes next is decided by :meth:`_next`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._cookie_path = desk.config.path or "/"

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/authorize", self.authorize),
            web.post("/login", self.login),
            web.post("/consent", self.consent),
            web.get("/device", self.device),
            web.post("/device", self.enter_code),
            web.get("/logout", self.ask_logout),
            web.post("/logout", self.logout),
        ]

    async def authorize(self, request: web.Request) -> web.StreamResponse:
        client, redirect_uri = self._known_client(request.query)
        try:
            asked = self._checked(client, redirect_uri, request.query)
        except OAuthError as error:
            return self._back(
                redirect_uri, request.query.get("state"), error=error.error, error_description=error.description
            )
        interaction = self._begin(request, asked=asked)
        session = self._session(request)
        prompt = request.query.get("prompt", "")
        if prompt == "none" and (session is None or not client.skip_consent):
            missing = "login_required" if session is None else "consent_required"
            return self._back(redirect_uri, asked.state, error=missing)
        return self._next(interaction, None if "login" in prompt.split() else session)

    async def login(self, request: web.Request) -> web.StreamResponse:
        form, interaction = await self._resume(request)
        username = form.get("username", "")[:_MAX_USERNAME]
        wait_s = self._desk.state.logins.wait_s(username)
        if wait_s > 0:
            message = f"Too many wrong passwords; try again in {int(wait_s) + 1} seconds"
            refusal = self._login_page(interaction, error=message, status=429, username=username)
            refusal.headers["Retry-After"] = str(int(wait_s) + 1)
            return refusal
        user = self._desk.users.get(username)
        is_right = await hashes.verify(form.get("password", ""), user.password_hash if user else hashes.NOBODY)
        if user is None or not is_right:
            self._desk.state.logins.failed(username)
            _log.warning("issuer.login_refused", is_known=user is not None)
            return self._login_page(interaction, error="User name or password is wrong", status=401, username=username)
        session = Session(user.username, self._desk.clock.now())
        _log.info("issuer.user_logged_in", subject=user.subject)
        response = self._next(interaction, session, is_fresh=True)
        # A new name for the session at each login: whoever planted the old one has nothing.
        self._forget_session(request)
        name = secrets.token_urlsafe(32)
        self._desk.state.sessions.put(name, session, seconds=self._desk.config.session_s)
        self._set_cookie(response, _SESSION, name)
        return response

    async def consent(self, request: web.Request) -> web.StreamResponse:
        form, interaction = await self._resume(request)
        session = self._session(request)
        match form.get("decision"):
            case "allow" if session is not None and session.username == interaction.username:
                return self._allow(interaction, session)
            case "deny":
                return self._deny(interaction)
            case _:
                return self._login_page(interaction)

    async def device(self, request: web.Request) -> web.StreamResponse:
        interaction = self._begin(request)
        return self._code_page(interaction, user_code=request.query.get("user_code", "")[:32])

    async def enter_code(self, request: web.Request) -> web.StreamResponse:
        form, interaction = await self._resume(request)
        user_code, tries = normal_user_code(form.get("user_code", "")[:32]), self._desk.state.user_codes
        # All browsers together: the codes are short, and a guesser has many cookie jars.
        if tries.wait_s("") > 0:
            return self._code_page(interaction, error="Too many wrong codes; wait a minute", status=429)
        device_code = self._desk.state.device_of_user_code.get(user_code)
        grant = self._desk.state.devices.get(device_code) if device_code else None
        if grant is None or grant.status is not DeviceStatus.PENDING:
            tries.failed("")
            return self._code_page(interaction, error="This code is unknown or has expired", status=400)
        interaction.device_code = device_code
        return self._next(interaction, self._session(request))

    async def ask_logout(self, request: web.Request) -> web.StreamResponse:
        interaction = self._begin(request)
        return self._shown(
            interaction, "Log out", self._form("/logout", interaction, '<button type="submit">Log out</button>')
        )

    async def logout(self, request: web.Request) -> web.StreamResponse:
        _, interaction = await self._resume(request)
        self._forget_session(request)
        self._desk.state.interactions.pop(interaction.id)
        response = pages.page(
            "Logged out", "<p>You are logged out here. Tokens that programs hold live until they expire.</p>"
        )
        response.del_cookie(_SESSION, path=self._cookie_path)
        return response

    # ── what comes next ──────────────────────────────────────────────────────────────────────────────────────────────

    def _next(self, interaction: Interaction, session: Session | None, *, is_fresh: bool = False) -> web.StreamResponse:
        if session is None or session.username not in self._desk.users:
            return self._login_page(interaction)
        client, _ = self._asking(interaction)
        # The login page of a code flow has said who asks for what. A device is always approved by its own button.
        if interaction.request is not None and (is_fresh or client.skip_consent):
            return self._allow(interaction, session)
        return self._consent_page(interaction, session)

    def _allow(self, interaction: Interaction, session: Session) -> web.StreamResponse:
        self._desk.state.interactions.pop(interaction.id)
        if interaction.request is not None:
            code = secrets.token_urlsafe(32)
            self._desk.state.codes.put(
                code, Code(interaction.request, session.username, session.auth_time), seconds=_CODE_S
            )
            return self._back(interaction.request.redirect_uri, interaction.request.state, code=code)
        grant = self._device_grant(interaction)
        grant.status, grant.username, grant.auth_time = DeviceStatus.APPROVED, session.username, session.auth_time
        self._desk.state.device_of_user_code.pop(grant.user_code)
        return pages.page("Device approved", "<p>You may go back to your device.</p>")

    def _deny(self, interaction: Interaction) -> web.StreamResponse:
        self._desk.state.interactions.pop(interaction.id)
        if interaction.request is not None:
            return self._back(interaction.request.redirect_uri, interaction.request.state, error="access_denied")
        grant = self._device_grant(interaction)
        grant.status = DeviceStatus.DENIED
        self._desk.state.device_of_user_code.pop(grant.user_code)
        return pages.page("Device refused", "<p>The device gets nothing. You may close this page.</p>")

    def _back(self, redirect_uri: str, state: str | None, **answer: str) -> web.Response:
        """Send the browser back to the client, with the issuer's name against mix-ups (RFC 9207)."""
        if state is not None:
            answer["state"] = state
        query = urlencode({**answer, "iss": self._desk.config.issuer})
        location = f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{query}"
        return web.Response(status=303, headers={"Location": location})

    # ── pages ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _login_page(
        self, interaction: Interaction, *, error: str = "", status: int = 200, username: str = ""
    ) -> web.Response:
        client, scopes = self._asking(interaction)
        body = pages.wishes(client.title, scopes) + self._form("/login", interaction, pages.login_fields(username))
        return self._shown(interaction, "Log in", body, error=error, status=status)

    def _consent_page(self, interaction: Interaction, session: Session) -> web.Response:
        client, scopes = self._asking(interaction)
        who = self._desk.users[session.username]
        interaction.username = who.username
        body = f"<p>You are logged in as {escape(who.name or who.username)}.</p>" + pages.wishes(client.title, scopes)
        if interaction.request is None:
            code = escape(self._device_grant(interaction).user_code)
            body += f"<p>Allow it only if your device shows the code <strong>{code}</strong>.</p>"
        return self._shown(
            interaction, "Allow access", body + self._form("/consent", interaction, pages.consent_fields())
        )

    def _code_page(
        self, interaction: Interaction, *, user_code: str = "", error: str = "", status: int = 200
    ) -> web.Response:
        body = self._form("/device", interaction, pages.user_code_fields(user_code))
        return self._shown(interaction, "Connect a device", body, error=error, status=status)

    def _form(self, path: str, interaction: Interaction, fields: str) -> str:
        hidden = {"interaction": interaction.id, "csrf": interaction.csrf}
        return pages.form(self._desk.config.path + path, hidden, fields)

    def _shown(
        self, interaction: Interaction, title: str, body: str, *, error: str = "", status: int = 200
    ) -> web.Response:
        # Browsers hold the redirect that follows a form to form-action too.
        target = _origin(interaction.request.redirect_uri) if interaction.request else ""
        response = pages.page(title, body, error=error, status=status, form_target=target)
        self._set_cookie(response, _BROWSER, interaction.browser)
        return response

    # ── what is known of the browser and of its wish ─────────────────────────────────────────────────────────────────

    def _begin(self, request: web.Request, *, asked: AuthorizationRequest | None = None) -> Interaction:
        browser = request.cookies.get(_BROWSER, "")
        if not re.fullmatch(r"[A-Za-z0-9_-]{43}", browser):
            browser = secrets.token_urlsafe(32)
        interaction = Interaction(secrets.token_urlsafe(16), browser, request=asked)
        self._desk.state.interactions.put(interaction.id, interaction, seconds=_INTERACTION_S)
        return interaction

    async def _resume(self, request: web.Request) -> tuple[Mapping[str, str], Interaction]:
        """Return the form and its interaction, if it comes from the page and the browser that we gave it to."""
        form = await read_form(request)
        interaction = self._desk.state.interactions.get(form.get("interaction", ""))
        if interaction is None:
            raise Refused("This page is too old; begin again where you came from")
        is_same = hmac.compare_digest(interaction.browser, request.cookies.get(_BROWSER, ""))
        if not is_same or not hmac.compare_digest(interaction.csrf, form.get("csrf", "")):
            raise Refused("This form was not sent from our page; begin again", status=403)
        return form, interaction

    def _known_client(self, query: Mapping[str, str]) -> tuple[Client, str]:
        """Return the client and where to send the browser back; without both, nobody is redirected anywhere."""
        client = self._desk.clients.get(query.get("client_id", ""))
        if client is None or "authorization_code" not in client.grants:
            raise Refused("The program that sent you here is not known")
        redirect_uri = query.get("redirect_uri", "")
        if not client.accepts_redirect(redirect_uri):
            raise Refused("The program that sent you here wants the answer at an address that is not registered")
        return client, redirect_uri

    def _checked(self, client: Client, redirect_uri: str, query: Mapping[str, str]) -> AuthorizationRequest:
        if query.get("response_type") != "code":
            raise OAuthError("unsupported_response_type", "Only response_type=code is offered")
        challenge = query.get("code_challenge", "")
        if query.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(challenge):
            raise OAuthError("invalid_request", "PKCE with code_challenge_method=S256 is needed")
        state, nonce = query.get("state"), query.get("nonce")
        if any(len(each or "") > _MAX_TEXT for each in (state, nonce)):
            raise OAuthError("invalid_request", "state or nonce is too long")
        scopes = self._desk.scopes(client, query.get("scope"))
        return AuthorizationRequest(
            client.client_id, redirect_uri, challenge, scopes, self._desk.audience(query), state, nonce
        )

    def _asking(self, interaction: Interaction) -> tuple[Client, frozenset[str]]:
        source = interaction.request or self._device_grant(interaction)
        return self._desk.clients[source.client_id], source.scopes

    def _device_grant(self, interaction: Interaction) -> DeviceGrant:
        grant = self._desk.state.devices.get(interaction.device_code or "")
        if grant is None or grant.status is not DeviceStatus.PENDING or grant.expires_at <= self._desk.clock.now():
            _expired()
        return grant

    def _session(self, request: web.Request) -> Session | None:
        return self._desk.state.sessions.get(request.cookies.get(_SESSION, ""))

    def _forget_session(self, request: web.Request) -> None:
        self._desk.state.sessions.pop(request.cookies.get(_SESSION, ""))

    def _set_cookie(self, response: web.StreamResponse, name: str, value: str) -> None:
        is_https = self._desk.config.is_https
        response.set_cookie(name, value, path=self._cookie_path, httponly=True, samesite="Lax", secure=is_https)


def _expired() -> NoReturn:
    raise Refused("The code of the device has expired or was answered already; begin again on the device")


def _origin(uri: str) -> str:
    """Return what a Content-Security-Policy calls the target: an origin, or the scheme of a native application."""
    parts = urlsplit(uri)
    has_origin = parts.scheme in {"http", "https"} and "[" not in parts.netloc  # it has no words for IPv6 addresses
    return f"{parts.scheme}://{parts.netloc}" if has_origin else f"{parts.scheme}:"
