"""Sessions of pages: a cookie in the browser, its tokens in the vault, and the door opens with the one for the other.

A page holds no token. Its requests carry a cookie, which a browser sends along whoever made the page; so a request that changes something is
taken only with a header of ours, which no page of another origin can add without being asked first (CORS), and which is never allowed.
"""

import contextlib
import re
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from indaco_common.auth import Granted, Kept, LoginClient, TokensLost, TrustedIssuer
from indaco_common.clock import Clock
from indaco_common.contracts.values import Owner
from indaco_common.envelope import Context
from indaco_common.errors import AlreadyHandled, Conflict, Forbidden, NotFound
from indaco_common.handling import on_due
from indaco_common.store import Query, Repository
from indaco_gateway.model.login import SpentLogin
from indaco_gateway.model.session import Session, session_id, tokens_path
from indaco_gateway.races import rerun
from indaco_gateway.settings import GatewaySettings

from .access import Access

CSRF_HEADER = "X-Indaco-CSRF"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

_COOKIE = re.compile(r"[A-Za-z0-9_-]{43}")
_OWN_SITES = frozenset({"same-origin", "none"})

_log = structlog.get_logger(__name__)


class CrossSite(Forbidden):
    """A request that another site's page may have made the browser send."""

    code, title = "cross-site", "The request is not from a page of ours"


@dataclass(frozen=True, slots=True)
class Place:
    """Where browsers reach the gateway: *base* without a trailing slash."""

    base: str

    @property
    def is_secure(self) -> bool:
        return self.base.startswith("https:")

    @property
    def origin(self) -> str:
        parts = urlsplit(self.base)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def callback(self) -> str:
        return f"{self.base}/v1/login/callback"

    def cookie(self, name: str) -> str:
        """Return the full name of a cookie: with ``__Host-`` no other host and no plain connection can have set it."""
        return f"__Host-indaco-{name}" if self.is_secure else f"indaco-{name}"


def place_of(request: web.Request, public_url: str) -> Place | None:
    """Return where people log in: at the public URL, or at a loopback address for trying things out; None: nowhere.

    What a request says of its own host (``Host``, ``X-Forwarded-Host``) is not believed: codes would be sent there.
    """
    if public_url:
        parts = urlsplit(public_url)
        is_fit = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
        return Place(public_url.rstrip("/")) if is_fit else None
    try:
        parts = urlsplit(f"http://{request.host}")
        is_loopback = (
            parts.hostname in LOOPBACK
            and parts.netloc == request.host
            and not parts.username
            and (parts.port or 80) > 0
        )
    except ValueError:
        return None
    return Place(f"http://{request.host}") if is_loopback else None


