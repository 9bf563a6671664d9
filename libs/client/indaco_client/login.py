"""Signing in: the device flow (RFC 8628), and the file that keeps the tokens."""

import asyncio
import contextlib
import fcntl
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

from .config import DEFAULT_CONTEXT, replace, session_file
from .errors import IndacoClientError, NotSignedIn, Unreachable

CLIENT_ID = "indaco"
SCOPES = "openid profile email offline_access groups"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
TIMEOUT = aiohttp.ClientTimeout(total=30)
EARLY_S = 60  # a token that ends within that time is renewed
_WHOLE = {"issuer", "url", "access_token", "expires_at"}

Session = dict[str, Any]
"""The file's content: ``issuer``, ``url``, ``client_id``, ``access_token``, ``refresh_token``, ``expires_at`` (seconds since 1970)."""


def save(session: Session, context: str = DEFAULT_CONTEXT) -> None:
    """Replace the kept session at once, so that whoever reads it meanwhile finds the old or the new one."""
    replace(session_file(context), json.dumps(session))


def load(context: str = DEFAULT_CONTEXT) -> Session | None:
    """Return the kept session; None, if there is none that can be used."""
    try:
        session = json.loads(session_file(context).read_text())
    except (OSError, ValueError):
        return None
    return session if isinstance(session, dict) and session.keys() >= _WHOLE else None


async def end(context: str = DEFAULT_CONTEXT) -> bool:
    """Forget the session; return whether the issuer has taken its tokens back too (RFC 7009), or there was nothing to take."""
    session = load(context)
    session_file(context).unlink(missing_ok=True)
    return session is None or await _revoked(session)


async def _revoked(session: Session) -> bool:
    kind = "refresh_token" if "refresh_token" in session else "access_token"
    body = {"token": session[kind], "token_type_hint": kind, "client_id": str(session.get("client_id", CLIENT_ID))}
    try:
        async with aiohttp.ClientSession(timeout=TIMEOUT) as http:
            about = await _discover(http, session["issuer"])
            if "revocation_endpoint" not in about:
                return False
            async with http.post(about["revocation_endpoint"], data=body) as answer:
                return answer.status == 200  # noqa: PLR2004
    except (aiohttp.ClientError, TimeoutError, IndacoClientError):
        return False


async def sign_in(
    issuer: str, url: str, show: Callable[[str, str], None], *, client_id: str = CLIENT_ID, scopes: str = SCOPES
) -> Session:
    """Let the user approve this device at *issuer*; *show* gets the address and the code. Raises: NotSignedIn, Unreachable."""
    async with aiohttp.ClientSession(timeout=TIMEOUT) as http:
        about = await _discover(http, issuer)
        if "device_authorization_endpoint" not in about:
            raise NotSignedIn(
                f"{issuer} offers no sign-in by device", hint="get a token elsewhere and set INDACO_TOKEN"
            )
        grant = await _post(http, about["device_authorization_endpoint"], {"client_id": client_id, "scope": scopes})
        show(grant.get("verification_uri_complete", grant["verification_uri"]), grant["user_code"])
        end, interval = time.monotonic() + grant["expires_in"], grant.get("interval", 5)
        body = {"grant_type": DEVICE, "device_code": grant["device_code"], "client_id": client_id}
        while time.monotonic() < end:
            answer = await _post(http, about["token_endpoint"], body, may_fail=True)
            match answer.get("error"):
                case None:
                    return _session(issuer, url, client_id, answer)
                case "authorization_pending":
                    pass
                case "slow_down":
                    interval += 5
                case other:
                    raise NotSignedIn(f"the issuer refused: {answer.get('error_description', other)}")
            await asyncio.sleep(interval)
    raise NotSignedIn("nobody approved in time", hint="indaco login")


async def token(context: str = DEFAULT_CONTEXT) -> str | None:
    """Return the session's access token, renewed if it is about to end; None without a session. Raises: NotSignedIn, Unreachable."""
    session = load(context)
    if session is None or _is_good(session):
        return str(session["access_token"]) if session else None
    async with _alone(context):  # a refresh token may be good for one use
        session = load(context)
        if session is None or _is_good(session):
            return str(session["access_token"]) if session else None
        return str((await _renewed(session, context))["access_token"])


async def _renewed(session: Session, context: str) -> Session:
    if "refresh_token" not in session:
        raise NotSignedIn("the session has ended", hint="indaco login")
    client_id = str(session.get("client_id", CLIENT_ID))
    async with aiohttp.ClientSession(timeout=TIMEOUT) as http:
        about = await _discover(http, session["issuer"])
        body = {"grant_type": "refresh_token", "refresh_token": session["refresh_token"], "client_id": client_id}
        answer = await _post(http, about["token_endpoint"], body, may_fail=True)
    if "access_token" not in answer:
        raise NotSignedIn("the session has ended", hint="indaco login")
    kept = {"refresh_token": session["refresh_token"], **answer}  # an issuer that does not replace it sends none
    renewed = _session(session["issuer"], session["url"], client_id, kept)
    save(renewed, context)
    return renewed


@contextlib.asynccontextmanager
async def _alone(context: str) -> AsyncIterator[None]:
    """Keep other processes of this user from renewing the same session meanwhile."""
    file = session_file(context)
    with file.with_name(f".{file.name}.lock").open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        yield


def _is_good(session: Session) -> bool:
    return bool(session["expires_at"] - EARLY_S > time.time())


def _session(issuer: str, url: str, client_id: str, answer: dict[str, Any]) -> Session:
    kept: Session = {name: answer[name] for name in ("access_token", "refresh_token") if name in answer}
    ends = time.time() + answer.get("expires_in", 300)
    return {"issuer": issuer, "url": url, "client_id": client_id, "expires_at": ends, **kept}


async def offered(url: str) -> list[dict[str, Any]]:
    """Return the issuers at which programs can sign in to the gateway at *url*, each with ``issuer`` and ``client_id``.

    None, where it names no such issuer. Raises: Unreachable.
    """
    async with aiohttp.ClientSession(timeout=TIMEOUT) as http:
        try:
            async with http.get(f"{url.rstrip('/')}/v1/login/issuers", allow_redirects=False) as answer:
                if answer.status != 200:  # noqa: PLR2004
                    return []
                content = (await answer.json()).get("content", [])
                return [one for one in content if one.get("issuer") and one.get("client_id")]
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unreachable(f"{url} does not answer", hint="is it running? indaco run") from error
        except (ValueError, AttributeError, TypeError):
            raise IndacoClientError(f"{url} does not answer as a gateway does", hint="is INDACO_URL right?") from None


async def _discover(http: aiohttp.ClientSession, issuer: str) -> dict[str, Any]:
    try:
        async with http.get(issuer.rstrip("/") + "/.well-known/openid-configuration") as answer:
            about: dict[str, Any] = await answer.json()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise Unreachable(f"the issuer {issuer} does not answer") from error
    if not isinstance(about, dict) or "token_endpoint" not in about:
        raise NotSignedIn(f"{issuer} does not answer as an issuer does", hint="indaco login --issuer https://…")
    return about


async def _post(
    http: aiohttp.ClientSession, url: str, body: dict[str, str], *, may_fail: bool = False
) -> dict[str, Any]:
    try:
        async with http.post(url, data=body) as response:
            answer: dict[str, Any] = await response.json()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise Unreachable(f"{url} does not answer") from error
    if response.status >= 400 and not may_fail:  # noqa: PLR2004
        raise NotSignedIn(str(answer.get("error_description") or answer.get("error") or "the issuer refused"))
    return answer
