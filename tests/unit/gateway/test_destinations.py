"""Where webhooks may lead, by the text of the URL and by the address."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indaco_common.errors import Invalid
from indaco_gateway.settings import GatewaySettings
from indaco_gateway.webhooks.destinations import DEFAULT_PORTS, Destinations, parse_ports

PLAIN = Destinations.of((), DEFAULT_PORTS)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/hook", "http://example.org:8080/?a=b", "https://[2606:4700::1111]/x", "https://93.184.216.34/",
        "https://xn--bcher-kva.example/", "https://bücher.example/", "https://hooks.example.org./x",
    ],
)  # fmt: skip
def test_public_urls_may_be_given(url: str) -> None:
    assert PLAIN.refusal(url) == ""


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1",
        "169.254.169.254", "168.63.129.16", "224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "[::1]", "[::]", "[::ffff:127.0.0.1]",
        "[::ffff:10.0.0.1]", "[fe80::1]", "[fe80::1%25eth0]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
        "[2001:db8::1]", "localhost", "LOCALHOST.", "a.localhost",
    ],
)  # fmt: skip
def test_what_is_not_public_is_refused_however_it_is_written(host: str) -> None:
    assert "callback_networks" in PLAIN.refusal(f"http://{host}/") or "URL" in PLAIN.refusal(f"http://{host}/")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://example.org/", "http"), ("//example.org/", "http"), ("https:///x", "http"), ("javascript:alert(1)", "http"),
        ("https://user@example.org/", "user or password"), ("https://:secret@example.org/", "user or password"),
        ("https://example.org/#x", "fragment"), ("https://example.org:22/", "port 22"), ("http://example.org:0/", "port 0"),
        ("https://example.org:99999/", "not a URL"), ("https://exa mple.org/", "characters"), ("https://example.org/\n", "characters"),
        ("https://" + "a" * 2100, "characters"), ("https://-.example/", "host"),
    ],
)  # fmt: skip
def test_what_is_no_url_for_a_webhook_is_told(url: str, why: str) -> None:
    assert why in PLAIN.refusal(url)


@given(st.text() | st.from_regex(r"https?://[^/]*:?[0-9]*/?.*"))
def test_whatever_is_given_there_is_an_answer(text: str) -> None:
    assert isinstance(PLAIN.refusal(text), str)


def test_an_operator_may_allow_networks_and_nothing_beside_them() -> None:
    inside = Destinations.of((ip_network("10.0.0.0/8"), ip_network("::1/128")), "443,8000-8999")
    assert inside.refusal("http://10.1.2.3:8080/") == ""
    assert inside.refusal("http://[::1]:8080/") == ""
    assert "callback_networks" in inside.refusal("http://127.0.0.1:8080/")
    assert "callback_ports" in inside.refusal("http://10.1.2.3/")
    assert not inside.admits(ip_address("::ffff:10.1.2.3"))


def test_a_refusal_names_the_field() -> None:
    with pytest.raises(Invalid) as refused:
        PLAIN.check("http://10.0.0.1/", "/callback")
    assert [error.pointer for error in refused.value.errors] == ["/callback"]


@pytest.mark.parametrize("text", ["", "http", "0", "70000", "90-80", "80;443", "-1"])
def test_ports_that_cannot_be_read_are_told_when_the_gateway_starts(text: str) -> None:
    with pytest.raises(ValueError, match="port"):
        parse_ports(text)
    with pytest.raises(ValueError, match="callback_ports"):
        GatewaySettings(callback_ports=text)
