"""Where SSH connects to: what outputs and resources tell, and nothing that could be taken for an option."""

from typing import Any

import pytest

from indaco_client.errors import Conflict, IndacoClientError, NotFound, Refused
from indaco_client.machines import Target, target

CREDS = {"node_creds": {"user": "debian", "token_type": "public_key", "token": "ssh-ed25519 A"}}


def machine(node: str, address: str, state: str = "STARTED") -> dict[str, Any]:
    return {"node": node, "state": state, "public_address": address}


@pytest.mark.parametrize(
    ("outputs", "resources", "node", "found"),
    [
        ({"ssh_endpoint": "ssh://127.0.0.1:32768", **CREDS}, [machine("server-0", "127.0.0.1")], None, Target("127.0.0.1", 32768, "debian", "server-0")),
        ({"e": "ssh://root@h.example.org"}, [], None, Target("h.example.org", 22, "root")),
        ({"e": ["ssh://h:2222"]}, [machine("server-0", "h")], "server-0", Target("h", 2222, "", "server-0")),
        ({}, [machine("server-0", "192.0.2.7")], None, Target("192.0.2.7", 22, "", "server-0")),
        ({**CREDS}, [machine("a-0", "192.0.2.7"), machine("a-1", "192.0.2.8")], "a-1", Target("192.0.2.8", 22, "debian", "a-1")),
        ({}, [machine("a-0", "192.0.2.7", "DELETED"), machine("a-1", "2001:db8::8")], None, Target("2001:db8::8", 22, "", "a-1")),
        ({"u": [{"user": "-oProxyCommand=x"}]}, [machine("a-0", "h")], None, Target("h", 22, "", "a-0")),
        ({"e": "ssh://h:2201", "f": "ssh://h:2202"}, [machine("a-0", "h"), machine("a-1", "h")], "a-1", Target("h", 22, "", "a-1")),
        ({"e": "ssh://h:2201"}, [machine("a-0", "h", "STOPPED"), machine("a-1", "h")], None, Target("h", 2201, "", "a-0")),
    ],
)  # fmt: skip
def test_the_machine_is_found(outputs: dict[str, Any], resources: list[Any], node: str | None, found: Target) -> None:
    assert target(outputs, resources, node) == found


@pytest.mark.parametrize(
    ("outputs", "resources", "node", "error", "says"),
    [
        ({}, [], None, NotFound, "no machine of it has an address"),
        ({}, [machine("a-0", "")], None, NotFound, "no machine of it has an address"),
        ({}, [machine("a-0", "h")], "b-0", NotFound, "no machine b-0 with an address; there are: a-0"),
        ({}, [machine("a-0", "h"), machine("a-1", "i")], None, Refused, "which machine? one of a-0, a-1"),
        ({"e": "ssh://h", "f": "ssh://i"}, [], None, Refused, "which machine?"),
        ({"e": "ssh://-oProxyCommand=touch%20x"}, [], None, Refused, "is no address"),
        ({"e": "ssh://h i"}, [], None, Refused, "is no address"),
        ({"e": "ssh://h:99999"}, [], None, NotFound, "no machine of it has an address"),
        ({}, [machine("a-0", "-oX")], None, Refused, "is no address"),
        ({}, [machine("a-0", "h", "STOPPED")], None, Conflict, "a-0 is STOPPED: nobody answers there"),
        (
            {"e": "ssh://h:2222"},
            [machine("a-0", "h", "STOPPING")],
            None,
            Conflict,
            "a-0 is STOPPING: nobody answers there",
        ),
        (
            {},
            [machine("a-0", "h"), machine("a-1", "i", "STARTING")],
            "a-1",
            Conflict,
            "a-1 is STARTING: nobody answers there",
        ),
    ],
)
def test_what_is_no_machine_is_told(
    outputs: dict[str, Any], resources: list[Any], node: str | None, error: type[IndacoClientError], says: str
) -> None:
    with pytest.raises(error) as raised:
        target(outputs, resources, node)
    assert says in raised.value.what
