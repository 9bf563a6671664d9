"""/v1/keys: a user's SSH keys. The private half of a generated one is shown to its owner alone."""

from typing import Annotated

import pydantic
from aiohttp import web
from pydantic import AwareDatetime

from indaco_common.auth import Principal
from indaco_common.contracts.vault import KeyName
from indaco_common.errors import Invalid, NotFound
from indaco_common.ids import user_id
from indaco_common.secrets.port import Secrets
from indaco_common.sshkeys import parse_public_key
from indaco_common.store import Repository
from indaco_common.web import describe, excerpt, json_response, read_json
from indaco_gateway.identity.access import Access, context, owner_of
from indaco_gateway.model.conflicts import WrongState
from indaco_gateway.model.keyring import KeyRing, PublicKey
from indaco_gateway.races import rerun


class NewKey(pydantic.BaseModel):
    """Without a *public_key* a pair is made."""

    model_config = pydantic.ConfigDict(extra="forbid")

    name: KeyName
    public_key: Annotated[str, pydantic.Field(max_length=16_384)] | None = None


class Key(pydantic.BaseModel):
    """The public half; ``public_key`` is empty until it is ``ready``."""

    name: str
    public_key: str
    fingerprint: str
    generated: bool
    created_at: AwareDatetime | None = None
    ready: bool


class KeyList(pydantic.BaseModel):
    content: list[Key]


class Keys:
    """The keys of whoever asks; nobody sees another's, not even an administrator."""

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

    @describe("List your SSH keys", tag="keys", answers={200: KeyList})
    async def index(self, request: web.Request) -> web.Response:
        keys = (await self._ring(await self._access.caller(request))).keys
        return json_response(KeyList(content=[_shown(key) for _, key in sorted(keys.items())]))

    @describe("Show a key", tag="keys", answers={200: Key}, errors=(404,))
    async def show(self, request: web.Request) -> web.Response:
        return json_response(_shown(_named(await self._ring(await self._access.caller(request)), request)))

    @describe("Make or bring a key", tag="keys", body=NewKey, answers={202: Key}, errors=(409,), sends=("Location",))
    async def create(self, request: web.Request) -> web.Response:
        """202: the broker makes or takes it within moments; GET shows when it is ready."""
        principal = await self._access.writer(request)
        body = await read_json(request, NewKey)
        line = parse_public_key(body.public_key).line if body.public_key is not None else None

        async def once() -> KeyRing:
            async with self._keyrings.upsert(_id(principal), context(request, principal)) as ring:
                ring.create(body.name, owner_of(principal), line)
            return ring

        key = (await rerun(once)).keys[body.name]
        location = f"{self._access.base(request)}/v1/keys/{body.name}"
        return json_response(_shown(key), status=202, headers={"Location": location})

    @describe("Delete a key", tag="keys", answers={204: None}, errors=(404, 409))
    async def delete(self, request: web.Request) -> web.Response:
        """204: machines keep what they have."""
        principal = await self._access.writer(request)

        async def once() -> None:
            async with self._keyrings.upsert(_id(principal), context(request, principal)) as ring:
                ring.delete(request.match_info["name"], owner_of(principal))

        await rerun(once)
        return web.Response(status=204)

    @describe("Show the private half", tag="keys", answers={200: "application/x-pem-file"}, errors=(400, 404, 409))
    async def reveal(self, request: web.Request) -> web.Response:
        """The private half, as OpenSSH reads it."""
        principal = await self._access.writer(request)
        key = _named(await self._ring(principal), request)
        if not key.public_key:
            raise WrongState(f"The key {key.name} is not made yet")
        if not key.generated:
            raise Invalid(f"The private half of {key.name} was never here: its owner made the key")
        kept = await self._secrets.get(f"users/{_id(principal)}/keys/{key.name}")
        if kept is None:
            raise NotFound(f"There is no private half of {key.name} any more")
        return web.Response(text=str(kept["private_key"]), content_type="application/x-pem-file")

    async def _ring(self, principal: Principal) -> KeyRing:
        try:
            return await self._keyrings.get(_id(principal))
        except NotFound:
            return KeyRing(id=_id(principal))


def _id(principal: Principal) -> str:
    return user_id(principal.issuer, principal.subject)


def _named(ring: KeyRing, request: web.Request) -> PublicKey:
    name = request.match_info["name"]
    if name not in ring.keys:
        raise NotFound(f"There is no key {excerpt(name)}")
    return ring.keys[name]


def _shown(key: PublicKey) -> Key:
    return Key(**key.model_dump(), ready=bool(key.public_key))
