"""Where may a deployment go, in what order, and why not elsewhere? Pure: the same input gives the same answer, byte for byte.

An option is ranked, or refused with every predicate that fails: whoever mends exactly these has it ranked. Where a machine cannot
be placed, the quota is judged by what was asked for, since what a flavor would take is not known.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import takewhile

from indaco_common.contracts.gateway import DeploymentRequested, PlanRequested
from indaco_common.contracts.values import Image, NodeNeeds, Place, PlacedNode, Reason, instances
from indaco_common.units import ResourceVector

from .model.ledger import quota_reason
from .model.placement import Match, Offer
from .model.registry import AgreementRecord, Flavor, ProviderRecord, ProviderState, SiteImage

WEIGHTS = {"agreement": 0.4, "headroom": 0.4, "reliability": 0.2}
CANDIDATES = {ProviderState.ACTIVE, ProviderState.DEGRADED}
MILLI = 1000
NEAR = 3  # names that a hint lists
Fault = tuple[str, str]  # code, detail
Request = DeploymentRequested | PlanRequested


@dataclass(frozen=True, slots=True)
class Option:
    """One agreement of the group, with its provider, what is used of it, and how often attempts failed there of late."""

    agreement: AgreementRecord
    provider: ProviderRecord | None
    used: ResourceVector
    failures: float = 0.0


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of machine that is asked for: its figures are read once for all options."""

    kind: str
    node: NodeNeeds
    vcpus: float
    memory_mib: int
    disk_gib: int
    gpus: int
    gpu_model: str

    @classmethod
    def of(cls, kind: str, node: NodeNeeds) -> "Machine":
        """A named flavor wins over vCPUs and memory, for which a template that says nothing has defaults."""
        needs = node.needs
        vcpus, memory_mib = (0, 0) if node.instance_type else (needs["cpu_milli"] / MILLI, needs["memory_mib"])
        return cls(kind, node, vcpus, memory_mib, needs["disk_gib"], needs["gpus"], node.gpu_model.lower())


def match(request: Request, options: Iterable[Option], now: datetime) -> Match:
    """Rank what fits, best first, and give every reason for the rest."""
    kinds = {name: name.rpartition("-")[0] for name in instances(dict(request.nodes))}
    machines = [Machine.of(kind, node) for kind, node in sorted(request.nodes.items()) if node.count]
    offers: list[Offer] = []
    refused: list[Reason] = []
    for option in options:
        answer = _examine(request, machines, kinds, option, now)
        if isinstance(answer, Offer):
            offers.append(answer)
        else:
            refused += answer
    if not offers and not refused:
        detail = f"the group {request.group.path} has no agreement with any provider"
        refused.append(Reason(provider="", code="NO_AGREEMENT", detail=detail))
    offers.sort(key=lambda offer: (-offer.score, _tie(request.key, offer.place.agreement)))
    return Match(ranked=tuple(offers), refused=tuple(refused))


def _tie(subject: str, agreement: str) -> str:
    """Spread equal offers over deployments, reproducibly."""
    return hashlib.sha256(f"{subject}\n{agreement}".encode()).hexdigest()


def _examine(
    request: Request, machines: Sequence[Machine], kinds: Mapping[str, str], option: Option, now: datetime
) -> Offer | list[Reason]:
    """Return the offer that *option* makes, or all that speaks against it; *kinds*: the TOSCA node of each instance."""
    agreement, provider = option.agreement, option.provider
    faults = [*_refusals(request, option, now)]
    placed: dict[str, PlacedNode] = {}
    total: dict[str, int] = {}
    for machine in machines:
        one = placed[machine.kind] = _place_node(machine, provider, faults)
        for name, amount in one.needs.items():
            total[name] = total.get(name, 0) + amount * machine.node.count
    reasons = [Reason(provider=agreement.provider, region=agreement.region, code=c, detail=d) for c, d in faults]
    lacking, headroom = _quota(option, total)
    reasons += lacking
    if reasons or provider is None:
        return reasons
    place = Place(
        provider=provider.id, kind=provider.kind, endpoint=provider.endpoint, region=agreement.region,
        project=agreement.project, agreement=agreement.id, simulated=provider.simulated,
    )  # fmt: skip
    score, terms = _score(option, headroom)
    return Offer(place=place, nodes={name: placed[kind] for name, kind in kinds.items()}, score=score, terms=terms)


