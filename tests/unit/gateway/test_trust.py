"""The issuers file: read, refused with the place of what is wrong, and looked at again when it has changed."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from indaco_common.auth import FetchFailed, Introspection
from indaco_common.errors import Forbidden, Invalid
from indaco_gateway.identity.trust import ClientSecrets, changed, main, marks, of_settings
from indaco_gateway.settings import GatewaySettings

FILE = """
issuers:
  - issuer: https://iam.example   # the first: admin_groups are its
    aliases: [https://iam.example/]
    profile: iam
    group_source: userinfo
    audiences: [indaco]
  - {issuer: "https://aai.egi.eu/auth/realms/egi", profile: egi, require_audience: false}
roles:
  - {role: auditor, issuer: https://iam.example, group: auditors}
  - {role: group-admin, issuer: https://iam.example/, group: "{group}/admins"}
"""


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    file = tmp_path / "issuers.yaml"
    file.write_text(FILE)
    return GatewaySettings(issuers_file=file, admin_groups=("/ops",))


def write(settings: GatewaySettings, text: str) -> None:
    assert settings.issuers_file is not None
    settings.issuers_file.write_text(text)


def test_a_file_holds_issuers_and_roles_and_the_settings_add_theirs(settings: GatewaySettings) -> None:
    trust = of_settings(settings)
    assert [(each.issuer, each.profile) for each in trust.issuers] == [
        ("https://iam.example", "iam"),
        ("https://aai.egi.eu/auth/realms/egi", "egi"),
    ]
    assert [(rule.role, rule.group) for rule in trust.roles] == [
        ("auditor", "auditors"),
        ("group-admin", "{group}/admins"),
        ("operator", "ops"),
    ]


def test_without_a_file_the_settings_are_all_there_is() -> None:
    issuer = {"issuer": "https://a.example", "audiences": ["x"]}
    rule = {"role": "auditor", "issuer": "https://a.example", "group": "g"}
    trust = of_settings(GatewaySettings.model_validate({"issuers": [issuer], "roles": [rule], "admin_groups": ["ops"]}))
    assert [rule.role for rule in trust.roles] == ["auditor", "operator"]
    assert of_settings(GatewaySettings(admin_groups=("ops",))).roles == ()
    with pytest.raises(Invalid, match=r"settings of the gateway: .*not trusted"):
        of_settings(GatewaySettings.model_validate({"roles": [rule]}))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a mapping"),
        ("[]", "a mapping"),
        ("issuers: []", "names no issuers"),
        ("issuers: [", "expected"),
        ("issuers: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("issuers: []\nissuers: []", "said twice"),
        ("issuers: [{issuer: https://a.example, audiences: [x], audiences: [y]}]", "said twice"),
        ("issuers: [{issuer: https://a.example}]", r"/issuers/0: .*audiences is empty"),
        ("issuers: [{issuer: http://a.example, audiences: [x]}]", r"/issuers/0: .*must be https"),
        ("issuers: [{issuer: https://a.example, audiences: [x], algs: [HS256]}]", "/issuers/0/algs/0"),
        ("issuers: [{issuer: https://a.example, audiences: [x], key: s3cret}]", "/issuers/0/key: Extra"),
        ("issuers: [{issuer: https://a.example, audiences: [x]}, {issuer: https://a.example, audiences: [x]}]", "two issuers"),
        (FILE + "  - {role: operator, issuer: https://b.example, group: ops}", "not trusted"),
        ("issuers: " + "[" * 3000, "issuers file"),
        ("#" * 1_100_000, "larger than"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_refused_with_its_name_and_the_place(
    settings: GatewaySettings, text: str, words: str
) -> None:
    write(settings, text)
    with pytest.raises(Invalid, match=words) as caught:
        of_settings(settings)
    assert caught.value.detail.startswith(f"issuers file {settings.issuers_file}")
    assert "s3cret" not in caught.value.detail


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="No such file"):
        of_settings(GatewaySettings(issuers_file=tmp_path / "absent"))


async def test_a_change_is_seen_once_and_a_bad_one_changes_nothing(settings: GatewaySettings) -> None:
    known = await asyncio.to_thread(marks, settings)
    assert await changed(settings, known) == (known, None)
    write(settings, "issuers: [")
    known, trust = await changed(settings, known)
    assert trust is None
    assert await changed(settings, known) == (known, None)  # it was complained about once
    write(settings, FILE.replace("profile: iam", "enabled: false"))
    known, trust = await changed(settings, known)
    assert trust is not None
    assert not trust.issuers[0].enabled
    assert settings.issuers_file is not None
    settings.issuers_file.unlink()
    assert await changed(settings, known) == (known, None)


def test_the_files_of_the_guide_can_be_used_and_are_told_as_it_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "howto" / "trust-an-issuer.md").read_text()
    first, second = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    for text in (first, second):
        (tmp_path / "issuers.yaml").write_text(text)
        assert main([str(tmp_path / "issuers.yaml")]) == 0
        if text is first:
            shown = capsys.readouterr().out.splitlines()
            assert all(line in guide for line in (*shown[:2], shown[-1]))
    (tmp_path / "issuers.yaml").write_text(first.replace("profile: iam", "profile: saml"))
    assert (main([str(tmp_path / "issuers.yaml")]), main([])) == (1, 2)
    assert "/issuers/0/profile" in capsys.readouterr().err


class Vault:
    """What a vault answers."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def get(self, path: str) -> Any:
        assert path == "issuers/iam"
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    "answer", [None, {}, {"client_secret": ""}, {"client_secret": 5}, Forbidden("no"), Invalid("no")]
)
async def test_a_client_secret_that_the_vault_does_not_give_is_none(answer: Any) -> None:
    client = Introspection(client_id="x", client_secret_vault="issuers/iam")
    assert await ClientSecrets(Vault({"client_secret": "s"}))(client) == "s"  # type: ignore[arg-type]
    with pytest.raises(FetchFailed):
        await ClientSecrets(Vault(answer))(client)  # type: ignore[arg-type]
    with pytest.raises(FetchFailed, match="not there"):
        await ClientSecrets(None)(client)
