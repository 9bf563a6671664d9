"""The endpoints for programs: token, device authorization, revocation, userinfo."""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta

from aiohttp import web

from indaco_common.issuer.config import DEVICE_CODE, Client, Grant, User
from indaco_common.issuer.keyring import group_claims, user_claims
from indaco_common.issuer.oauth import Desk, OAuthError, authenticate_client, read_form
from indaco_common.issuer.state import DeviceGrant, DeviceStatus, Family, new_user_code

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_JITTER = timedelta(seconds=0.5)  # a client that polls on the dot must not be told to slow down
_LINGER_S = 300  # an expired device code is remembered this long, to be called expired


class Grants:
    """One method for an endpoint, one for a grant."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/token", self.token),
            web.post("/device_authorization", self.device_authorization),
            web.post("/revoke", self.revoke),
            web.get("/userinfo", self.userinfo),
            web.post("/userinfo", self.userinfo),
        ]

    async def token(self, request: web.Request) -> web.Response:
        form = await read_form(request)
        client = await authenticate_client(self._desk, request, form)
        match form.get("grant_type"):
            case "authorization_code":
                return self._code(_allowed(client, "authorization_code"), form)
            case "refresh_token":
                return self._refresh(_allowed(client, "refresh_token"), form)
            case "client_credentials":
                return self._client_credentials(_allowed(client, "client_credentials"), form)
            case "urn:ietf:params:oauth:grant-type:device_code":
                return self._device(_allowed(client, DEVICE_CODE), form)
        raise OAuthError("unsupported_grant_type", "This grant is not offered")

    async def device_authorization(self, request: web.Request) -> web.Response:
        """Begin RFC 8628: a secret for the device, a short code for the person."""
        form = await read_form(request)
        client = _allowed(await authenticate_client(self._desk, request, form), DEVICE_CODE)
        config, state = self._desk.config, self._desk.state
        grant = DeviceGrant(
            client_id=client.client_id,
            user_code=new_user_code(),
            scopes=self._desk.scopes(client, form.get("scope")),
            audience=self._desk.audience(form),
            expires_at=self._desk.clock.now() + timedelta(seconds=config.device_code_s),
            interval_s=config.device_interval_s,
        )
        device_code = secrets.token_urlsafe(32)
        state.devices.put(device_code, grant, seconds=config.device_code_s + _LINGER_S)
        state.device_of_user_code.put(grant.user_code, device_code, seconds=config.device_code_s)
        page = self._desk.url("/device")
        body = {
            "device_code": device_code,
            "user_code": grant.user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={grant.user_code}",
            "expires_in": config.device_code_s,
            "interval": grant.interval_s,
        }
        return web.json_response(body)

    async def revoke(self, request: web.Request) -> web.Response:
        """End a refresh token and all its kin (RFC 7009); what is unknown is revoked already."""
        form = await read_form(request)
        client = await authenticate_client(self._desk, request, form)
        name = form.get("token", "").partition(".")[0]
        family = self._desk.state.families.get(name)
        if family is not None and family.client_id == client.client_id:
            self._desk.state.families.pop(name)
        return web.Response()

    async def userinfo(self, request: web.Request) -> web.Response:
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        token = self._desk.keys.open(value.strip()) if scheme.lower() == "bearer" else None
        claims = token.claims if token is not None else {}
        user = self._desk.subjects.get(str(claims.get("sub")))
        is_ours = (
            token is not None and token.header.get("typ") == "at+jwt" and claims.get("iss") == self._desk.config.issuer
        )
        if not is_ours or user is None or claims["exp"] <= self._desk.clock.now().timestamp():
            headers = {"WWW-Authenticate": 'Bearer realm="indaco issuer", error="invalid_token"'}
            raise OAuthError("invalid_token", "The access token is not accepted", status=401, headers=headers)
        scopes = frozenset(str(claims["scope"]).split())
        body = {"sub": user.subject, **user_claims(user, scopes), **group_claims(user.groups, scopes)}
        return web.json_response(body)

    def _code(self, client: Client, form: Mapping[str, str]) -> web.Response:
        code = self._desk.state.codes.get(form.get("code", ""))
        if code is None or code.request.client_id != client.client_id:
            raise OAuthError("invalid_grant", "The code is unknown or has expired")
        if code.is_used:
            # Somebody has it who should not (RFC 6749 §4.1.2): what it gave is taken back.
            if code.family is not None:
                self._desk.state.families.pop(code.family)
            raise OAuthError("invalid_grant", "The code has been used before")
        code.is_used = True
        if form.get("redirect_uri", "") != code.request.redirect_uri:
            raise OAuthError("invalid_grant", "The redirect_uri is not the one that the code was asked with")
        if not _is_challenge_met(code.request.challenge, form.get("code_verifier", "")):
            raise OAuthError("invalid_grant", "The code_verifier does not fit the code_challenge")
        request = code.request
        user = self._user(code.username)
        code.family, refresh = self._new_family(client, user, request.scopes, request.audience, code.auth_time)
        return self._tokens(
            client, user, request.scopes, request.audience, code.auth_time, refresh=refresh, nonce=request.nonce
        )

    def _refresh(self, client: Client, form: Mapping[str, str]) -> web.Response:
        """Exchange a refresh token for the next one; a token seen twice ends the whole family (RFC 9700 §4.14.2)."""
        name, _, secret = form.get("refresh_token", "").partition(".")
        families = self._desk.state.families
        family = families.get(name)
        if family is None or family.client_id != client.client_id:
            raise OAuthError("invalid_grant", "The refresh token is unknown, revoked or has expired")
        if not hmac.compare_digest(_digest(secret), family.current):
            families.pop(name)
            raise OAuthError("invalid_grant", "The refresh token has been used before; log in again")
        scopes = family.scopes & frozenset(form.get("scope", " ".join(family.scopes)).split())
        if not scopes:
            raise OAuthError("invalid_scope", "A refresh can only narrow the scopes")
        fresh = secrets.token_urlsafe(32)
        family.current = _digest(fresh)
        return self._tokens(
            client, self._user(family.username), scopes, family.audience, family.auth_time, refresh=f"{name}.{fresh}"
        )

    def _client_credentials(self, client: Client, form: Mapping[str, str]) -> web.Response:
        # Nobody has logged in: no identity to tell about, nothing to be offline from.
        scopes = self._desk.scopes(client, form.get("scope")) - {"openid", "offline_access", "email"}
        if not scopes:
            raise OAuthError("invalid_scope", "None of the scopes makes sense without a user")
        access = self._desk.minter.access_token(
            subject=client.client_id,
            client_id=client.client_id,
            scopes=scopes,
            groups=client.groups,
            audience=self._desk.audience(form),
        )
        return web.json_response(self._answer(access, scopes))

    def _device(self, client: Client, form: Mapping[str, str]) -> web.Response:
        device_code = form.get("device_code", "")
        grant = self._desk.state.devices.get(device_code)
        if grant is None or grant.client_id != client.client_id:
            raise OAuthError("invalid_grant", "The device code is unknown or has been used")
        now = self._desk.clock.now()
        if now >= grant.expires_at:
            raise OAuthError("expired_token", "The device code has expired; begin again")
        if grant.status is DeviceStatus.DENIED:
            raise OAuthError("access_denied", "The user has refused")
        if grant.status is DeviceStatus.PENDING or grant.username is None or grant.auth_time is None:
            raise self._not_yet(grant, now)
        self._desk.state.devices.pop(device_code)
        user = self._user(grant.username)
        _, refresh = self._new_family(client, user, grant.scopes, grant.audience, grant.auth_time)
        return self._tokens(client, user, grant.scopes, grant.audience, grant.auth_time, refresh=refresh)

    def _not_yet(self, grant: DeviceGrant, now: datetime) -> OAuthError:
        last, grant.polled_at = grant.polled_at, now
        if last is not None and now - last < timedelta(seconds=grant.interval_s) - _JITTER:
            grant.interval_s += 5  # RFC 8628 §3.5
            return OAuthError("slow_down", f"Ask every {grant.interval_s} s")
        return OAuthError("authorization_pending", "The user has not approved yet")

    def _new_family(
        self, client: Client, user: User, scopes: frozenset[str], audience: str, auth_time: datetime
    ) -> tuple[str | None, str | None]:
        """Return the name and the first refresh token of a new family, where the client may have one."""
        if "offline_access" not in scopes or "refresh_token" not in client.grants:
            return None, None
        name, secret, lifetime_s = (
            secrets.token_urlsafe(16),
            secrets.token_urlsafe(32),
            self._desk.config.refresh_token_s,
        )
        family = Family(
            client_id=client.client_id,
            username=user.username,
            scopes=scopes,
            audience=audience,
            auth_time=auth_time,
            current=_digest(secret),
        )
        self._desk.state.families.put(name, family, seconds=lifetime_s)
        return name, f"{name}.{secret}"

    def _tokens(
        self,
        client: Client,
        user: User,
        scopes: frozenset[str],
        audience: str,
        auth_time: datetime,
        *,
        refresh: str | None,
        nonce: str | None = None,
    ) -> web.Response:
        minter = self._desk.minter
        access = minter.access_token(
            subject=user.subject,
            client_id=client.client_id,
            scopes=scopes,
            groups=user.groups,
            audience=audience,
            claims={**user_claims(user, scopes), "auth_time": int(auth_time.timestamp())},
        )
        body = self._answer(access, scopes)
        if refresh is not None:
            body["refresh_token"] = refresh
        if "openid" in scopes:
            body["id_token"] = minter.id_token(
                user, client_id=client.client_id, scopes=scopes, auth_time=auth_time, nonce=nonce, access=access
            )
        return web.json_response(body)

    def _answer(self, access: str, scopes: frozenset[str]) -> dict[str, object]:
        return {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": self._desk.config.access_token_s,
            "scope": " ".join(sorted(scopes)),
        }

    def _user(self, username: str) -> User:
        user = self._desk.users.get(username)
        if user is None:
            raise OAuthError("invalid_grant", "The user no longer exists")
        return user


def _allowed(client: Client, grant: Grant) -> Client:
    if grant not in client.grants:
        raise OAuthError("unauthorized_client", "This client may not use this grant")
    return client


def _is_challenge_met(challenge: str, verifier: str) -> bool:
    if not _VERIFIER.fullmatch(verifier):
        return False
    made = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    return hmac.compare_digest(made, challenge)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
