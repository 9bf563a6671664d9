"""/v1/keys: a user's SSH keys. The private half of a generated one is shown to its owner alone."""

from typing import Annotated

import pydantic
from aiohttp import web

from indaco_common.contracts.vault import KeyName
from indaco_common.errors import Invalid, NotFound
from indaco_common.ids import user_id
from indaco_common.secrets.port import Secrets
from indaco_common.sshkeys import parse_public_key
from indaco_common.store import Repository
from indaco_common.web import json_response, read_json

from .access import Access, context, owner_of
from .model.keyring import KeyRing, PublicKey


class NewKey(pydantic.BaseModel):
    """Without a *public_key* a pair is made."""

    model_config = pydantic.ConfigDict(extra="forbid")

    name: KeyName
    public_key: Annotated[str, pydantic.Field(max_length=16_384)] | None = None


class Keys:
    def __init__(self, access: Access, keyrings: Repository[KeyRing], secrets: Secrets) -> None:
        self._access, self._keyrings, self._secrets = access, keyrings, secrets

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/keys", self.index),
            web.post("/v1/keys", self.create),
            web.get("/v1/keys/{name}", self.show),
            web.delete("/v1/keys/{name}", self.delete),
            web.post("/v1/keys/{name}/reveal", self.reveal),
        ]

    async def index(self, request: web.Request) -> web.Response:
        keys = (await self._ring(request)).keys
        return json_response({"content": [_shown(key) for _, key in sorted(keys.items())]})

    async def show(self, request: web.Request) -> web.Response:
        return json_response(_shown(self._named(await self._ring(request), request)))

    async def create(self, request: web.Request) -> web.Response:
        """202: the broker makes or takes it within moments; GET shows when it is ready."""
        principal = await self._access.writer(request)
        body = await read_json(request, NewKey)
        line = parse_public_key(body.public_key).line if body.public_key is not None else None
        id = user_id(principal.issuer, principal.subject)
        async with self._keyrings.upsert(id, context(request, principal)) as ring:
            ring.create(body.name, owner_of(principal), line)
        return json_response(_shown(ring.keys[body.name]), status=202, headers={"Location": f"/v1/keys/{body.name}"})

    async def delete(self, request: web.Request) -> web.Response:
        principal = await self._access.writer(request)
        id = user_id(principal.issuer, principal.subject)
        async with self._keyrings.upsert(id, context(request, principal)) as ring:
            ring.delete(request.match_info["name"], owner_of(principal))
        return web.Response(status=204)

    async def reveal(self, request: web.Request) -> web.Response:
        """The private half, as OpenSSH reads it."""
        principal = await self._access.writer(request)
        key = self._named(await self._ring(request), request)
        if not key.generated:
            raise Invalid(f"The private half of {key.name} was never here: its owner made the key")
        kept = await self._secrets.get(f"users/{user_id(principal.issuer, principal.subject)}/keys/{key.name}")
        if kept is None:
            raise NotFound(f"There is no private half of {key.name} any more")
        return web.Response(
            text=str(kept["private_key"]), content_type="application/x-pem-file", headers={"Cache-Control": "no-store"}
        )

    async def _ring(self, request: web.Request) -> KeyRing:
        principal = await self._access.caller(request)
        try:
            return await self._keyrings.get(user_id(principal.issuer, principal.subject))
        except NotFound:
            return KeyRing(id="")

    def _named(self, ring: KeyRing, request: web.Request) -> PublicKey:
        name = request.match_info["name"]
        if name not in ring.keys:
            raise NotFound(f"There is no key {name[:64]}")
        return ring.keys[name]


def _shown(key: PublicKey) -> dict[str, object]:
    return {**key.model_dump(mode="json", exclude_none=True), "ready": bool(key.public_key)}
