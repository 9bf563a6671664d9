"""/v1/providers: where services may run."""

from typing import Annotated, Literal

import pydantic
from aiohttp import web

from indaco_common.errors import NotFound
from indaco_common.store import Query, Repository
from indaco_common.web import NoQuery, describe, excerpt, read_query
from indaco_gateway.identity.access import Access
from indaco_gateway.model.provider_view import ProviderView

from .answers import MAX_CURSOR, answer, cursor_of, link_header, next_link, position_of
from .listing import DEFAULT_LIMIT, MAX_LIMIT


class ProvidersQuery(pydantic.BaseModel):
    """Without ``state``, all that were ever registered."""

    state: Literal["active", "degraded", "maintenance", "suspended", "deprecated", "removed"] | None = None
    cursor: Annotated[str, pydantic.StringConstraints(max_length=MAX_CURSOR)] | None = None
    limit: Annotated[int, pydantic.Field(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT


class ProviderShown(pydantic.BaseModel):
    """A provider. Nothing new is placed at one that is neither active nor degraded; at one that is *simulated* nothing real runs."""

    id: str
    kind: str
    regions: tuple[str, ...]
    state: str
    simulated: bool


class ProviderPage(pydantic.BaseModel):
    """A page of a list; *next* is the address of the next one, if there is more."""

    content: list[ProviderShown]
    next: str | None


class ProvidersApi:
    """Every caller may see which there are; what a group may use of them is said by its agreements."""

    def __init__(self, access: Access, providers: Repository[ProviderView]) -> None:
        self._access, self._providers = access, providers

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/providers", self.index), web.get("/v1/providers/{provider}", self.show)]

    @describe(
        "List providers",
        tag="providers",
        query=ProvidersQuery,
        answers={200: ProviderPage, 304: None},
        errors=(400, 401, 503),
    )
    async def index(self, request: web.Request) -> web.Response:
        """In the order of their ids. ``next``, in the body and as a Link, leads to the next page."""
        await self._access.caller(request)
        asked = read_query(request, ProvidersQuery)
        after = None if asked.cursor is None else position_of(asked.cursor, 1) * 2
        query = Query(
            equal={} if asked.state is None else {"state": asked.state}, descending=False, limit=asked.limit + 1, is_counted=False,
            after=None if after is None else (after[0], after[1]),
        )  # fmt: skip
        found, _ = await self._providers.find(query)
        page, more = found[: asked.limit], len(found) > asked.limit
        following = next_link(request, self._access.base(request), cursor=cursor_of(page[-1].id)) if more else None
        body = ProviderPage(content=[_shown(each) for each in page], next=following)
        return answer(request, body, headers=link_header(following))

    @describe(
        "Show a provider",
        tag="providers",
        query=NoQuery,
        answers={200: ProviderShown, 304: None},
        errors=(400, 401, 404, 503),
    )
    async def show(self, request: web.Request) -> web.Response:
        await self._access.caller(request)
        read_query(request, NoQuery)
        id = request.match_info["provider"]
        try:
            return answer(request, _shown(await self._providers.get(id)))
        except NotFound:
            raise NotFound(f"There is no provider {excerpt(id)}") from None


def _shown(view: ProviderView) -> ProviderShown:
    return ProviderShown(
        id=view.id, kind=view.kind, regions=view.regions, state=view.state, simulated=view.simulated
    )  # fmt: skip
