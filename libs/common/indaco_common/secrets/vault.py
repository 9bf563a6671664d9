"""Secrets in HashiCorp Vault or OpenBao: KV version 2 and response wrapping over HTTP."""

import re
from collections.abc import Mapping
from pathlib import Path

import structlog

from indaco_common.errors import Conflict, Invalid, NotFound, Unavailable
from indaco_common.secrets.login import TokenKeeper, VaultAuth
from indaco_common.secrets.port import MOUNT
from indaco_common.secrets.transport import (
    BAD_REQUEST,
    FORBIDDEN,
    NO_CONTENT,
    NOT_FOUND,
    OK,
    Answer,
    Transport,
    encode,
    refusal,
)

_log = structlog.get_logger(__name__)

# No wildcard of policies (`*`, `+`), nothing that a URL escapes; the server itself refuses two dots in a row.
_PATH = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_.:@=~-]*(/[A-Za-z0-9_][A-Za-z0-9_.:@=~-]*)*")
_MAX_PATH = 512
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,1024}")


class VaultSecrets:
    """One service's secrets in the vault at *url*; implements :class:`~indaco_common.secrets.port.Secrets`.

    *timeout_s* bounds each request, connecting included. *ca_file* replaces the system's authorities for https.
    """

    def __init__(self, url: str, auth: VaultAuth, *, ca_file: Path | None = None, timeout_s: float = 10.0) -> None:
        self._transport = Transport(url, ca_file=ca_file, timeout_s=timeout_s)
        self._keeper = TokenKeeper(self._transport, auth)

    def __repr__(self) -> str:
        return f"VaultSecrets({self._transport.origin!r})"

    async def start(self) -> None:
        self._transport.open()
        try:
            await self._keeper.start()
        except BaseException:
            await self._transport.close()
            raise
        _log.info("vault_session.opened", vault=self._transport.origin)

    async def stop(self) -> None:
        try:
            await self._keeper.stop()
        finally:
            await self._transport.close()

    async def ping(self) -> None:
        answer = await self._transport.send("GET", "sys/health?standbyok=true&perfstandbyok=true")
        if answer.status != OK:
            state = "sealed" if answer.body.get("sealed") else "not ready"
            raise Unavailable(f"the vault at {self._transport.origin} is {state}")
        self._keeper.check()

    async def put(self, path: str, secret: Mapping[str, object]) -> None:
        answer = await self._send("PUT", f"{MOUNT}/data/{_checked(path)}", body=encode({"data": dict(secret)}))
        if answer.status not in (OK, NO_CONTENT):
            raise refusal(answer, f"write {path}")

    async def get(self, path: str) -> dict[str, object] | None:
        secret, _ = await self.get_version(path)
        return secret

    async def get_version(self, path: str) -> tuple[dict[str, object] | None, int]:
        answer = await self._send("GET", f"{MOUNT}/data/{_checked(path)}")
        version = (answer.data.get("metadata") or {}).get("version", 0)
        if answer.status == OK and isinstance(answer.data.get("data"), dict):
            return dict(answer.data["data"]), int(version)
        if answer.is_absent or (answer.status == NOT_FOUND and answer.data):  # all its versions were deleted
            return None, int(version)
        raise refusal(answer, f"read {path}")

    async def replace(self, path: str, secret: Mapping[str, object], *, version: int) -> int:
        body = encode({"options": {"cas": version}, "data": dict(secret)})
        answer = await self._send("PUT", f"{MOUNT}/data/{_checked(path)}", body=body)
        if answer.status == OK:
            return int(answer.data["version"])
        if answer.says("check-and-set parameter did not match"):
            raise Conflict(f"the secret at {path} has been written or removed by somebody else")
        raise refusal(answer, f"write {path}")

    async def delete(self, path: str) -> None:
        answer = await self._send("DELETE", f"{MOUNT}/metadata/{_checked(path)}")
        if answer.status not in (OK, NO_CONTENT) and not answer.is_absent:
            raise refusal(answer, f"remove {path}")

    async def list(self, prefix: str) -> list[str]:
        folder = _checked(prefix.rstrip("/")) + "/" if prefix else ""
        answer = await self._send("GET", f"{MOUNT}/metadata/{folder}?list=true")
        if answer.status == OK:
            return sorted(str(name) for name in answer.data.get("keys") or ())
        if answer.is_absent:
            return []
        raise refusal(answer, f"list {prefix or MOUNT}")

    async def wrap(self, secret: Mapping[str, object], ttl_s: int) -> str:
        if ttl_s < 1:
            raise Invalid("a wrapping token lives one second at least")
        headers = {"X-Vault-Wrap-TTL": f"{ttl_s}s"}
        answer = await self._send("POST", "sys/wrapping/wrap", body=encode(secret), headers=headers)
        wrapping = answer.body.get("wrap_info") or {}
        if answer.status != OK or "token" not in wrapping:
            raise refusal(answer, "wrap a secret")
        return str(wrapping["token"])

    async def unwrap(self, token: str) -> dict[str, object]:
        answer = Answer(BAD_REQUEST, {})
        if _TOKEN.fullmatch(token):  # it travels in a header
            answer = await self._transport.send("POST", "sys/wrapping/unwrap", token=token)
        if answer.status == OK:
            return dict(answer.data)
        if answer.status in (BAD_REQUEST, FORBIDDEN, NOT_FOUND):
            raise NotFound("the wrapping token has been opened before, has expired, or never was one")
        raise refusal(answer, "unwrap a secret")

    async def _send(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request with the service's token; if that has ended, log in and send it again, once."""
        token = self._keeper.token
        answer = await self._transport.send(method, path, token=token, body=body, headers=headers)
        if answer.status != FORBIDDEN:
            return answer
        replacement = await self._keeper.replacement(token)
        if replacement is None:
            return answer
        return await self._transport.send(method, path, token=replacement, body=body, headers=headers)


def _checked(path: str) -> str:
    """Return *path* as it is. Raises Invalid, if a policy or a URL could read it differently from how it looks."""
    if len(path) > _MAX_PATH or not _PATH.fullmatch(path):
        raise Invalid("a secret's path is made of names of letters, digits and _.:@=~- with slashes between them")
    return path
