"""From a body to an accepted request: template and inputs are planned, secret inputs go to the vault, the rest on its way."""

import asyncio
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

import pydantic
import pydantic_core
from pydantic import ConfigDict, Field, ValidationInfo

import indaco_tosca
from indaco_common.auth import Principal
from indaco_common.clock import Clock
from indaco_common.contracts.gateway import MAX_TEMPLATE_BYTES, DeploymentRequested
from indaco_common.envelope import MAX_ENVELOPE_BYTES, Context
from indaco_common.errors import NotFound, PayloadTooLarge
from indaco_common.ids import deployment_id, user_id
from indaco_common.imports import PinnedImports
from indaco_common.secrets.port import Secrets
from indaco_common.store import Repository, Store

from .catalogue.served import ServiceCatalogue
from .identity.access import group_of, owner_of
from .model.keyring import KeyRing
from .model.labels import Name, Tags
from .model.operation import Operation, Part
from .needs import nodes_of, parts_of, plan_of, policy_of, warnings_of
from .races import rerun
from .webhooks.destinations import Destinations

MAX_REQUEST_BYTES = MAX_ENVELOPE_BYTES - 64 * 1024  # what a message may hold beside its envelope
NOT_KEPT = "keepLastAttempt is not offered: what a failed attempt has made is removed"


def _is_no_boolean(value: object) -> object:
    """JSON's true is no number, though Python's is one."""
    if isinstance(value, bool):
        raise _wrong("Input should be a valid integer, not true or false")
    return value


NO_BOOLEAN = pydantic.BeforeValidator(_is_no_boolean)
Minutes = Annotated[int, Field(ge=1, le=5_256_000), NO_BOOLEAN]
Tries = Annotated[int, Field(ge=1), NO_BOOLEAN]


class Submission(pydantic.BaseModel):
    """The body of POST /deployments, as lenient as INDIGO's: text numbers are taken, unknown fields ignored, '' is not given.

    *template* is a text, or ``catalogue:<card>[@<version>]``. ``keepLastAttempt`` is taken, and its deployment warns
    that it is not offered: every failed attempt is cleaned.
    """

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    template: Annotated[str, Field(min_length=1, max_length=MAX_TEMPLATE_BYTES)]
    parameters: dict[str, Any] = Field(default_factory=dict)
    callback: Annotated[str, Field(max_length=2048)] | None = None
    timeout_mins: Annotated[Minutes | None, Field(alias="timeoutMins")] = None
    provider_timeout_mins: Annotated[Minutes | None, Field(alias="providerTimeoutMins")] = None
    max_providers_retry: Annotated[Tries | None, Field(alias="maxProvidersRetry")] = None
    user_group: Annotated[str | None, Field(alias="userGroup", max_length=256)] = None
    keep_last_attempt: Annotated[bool | None, Field(alias="keepLastAttempt")] = None
    name: Name = ""
    tags: Tags = Field(default_factory=dict)

    @pydantic.field_validator(
        "callback", "timeout_mins", "provider_timeout_mins", "max_providers_retry", "user_group", "keep_last_attempt",
        mode="before",
    )  # fmt: skip
    @classmethod
    def _given(cls, value: object) -> object:
        return None if value == "" else value

    @pydantic.field_validator("callback")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        return is_callback(value)

    @pydantic.field_validator("provider_timeout_mins")
    @classmethod
    def _fits(cls, value: int | None, info: ValidationInfo) -> int | None:
        whole = info.data.get("timeout_mins")
        if value is not None and whole is not None and value > whole:
            raise _wrong("ProviderTimeout must be <= Timeout")
        return value


def is_callback(value: str | None) -> str | None:
    """Return the address of a callback, or None. Raises: PydanticCustomError."""
    if value is None or _is_url(value):
        return value
    raise _wrong("Callback value, if provided, must be a valid HTTP or HTTPS URL")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 0) >= 0
    except ValueError:
        return False


def _wrong(sentence: str) -> pydantic_core.PydanticCustomError:
    return pydantic_core.PydanticCustomError("wrong", "{sentence}", {"sentence": sentence})


@dataclass(frozen=True, slots=True)
class _Ready:
    """A request that may be accepted; *secret* holds the values that go to the vault alone."""

    request: DeploymentRequested
    secret: Mapping[str, Any]
    types: Mapping[str, str]
    parts: Mapping[str, Part]
    fingerprint: str
    is_named: bool  # by an idempotency key: another process may be at the same one
    callback: str | None
    warnings: tuple[str, ...]
    name: str
    tags: Mapping[str, str]

    @classmethod
    def of(cls, body: Submission, plan: indaco_tosca.Plan, request: DeploymentRequested, *, is_named: bool) -> Self:
        secret = {name: body.parameters[name] for name in request.secret_inputs}
        types = {node.name: node.type for node in plan.nodes}
        warnings = (*warnings_of(plan), *((NOT_KEPT,) if body.keep_last_attempt else ()))
        fingerprint = _fingerprint(body, request.group.path, request.secret_inputs)
        return cls(
            request, secret, types, parts_of(plan), fingerprint, is_named, body.callback, warnings, body.name, body.tags
        )


