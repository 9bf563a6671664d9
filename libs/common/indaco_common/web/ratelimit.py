"""Limits on how often somebody may ask: token buckets in the memory of one process, and how answers tell of them.

A bucket is kept as the one instant at which it will be full again (GCRA), so that it needs no timer and costs nothing while nobody
asks. N processes behind a load balancer admit N times as much.
"""

import ipaddress
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from aiohttp import web

from indaco_common.errors import TooManyRequests

MAX_BUCKETS = 20_000  # of one limiter; the one that was used longest ago is forgotten, most likely full
MAX_GOOD = 10_000  # credentials that have proved good
MAX_FORWARDED = 2048  # characters of X-Forwarded-For that are read
RATE = r"none|[1-9][0-9]{0,6}/[1-9][0-9]{0,4}"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_IPV6_PREFIX = 64  # what one customer has at the least


@dataclass(frozen=True, slots=True)
class Rate:
    """*quota* requests at once, which come back evenly within *window_s* seconds; *name* is told to clients."""

    name: str
    quota: int
    window_s: int

    @classmethod
    def parse(cls, name: str, text: str) -> "Rate | None":
        """Return the rate of "1200/60", or None for "none". Raises: ValueError."""
        if not re.fullmatch(RATE, text):
            raise ValueError(f"{text!r} is not requests/seconds, such as 1200/60, nor none")
        if text == "none":
            return None
        quota, _, window = text.partition("/")
        return cls(name, int(quota), int(window))

    @property
    def policy(self) -> str:
        """The value of RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers)."""
        return f'"{self.name}";q={self.quota};w={self.window_s}'


class Taken(NamedTuple):  # made with each request; a frozen dataclass takes three times as long
    """What a bucket says: how many requests are left in it, and in how many seconds it is full, or *retry_after_s* has one again."""

    is_granted: bool
    remaining: int
    full_in_s: float
    retry_after_s: float


class Buckets:
    """The buckets of one rate, by whoever asks."""

    def __init__(self, rate: Rate, *, most: int = MAX_BUCKETS, now: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.policy, self._name = rate, rate.policy, rate.name
        self._interval, self._window_s, self._most, self._now = rate.window_s / rate.quota, rate.window_s, most, now
        self._slack = self._interval / 1000  # of adding floating numbers up
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, who: Hashable) -> Taken:
        """Take one request out of *who*'s bucket, if there is one."""
        now, interval, window, full_at = self._now(), self._interval, self._window_s, self._full_at
        full = full_at.get(who, 0.0)
        full_in = full - now + interval if full > now else interval
        if full_in > window + self._slack:
            return Taken(False, 0, full_in - interval, full_in - window)
        full_at[who] = now + full_in
        full_at.move_to_end(who)
        if len(full_at) > self._most:
            full_at.popitem(last=False)
        return Taken(True, int((window - full_in + self._slack) / interval), full_in, 0.0)

    def wait_s(self, who: Hashable) -> float:
        """Return in how many seconds *who* may take one; 0 for now. Nothing is taken."""
        full = self._full_at.get(who)
        wait = 0.0 if full is None else full - self._now() + self._interval - self._window_s
        return wait if wait > self._slack else 0.0

    def header(self, taken: Taken) -> str:
        """Return the value of the RateLimit field."""
        return f'"{self._name}";r={taken.remaining};t={math.ceil(taken.full_in_s)}'


class Guesses:
    """Bounds how many wrong credentials come from one address, before much is spent on looking at them.

    Who is over it is told to come back; one whose credential has proved good in this process is let through all the same, so
    that a neighbour behind the same proxy or NAT locks nobody out who is at work. A new credential waits for its turn: the bucket
    fills again while the guesses are refused.
    """

    def __init__(self, rate: Rate, *, now: Callable[[], float] = time.monotonic) -> None:
        self._buckets = Buckets(rate, now=now)
        self._good: OrderedDict[int, None] = OrderedDict()

    @property
    def is_watchful(self) -> bool:
        """Whether anybody guessed wrong yet; until then there is nothing to check."""
        return len(self._buckets) > 0

    def check(self, address: str, credential: str) -> None:
        """Raises: TooManyRequests."""
        wait = self._buckets.wait_s(address)
        if wait > 0 and hash(credential) not in self._good:
            raise TooManyRequests("Too many tokens from this address were not accepted", retry_after_s=wait)

    def failed(self, address: str, credential: str) -> None:
        self._buckets.take(address)
        self._good.pop(hash(credential), None)  # it was good once, and has expired

    def proved(self, credential: str) -> None:
        """Note that *credential* is good: as a hash that is keyed in each process, never the text."""
        digest = hash(credential)
        self._good[digest] = None
        self._good.move_to_end(digest)
        if len(self._good) > MAX_GOOD:
            self._good.popitem(last=False)


def client_address(request: web.Request, trusted: Collection[Network] = ()) -> str:
    """Return the address that limits count for: an IPv4 address, or the /64 network of an IPv6 one.

    Behind proxies of the *trusted* networks it is the last address in X-Forwarded-For that is not theirs; others may write there
    what they like.
    """
    remote = request.remote or ""
    if not trusted or not _is_within(remote, trusted):
        return _block(remote)
    hops = ",".join(request.headers.getall("X-Forwarded-For", ()))[-MAX_FORWARDED:].split(",")
    for hop in reversed(hops):
        if not _is_within(found := hop.strip(), trusted):
            return _block(found) or _block(remote)
    return _block(remote)


def _is_within(text: str, networks: Collection[Network]) -> bool:
    address = _address(text)
    return address is not None and any(address in network for network in networks if network.version == address.version)


@lru_cache(maxsize=4096)
def _block(text: str) -> str:
    address = _address(text)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(address), _IPV6_PREFIX), strict=False))
    return str(address) if address is not None else ""


@lru_cache(maxsize=4096)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text[:64].partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address
