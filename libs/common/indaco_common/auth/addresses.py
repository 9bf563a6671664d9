"""Which network addresses an issuer may have: the public ones, and the others where its record says so."""

import ipaddress

from indaco_common.addresses import is_public

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def address_of(host: str) -> IPAddress | None:
    """Return *host* as an address, that of IPv4 where IPv6 only wraps one (and leads to it); None for a name."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (_wrapped(address) or address) if isinstance(address, ipaddress.IPv6Address) else address


def is_allowed(address: IPAddress, *, loopback: bool, private: bool) -> bool:
    """Say whether an issuer may be at *address*. Cloud metadata services live on link-local addresses, which none may have."""
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    if address.is_loopback:
        return loopback
    return is_public(address) or private


def _wrapped(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
