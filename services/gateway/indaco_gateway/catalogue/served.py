"""The service catalogue as this process has it: read again when its source changes, the last good state of each card kept."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from indaco_common.clock import Clock
from indaco_common.errors import FieldError, Invalid, NotFound, Unavailable
from indaco_common.web import excerpt
from indaco_tosca import ImportResolver, TemplateError
from indaco_tosca.catalogue import Card, Catalogue, Version, read
from indaco_tosca.catalogue_check import checked

from .sources import Snapshot, Source

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

REFERENCE = "catalogue:"  # of a template in a request: catalogue:<card>[@<version>]
LATEST = "latest"
MAX_LOGGED = 10  # problems of one reading


@dataclass(frozen=True, slots=True)
class State:
    """What is offered now; *revision* and *loaded_at* are of the last good reading, *error* of a later one that failed."""

    catalogue: Catalogue = field(default_factory=lambda: Catalogue({}))
    revision: str = ""
    loaded_at: datetime | None = None
    error: str = ""


class ServiceCatalogue:
    """What is offered, and where it comes from; without a source nothing is."""

    def __init__(
        self, source: Source | None, clock: Clock, refresh_s: float, imports: Callable[[], ImportResolver | None]
    ) -> None:
        """*imports* gives what templates may import at that moment."""
        self._source, self._clock, self._refresh_s, self._imports = source, clock, refresh_s, imports
        self._state = State()
        self._one_at_a_time = asyncio.Lock()

    @property
    def state(self) -> State:
        return self._state

    @property
    def address(self) -> str:
        return self._source.address if self._source else ""

    async def run(self) -> None:
        """Until the service stops: look whether something has changed."""
        while True:
            try:
                await self._load(self._state.revision)
            except (Invalid, Unavailable) as error:
                log.warning("catalogue.not_read", source=self.address, error=error.detail)
            await asyncio.sleep(self._refresh_s)

    async def reload(self) -> State:
        """Read it now, changed or not: imports may have. Raises: Invalid, Unavailable; what was offered stays then."""
        await self._load("")
        return self._state

    def cards(self, groups: Collection[str]) -> tuple[Card, ...]:
        """Return the cards for members of any of the groups. Raises: Unavailable, before the first reading."""
        return self._loaded().visible_to(groups)

    def card(self, name: str, groups: Collection[str]) -> Card:
        """Raises: NotFound, also for a card that is for others; Unavailable."""
        card = self._loaded().cards.get(name)
        if card is None or not card.is_for(groups):
            raise NotFound(f"There is no service {excerpt(name)!r} in the catalogue")
        return card

    def version(self, name: str, number: str, groups: Collection[str]) -> Version:
        """Return that version of a card, or the newest for ``latest``. Raises: NotFound, Unavailable."""
        card = self.card(name, groups)
        found = card.version("" if number == LATEST else number)
        if found is None:
            known = ", ".join(version.number for version in card.versions[:10])
            raise NotFound(f"There is no version {excerpt(number)} of {name}, but {known}")
        return found

    def resolve(self, template: str, group: str) -> str:
        """Return the text of a template, which may be a reference to a card that *group* may use.

        Raises: Invalid, for a reference to what is not there; Unavailable.
        """
        if not template.startswith(REFERENCE):
            return template
        name, _, number = template.removeprefix(REFERENCE).strip().partition("@")
        try:
            return self.version(name, number or LATEST, {group}).template
        except NotFound as error:
            detail = f"For the group {group}: {error.detail}"
            raise Invalid(detail, errors=[FieldError("/template", detail)]) from None

    def _loaded(self) -> Catalogue:
        if self._state.loaded_at is None and self._source is not None:
            raise Unavailable("The catalogue has not been read yet", retry_after_s=1)  # administrators see why
        return self._state.catalogue

    async def _load(self, known: str) -> None:
        if self._source is None:
            return
        async with self._one_at_a_time:
            try:
                await self._read(self._source, known)
            except TemplateError as error:
                self._state = replace(self._state, error=f"The catalogue of {self.address} is refused: {error}")
                raise Invalid(self._state.error) from None
            except (Invalid, Unavailable) as error:
                self._state = replace(self._state, error=error.detail)
                raise

    async def _read(self, source: Source, known: str) -> None:
        snapshot = await source.read(known)
        if snapshot is not None:
            catalogue = await asyncio.to_thread(_judged, snapshot, self._state.catalogue, self._imports())
            self._state = State(catalogue, snapshot.revision, self._clock.now())
            self._tell()
        elif self._state.error:
            self._state = replace(self._state, error="")

    def _tell(self) -> None:
        state, problems = self._state, self._state.catalogue.problems
        log.info("catalogue.loaded", source=self.address, revision=state.revision, cards=len(state.catalogue.cards))
        for problem in problems[:MAX_LOGGED]:
            log.warning("catalogue.card_refused", **problem.dump())
        if len(problems) > MAX_LOGGED:
            log.warning("catalogue.more_refused", problems=len(problems) - MAX_LOGGED)


def _judged(snapshot: Snapshot, last: Catalogue, resolve: ImportResolver | None) -> Catalogue:
    """Return what is good of a snapshot, and of each card that is not, what was good last. Raises: TemplateError."""
    return checked(read(snapshot.files, resolve=resolve)).keeping(last)
