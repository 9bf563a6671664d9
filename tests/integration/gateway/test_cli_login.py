"""``indaco login``: where to sign in is what the gateway says; what comes of it is kept for its owner alone."""

import asyncio
import json
import re
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.e2e.worlds import approve

from indaco_common import issuer as oidc
from indaco_common.auth import TrustedIssuer
from indaco_common.secrets.embedded import EmbeddedVault
from indaco_common.testing.federation import AUDIENCE, MemoryKeys

from .conftest import Indaco, spoken
from .world import Issuer, World, running

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
async def issuer(keys: MemoryKeys, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Issuer]:
    """An issuer at which ada can log in, with a program called indaco-cli."""
    kept = oidc.IssuerConfig
    user = oidc.User(username="ada", password_hash=oidc.hash_password("secret"), groups=("cms",))
    client = oidc.Client(client_id="indaco-cli", name="CLI", grants=(oidc.DEVICE_CODE, "refresh_token"))
    monkeypatch.setattr(
        oidc, "IssuerConfig", lambda **known: kept(**known, users=(user,), clients=(client,), device_interval_s=1)
    )
    issuer = Issuer(keys)
    await issuer.start()
    yield issuer
    await issuer.stop()


def trusted(issuer: Issuer, **more: object) -> TrustedIssuer:
    return TrustedIssuer(issuer=issuer.url, audiences=(AUDIENCE,), allow_http=True, **more)  # type: ignore[arg-type]


async def test_one_signs_in_at_the_issuer_that_the_gateway_names_and_the_session_is_renewed(
    tmp_path: Path, openbao: EmbeddedVault, issuer: Issuer
) -> None:
    settings = {"issuers": (trusted(issuer, cli_client_id="indaco-cli"),)}
    async with running(World(tmp_path / "world", openbao, issuer, settings)) as world:
        environment: dict[str, str | None] = {"HOME": str(tmp_path), "INDACO_URL": world.url, "PYTHONUNBUFFERED": "1"}
        process = await spoken("login", environment=environment)
        assert process.stdout is not None
        asked = re.match(r"Open (\S+)", (await process.stdout.readline()).decode())
        assert asked is not None
        await approve(asked[1], "ada", "secret")
        told, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        assert told.decode().splitlines()[-1] == f"Signed in at {world.url}"
        file = tmp_path / ".config" / "indaco" / "session.json"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        session = json.loads(file.read_text())
        assert (session["client_id"], session["issuer"]) == ("indaco-cli", issuer.url)

        file.write_text(json.dumps({**session, "expires_at": 0}))
        both = await asyncio.gather(*(spoken("whoami", "-o", "json", environment=environment) for _ in range(2)))
        shown = [json.loads((await each.communicate())[0]) for each in both]
        assert [one["groups"] for one in shown] == [["cms"], ["cms"]]
        renewed = json.loads(file.read_text())
        assert renewed["access_token"] != session["access_token"]
        assert renewed["refresh_token"] != session["refresh_token"]  # it is good for one use: the two took turns

        process = await spoken("logout", environment=environment)
        assert await process.communicate() == (b"Signed out\n", b"")
        assert not file.exists()
        file.write_text(json.dumps({**renewed, "expires_at": 0}))
        process = await spoken("whoami", environment=environment)
        assert b"error: the session has ended" in (await process.communicate())[1]  # the issuer took it back


async def test_of_several_issuers_one_must_be_chosen(
    tmp_path: Path, openbao: EmbeddedVault, issuer: Issuer, environment: dict[str, str | None], indaco: Indaco
) -> None:
    other = TrustedIssuer(issuer="https://other.example.org", audiences=("x",), cli_client_id="x")
    settings = {"issuers": (trusted(issuer, cli_client_id="indaco-cli"), other)}
    (tmp_path / "more").mkdir()
    async with running(World(tmp_path / "more", openbao, issuer, settings)) as world:
        result = await indaco("login", "--url", world.url)
        assert result.exit_code == 3
        assert f"trusts several issuers: {issuer.url}, https://other.example.org" in result.stderr
        assert f"try: indaco login --issuer {issuer.url}" in result.stderr


async def test_one_signs_out_also_where_the_issuer_is_away(indaco: Indaco, issuer: Issuer, tmp_path: Path) -> None:
    file = tmp_path / "home" / ".config" / "indaco" / "session.json"
    file.parent.mkdir(parents=True)
    kept = {
        "issuer": "http://127.0.0.1:9",
        "url": "http://x",
        "access_token": "a",
        "refresh_token": "r",
        "expires_at": 0,
    }
    file.write_text(json.dumps(kept))
    result = await indaco("logout")
    assert (result.exit_code, file.exists()) == (0, False)
    assert "the issuer did not take the tokens back" in result.stderr
    assert (await indaco("logout")).stderr == ""


async def test_what_keeps_one_from_signing_in_is_told(indaco: Indaco, issuer: Issuer) -> None:
    nowhere = await indaco("login", "--url", "http://127.0.0.1:9")
    assert (nowhere.exit_code, "127.0.0.1:9 does not answer" in nowhere.stderr) == (9, True)
    unknown = await indaco("login", "--issuer", issuer.url, "--client-id", "stranger")
    assert unknown.exit_code == 3, unknown.output
    wrong = await indaco("login", "--url", "ftp://x")
    assert (wrong.exit_code, "is no address" in wrong.stderr) == (1, True)
    open_line = await indaco("login", "--url", "http://gateway.invalid", "--issuer", "http://127.0.0.1:9")
    assert open_line.exit_code == 9
    assert "warning: http://gateway.invalid is not encrypted" in open_line.stderr
