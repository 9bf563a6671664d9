"""Where the gateway may send what users ask for: public addresses, and networks that an operator has allowed.

A URL is checked when it is given, as far as its text says; where it leads is checked when the socket is made, which is after the name was resolved.
So a name that resolves to another address later gains nothing.
"""

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Self

from yarl import URL

from indaco_common.addresses import Address, is_public
from indaco_common.errors import FieldError, Invalid
from indaco_common.web import excerpt

Network = IPv4Network | IPv6Network
MAX_URL = 2048
DEFAULT_PORTS = "80,443,1024-65535"
MAX_PORT = 65_535

_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?\.?", re.IGNORECASE)
_PORTS = re.compile(r"\d{1,5}(-\d{1,5})?")
_LOCAL = ("localhost", "localhost.localdomain", "ip6-localhost")


@dataclass(frozen=True, slots=True)
class Destinations:
    """Which URLs may be given, and which addresses connected to."""

    networks: tuple[Network, ...] = ()
    ports: tuple[range, ...] = (range(80, 81), range(443, 444), range(1024, MAX_PORT + 1))

    @classmethod
    def of(cls, networks: Sequence[Network], ports: str) -> Self:
        return cls(tuple(networks), parse_ports(ports))

    def check(self, url: str, pointer: str) -> None:
        """Raises: Invalid, at *pointer*, for a URL that leads, or is sure to lead, where nothing may be sent."""
        if why := self.refusal(url):
            raise Invalid(why, errors=[FieldError(pointer, why)])

    def refusal(self, url: str) -> str:
        """Return what is wrong with *url*, or nothing."""
        if len(url) > MAX_URL or not url.isprintable() or any(char.isspace() for char in url):
            return f"The URL is longer than {MAX_URL} characters, or has some in it that a URL must not have"
        try:
            parts = URL(url)
            port, host = parts.port, parts.raw_host
        except ValueError:
            return "This is not a URL"
        if parts.scheme not in ("http", "https") or not host:
            return "The URL must begin with http:// or https:// and a host"
        if parts.user is not None or parts.password is not None:
            return "The URL must not have a user or password in it: it is stored and shown"
        if parts.fragment:
            return "The URL must not have a fragment (#…): it is not sent"
        if port is None or not any(port in allowed for allowed in self.ports):
            return f"The port {port} is not one that may be used; the operator sets which are (callback_ports)"
        return self._refused_host(host)

    def admits(self, address: Address) -> bool:
        """May a connection be made to *address*?"""
        if any(address.version == network.version and address in network for network in self.networks):
            return True
        return is_public(address)

    def _refused_host(self, host: str) -> str:
        address = _address(host)
        if (address is None and host.rstrip(".").lower() in _LOCAL) or host.lower().rstrip(".").endswith(".localhost"):
            address = IPv4Address("127.0.0.1")
        if address is None:
            return "" if _HOST.fullmatch(host) else f"{excerpt(host)} is not a name of a host"
        if self.admits(address):
            return ""
        return f"{excerpt(host)} is not a public address, and not in a network that the operator allows (callback_networks)"


def host_of(url: str) -> str:
    """Return the host of *url* as one name, however it is written; nothing, if there is none."""
    try:
        host = URL(url).raw_host or ""
    except ValueError:
        return ""
    address = _address(host)
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    return host.rstrip(".").lower() if address is None else str(address)


def parse_ports(text: str) -> tuple[range, ...]:
    """Return the ranges of ``80,443,1024-65535``. Raises: ValueError."""
    found = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        if not _PORTS.fullmatch(part):
            raise ValueError(f"{part!r} is neither a port nor a range such as 1024-65535")
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if not 1 <= low <= high <= MAX_PORT:
            raise ValueError(f"{part!r}: ports are from 1 to {MAX_PORT}, the smaller first")
        found.append(range(low, high + 1))
    if not found:
        raise ValueError("name at least one port, such as 443")
    return tuple(found)


def _address(host: str) -> Address | None:
    """Return *host* as an address, in whichever way it is written: 127.1 and 2130706433 are one as well."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    if not re.fullmatch(r"[0-9a-fA-FxX.]+\.?", host):
        return None
    try:
        return IPv4Address(socket.inet_aton(host.rstrip(".")))
    except (OSError, ValueError):
        return None


def scoped(text: str) -> IPv4Address | IPv6Address:
    """Return the address of a socket, without the interface that one of IPv6 may name."""
    return ip_address(text.partition("%")[0])
