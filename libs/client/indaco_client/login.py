"""Signing in: the device flow (RFC 8628), and the file that keeps the tokens."""

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from .errors import NotSignedIn, Unreachable

CLIENT_ID = "indaco"
SCOPES = "openid profile email offline_access groups"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
TIMEOUT = aiohttp.ClientTimeout(total=30)
EARLY_S = 60  # a token that ends within that time is renewed


def session_file() -> Path:
    """Return where tokens are kept (mode 0600): ``INDACO_SESSION``, else the user's configuration folder."""
    if path := os.environ.get("INDACO_SESSION"):
        return Path(path)
    return Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "indaco" / "session.json"


def save(session: dict[str, Any]) -> None:
    """Replace the kept session at once, so that whoever reads it meanwhile finds the old or the new one."""
    file = session_file()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(prefix=".session-", dir=file.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w") as out:
            json.dump(session, out)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load() -> dict[str, Any] | None:
    """Return the kept session; None, if there is none that can be used."""
    try:
        session = json.loads(session_file().read_text())
    except (OSError, ValueError):
        return None
    is_whole = isinstance(session, dict) and session.keys() >= {"issuer", "url", "access_token", "expires_at"}
    return session if is_whole else None


def forget() -> None:
    session_file().unlink(missing_ok=True)


async def sign_in(issuer: str, url: str, show: Callable[[str, str], None]) -> dict[str, Any]:
    """Let the user approve this device at *issuer*; *show* gets the address and the code. Raises: NotSignedIn, Unreachable."""
    async with aiohttp.ClientSession(timeout=TIMEOUT) as http:
        about = await _discover(http, issuer)
        if "device_authorization_endpoint" not in about:
            raise NotSignedIn(
                f"{issuer} offers no sign-in by device", hint="get a token elsewhere and set INDACO_TOKEN"
            )
        grant = await _post(http, about["device_authorization_endpoint"], {"client_id": CLIENT_ID, "scope": SCOPES})
        show(grant.get("verification_uri_complete", grant["verification_uri"]), grant["user_code"])
        end, interval = time.monotonic() + grant["expires_in"], grant.get("interval", 5)
        body = {"grant_type": DEVICE, "device_code": grant["device_code"], "client_id": CLIENT_ID}
        while time.monotonic() < end:
            answer = await _post(http, about["token_endpoint"], body, may_fail=True)
            match answer.get("error"):
                case None:
                    return _session(issuer, url, answer)
                case "authorization_pending":
                    pass
                case "slow_down":
                    interval += 5
                case other:
                    raise NotSignedIn(f"the issuer refused: {answer.get('error_description', other)}")
            await asyncio.sleep(interval)
    raise NotSignedIn("nobody approved in time", hint="indaco login")


async def token() -> str | None:
    """Return an access token: ``INDACO_TOKEN``, or that of the session, renewed if it is about to end; None without a session."""
    if given := os.environ.get("INDACO_TOKEN", "").strip():
        return given
    session = load()
    if session is None:
        return None
    if session["expires_at"] - EARLY_S > time.time():
        return str(session["access_token"])
    if "refresh_token" not in session:
        raise NotSignedIn("the session has ended", hint="indaco login")
    async with aiohttp.ClientSession(timeout=TIMEOUT) as http:
        about = await _discover(http, session["issuer"])
        body = {"grant_type": "refresh_token", "refresh_token": session["refresh_token"], "client_id": CLIENT_ID}
        answer = await _post(http, about["token_endpoint"], body, may_fail=True)
    if "access_token" not in answer:
        raise NotSignedIn("the session has ended", hint="indaco login")
    renewed = _session(session["issuer"], session["url"], answer)
    save(renewed)
    return str(renewed["access_token"])


def _session(issuer: str, url: str, answer: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {name: answer[name] for name in ("access_token", "refresh_token") if name in answer}
    return {"issuer": issuer, "url": url, "expires_at": time.time() + answer.get("expires_in", 300), **kept}


async def _discover(http: aiohttp.ClientSession, issuer: str) -> dict[str, Any]:
    try:
        async with http.get(issuer.rstrip("/") + "/.well-known/openid-configuration") as answer:
            about: dict[str, Any] = await answer.json()
            return about
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise Unreachable(f"the issuer {issuer} does not answer") from error


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
