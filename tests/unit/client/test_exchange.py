"""What ``--debug`` shows: the exchange, and no secret of it."""

import json

import pytest

from indaco_client.exchange import LONG, MASK, MOST, answer_lines, masked, request_lines


def test_a_request_is_shown_with_its_token_masked() -> None:
    shown = request_lines("POST", "https://g/v1/keys", {"Authorization": "Bearer abc", "Accept": "*/*"}, {"name": "k"})
    assert shown == '> POST https://g/v1/keys\n> Authorization: ***\n> Accept: */*\n> {"name": "k"}'


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"parameters": {"a": 1, "b": {"c": 2}}}, {"parameters": {"a": MASK, "b": MASK}}),
        ({"outputs": {"node_ip": "192.0.2.1"}}, {"outputs": {"node_ip": MASK}}),
        ({"access_token": "x", "n": [{"private_key": "y"}]}, {"access_token": MASK, "n": [{"private_key": MASK}]}),
        ({"Password": {"x": 1}}, {"Password": {"x": 1}}),
        ({"secret": None, "name": "n", "secret_inputs": ["a"]}, {"secret": None, "name": "n", "secret_inputs": ["a"]}),
        ({"refresh_token": ["a", "b"]}, {"refresh_token": [MASK, MASK]}),
        ({"device_code": "d", "status_code": "s"}, {"device_code": MASK, "status_code": MASK}),
    ],
)
def test_what_may_be_a_secret_is_masked(value: object, shown: object) -> None:
    assert masked(value) == shown


@pytest.mark.parametrize("path", ["/v1/keys/k/reveal", "/v1/deployments/d/outputs", "/v1/webhook-secret"])
def test_answers_that_are_secrets_are_only_counted(path: str) -> None:
    assert (
        answer_lines("GET", f"https://g{path}?x=1", 200, {}, "hush")
        == f"< 200 for GET https://g{path}?x=1\n< *** (4 characters)"
    )


def test_a_private_key_is_masked_wherever_it_comes() -> None:
    assert "abc" not in answer_lines("GET", "https://g/x", 200, {}, "-----BEGIN OPENSSH PRIVATE KEY-----\nabc")


def test_cookies_long_texts_and_control_characters_do_no_harm() -> None:
    shown = answer_lines(
        "GET", "https://g/x", 200, {"Set-Cookie": "s=1", "X": "a\x1b[2J"}, json.dumps({"t": "y" * 9000})
    )
    assert "Set-Cookie: ***" in shown
    assert "\x1b" not in shown
    assert f"{'y' * LONG} … (9000 characters)" in shown
    assert len(answer_lines("GET", "https://g/x", 200, {}, json.dumps(["z"] * 9000))) < MOST + 100
