"""The simulated site's file: options, faults that are read live, credentials, and use by several processes."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from indaco_common import simulation
from indaco_common.clock import ManualClock
from indaco_common.errors import CredentialRejected, Invalid, PolicyRefused, Unavailable
from indaco_common.simulation import Lease, Site, SiteOptions, break_site, parse_endpoint

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site.at(f"simulated:{tmp_path}?boot_s=0.2", "alpha", clock=ManualClock(NOW))
    yield site
    site.close()


def lease(key: str = "d/1/1", *, ttl_s: int = 60) -> Lease:
    return Lease(key, "r", "p", NOW + timedelta(seconds=ttl_s), is_revoked=False)


def token_of(site: Site, key: str = "d/1/1") -> dict[str, str]:
    return {"token": site.transact(lambda connection: simulation.issue(connection, lease(key)))[0]}


def check(
    site: Site, credential: dict[str, str], *, region: str = "r", project: str = "p", now: datetime = NOW
) -> None:
    site.transact(lambda c: simulation.check(c, credential, region=region, project=project, now=now))


def test_an_endpoint_names_the_folder_and_the_options(tmp_path: Path) -> None:
    folder, options = parse_endpoint(
        f"simulated:{tmp_path}?boot_s=0.2&capacity=7&fail_rate=0.5&down=true&seed=1", "alpha"
    )
    assert folder == tmp_path / "alpha"
    assert options == SiteOptions(boot_s=0.2, capacity=7, fail_rate=0.5, down=True, seed=1)


def test_an_endpoint_without_a_path_uses_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INDACO_SIMULATED", str(tmp_path))
    assert parse_endpoint("simulated:", "alpha") == (tmp_path / "alpha", SiteOptions())
    monkeypatch.delenv("INDACO_SIMULATED")
    monkeypatch.setenv("INDACO_DATA", str(tmp_path / "kept"))
    assert parse_endpoint("simulated:", "alpha")[0] == tmp_path / "kept/simulated/alpha"
    monkeypatch.delenv("INDACO_DATA")
    monkeypatch.chdir(tmp_path)
    assert parse_endpoint("simulated:", "alpha")[0] == tmp_path / "data/simulated/alpha"


@pytest.mark.parametrize(
    "endpoint",
    [
        "docker:x",
        "simulated",
        "simulated:x?speed=9",
        "simulated:x?fail_rate=2",
        "simulated:x?boot_s=soon",
        "simulated:x?a",
    ],
)
def test_a_wrong_endpoint_is_invalid(endpoint: str) -> None:
    with pytest.raises(Invalid):
        parse_endpoint(endpoint, "alpha")


def test_faults_are_read_live_win_over_the_endpoint_and_end_when_mended(site: Site) -> None:
    assert not site.options().down
    break_site(site.folder, down=True, boot_s=9)
    assert (site.options().down, site.options().boot_s) == (True, 9)
    break_site(site.folder)
    assert (site.options().down, site.options().boot_s) == (False, 0.2)
    break_site(site.folder, down=True)
    assert site.options().down
    (site.folder / "faults.json").unlink()
    assert not site.options().down


@pytest.mark.parametrize("text", ["", "{", "[]", '{"speed": 1}', '{"fail_rate": 7}', "3"])
def test_faults_that_cannot_be_read_change_nothing(site: Site, text: str) -> None:
    break_site(site.folder, down=True)
    assert site.options().down
    (site.folder / "faults.json").write_text(text)
    os.utime(site.folder / "faults.json", ns=(1, 1))
    assert site.options().down


async def test_a_site_that_is_down_does_not_answer(site: Site) -> None:
    await site.answer()
    break_site(site.folder, down=True)
    with pytest.raises(Unavailable):
        await site.answer()


async def test_a_hanging_call_goes_on_when_the_site_is_mended(site: Site) -> None:
    break_site(site.folder, hang_until=NOW.timestamp() + 3600)
    call = asyncio.create_task(site.answer())
    await asyncio.sleep(0.1)
    assert not call.done()
    break_site(site.folder)
    await asyncio.wait_for(call, 1)


async def test_a_hanging_call_can_be_cancelled(site: Site) -> None:
    break_site(site.folder, hang_s=60)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(site.answer(), 0.05)


async def test_a_call_that_hangs_too_long_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "_ANSWER_S", 0.1)
    break_site(site.folder, hang_s=60)
    with pytest.raises(Unavailable, match="did not answer"):
        await site.answer()


def test_faults_of_a_seed_can_be_repeated(tmp_path: Path) -> None:
    sites = [Site(tmp_path, SiteOptions(seed=7)) for _ in range(2)]
    first, second = ([site.happens(0.3) for _ in range(50)] for site in sites)
    assert first == second
    assert 5 < sum(first) < 25
    for site in sites:
        site.close()


def test_the_same_lease_gives_the_same_credential_even_later(site: Site) -> None:
    first = site.transact(lambda c: simulation.issue(c, lease(ttl_s=60)))
    assert site.transact(lambda c: simulation.issue(c, lease(ttl_s=600))) == first
    assert token_of(site, "d/1/2")["token"] != first[0]


def test_a_good_credential_passes_only_where_and_as_long_as_it_was_made_for(site: Site) -> None:
    credential = token_of(site)
    check(site, credential)
    for region, project in (("x", "p"), ("r", "x")):
        with pytest.raises(CredentialRejected):
            check(site, credential, region=region, project=project)
    with pytest.raises(CredentialRejected, match="expired"):
        check(site, credential, now=NOW + timedelta(seconds=60))


@pytest.mark.parametrize(
    "token", [None, "", "a.b", "simulated.%%%.1.f", "simulated.ZA.soon.ff", "simulated.ZA.99999999999.é"]
)
def test_what_is_no_credential_is_rejected(site: Site, token: str | None) -> None:
    with pytest.raises(CredentialRejected):
        check(site, {} if token is None else {"token": token})


def test_a_credential_of_another_site_is_rejected(site: Site, tmp_path: Path) -> None:
    other = Site(tmp_path / "other", clock=site.clock)
    credential = token_of(other)
    check(other, credential)
    other.close()
    with pytest.raises(CredentialRejected):
        check(site, credential)


def test_a_revoked_credential_is_rejected_for_ever(site: Site) -> None:
    credential = token_of(site)
    for _ in range(2):
        site.transact(lambda c: simulation.revoke(c, "d/1/1", NOW))
    with pytest.raises(CredentialRejected, match="revoked"):
        check(site, credential)
    with pytest.raises(PolicyRefused):
        token_of(site)
    assert [(known.key, known.is_revoked) for known in site.transact(simulation.leases)] == [("d/1/1", True)]


def test_a_lease_revoked_before_it_was_issued_is_never_issued(site: Site) -> None:
    site.transact(lambda c: simulation.revoke(c, "early", NOW))
    with pytest.raises(PolicyRefused):
        token_of(site, "early")


async def test_a_cancelled_caller_sees_the_outcome_afterwards(site: Site) -> None:
    def slow(connection: simulation.Connection) -> None:
        simulation.revoke(connection, "slow", NOW)
        time.sleep(0.1)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(site.run(slow), 0.02)
    assert [known.key for known in site.transact(simulation.leases)] == ["slow"]


async def test_a_failure_in_a_cancelled_callers_work_disturbs_nobody(site: Site) -> None:
    def failing(_: simulation.Connection) -> None:
        time.sleep(0.05)
        raise PolicyRefused("no")

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(site.run(failing), 0.01)
    assert await site.run(simulation.leases) == []


async def test_work_that_fails_leaves_nothing(site: Site) -> None:
    def half(connection: simulation.Connection) -> None:
        simulation.revoke(connection, "half", NOW)
        raise PolicyRefused("no")

    with pytest.raises(PolicyRefused):
        await site.run(half)
    assert await site.run(simulation.leases) == []


async def test_a_file_that_cannot_be_used_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "broken"):
        site = Site(folder)
        if folder.name == "broken":
            folder.mkdir()
            (folder / "site.db").write_bytes(b"this is no database, " * 100)
        with pytest.raises(Unavailable):
            await site.run(simulation.leases)
        site.close()
        with pytest.raises(Unavailable):
            await site.run(simulation.leases)


def test_the_sites_secret_is_readable_by_its_owner_alone(site: Site) -> None:
    token_of(site)
    assert (site.folder / "site.db").stat().st_mode & 0o077 == 0
    assert site.folder.stat().st_mode & 0o077 == 0


_WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from indaco_common import simulation
site = simulation.Site(Path(sys.argv[1]))
for n in range(int(sys.argv[2])):
    name = f"{sys.argv[3]}/{n}"
    site.transact(lambda c: simulation.issue(c, simulation.Lease(name, "r", "p", datetime(2030, 1, 1, tzinfo=UTC), False)))
    print(name, flush=True)
site.close()
"""


def test_several_processes_write_at_once_and_one_may_be_killed(tmp_path: Path) -> None:
    def writer(count: int, name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _WRITER, str(tmp_path), str(count), name]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    victim, *others = writer(1_000_000, "victim"), writer(200, "a"), writer(200, "b")
    assert victim.stdout is not None
    said = [victim.stdout.readline().strip() for _ in range(20)]
    victim.send_signal(signal.SIGKILL)
    said += [line.strip() for line in victim.stdout if line.endswith("\n")]
    outputs = [other.communicate(timeout=60)[0].split() for other in others]
    victim.stdout.close()
    assert [victim.wait(10), *(other.returncode for other in others)] == [-signal.SIGKILL, 0, 0]
    site = Site(tmp_path)
    known = {lease.key for lease in site.transact(simulation.leases)}
    site.close()
    assert known >= {*said, *outputs[0], *outputs[1]}
    assert len(outputs[0]) == len(outputs[1]) == 200
