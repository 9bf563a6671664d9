"""Which network addresses are public, so that whatever a stranger names may be connected to."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

Address = IPv4Address | IPv6Address
AddressPolicy = Callable[[Address], bool]

UNICAST_V6: Final = IPv6Network("2000::/3")  # https://www.iana.org/assignments/ipv6-address-space
# 6to4, and Teredo with other protocols: they reach the IPv4 address inside
TUNNELS_V6: Final = IPv6Network("2002::/16"), IPv6Network("2001::/23")
# public by their number, but for protocols and, at Oracle and Azure, for metadata; those of the other clouds are link-local
SPECIAL_V4: Final = IPv4Network("192.0.0.0/24"), IPv4Network("168.63.129.16/32")


def is_public(address: Address) -> bool:
    """Return whether *address* is one of the public internet: not private, loopback, link-local, multicast, reserved, metadata.

    Of IPv6 only what is assigned for global use counts, so nothing that carries an IPv4 address (mapped, NAT64, 6to4).
    """
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in SPECIAL_V4)
    return address in UNICAST_V6 and not any(address in tunnel for tunnel in TUNNELS_V6)
