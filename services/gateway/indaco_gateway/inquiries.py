"""Dry runs: a template is planned here, sla is asked where it would go, and whoever asked waits a moment for the answer."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import pydantic_core

import indaco_tosca
from indaco_common.auth import Principal
from indaco_common.clock import Clock
from indaco_common.contracts import gateway, sla
from indaco_common.envelope import Context
from indaco_common.errors import NotFound, PayloadTooLarge
from indaco_common.handling import handles, on_due
from indaco_common.hints import Hints
from indaco_common.ids import uuid7
from indaco_common.imports import PinnedImports
from indaco_common.store import Repository

from .catalogue.served import ServiceCatalogue
from .identity.access import group_of, owner_of
from .model.inquiry import LIFE, Inquiry, Planned, PlannedNode, PlannedPort, PlannedSoftware
from .needs import nodes_of, plan_of, policy_of, warnings_of
from .submission import MAX_REQUEST_BYTES

POLL_S = 0.5  # for an answer that another gateway process took


class Inquiring:
    """Answers in, and old inquiries out."""

    def __init__(self, inquiries: Repository[Inquiry]) -> None:
        self._inquiries = inquiries

    @handles(sla.PlacementProposed)
    async def show(self, event: sla.PlacementProposed, ctx: Context) -> None:
        """What comes after the inquiry was dropped is for nobody."""
        with contextlib.suppress(NotFound):
            async with self._inquiries.edit(event.inquiry_id, ctx) as inquiry:
                inquiry.answered(event)

    @on_due(Inquiry)
    async def drop(self, id: str, ctx: Context) -> None:
        await self._inquiries.remove(id, ctx)


class Inquiries:
    """Asks and waits."""

    def __init__(
        self,
        inquiries: Repository[Inquiry],
        hints: Hints,
        clock: Clock,
        imports: PinnedImports,
        catalogue: ServiceCatalogue,
    ) -> None:
        self._inquiries, self._clock, self._imports, self._catalogue = inquiries, clock, imports, catalogue
        self._waiting: dict[str, asyncio.Event] = {}
        self._is_closing = False
        hints.on_change(Inquiry, self._changed)

    async def run(self) -> None:
        """Until the service stops; then let go all who wait, who would hold up the stop."""
        try:
            await asyncio.Event().wait()
        finally:
            self._is_closing = True
            for news in self._waiting.values():
                news.set()

    async def ask(
        self, template: str, parameters: Mapping[str, Any], principal: Principal, group: str | None, ctx: Context
    ) -> Inquiry:
        """Plan a template and ask where it would go. Raises: as an accepted request would; nothing is kept of what is refused."""
        community = group_of(principal, group)
        plan = await plan_of(self._catalogue.resolve(template, community.path), parameters, self._imports.closure())
        now = self._clock.now()
        request = gateway.PlanRequested(
            inquiry_id=uuid7(), owner=owner_of(principal), group=community, nodes=nodes_of(plan), policy=policy_of(plan),
            expires_at=now + LIFE,
        )  # fmt: skip
        if (size := len(pydantic_core.to_json(request))) > MAX_REQUEST_BYTES:
            raise PayloadTooLarge(f"The request takes {size} bytes on its way; at most {MAX_REQUEST_BYTES} are carried")
        inquiry = Inquiry.about(request, described(plan), now)
        await self._inquiries.create(inquiry, ctx)
        return inquiry

    async def find(self, id: str, principal: Principal) -> Inquiry:
        """Return an inquiry of the caller. Raises: NotFound, also for another's."""
        absent = NotFound("There is no such plan; plans are kept for some minutes")
        try:
            inquiry = await self._inquiries.get(id)
        except NotFound:
            raise absent from None
        if inquiry.owner != owner_of(principal):
            raise absent
        return inquiry

    async def wait(self, id: str, seconds: float) -> Inquiry:
        """Return the inquiry once it is answered, or as it is after so many seconds or when the service stops. Raises: NotFound, Unavailable."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        with self._watched(id) as news:
            while True:
                news.clear()
                inquiry = await self._inquiries.get(id)
                left_s = end - loop.time()
                if inquiry.placement is not None or left_s <= 0 or self._is_closing:
                    return inquiry
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(POLL_S, left_s)):
                        await news.wait()

    @contextlib.contextmanager
    def _watched(self, id: str) -> Iterator[asyncio.Event]:
        news = self._waiting[id] = asyncio.Event()
        try:
            yield news
        finally:
            del self._waiting[id]

    def _changed(self, id: str) -> None:
        if (news := self._waiting.get(id)) is not None:
            news.set()


def described(plan: indaco_tosca.Plan) -> Planned:
    """Return what would be made, without what may hold secrets: user data, accounts, and the properties of software."""
    return Planned(
        nodes=tuple(_node(node) for node in plan.nodes), levels=max((node.level for node in plan.nodes), default=0),
        totals=plan.totals, warnings=warnings_of(plan), secret_inputs=tuple(sorted(plan.secret_inputs)),
    )  # fmt: skip


def _node(node: indaco_tosca.PlanNode) -> PlannedNode:
    return PlannedNode(
        name=node.name, type=node.type, kind=node.kind.value, count=node.count, level=node.level, depends_on=node.dependencies,
        cpu_milli=node.cpu_milli, memory_mib=node.memory_mib, disk_gib=node.disk_gib, gpus=node.gpus, gpu_model=node.gpu_model,
        instance_type=node.instance_type, image={name: str(value) for name, value in node.image.items() if value},
        public_ip=node.public_ip, volumes_gib=tuple(volume.size_gib for volume in node.volumes),
        ports=tuple(
            PlannedPort(protocol=rule.protocol, port=rule.port, port_end=rule.port_end, remote_cidr=rule.remote_cidr)
            for rule in node.ports
        ),
        software=tuple(
            PlannedSoftware(node=part.node, type=part.type, by=part.by.value, level=part.level) for part in node.software
        ),
    )  # fmt: skip