def _refusals(request: Request, option: Option, now: datetime) -> Iterable[Fault]:
    """Yield every predicate that fails, whatever the machines are."""
    agreement, provider, policy = option.agreement, option.provider, request.policy
    if now < agreement.valid_from:
        yield "SLA_NOT_STARTED", f"the agreement begins on {agreement.valid_from:%Y-%m-%d}"
    if now >= agreement.valid_to:
        yield "SLA_EXPIRED", f"the agreement ended on {agreement.valid_to:%Y-%m-%d}"
    if agreement.suspended:
        yield "SLA_SUSPENDED", "the agreement is suspended"
    if provider is None:
        yield "PROVIDER_UNKNOWN", "the registry does not know the provider"
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


def _quota(option: Option, total: Mapping[str, int]) -> tuple[list[Reason], float]:
    """Return what the agreement lacks now, and what would be left of its scarcest resource, as a share.

    The ledger has the last word, also on the share of one user.
    """
    agreement, limits, used = option.agreement, option.agreement.limits, option.used
    reasons: list[Reason] = []
    headroom = 1.0
    for name, need in total.items():
        limit, taken = limits[name], used[name]
        left = limit - taken - need
        if left >= 0:
            headroom = min(headroom, left / limit)
        else:
            where = (agreement.provider, agreement.region, "group", name)
            reasons.append(quota_reason(*where, need=need, limit=limit, used=taken))
    return reasons, headroom


def _score(option: Option, headroom: float) -> tuple[float, dict[str, float]]:
    """Return the score and its terms, each in [0, 1]."""
    weight, reliability = option.agreement.weight, 1 / (1 + option.failures)
    terms = {"agreement": weight, "headroom": round(headroom, 6), "reliability": round(reliability, 6)}
    return round(sum([WEIGHTS[name] * term for name, term in terms.items()]), 6), terms


# ── machines


def _place_node(machine: Machine, provider: ProviderRecord | None, faults: list[Fault]) -> PlacedNode:
    """Return what one instance of *machine* would be at *provider*; what fails is added to *faults*."""
    image, flavor, node = "", None, machine.node
    if provider is not None and node.kind not in provider.provides:
        has = ", ".join(f"{kind}s" for kind in provider.provides) or "nothing"
        faults.append(("SERVICE", f"{machine.kind}: a {node.kind} is asked for; the provider has {has}"))
    elif provider is not None and node.kind == "machine":
        image = _image(machine.kind, node.image, provider.images, faults)
        if provider.flavors:
            flavor = _flavor(machine, provider.flavors, faults)
    # Where sizes are free, an exact one that is asked for is left to the site, as an image is; that of a container always is.
    return _placed(
        flavor, node.instance_type, image or (node.image.name if node.kind == "container" else ""), node.needs
    )


@lru_cache(maxsize=4096)
def _placed(flavor: Flavor | None, asked: str, image: str, needs: ResourceVector) -> PlacedNode:
    """Return one machine, and what it takes: the whole flavor. The same few are made again and again."""
    if flavor is None:
        return PlacedNode(flavor=asked, image=image, needs=needs)
    taken = {
        **needs, "cpu_milli": flavor.vcpus * MILLI, "memory_mib": flavor.memory_mib, "gpus": flavor.gpus,
        "disk_gib": flavor.disk_gib or needs["disk_gib"],
    }  # fmt: skip
    return PlacedNode(flavor=flavor.name, image=image, needs=ResourceVector(taken))