class Sessions:
    """Begins, uses and ends sessions."""

    def __init__(
        self,
        access: Access,
        sessions: Repository[Session],
        spent: Repository[SpentLogin],
        clock: Clock,
        settings: GatewaySettings,
    ) -> None:
        self._access, self._sessions, self._spent, self._clock, self._settings = (
            access,
            sessions,
            spent,
            clock,
            settings,
        )

    def place(self, request: web.Request) -> Place | None:
        return place_of(request, self._settings.public_url)

    async def token(self, request: web.Request) -> str | None:
        """Return the access token of the session that the request has a cookie of; None, if it has none.

        Raises: TokensLost, if the session has ended; CrossSite; Unavailable.
        """
        found = self._cookie(request)
        if found is None:
            return None
        place, cookie = found
        check_same_site(request, place)
        id, now = session_id(cookie), self._clock.now()
        session = await self._alive(id)
        token = await self._token(id)
        if session.is_to_be_noted(now):
            await self._note(id)
        return token

    async def begin(self, owner: Owner, issuer: TrustedIssuer, client: LoginClient, granted: Granted) -> str:
        """Begin a session, and return its cookie. One too many ends the oldest of the same user. Raises: Unavailable."""
        cookie, now = secrets.token_urlsafe(32), self._clock.now()
        session = Session(id=session_id(cookie))
        session.begin(owner, idle_s=self._settings.session_idle_s, life_s=self._settings.session_s, now=now)
        # First the session: what a crash leaves without its cookie ends by itself, and takes its tokens along.
        await self._sessions.create(session, Context())
        await self._access.tokens.keep(tokens_path(session.id), Kept.of(issuer, "login", client, granted, now))
        await self._end_surplus(owner)
        _log.info("session.begun", issuer=owner.issuer)
        return cookie

    async def end(self, request: web.Request) -> None:
        """End the session that the request has a cookie of, if there is one. Raises: CrossSite, Unavailable."""
        found = self._cookie(request)
        if found is not None:
            check_same_site(request, found[0])
            await self.end_one(session_id(found[1]))

    async def replace(self, request: web.Request) -> None:
        """End the session that a browser had before it logs in again."""
        found = self._cookie(request)
        if found is not None:
            await self.end_one(session_id(found[1]))

    async def end_one(self, id: str) -> None:
        async def once() -> None:
            async with self._sessions.edit(id, Context()) as session:
                session.end(self._clock.now())

        with contextlib.suppress(NotFound):
            await rerun(once)

    async def spend(self, spent: SpentLogin) -> bool:
        """Note that a login has come back; return False, if it had before."""
        try:
            await self._spent.create(spent, Context())
        except Conflict:
            return False
        return True

    def tokens_of(self, request: web.Request) -> str | None:
        """Return where the tokens of the request's session are in the vault; None, if it has none."""
        found = self._cookie(request) if "Authorization" not in request.headers else None
        return tokens_path(session_id(found[1])) if found is not None else None

    @on_due(Session)
    async def expire(self, id: str, ctx: Context) -> None:
        """Take the tokens of a session that has ended away, and then the session: by an end of time, or by its user."""
        session = await self._sessions.get(id)
        if session.is_alive(self._clock.now()):
            return
        await self._access.tokens.forget(tokens_path(id))
        await self._sessions.remove(id, ctx)
        _log.info("session.ended", by="user" if session.is_ended else "time")

    @on_due(SpentLogin)
    async def forget_login(self, id: str, ctx: Context) -> None:
        await self._spent.remove(id, ctx)

    def _cookie(self, request: web.Request) -> tuple[Place, str] | None:
        place = self.place(request)
        cookie = request.cookies.get(place.cookie("session"), "") if place is not None else ""
        return (place, cookie) if place is not None and _COOKIE.fullmatch(cookie) else None

    async def _alive(self, id: str) -> Session:
        try:
            session = await self._sessions.get(id)
        except NotFound:
            session = Session(id=id)
        if not session.is_alive(self._clock.now()):
            self._access.tokens.drop(tokens_path(id))
            raise TokensLost("The session has ended; log in again")
        return session

    async def _token(self, id: str) -> str:
        try:
            return (await self._access.tokens.fresh(tokens_path(id), role="login")).token
        except TokensLost:
            await self.end_one(id)
            raise

    async def _note(self, id: str) -> None:
        with contextlib.suppress(Conflict, NotFound, AlreadyHandled):
            async with self._sessions.edit(id, Context()) as session:
                session.saw(self._clock.now())

    async def _end_surplus(self, owner: Owner) -> None:
        limit = self._settings.max_sessions
        query = Query(
            equal={"owner.issuer": owner.issuer, "owner.subject": owner.subject}, order_by="created_at", offset=limit, limit=limit,
            is_counted=False,
        )  # fmt: skip
        surplus, _ = await self._sessions.find(query)
        for session in surplus:
            await self.end_one(session.id)


def check_same_site(request: web.Request, place: Place) -> None:
    """Raises: CrossSite, for a request that changes something and may come from another site's page."""
    if request.method in SAFE:
        return
    if CSRF_HEADER not in request.headers:
        raise CrossSite(f"Requests by cookie that change something need the header {CSRF_HEADER}, with any value")
    site, origin = request.headers.get("Sec-Fetch-Site", "none"), request.headers.get("Origin", place.origin)
    if site not in _OWN_SITES or origin != place.origin:
        raise CrossSite("The request comes from a page of another site")
