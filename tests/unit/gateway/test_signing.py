"""Signatures as the Standard Webhooks specification wants them."""

from datetime import UTC, datetime

from indaco_gateway.webhooks.signing import headers, signature

# The example of the specification's own libraries.
SECRET, ID, STAMP = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330"
BODY, SIGNATURE = b'{"test": 2432232314}', "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_signature_is_the_one_of_the_reference_implementation() -> None:
    assert signature(SECRET, ID, STAMP, BODY) == SIGNATURE


def test_headers_carry_a_signature_for_each_valid_secret() -> None:
    at = datetime.fromtimestamp(int(STAMP), UTC)
    found = headers(ID, BODY, at=at, secrets=(SECRET, "whsec_AAAA"))
    assert (found["webhook-id"], found["webhook-timestamp"]) == (ID, STAMP)
    assert found["webhook-signature"].split(" ")[0] == SIGNATURE
    assert len(found["webhook-signature"].split(" ")) == 2


def test_without_a_secret_there_is_no_signature() -> None:
    assert "webhook-signature" not in headers(ID, BODY, at=datetime.fromtimestamp(0, UTC), secrets=())