def _image(kind: str, wanted: Image, images: Sequence[SiteImage], faults: list[Fault]) -> str:
    """Return the first image that is as *wanted*, or is so named; without a list any name is left to the site."""
    if not images:
        return wanted.name
    for image in images:
        if image.name == wanted.name if wanted.name else _is_like(image, wanted):
            return image.name
    if wanted.name:
        faults.append(
            ("IMAGE", f"{kind}: no image {wanted.name}; near are {_near(wanted.name, [i.name for i in images])}")
        )
    else:
        asked = " ".join(filter(None, (wanted.type, wanted.distribution, wanted.version, wanted.architecture)))
        has = ", ".join(sorted({f"{i.distribution} {i.version} {i.architecture}" for i in images}))
        faults.append(("IMAGE", f"{kind}: no image for {asked}; there are {has}"))
    return ""


def _is_like(image: SiteImage, wanted: Image) -> bool:
    return (
        (not wanted.distribution or wanted.distribution.lower() == image.distribution.lower())
        and (not wanted.version or wanted.version.lower() == image.version.lower())
        and (not wanted.architecture or wanted.architecture.lower() == image.architecture.lower())
        and (not wanted.type or wanted.type.lower() == image.type.lower())
    )


def _flavor(machine: Machine, flavors: Sequence[Flavor], faults: list[Fault]) -> Flavor | None:
    """Return the smallest flavor that holds *machine*, or the one that it names; one with a disk of 0 takes any disk."""
    if name := machine.node.instance_type:
        named = [f for f in flavors if f.name == name]
        if not named:
            near = _near(name, [f.name for f in flavors])
            faults.append(("FLAVOR", f"{machine.kind}: no flavor {name}; near are {near}"))
            return None
        flavors = named
    usable = (
        [f for f in flavors if _has_gpus(f, machine)] if machine.gpus or name else [f for f in flavors if not f.gpus]
    )
    fitting = [
        f
        for f in usable
        if f.vcpus >= machine.vcpus
        and f.memory_mib >= machine.memory_mib
        and (not f.disk_gib or f.disk_gib >= machine.disk_gib)
    ]
    if not fitting:
        faults.append(("FLAVOR", f"{machine.kind}: {_shortage(machine.node, usable or flavors)}"))
        return None
    return fitting[0] if len(fitting) == 1 else min(fitting, key=_size)


def _has_gpus(flavor: Flavor, machine: Machine) -> bool:
    return flavor.gpus >= machine.gpus and (not machine.gpus or machine.gpu_model in ("", flavor.gpu_model.lower()))


def _size(flavor: Flavor) -> tuple[int, int, int, int, str]:
    return flavor.gpus, flavor.vcpus, flavor.memory_mib, flavor.disk_gib, flavor.name


def _shortage(node: NodeNeeds, flavors: Sequence[Flavor]) -> str:
    """Say what was asked for, and the largest that comes near."""
    needs = node.needs
    asked = _described(
        needs["cpu_milli"] / MILLI, needs["memory_mib"], needs["disk_gib"], needs["gpus"], node.gpu_model
    )
    best = max(flavors, key=_size)
    has = _described(best.vcpus, best.memory_mib, best.disk_gib, best.gpus, best.gpu_model)
    lead = f"the flavor {node.instance_type} is too small" if node.instance_type else "no flavor"
    return f"{lead} for {asked}; the largest is {best.name}: {has}"


def _described(vcpus: float, memory_mib: int, disk_gib: int, gpus: int, gpu_model: str) -> str:
    disk = f", {disk_gib} GiB disk" if disk_gib else ""
    return f"{vcpus:g} vCPU, {memory_mib} MiB{disk}, {gpus} GPU" + (f" {gpu_model}" if gpus and gpu_model else "")


def _near(asked: str, names: Sequence[str]) -> str:
    """Return the few names that begin most like *asked*."""

    def distance(name: str) -> tuple[int, str]:
        alike = takewhile(lambda pair: pair[0] == pair[1], zip(asked.lower(), name.lower(), strict=False))
        return -sum(1 for _ in alike), name

    return ", ".join(sorted(names, key=distance)[:NEAR])
