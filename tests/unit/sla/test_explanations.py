"""What matching says of the places that do not fit: everything, so that whoever mends just that has them ranked."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from indaco_common.contracts.gateway import DeploymentRequested
from indaco_common.contracts.values import Group, Image, NodeNeeds, Owner, Policy
from indaco_common.ids import DeploymentId
from indaco_common.units import ResourceVector
from indaco_sla.matching import Option, match
from indaco_sla.model.placement import Match, Offer
from indaco_sla.model.registry import AgreementRecord, Flavor, ProviderRecord, ProviderState, SiteImage

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CMS = Group(issuer="https://iam.example.org/", path="cms")
LIMITS = ResourceVector(instances=10, cpu_milli=40_000, memory_mib=80_000, disk_gib=500, gpus=2)
FLAVORS = (
    Flavor(name="m1.small", vcpus=1, memory_mib=2048, disk_gib=20),
    Flavor(name="m1.large", vcpus=4, memory_mib=8192, disk_gib=40),
    Flavor(name="m1.free", vcpus=8, memory_mib=16384),
    Flavor(name="g1.a100", vcpus=8, memory_mib=65536, disk_gib=100, gpus=2, gpu_model="A100"),
)
IMAGES = (
    SiteImage(name="debian-12", distribution="debian", version="12"),
    SiteImage(name="ubuntu-22.04", distribution="ubuntu", version="22.04"),
)

SITE: dict[str, Any] = {}  # as below
NOTHING, ANYWHERE = ResourceVector(), Policy()


def vector(**amounts: int) -> ResourceVector:
    return ResourceVector({"instances": 1, "cpu_milli": 1000, "memory_mib": 1024, **amounts})


def an_option(
    *, provider: dict[str, Any] | None = SITE, used: ResourceVector = NOTHING, failures: float = 0, **terms: Any
) -> Option:
    agreement: dict[str, Any] = {
        "id": "a", "group": CMS, "provider": "site", "region": "r1", "project": "p", "limits": LIMITS,
        "valid_from": NOW - timedelta(days=1), "valid_to": NOW + timedelta(days=1),
    }  # fmt: skip
    site: dict[str, Any] = {"id": "site", "kind": "simulated", "regions": ("r1",), "flavors": FLAVORS, "images": IMAGES}
    record = None if provider is None else ProviderRecord(**{**site, **provider})
    return Option(AgreementRecord(**{**agreement, **terms}), record, used, failures)


def matched(option: Option | list[Option], policy: Policy = ANYWHERE, **nodes: NodeNeeds) -> Match:
    request = DeploymentRequested(
        deployment_id=DeploymentId("d"), owner=Owner(issuer="i", subject="s"), group=CMS, template="", inputs={},
        nodes=nodes or {"server": NodeNeeds(needs=vector())}, policy=policy,
    )  # fmt: skip
    return match(request, option if isinstance(option, list) else [option], NOW)


def offer(needs: NodeNeeds, **provider: Any) -> Offer:
    result = matched(an_option(provider=provider), server=needs)
    assert result.refused == ()
    return result.ranked[0]


def refusal(needs: NodeNeeds, **provider: Any) -> list[tuple[str, str]]:
    result = matched(an_option(provider=provider), server=needs)
    assert result.ranked == ()
    return [(reason.code, reason.detail) for reason in result.refused]


# ── all that fails is told


def test_every_predicate_that_fails_is_told_and_mending_just_these_ranks_the_place() -> None:
    wrong: dict[str, Any] = {
        "valid_from": NOW + timedelta(hours=1), "suspended": True, "region": "r9", "limits": ResourceVector(instances=3, cpu_milli=1500),
    }  # fmt: skip
    needs = {
        "big": NodeNeeds(count=2, needs=vector(cpu_milli=64_000), image=Image(distribution="plan9")),
        "named": NodeNeeds(count=2, needs=vector(), instance_type="m1.huge"),
    }
    policy = Policy(provider="other", region="r1", agreement="b", exclude=("site",))
    result = matched(an_option(provider={"state": ProviderState.SUSPENDED}, **wrong), policy, **needs)
    assert result.ranked == ()
    assert Counter(reason.code for reason in result.refused) == {
        "SLA_NOT_STARTED": 1, "SLA_SUSPENDED": 1, "PROVIDER_STATE": 1, "REGION_UNKNOWN": 1, "MANUAL_SELECTION": 2, "REGION_POLICY": 1,
        "EXCLUDED": 1, "IMAGE": 1, "FLAVOR": 2, "QUOTA": 3,
    }  # fmt: skip
    assert {reason.resource for reason in result.refused if reason.code == "QUOTA"} == {
        "instances",
        "cpu_milli",
        "memory_mib",
    }
    flavors = (*FLAVORS, Flavor(name="m1.huge", vcpus=64, memory_mib=2048))
    images = (*IMAGES, SiteImage(name="plan9", distribution="plan9", version="4"))
    grown = ResourceVector(instances=4, cpu_milli=256_000, memory_mib=8192)
    mended = an_option(provider={"flavors": flavors, "images": images}, limits=grown)
    assert len(matched(mended, Policy(region="r1"), **needs).ranked) == 1


def test_a_provider_that_is_not_known_is_told_with_what_else_fails() -> None:
    result = matched(an_option(provider=None, valid_to=NOW, limits=ResourceVector(instances=1)))
    assert [reason.code for reason in result.refused] == ["SLA_EXPIRED", "PROVIDER_UNKNOWN", "QUOTA", "QUOTA"]


def test_a_group_without_agreements_is_told_so() -> None:
    assert [reason.code for reason in matched([]).refused] == ["NO_AGREEMENT"]


def test_a_shortfall_is_told_in_figures() -> None:
    result = matched(an_option(used=vector(instances=8)), server=NodeNeeds(count=3, needs=vector()))
    [reason] = result.refused
    assert (reason.code, reason.resource, reason.need, reason.available, reason.limit) == (
        "QUOTA",
        "instances",
        3,
        2,
        10,
    )


def test_instances_that_cannot_be_placed_are_told_once_for_their_kind() -> None:
    needs = NodeNeeds(count=9, needs=vector(memory_mib=10**6))
    result = matched(an_option(limits=ResourceVector({**LIMITS, "memory_mib": 10**9})), server=needs)
    assert [reason.code for reason in result.refused] == ["FLAVOR"]


def test_a_node_of_which_none_is_wanted_keeps_nothing_out() -> None:
    result = matched(
        an_option(), none=NodeNeeds(count=0, needs=vector(cpu_milli=10**9)), server=NodeNeeds(needs=vector())
    )
    assert list(result.ranked[0].nodes) == ["server-0"]


# ── flavors


def test_the_smallest_flavor_that_fits_is_taken_and_counts_whole() -> None:
    placed = offer(NodeNeeds(needs=vector(cpu_milli=2000, disk_gib=30))).nodes["server-0"]
    assert placed.flavor == "m1.large"
    assert placed.needs == vector(cpu_milli=4000, memory_mib=8192, disk_gib=40)


def test_a_fixed_disk_that_is_too_small_does_not_fit_and_a_disk_of_0_takes_any() -> None:
    placed = offer(NodeNeeds(needs=vector(disk_gib=41))).nodes["server-0"]
    assert (placed.flavor, placed.needs["disk_gib"]) == ("m1.free", 41)
    [(code, detail)] = refusal(NodeNeeds(needs=vector(disk_gib=41)), flavors=FLAVORS[:2])
    assert code == "FLAVOR"
    assert (
        detail
        == "server: no flavor for 1 vCPU, 1024 MiB, 41 GiB disk, 0 GPU; the largest is m1.large: 4 vCPU, 8192 MiB, 40 GiB disk, 0 GPU"
    )


def test_a_flavor_with_gpus_is_kept_for_those_who_ask_for_them() -> None:
    [(_, detail)] = refusal(NodeNeeds(needs=vector(memory_mib=60_000)))
    assert "the largest is m1.free" in detail
    placed = offer(NodeNeeds(needs=vector(gpus=1), gpu_model="a100")).nodes["server-0"]
    assert (placed.flavor, placed.needs["gpus"]) == ("g1.a100", 2)
    [(_, detail)] = refusal(NodeNeeds(needs=vector(gpus=1), gpu_model="H100"))
    assert "1 GPU H100" in detail


def test_a_flavor_that_is_named_is_taken_whatever_vcpus_and_memory_say() -> None:
    assert (
        offer(NodeNeeds(needs=vector(cpu_milli=2000), instance_type="m1.small")).nodes["server-0"].flavor == "m1.small"
    )
    placed = offer(NodeNeeds(needs=vector(), instance_type="g1.a100")).nodes["server-0"]
    assert (placed.flavor, placed.needs["gpus"]) == ("g1.a100", 2)


def test_a_flavor_that_is_named_must_have_the_disk_and_gpus_that_are_asked_for() -> None:
    [(_, detail)] = refusal(NodeNeeds(needs=vector(disk_gib=30), instance_type="m1.small"))
    assert "the flavor m1.small is too small" in detail
    refusal(NodeNeeds(needs=vector(gpus=1), instance_type="m1.large"))


def test_a_name_that_no_flavor_has_is_told_with_those_near_it() -> None:
    assert refusal(NodeNeeds(needs=vector(), instance_type="m1.lage")) == [
        ("FLAVOR", "server: no flavor m1.lage; near are m1.large, m1.free, m1.small")
    ]


def test_where_sizes_are_free_a_name_is_left_to_the_site() -> None:
    placed = offer(NodeNeeds(needs=vector(cpu_milli=1500), instance_type="custom"), flavors=()).nodes["server-0"]
    assert (placed.flavor, placed.needs) == ("custom", vector(cpu_milli=1500))


# ── images


@pytest.mark.parametrize(
    ("wanted", "image"),
    [
        (Image(), "debian-12"),
        (Image(distribution="Ubuntu"), "ubuntu-22.04"),
        (Image(distribution="ubuntu", version="22.04", architecture="X86_64", type="linux"), "ubuntu-22.04"),
        (Image(name="ubuntu-22.04", distribution="debian"), "ubuntu-22.04"),
    ],
)
def test_the_image_that_is_as_wanted_is_taken(wanted: Image, image: str) -> None:
    assert offer(NodeNeeds(needs=vector(), image=wanted)).nodes["server-0"].image == image


def test_an_image_that_is_not_there_is_told_with_what_there_is() -> None:
    [(code, detail)] = refusal(NodeNeeds(needs=vector(), image=Image(distribution="ubuntu", version="24.04")))
    assert (code, detail) == (
        "IMAGE",
        "server: no image for ubuntu 24.04; there are debian 12 x86_64, ubuntu 22.04 x86_64",
    )
    [(_, detail)] = refusal(NodeNeeds(needs=vector(), image=Image(name="debian-11")))
    assert detail == "server: no image debian-11; near are debian-12, ubuntu-22.04"


def test_an_image_and_a_flavor_that_are_missing_are_both_told() -> None:
    needs = NodeNeeds(needs=vector(), instance_type="x", image=Image(name="y"))
    assert [code for code, _ in refusal(needs)] == ["IMAGE", "FLAVOR"]


# ── many


def test_of_many_options_each_is_ranked_or_explained_and_again_the_same() -> None:
    options = [
        an_option(
            id=f"a{i}", provider={"id": f"site{i}", "state": "suspended" if i % 5 == 0 else "active"}, failures=i % 3, weight=i % 7 / 10,
            used=ResourceVector(cpu_milli=i * 700), **({"valid_to": NOW} if i % 11 == 0 else {}),
        )
        for i in range(50)
    ]  # fmt: skip
    options = [
        Option(o.agreement.model_copy(update={"provider": f"site{i}"}), o.provider, o.used, o.failures)
        for i, o in enumerate(options)
    ]
    needs = {f"n{i}": NodeNeeds(count=2, needs=vector(cpu_milli=1000 * i)) for i in range(1, 4)}
    result = matched(options, **needs)
    ranked = [o.place.provider for o in result.ranked]
    refused = {reason.provider for reason in result.refused}
    assert len(ranked) == len(set(ranked))
    assert set(ranked).isdisjoint(refused)
    assert set(ranked) | refused == {f"site{i}" for i in range(50)}
    assert [o.score for o in result.ranked] == sorted((o.score for o in result.ranked), reverse=True)
    assert all(set(o.nodes) == {f"n{k}-{n}" for k in range(1, 4) for n in range(2)} for o in result.ranked)
    assert matched(options, **needs).model_dump_json() == result.model_dump_json()


def test_a_place_that_fails_often_comes_later() -> None:
    good, bad = an_option(id="a1"), an_option(id="a2", failures=3.0)
    assert [o.place.agreement for o in matched([bad, good]).ranked] == ["a1", "a2"]


# ── what is no machine


def test_what_a_provider_does_not_provide_is_told() -> None:
    bucket = NodeNeeds(kind="bucket", needs=ResourceVector(buckets=1))
    result = matched(an_option(limits=ResourceVector(buckets=2)), store=bucket)
    assert [(reason.code, reason.detail) for reason in result.refused] == [
        ("SERVICE", "store: a bucket is asked for; the provider has machines")
    ]


def test_a_container_takes_its_own_image_and_size_whatever_flavors_there_are() -> None:
    wanted = NodeNeeds(kind="container", needs=vector(cpu_milli=500), image=Image(name="nginx:1.27.3"))
    placed = offer(wanted, provides=("machine", "container")).nodes["server-0"]
    assert (placed.flavor, placed.image, placed.needs["cpu_milli"]) == ("", "nginx:1.27.3", 500)


def test_a_bucket_is_held_against_the_quota_of_buckets() -> None:
    bucket = NodeNeeds(kind="bucket", count=3, needs=ResourceVector(buckets=1))
    option = an_option(provider={"provides": ("bucket",)}, limits=ResourceVector(buckets=2))
    assert [(reason.code, reason.resource) for reason in matched(option, store=bucket).refused] == [
        ("QUOTA", "buckets")
    ]