class Submissions:
    """Accepts deployments."""

    def __init__(
        self,
        operations: Repository[Operation],
        keyrings: Repository[KeyRing],
        store: Store,
        secrets: Secrets,
        clock: Clock,
        imports: PinnedImports,
        catalogue: ServiceCatalogue,
        destinations: Destinations | None = None,
    ) -> None:
        """*destinations*: what a callback is checked against."""
        self._destinations = destinations
        self._imports, self._catalogue = imports, catalogue
        self._operations, self._keyrings = operations, keyrings
        self._store, self._secrets, self._clock = store, secrets, clock

    async def accept(self, body: Submission, principal: Principal, key: str | None, ctx: Context) -> Operation:
        """Accept *body*, once per idempotency *key*, however often and at however many gateways it comes; return the operation.

        Raises: Invalid, with every problem of the template; Forbidden, for a group that is not theirs; PayloadTooLarge; KeyReused;
        Unavailable. Nothing is kept of what is refused.
        """
        if key is not None and (known := await self._repeated(body, principal, key)) is not None:
            return known
        if body.callback is not None and self._destinations is not None:
            self._destinations.check(body.callback, "/callback")
        ready = await self._prepare(body, principal, key)

        async def once() -> Operation:
            known = await self._known(ready.request.deployment_id)
            if known is not None and known.is_repeat(ready.fingerprint):
                return known
            return await self._begin(ready, ctx)

        return await rerun(once)

    async def _repeated(self, body: Submission, principal: Principal, key: str) -> Operation | None:
        """Return what *body* has been accepted as before: what its template stands for by now does not matter. Raises: KeyReused."""
        known = await self._known(deployment_id(principal.issuer, principal.subject, key))
        if known is None or known.created_at is None:
            return None
        fingerprint = _fingerprint(body, group_of(principal, body.user_group).path, known.secret_inputs)
        return known if known.is_repeat(fingerprint) else None

    async def _prepare(self, body: Submission, principal: Principal, key: str | None) -> _Ready:
        group = group_of(principal, body.user_group)
        template = self._catalogue.resolve(body.template, group.path)
        types = self._imports.closure()
        plan = await plan_of(template, body.parameters, types)
        given = {name: value for name, value in body.parameters.items() if value is not None}
        request = DeploymentRequested(
            deployment_id=deployment_id(principal.issuer, principal.subject, key),
            owner=owner_of(principal), group=group, template=template,
            inputs={name: value for name, value in given.items() if name not in plan.secret_inputs},
            secret_inputs=tuple(sorted(given.keys() & plan.secret_inputs)), nodes=nodes_of(plan), policy=policy_of(plan),
            ssh_keys=await self._keys(principal), imports=types.digests if types else {}, max_attempts=min(body.max_providers_retry or 255, 255),
            timeout_s=body.timeout_mins and body.timeout_mins * 60,
            attempt_timeout_s=body.provider_timeout_mins and body.provider_timeout_mins * 60,
        )  # fmt: skip
        if (size := len(pydantic_core.to_json(request))) > MAX_REQUEST_BYTES:
            raise PayloadTooLarge(f"The request takes {size} bytes on its way; at most {MAX_REQUEST_BYTES} are carried")
        return _Ready.of(body, plan, request, is_named=key is not None)

    async def _begin(self, ready: _Ready, ctx: Context) -> Operation:
        """Save the request with its message. Raises: Conflict, if another process was faster; KeyReused."""
        id, text = ready.request.deployment_id, ready.request.template.encode()
        if ready.secret:
            await self._keep_secrets(ready, ctx)
        digest, inputs = await asyncio.gather(  # one commit for both
            keep(self._store, text), keep_inputs(self._store, ready.request.inputs)
        )
        async with self._operations.upsert(id, ctx) as operation:
            operation.accept(
                ready.request, fingerprint=ready.fingerprint, template=digest, inputs=inputs, types=ready.types, parts=ready.parts,
                callback=ready.callback, warnings=ready.warnings, name=ready.name, tags=ready.tags, now=self._clock.now(),
            )  # fmt: skip
        return operation

    async def _keep_secrets(self, ready: _Ready, ctx: Context) -> None:
        """Put them where whoever hears of the request will look, before it is on its way.

        Under an idempotency key the id is claimed first, so that of two requests at two gateways the one that loses cannot put
        its secrets in the place of the other's.
        """
        id = ready.request.deployment_id
        if ready.is_named:
            async with self._operations.upsert(id, ctx) as operation:
                operation.claim(ready.fingerprint)
        await self._secrets.put(f"inputs/{id}", ready.secret)

    async def _known(self, id: str) -> Operation | None:
        try:
            return await self._operations.get(id)
        except NotFound:
            return None

    async def _keys(self, principal: Principal) -> tuple[str, ...]:
        try:
            return (await self._keyrings.get(user_id(principal.issuer, principal.subject))).ready()
        except NotFound:
            return ()


async def keep(store: Store, text: bytes) -> str:
    """Put *text* where it is found by its digest; return that."""
    digest = hashlib.sha256(text).hexdigest()
    await store.put_blob(digest, text)
    return digest


async def keep_inputs(store: Store, inputs: Mapping[str, Any]) -> str:
    """Put inputs beside the template, for an update to begin from; return their digest, "" for none. They hold no secrets."""
    return await keep(store, json.dumps(inputs, sort_keys=True).encode()) if inputs else ""


def _fingerprint(body: Submission, group: str, secret_inputs: Collection[str]) -> str:
    """Return a digest of what was asked for, without the values of secrets: they could be guessed from it."""
    given = {name: value for name, value in body.parameters.items() if value is not None}
    asked = body.model_dump(mode="json", exclude={"parameters", "user_group", "keep_last_attempt"})
    asked["inputs"] = {name: value for name, value in given.items() if name not in secret_inputs}
    asked |= {"group": group, "secrets": sorted(given.keys() & set(secret_inputs))}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
