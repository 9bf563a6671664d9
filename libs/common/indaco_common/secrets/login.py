"""How a service proves to the vault who it is, and keeps the token it got for that."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import structlog

from indaco_common.errors import Forbidden, IndacoError, Unavailable
from indaco_common.secrets.transport import BAD_REQUEST, FORBIDDEN, OK, Answer, Transport, encode, refusal

_log = structlog.get_logger(__name__)

_RENEW_AT = 2 / 3  # of a token's life: leaves a third of it for a vault that is away
_WORTH_RENEWING = 1 / 2  # of the first life; less means that the maximum is near, so log in anew
_RETRY_S = 5.0
_MIN_WAIT_S = 0.2


class VaultAuth(Protocol):
    """One way to log in."""

    async def log_in(self, transport: Transport) -> Answer:
        """Return the server's answer to a login, or to a look at a token that was given; not a success, if refused."""


@dataclass(frozen=True, slots=True)
class TokenAuth:
    """A token made by somebody else, given or in a file (read again whenever the old one has ended)."""

    token: str = field(default="", repr=False)
    file: Path | None = None

    async def log_in(self, transport: Transport) -> Answer:
        token = self.token or _read(self.file)
        answer = await transport.send("GET", "auth/token/lookup-self", token=token)
        if answer.status != OK:
            return answer
        known = answer.data
        grant = {
            "client_token": token,
            "lease_duration": known.get("ttl", 0),
            "renewable": known.get("renewable", False),
        }
        return Answer(OK, {"auth": grant})


@dataclass(frozen=True, slots=True)
class AppRoleAuth:
    """An AppRole: the role's id and a secret id, given or in a file."""

    role_id: str
    secret_id: str = field(default="", repr=False)
    secret_id_file: Path | None = None
    mount: str = "approle"

    async def log_in(self, transport: Transport) -> Answer:
        secret_id = self.secret_id or _read(self.secret_id_file)
        body = encode({"role_id": self.role_id, "secret_id": secret_id})
        return await transport.send("POST", f"auth/{self.mount}/login", body=body)


@dataclass(frozen=True, slots=True)
class JwtAuth:
    """A signed token in a file that its issuer renews, such as a Kubernetes service account's (``mount="kubernetes"``)."""

    role: str
    jwt_file: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    mount: str = "kubernetes"

    async def log_in(self, transport: Transport) -> Answer:
        body = encode({"role": self.role, "jwt": _read(self.jwt_file)})
        return await transport.send("POST", f"auth/{self.mount}/login", body=body)


@dataclass(frozen=True, slots=True)
class _Grant:
    token: str = field(repr=False)
    lease_s: float
    is_renewable: bool

    @classmethod
    def of(cls, answer: Answer) -> "_Grant":
        """Read the ``auth`` member of a login or a renewal. Raises Unavailable, if no vault can have sent it."""
        grant = answer.body.get("auth") or {}
        try:
            return cls(str(grant["client_token"]), float(grant["lease_duration"]), bool(grant["renewable"]))
        except (KeyError, TypeError, ValueError):
            pass
        raise Unavailable("the server's answer to the login is not a vault's")


class TokenKeeper:
    """The token of one service: got at :meth:`start`, renewed in good time, replaced when it has ended early."""

    def __init__(self, transport: Transport, auth: VaultAuth) -> None:
        self._transport = transport
        self._auth = auth
        self._token: str | None = None
        self._lease_s = 0.0  # 0: without end
        self._first_lease_s = 0.0
        self._is_renewable = False
        self._failure: str | None = None  # the words only: an exception would keep frames, hence tokens, alive
        self._logging_in = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None

    @property
    def token(self) -> str:
        """The present token. Raises Unavailable, before :meth:`start` and after :meth:`stop`."""
        if self._token is None:
            raise Unavailable("not logged in to the vault")
        return self._token

    def check(self) -> None:
        """Raise Unavailable, if there is no token, or the last attempt to keep it failed."""
        _ = self.token
        if self._failure is not None:
            raise Unavailable(f"the login to the vault cannot be kept: {self._failure}")
        if self._renewal is None or self._renewal.done():
            raise Unavailable("the login to the vault is no longer renewed")

    async def start(self) -> None:
        """Log in and begin to renew. Raises Unavailable, Forbidden."""
        if self._renewal is not None:
            return
        await self._log_in()
        self._renewal = asyncio.create_task(self._keep_renewed(), name="vault-token-renewal")

    async def stop(self) -> None:
        """Stop renewing; give a token back that came from a login of ours."""
        renewal, self._renewal = self._renewal, None
        token, self._token = self._token, None
        if renewal is not None:
            renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)
        if token is not None and not isinstance(self._auth, TokenAuth):
            with contextlib.suppress(Unavailable):  # then it ends by itself
                await self._transport.send("POST", "auth/token/revoke-self", token=token)

    async def replacement(self, refused: str) -> str | None:
        """Return a working token in place of *refused*, or None if that one is in order (the policy said no).

        A vault answers 403 to both. Of many callers at once, one logs in and all get the new token.
        Raises Unavailable, Forbidden.
        """
        async with self._logging_in:
            if self.token != refused:
                return self._token
            look = await self._transport.send("GET", "auth/token/lookup-self", token=refused)
            if look.status == OK:
                return None
            if look.status != FORBIDDEN:
                raise refusal(look, "look at the service's token")
            await self._log_in()
            _log.info("vault_token.replaced", vault=self._transport.origin)
            return self._token

    async def _log_in(self) -> None:
        try:
            answer = await self._auth.log_in(self._transport)
            if answer.status in (BAD_REQUEST, FORBIDDEN):  # 400 is what a wrong role or secret id gets
                raise Forbidden("the vault refused the service's login")
            if answer.status != OK:
                raise refusal(answer, "log in")
        except IndacoError as error:
            self._failure = error.detail
            raise
        grant = _Grant.of(answer)
        self._token, self._failure = grant.token, None
        self._lease_s = self._first_lease_s = grant.lease_s
        self._is_renewable = grant.is_renewable

    async def _keep_renewed(self) -> None:
        """Renew or replace the token for ever; what goes wrong shows in :meth:`check` until it is right again."""
        while True:
            await self._wait()
            try:
                await self._renew()
            except IndacoError as error:
                self._failure = error.detail
                _log.warning("vault_token.renewal_failed", vault=self._transport.origin, error=error.code)

    async def _wait(self) -> None:
        if self._failure is not None:
            await asyncio.sleep(_RETRY_S)
        elif self._lease_s == 0:
            await asyncio.Event().wait()  # a root token does not end
        else:
            await asyncio.sleep(max(self._lease_s * _RENEW_AT, _MIN_WAIT_S))

    async def _renew(self) -> None:
        async with self._logging_in:
            answer = None
            if self._is_renewable:
                answer = await self._transport.send("POST", "auth/token/renew-self", token=self.token, body=b"{}")
                if answer.status == OK:
                    self._lease_s, self._failure = _Grant.of(answer).lease_s, None
                elif answer.status not in (BAD_REQUEST, FORBIDDEN):
                    raise refusal(answer, "renew the service's token")
            is_renewed = answer is not None and answer.status == OK
            if not is_renewed or self._lease_s < self._first_lease_s * _WORTH_RENEWING:
                await self._log_in()


def _read(file: Path | None) -> str:
    """Return the content of a credential's file. Raises Unavailable: it may be mounted a little later."""
    if file is None:
        raise Forbidden("no credential for the vault is configured")
    try:
        return file.read_text().strip()
    except OSError as error:
        reason = error.strerror
    raise Unavailable(f"the vault credential in {file} cannot be read: {reason}")
