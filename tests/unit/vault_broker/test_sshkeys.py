"""SSH public keys: what is taken, and what is told to those whose key is not."""

import base64
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key
from hypothesis import given
from hypothesis import strategies as st

from indaco_common.errors import Invalid
from indaco_common.sshkeys import parse_public_key
from indaco_vault_broker.keypairs import new_pair


def line(key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


ED25519 = line(ed25519.Ed25519PrivateKey.generate())


def text(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def on_a_security_key() -> str:
    point = base64.b64decode(ED25519.split()[1])[-32:]
    blob = text(b"sk-ssh-ed25519@openssh.com") + text(point) + text(b"ssh:")
    return f"sk-ssh-ed25519@openssh.com {base64.b64encode(blob).decode()}"


@pytest.mark.parametrize(
    "good",
    [
        ED25519, line(rsa.generate_private_key(65537, 2048)), line(ec.generate_private_key(ec.SECP256R1())),
        line(ec.generate_private_key(ec.SECP384R1())), line(ec.generate_private_key(ec.SECP521R1())), on_a_security_key(),
    ],
    ids=lambda good: good.split()[0],
)  # fmt: skip
def test_the_usual_kinds_are_taken_with_and_without_a_comment(good: str) -> None:
    assert parse_public_key(good).line == good
    key = parse_public_key(f"  {good}   ada@laptop \n")
    assert (key.line, key.type) == (f"{good} ada@laptop", good.split(maxsplit=1)[0])


@pytest.mark.parametrize(
    ("bad", "hint"),
    [
        ("", "empty"),
        ("   \n", "empty"),
        (f"{ED25519}\n{ED25519}", "several lines"),
        (f"{ED25519} a\u2028b", "several lines"),
        (f"{ED25519} a\x00b", "control characters"),
        (f"{ED25519} {'c' * 129}", "129 characters"),
        (f"{ED25519} {'c' * 20_000}", "16384 are allowed"),
        (f'command="rm -rf /" {ED25519}', "Options"),
        (f"no-pty,{ED25519}", "does not begin"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nabc", "private key"),
        ("-----BEGIN PRIVATE KEY-----", "private key"),
        ("PuTTY-User-Key-File-3: ssh-ed25519", "private key"),
        ("---- BEGIN SSH2 PUBLIC KEY ----", "ssh-keygen -i"),
        ("-----BEGIN PUBLIC KEY-----", "ssh-keygen -i"),
        ("ssh-ed25519", "damaged"),
        ("ssh-ed25519 AAAA!", "damaged"),
        (ED25519[:-4], "no ssh-ed25519 key|damaged"),
        (ED25519.replace("ssh-ed25519 ", "ssh-rsa "), "no ssh-rsa key"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "certificate"),
        ("hello", "does not begin"),
    ],
)
def test_what_is_not_taken_is_told_why(bad: str, hint: str) -> None:
    with pytest.raises(Invalid, match=hint):
        parse_public_key(bad)


def test_weak_keys_are_refused() -> None:
    with pytest.raises(Invalid, match="1024 bits"):
        parse_public_key(line(rsa.generate_private_key(65537, 1024)))
    numbers = dsa.generate_private_key(1024).public_key().public_numbers()
    parts = [numbers.parameter_numbers.p, numbers.parameter_numbers.q, numbers.parameter_numbers.g, numbers.y]
    blob = text(b"ssh-dss") + b"".join(text(b"\0" + part.to_bytes(128, "big").lstrip(b"\0")) for part in parts)
    with pytest.raises(Invalid, match="DSA keys are no longer accepted"):
        parse_public_key(f"ssh-dss {base64.b64encode(blob).decode()}")


def test_a_refusal_does_not_show_what_was_sent() -> None:
    with pytest.raises(Invalid) as refusal:
        parse_public_key("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA")
    assert "b3BlbnNz" not in refusal.value.detail


@given(noise=st.text(max_size=60) | st.binary(max_size=60).map(lambda b: f"ssh-ed25519 {base64.b64encode(b).decode()}"))
def test_noise_is_refused_and_nothing_worse(noise: str) -> None:
    with pytest.raises(Invalid):
        parse_public_key(noise)


@given(place=st.integers(0, 67), bit=st.integers(0, 5))
def test_a_key_with_another_base64_text_for_the_same_bytes_is_refused_or_differs(place: int, bit: int) -> None:
    kind, encoded = ED25519.split()
    changed = encoded[:place] + chr(ord(encoded[place]) ^ (1 << bit)) + encoded[place + 1 :]
    try:
        key = parse_public_key(f"{kind} {changed}")
    except Invalid:
        return
    assert key.fingerprint != parse_public_key(ED25519).fingerprint


def test_a_new_pair_fits_together() -> None:
    pair = new_pair("laptop")
    public = parse_public_key(pair.public_key)
    private = load_ssh_private_key(pair.private_key.encode(), password=None)
    assert isinstance(private, ed25519.Ed25519PrivateKey)
    assert f"{line(private)} laptop" == public.line
    assert "PRIVATE" not in repr(pair)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_openssh_agrees_on_pair_and_fingerprint(tmp_path: Path) -> None:
    pair = new_pair("laptop")
    file = tmp_path / "key"
    file.write_text(pair.private_key)
    file.chmod(0o600)
    derived = subprocess.run(["ssh-keygen", "-y", "-f", file], capture_output=True, text=True, check=True).stdout
    assert derived.split()[:2] == pair.public_key.split()[:2]
    (tmp_path / "key.pub").write_text(pair.public_key)
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", tmp_path / "key.pub"], capture_output=True, text=True, check=True
    ).stdout
    assert shown.split()[1] == parse_public_key(pair.public_key).fingerprint
