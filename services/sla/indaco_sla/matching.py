"""Where may a deployment go, in what order, and why not elsewhere? Pure: the same input gives the same answer, byte for byte."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from indaco_common.contracts.gateway import DeploymentRequested
from indaco_common.contracts.values import Image, NodeNeeds, Place, PlacedNode, Reason, instances
from indaco_common.units import ResourceVector

from .model.ledger import quota_reason
from .model.placement import Match, Offer
from .model.registry import AgreementRecord, Flavor, ProviderRecord, ProviderState, SiteImage

WEIGHTS = {"agreement": 0.4, "headroom": 0.4, "reliability": 0.2}
CANDIDATES = {ProviderState.ACTIVE, ProviderState.DEGRADED}
MILLI = 1000


@dataclass(frozen=True, slots=True)
class Option:
    """One agreement of the group, with its provider, what is used of it, and how often attempts failed there of late."""

    agreement: AgreementRecord
    provider: ProviderRecord | None
    used: ResourceVector
    failures: float = 0.0


class Refused(Exception):
    """Collects why one option does not fit."""

    def __init__(self, reasons: list[Reason]) -> None:
        super().__init__(reasons)
        self.reasons = reasons


def match(request: DeploymentRequested, options: Iterable[Option], now: datetime) -> Match:
    """Rank what fits, best first, and give every reason for the rest."""
    offers: list[Offer] = []
    refused: list[Reason] = []
    for option in options:
        try:
            offers.append(_offer(request, option, now))
        except Refused as why:
            refused += why.reasons
    if not offers and not refused:
        detail = f"the group {request.group.path} has no agreement with any provider"
        refused.append(Reason(provider="", code="NO_AGREEMENT", detail=detail))
    offers.sort(key=lambda offer: (-offer.score, _tie(request.deployment_id, offer.place.agreement)))
    return Match(ranked=tuple(offers), refused=tuple(refused))


def _tie(deployment: str, agreement: str) -> str:
    """Spread equal offers over deployments, reproducibly."""
    return hashlib.sha256(f"{deployment}\n{agreement}".encode()).hexdigest()


def _offer(request: DeploymentRequested, option: Option, now: datetime) -> Offer:
    """Return the offer that *option* makes. Raises: Refused, with all its reasons."""
    agreement, provider = option.agreement, option.provider
    reasons = [_reason(agreement, code, detail) for code, detail in _refusals(request, option, now)]
    if provider is None:
        raise Refused([*reasons, _reason(agreement, "PROVIDER_UNKNOWN", "the registry does not know the provider")])
    nodes: dict[str, PlacedNode] = {}
    kinds: dict[str, PlacedNode] = {}  # by TOSCA node: its instances are alike
    for name, needs in instances(dict(request.nodes)).items():
        kind = name.rpartition("-")[0]
        try:
            nodes[name] = kinds[kind] = kinds.get(kind) or _place_node(needs, provider)
        except LookupError as error:
            code, detail = error.args
            if (reason := _reason(agreement, code, f"{kind}: {detail}")) not in reasons:
                reasons.append(reason)
    total = ResourceVector.sum(node.needs for node in nodes.values())
    reasons += _quota(option, total)
    if reasons:
        raise Refused(reasons)
    terms = _terms(option, total)
    place = Place(
        provider=provider.id, kind=provider.kind, endpoint=provider.endpoint, region=agreement.region,
        project=agreement.project, agreement=agreement.id, simulated=provider.simulated,
    )  # fmt: skip
    return Offer(place=place, nodes=nodes, score=round(sum(WEIGHTS[k] * v for k, v in terms.items()), 6), terms=terms)


def _refusals(request: DeploymentRequested, option: Option, now: datetime) -> Iterable[tuple[str, str]]:
    """Yield (code, detail) of every cheap predicate that fails."""
    agreement, provider, policy = option.agreement, option.provider, request.policy
    if now < agreement.valid_from:
        yield "SLA_NOT_STARTED", f"the agreement begins on {agreement.valid_from:%Y-%m-%d}"
    if now >= agreement.valid_to:
        yield "SLA_EXPIRED", f"the agreement ended on {agreement.valid_to:%Y-%m-%d}"
    if agreement.suspended:
        yield "SLA_SUSPENDED", "the agreement is suspended"
    if provider is not None and provider.state not in CANDIDATES:
        yield "PROVIDER_STATE", f"the provider is {provider.state}"
    if provider is not None and agreement.region not in provider.regions:
        yield "REGION_UNKNOWN", f"the provider has no region {agreement.region}"
    if policy.provider not in ("", agreement.provider):
        yield "MANUAL_SELECTION", f"{policy.provider} was asked for"
    if policy.region not in ("", agreement.region):
        yield "REGION_POLICY", f"the region {policy.region} was asked for"
    if policy.agreement not in ("", agreement.id):
        yield "MANUAL_SELECTION", f"the agreement {policy.agreement} was asked for"
    if agreement.provider in policy.exclude:
        yield "EXCLUDED", "excluded by the user"


def _reason(agreement: AgreementRecord, code: str, detail: str) -> Reason:
    return Reason(provider=agreement.provider, region=agreement.region, code=code, detail=detail)


def _quota(option: Option, total: Mapping[str, int]) -> list[Reason]:
    """What the agreement lacks now; the ledger has the last word."""
    agreement = option.agreement
    return [
        quota_reason(
            agreement.provider, agreement.region, "group", name, need=need, limit=agreement.limits[name],
            used=option.used[name],
        )
        for name, need in total.items()
        if option.used[name] + need > agreement.limits[name]
    ]  # fmt: skip


def _place_node(node: NodeNeeds, provider: ProviderRecord) -> PlacedNode:
    """Return what *node* would be at *provider*. Raises: LookupError(code, detail)."""
    image = _image(node.image, provider)
    flavor = _flavor(node, provider)
    if flavor is None:
        return PlacedNode(image=image, needs=node.needs)
    taken = {
        **node.needs, "cpu_milli": flavor.vcpus * MILLI, "memory_mib": flavor.memory_mib,
        "disk_gib": max(flavor.disk_gib, node.needs["disk_gib"]),
    }  # fmt: skip
    return PlacedNode(flavor=flavor.name, image=image, needs=ResourceVector(taken))


def _image(wanted: Image, provider: ProviderRecord) -> str:
    if not provider.images:
        return wanted.name
    if wanted.name:
        found = next((i for i in provider.images if i.name == wanted.name), None)
    else:
        found = next((i for i in provider.images if _is_like(i, wanted)), None)
    if found is None:
        asked = wanted.name or " ".join(filter(None, (wanted.distribution, wanted.version, wanted.architecture)))
        has = ", ".join(sorted({f"{i.distribution} {i.version}" for i in provider.images}))
        raise LookupError("IMAGE", f"no image for {asked}; there are {has}")
    return found.name


def _is_like(image: SiteImage, wanted: Image) -> bool:
    return all(
        not asked or asked.lower() == has.lower()
        for asked, has in (
            (wanted.architecture, image.architecture), (wanted.type, image.type),
            (wanted.distribution, image.distribution), (wanted.version, image.version),
        )
    )  # fmt: skip


def _flavor(node: NodeNeeds, provider: ProviderRecord) -> Flavor | None:
    """Return the smallest flavor that holds *node*; None where sizes are free. Raises: LookupError."""
    if not provider.flavors:
        return None
    if named := next((f for f in provider.flavors if f.name == node.instance_type), None):
        return named
    gpus = node.needs["gpus"]
    fitting = [
        f
        for f in provider.flavors
        if f.vcpus * MILLI >= node.needs["cpu_milli"]
        and f.memory_mib >= node.needs["memory_mib"]
        and (f.gpus >= gpus if gpus else f.gpus == 0)
        and (not gpus or not node.gpu_model or f.gpu_model.lower() == node.gpu_model.lower())
    ]
    if not fitting:
        asked = f"{node.needs['cpu_milli'] / MILLI:g} vCPU, {node.needs['memory_mib']} MiB, {gpus} GPU"
        largest = max(provider.flavors, key=lambda f: (f.gpus, f.vcpus, f.memory_mib))
        has = f"{largest.name}: {largest.vcpus} vCPU, {largest.memory_mib} MiB, {largest.gpus} GPU"
        raise LookupError("FLAVOR", f"no flavor for {asked}; the largest is {has}")
    return min(fitting, key=lambda f: (f.gpus, f.vcpus, f.memory_mib, f.disk_gib, f.name))


def _terms(option: Option, total: Mapping[str, int]) -> dict[str, float]:
    """Return each term of the score, in [0, 1]: headroom is what is left of the scarcest resource."""
    limits, used = option.agreement.limits, option.used
    left = [(limits[name] - used[name] - need) / limits[name] for name, need in total.items() if limits[name]]
    return {
        "agreement": option.agreement.weight,
        "headroom": round(min(left, default=1.0), 6),
        "reliability": round(1 / (1 + option.failures), 6),
    }
