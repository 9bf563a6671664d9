"""Laws of matching, for any request and any federation: every offer once, the same again, and more never fits less."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from indaco_common.contracts.gateway import DeploymentRequested
from indaco_common.contracts.values import Group, NodeNeeds, Owner, Policy
from indaco_common.ids import DeploymentId
from indaco_common.units import ResourceVector
from indaco_sla.matching import Option, match
from indaco_sla.model.placement import Match
from indaco_sla.model.registry import AgreementRecord, Flavor, ProviderRecord, ProviderState

NOW = datetime(2026, 6, 1, tzinfo=UTC)
GROUP = Group(issuer="i", path="physics")
PROVIDERS = ("p0", "p1", "p2")


def vector(rng: Random, most: int) -> ResourceVector:
    gpus = {"gpus": rng.randint(1, most)} if rng.random() < 0.3 else {}
    return ResourceVector(instances=rng.randint(1, most), cpu_milli=1000 * rng.randint(0, most), **gpus)


def provider(rng: Random, name: str) -> ProviderRecord | None:
    """A provider with some flavors, or none; now and then the registry does not know it."""
    flavors = tuple(
        Flavor(name=size, vcpus=rng.randint(1, 8), memory_mib=2048, gpus=rng.randint(0, 1))
        for size in rng.sample(["s", "m", "l"], rng.randint(0, 3))
    )
    known = ProviderRecord(id=name, kind="simulated", state=rng.choice([*ProviderState]), flavors=flavors)
    return known if rng.random() < 0.9 else None


def options(rng: Random) -> list[Option]:
    """Some agreements of one group with a few providers; their ids differ."""
    known = {name: provider(rng, name) for name in PROVIDERS}
    found = []
    for number in range(rng.randint(0, 5)):
        record = AgreementRecord(
            id=f"a{number}", group=GROUP, provider=rng.choice(PROVIDERS), project="p", limits=vector(rng, 12),
            weight=rng.random(), suspended=rng.random() < 0.1, valid_from=NOW + timedelta(days=rng.choice([-9, -9, 9])),
            valid_to=NOW + timedelta(days=90),
        )  # fmt: skip
        found.append(Option(record, known[record.provider], vector(rng, 4), 5 * rng.random()))
    return found


def request_of(rng: Random) -> DeploymentRequested:
    nodes = {
        name: NodeNeeds(count=rng.randint(0, 3), needs=ResourceVector({**vector(rng, 3), "instances": 1}))
        for name in rng.sample(["n", "w"], rng.randint(1, 2))
    }
    policy = Policy(provider=rng.choice(["", "", "p0"]), exclude=tuple(rng.sample(PROVIDERS, rng.randint(0, 1))))
    return DeploymentRequested(
        deployment_id=DeploymentId(rng.choice("de")), owner=Owner(issuer="i", subject="s"), group=GROUP, template="t",
        inputs={}, nodes=nodes, policy=policy,
    )  # fmt: skip


@dataclass(frozen=True)
class Case:
    request: DeploymentRequested
    options: list[Option]

    def match(self) -> Match:
        return match(self.request, self.options, NOW)

    @classmethod
    def of(cls, seed: int) -> "Case":
        rng = Random(seed)
        return cls(request_of(rng), options(rng))


cases = st.integers(0, 2**32 - 1).map(Case.of)


def ranked(found: Match) -> list[str]:
    return [offer.place.agreement for offer in found.ranked]


@given(cases)
def test_every_option_is_ranked_once_or_refused_with_a_reason(case: Case) -> None:
    found = case.match()
    assert len(set(ranked(found))) == len(found.ranked)
    assert found.ranked or found.refused
    refused = {(reason.provider, reason.region) for reason in found.refused}
    for option in case.options:
        place = (option.agreement.provider, option.agreement.region)
        alike = [o for o in case.options if (o.agreement.provider, o.agreement.region) == place]
        is_refused = option.agreement.id not in ranked(found)
        assert not is_refused or place in refused
        if len(alike) == 1:
            assert is_refused == (place in refused)


@given(cases, st.randoms())
def test_the_answer_does_not_depend_on_order_or_repetition(case: Case, rng: Random) -> None:
    found = case.match()
    assert case.match().model_dump_json() == found.model_dump_json()
    shuffled = rng.sample(case.options, len(case.options))
    assert ranked(match(case.request, shuffled, NOW)) == ranked(found)


@given(cases)
def test_offers_come_by_falling_score_and_each_score_is_a_share(case: Case) -> None:
    scores = [offer.score for offer in case.match().ranked]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


@given(cases)
def test_granting_more_refuses_nothing_that_fitted(case: Case) -> None:
    more = ResourceVector(instances=3, cpu_milli=500, gpus=1)
    wider = [
        replace(o, agreement=o.agreement.model_copy(update={"limits": o.agreement.limits + more})) for o in case.options
    ]
    assert set(ranked(case.match())) <= set(ranked(match(case.request, wider, NOW)))


@given(cases)
def test_using_less_refuses_nothing_that_fitted(case: Case) -> None:
    idle = [replace(option, used=ResourceVector()) for option in case.options]
    assert set(ranked(case.match())) <= set(ranked(match(case.request, idle, NOW)))


@given(cases)
def test_asking_for_fewer_refuses_nothing_that_fitted(case: Case) -> None:
    nodes = {
        name: node.model_copy(update={"count": max(0, node.count - 1)}) for name, node in case.request.nodes.items()
    }
    fewer = case.request.model_copy(update={"nodes": nodes})
    assert set(ranked(case.match())) <= set(ranked(match(fewer, case.options, NOW)))


@given(cases)
def test_what_is_offered_fits_within_what_is_free(case: Case) -> None:
    by_id = {option.agreement.id: option for option in case.options}
    for offer in case.match().ranked:
        option = by_id[offer.place.agreement]
        needs = ResourceVector.sum(node.needs for node in offer.nodes.values())
        assert all(needs[name] + option.used[name] <= option.agreement.limits[name] for name in needs)
        assert len(offer.nodes) == sum(node.count for node in case.request.nodes.values())
