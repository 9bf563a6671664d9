"""Where access tokens come from: the environment, a command, oidc-agent, or the session of ``indaco login``; renewed in time."""

import asyncio
import base64
import contextlib
import json
import shlex
import time
from dataclasses import dataclass, field

from . import agent, login
from .config import Settings
from .errors import NotSignedIn

COMMAND_S = 60.0
MAX_BYTES = 64 * 1024
EARLY_S = 60.0  # a token that ends within that time is asked for again
UNKNOWN_S = 60.0  # how long one is used that does not say when it ends


@dataclass(slots=True)
class Tokens:
    """The tokens of one user; calling it returns one that is good now. Raises: NotSignedIn, Unreachable."""

    settings: Settings
    _lent: agent.Lent | None = field(default=None, init=False)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    @property
    def origin(self) -> str:
        """Return what tokens come from, for people."""
        if self.settings.environment.get("INDACO_TOKEN", "").strip():
            return "INDACO_TOKEN"
        for key, shown in (("token_command", "a command"), ("oidc_account", "oidc-agent")):
            if found := self.settings.get(key):
                return f"{shown} ({found.origin})"
        return "indaco login"

    async def __call__(self) -> str:
        if given := self.settings.environment.get("INDACO_TOKEN", "").strip():
            return given
        async with self._turn:
            if self._lent is not None and self._lent.expires_at - EARLY_S > time.time():
                return self._lent.token
            if command := self.settings.value("token_command"):
                self._lent = await printed(command)
                return self._lent.token
            if account := self.settings.value("oidc_account"):
                found = await agent.lent(account)
                self._lent = agent.Lent(found.token, found.expires_at or _end_of(found.token))
                return self._lent.token
            return await self._of_session()

    async def _of_session(self) -> str:
        url = self.settings.value("url") or ""
        context = self.settings.context.value
        session = login.load(context)
        if session is not None and session["url"].rstrip("/") != url.rstrip("/"):  # no other server may see the token
            raise NotSignedIn(f"you are signed in at {session['url']}, not at {url}", hint=f"indaco --url {url} login")
        token = await login.token(context)
        if token is None:
            raise NotSignedIn("you are not signed in", hint="indaco login, or set INDACO_TOKEN")
        return token


async def printed(command: str) -> agent.Lent:
    """Return the token that *command* prints; it is run without a shell. Raises: NotSignedIn."""
    try:
        words = shlex.split(command)
        process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    except (OSError, ValueError, TypeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise NotSignedIn(f"the token command cannot be run: {why}", hint="indaco config view --show-origin") from None
    try:
        async with asyncio.timeout(COMMAND_S):
            said, _ = await process.communicate()
    except TimeoutError:
        raise NotSignedIn(f"the token command does not end within {COMMAND_S:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    code, token = process.returncode, said.decode("ascii", "replace").strip()
    if code or len(token.split()) != 1 or len(token) > MAX_BYTES:
        why = f"ends with {code}" if code else "prints more than a token" if token else "prints no token"
        raise NotSignedIn(f"the token command {why}", hint="indaco config view --show-origin")
    return agent.Lent(token, _end_of(token))


def _end_of(token: str) -> float:
    """Return when a token says it ends; nobody is trusted by that, it only says when to ask again."""
    try:
        body = token.split(".")[1]
        ends = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["exp"]
        return float(ends)
    except (IndexError, ValueError, KeyError, TypeError):
        return time.time() + EARLY_S + UNKNOWN_S
