"""/v1/catalogue: the services on offer, each for the groups that may use it."""

from typing import Annotated, Any

from aiohttp import web
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from indaco_common.errors import Forbidden
from indaco_common.web import describe, json_response, read_query
from indaco_gateway.catalogue.served import ServiceCatalogue, State
from indaco_gateway.identity.access import Access, group_of
from indaco_tosca.catalogue import Card, Version
from indaco_tosca.forms import form

from .answers import answer

SHOWN = 200  # problems
KNOWN = {"If-None-Match": "Versions that the caller has: 304 for one of them."}


class GroupQuery(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    group: Annotated[str, Field(max_length=256)] | None = None
    """For this group of yours alone."""


class CardSummary(BaseModel):
    """A service on offer; ``version`` is the newest, ``groups`` without entries is for everybody."""

    name: str
    title: str
    description: str
    icon: str
    svg: str
    tags: tuple[str, ...]
    groups: tuple[str, ...]
    version: str


class CardList(BaseModel):
    content: list[CardSummary]


class VersionName(BaseModel):
    """``digest`` is the SHA-256 of the template."""

    version: str
    digest: str


class CardShown(CardSummary):
    """``guide`` is Markdown."""

    guide: str
    versions: list[VersionName]


class TemplateTest(BaseModel):
    """With these inputs the template's plan is as expected."""

    name: str
    inputs: dict[str, Any]
    expect: dict[str, Any]


class VersionShown(VersionName):
    name: str
    template: str
    tests: list[TemplateTest]


class FormWarning(BaseModel):
    code: str
    path: str
    message: str


class FormShown(VersionName):
    """``schema`` is a JSON Schema of the inputs, ``ui`` how to ask for them."""

    name: str
    title: str
    description: str
    json_schema: Annotated[dict[str, Any], Field(serialization_alias="schema")]
    ui: dict[str, Any]
    warnings: list[FormWarning]


class CardStatus(BaseModel):
    """``is_last_good``: what is offered is older than what the source has, which is wrong."""

    name: str
    versions: list[str]
    groups: tuple[str, ...]
    is_last_good: bool


class CardProblem(BaseModel):
    file: str
    line: int
    column: int
    path: str
    code: str
    message: str
    hint: str


class CatalogueStatus(BaseModel):
    """``error`` is of a later reading than ``loaded_at`` and ``revision``."""

    source: str
    revision: str
    loaded_at: AwareDatetime | None
    error: str
    cards: list[CardStatus]
    problems: list[CardProblem]


class CatalogueApi:
    """Whoever asks sees the cards for their groups, or for the one that ``?group=`` names; operators see how it stands."""

    def __init__(self, access: Access, catalogue: ServiceCatalogue) -> None:
        self._access, self._catalogue = access, catalogue

    def routes(self) -> list[web.RouteDef]:
        one = "/v1/catalogue/{name}"
        return [
            web.get("/v1/catalogue", self.index),
            web.get("/v1/catalogue/status", self.status),
            web.post("/v1/catalogue/reload", self.reload),
            web.get(one, self.show),
            web.get(f"{one}/{{version}}", self.version),
            web.get(f"{one}/{{version}}/form", self.form),
        ]

    @describe(
        "List the services on offer",
        tag="catalogue",
        query=GroupQuery,
        answers={200: CardList, 304: None},
        errors=(403,),
        headers=KNOWN,
    )
    async def index(self, request: web.Request) -> web.Response:
        cards = self._catalogue.cards(await self._groups(request))
        return answer(request, CardList(content=[CardSummary(**_summary(card)) for card in cards]))

    @describe(
        "Show a service",
        tag="catalogue",
        query=GroupQuery,
        answers={200: CardShown, 304: None},
        errors=(403, 404),
        headers=KNOWN,
    )
    async def show(self, request: web.Request) -> web.Response:
        """The card with its guide, and its versions, newest first."""
        card = self._catalogue.card(request.match_info["name"], await self._groups(request))
        versions = [VersionName(version=version.number, digest=version.digest) for version in card.versions]
        return answer(request, CardShown(**_summary(card), guide=card.guide, versions=versions))

    @describe(
        "Show a version",
        tag="catalogue",
        query=GroupQuery,
        answers={200: VersionShown, 304: None},
        errors=(403, 404),
        headers=KNOWN,
    )
    async def version(self, request: web.Request) -> web.Response:
        """The template and its tests; ``latest`` is a version too."""
        version = self._version(request, await self._groups(request))
        tests = [
            TemplateTest(name=case.name, inputs=dict(case.inputs), expect=dict(case.expect)) for case in version.cases
        ]
        shown = VersionShown(
            name=request.match_info["name"],
            version=version.number,
            digest=version.digest,
            template=version.template,
            tests=tests,
        )
        return answer(request, shown)

    @describe(
        "Show the form of a version",
        tag="catalogue",
        query=GroupQuery,
        answers={200: FormShown, 304: None},
        errors=(403, 404),
        headers=KNOWN,
    )
    async def form(self, request: web.Request) -> web.Response:
        """The inputs as a JSON Schema, with hints for whoever draws the form."""
        groups = await self._groups(request)
        version = self._version(request, groups)
        drawn = form(version.parsed, version.parameters, groups=sorted(groups))
        shown = FormShown(
            name=request.match_info["name"], version=version.number, digest=version.digest, title=drawn.title,
            description=drawn.description, json_schema=drawn.schema, ui=dict(drawn.ui),
            warnings=[FormWarning(code=each.code, path=each.path, message=each.message) for each in drawn.warnings],
        )  # fmt: skip
        return answer(request, shown)

    @describe("Show how the catalogue stands", tag="catalogue", answers={200: CatalogueStatus}, errors=(403,))
    async def status(self, request: web.Request) -> web.Response:
        if not self._access.is_admin(await self._access.caller(request)):
            raise Forbidden("Only administrators see how the catalogue stands")
        return json_response(self._shown(self._catalogue.state))

    @describe("Read the catalogue now", tag="catalogue", answers={200: CatalogueStatus}, errors=(400, 403))
    async def reload(self, request: web.Request) -> web.Response:
        """Read it now; the answer is the new status, or why what was offered stays."""
        if not self._access.is_admin(await self._access.writer(request)):
            raise Forbidden("Only administrators reload the catalogue")
        return json_response(self._shown(await self._catalogue.reload()))

    async def _groups(self, request: web.Request) -> frozenset[str]:
        """Raises: Unauthenticated, Forbidden."""
        principal = await self._access.caller(request)
        asked = read_query(request, GroupQuery).group
        return frozenset({group_of(principal, asked).path}) if asked else principal.groups

    def _version(self, request: web.Request, groups: frozenset[str]) -> Version:
        return self._catalogue.version(request.match_info["name"], request.match_info["version"], groups)

    def _shown(self, state: State) -> CatalogueStatus:
        bad = {problem.card for problem in state.catalogue.problems}
        cards = [
            CardStatus(
                name=card.name, versions=[version.number for version in card.versions], groups=card.groups,
                is_last_good=card.name in bad,
            )
            for card in sorted(state.catalogue.cards.values(), key=lambda card: card.name)
        ]  # fmt: skip
        problems = [CardProblem.model_validate(problem.dump()) for problem in state.catalogue.problems[:SHOWN]]
        return CatalogueStatus(
            source=self._catalogue.address, revision=state.revision, loaded_at=state.loaded_at, error=state.error, cards=cards,
            problems=problems,
        )  # fmt: skip


def _summary(card: Card) -> dict[str, Any]:
    shown = {
        "name": card.name,
        "title": card.title,
        "description": card.description,
        "icon": card.icon,
        "svg": card.svg,
    }
    return {**shown, "tags": card.tags, "groups": card.groups, "version": card.versions[0].number}
