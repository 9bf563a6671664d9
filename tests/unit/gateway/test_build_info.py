"""What /info tells of the build."""

import json
from pathlib import Path

import pytest

from indaco_gateway.indigo.misc import build_info


class Installed:
    """A distribution as pip leaves it."""

    def __init__(self, direct_url: object) -> None:
        self.version, self._text = "1.2.3", None if direct_url is None else json.dumps(direct_url)

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self._text


BUILD = {"version": "1.2.3", "artifact": "indaco", "name": "indaco", "group": "indaco"}
VCS = {"vcs": "git", "commit_id": "9dcfa87"}


@pytest.mark.parametrize(
    ("direct_url", "git"),
    [
        (None, {}),
        ({"url": Path.home().as_uri(), "dir_info": {"editable": True}}, {}),
        ({"url": "https://example.org", "vcs_info": VCS}, {"git": {"commit": {"id": "9dcfa87"}}}),
        (
            {"url": "https://example.org", "vcs_info": {**VCS, "requested_revision": "main"}},
            {"git": {"commit": {"id": "9dcfa87"}, "branch": "main"}},
        ),
    ],
)
def test_the_revision_is_told_if_it_was_installed_from_git(direct_url: object, git: dict[str, object]) -> None:
    assert build_info(Installed(direct_url)) == {"build": BUILD, **git}  # type: ignore[arg-type]
