"""How often a caller may ask, by the kind of request; and how often an address may come with a token that is not accepted."""

import math
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter

from indaco_common.auth import Principal
from indaco_common.errors import TooManyRequests, Unauthenticated
from indaco_common.web import answer_headers, description_of
from indaco_common.web.describe import limit_of
from indaco_common.web.ratelimit import Buckets, Guesses, Rate, client_address
from indaco_gateway.settings import GatewaySettings

CLASSES = ("read", "write", "plan", "events")


class Limits:
    """Kept by this process alone: behind N gateways everybody has N times as much."""

    def __init__(self, settings: GatewaySettings, registry: CollectorRegistry) -> None:
        self._trusted = settings.trusted_proxies
        self._buckets: dict[str, Buckets] = {}
        for name in CLASSES:
            if (rate := Rate.parse(name, getattr(settings, f"rate_{name}"))) is not None:
                self._buckets[name] = Buckets(rate)
        guesses = Rate.parse("guesses", settings.rate_guesses)
        self._guesses = Guesses(guesses) if guesses is not None else None
        self._refused = Counter(
            "indaco_requests_over_limit", "Requests refused for their number", ["limit"], registry=registry
        )

    async def admit(
        self, request: web.Request, authenticate: Callable[[web.Request], Awaitable[Principal]]
    ) -> Principal:
        """Return who asks, as *authenticate* finds; count the request once, however often a handler wants to know.

        Raises: TooManyRequests; what *authenticate* does.
        """
        guesses = self._guesses
        credential = request.headers.get("Authorization") or request.headers.get("Cookie")
        if guesses is None or not credential:
            principal = await authenticate(request)
        else:
            if guesses.is_watchful:
                self._check(guesses, request, credential)
            try:
                principal = await authenticate(request)
            except Unauthenticated:
                guesses.failed(client_address(request, self._trusted), credential)
                raise
            guesses.proved(credential)
        self._count(request, principal)
        return principal

    def _check(self, guesses: Guesses, request: web.Request, credential: str) -> None:
        try:
            guesses.check(client_address(request, self._trusted), credential)
        except TooManyRequests:
            self._refused.labels("guesses").inc()
            raise

    def _count(self, request: web.Request, principal: Principal) -> None:
        name = limit_of(request.method, description_of(request.match_info.handler))
        buckets, headers = self._buckets.get(name), answer_headers(request)
        if buckets is None or "RateLimit" in headers:
            return
        taken = buckets.take((principal.issuer, principal.subject))
        headers["RateLimit-Policy"], headers["RateLimit"] = buckets.policy, buckets.header(taken)
        if not taken.is_granted:
            self._refused.labels(name).inc()
            rate = buckets.rate
            raise TooManyRequests(
                f"More than {rate.quota} requests of the kind '{name}' in {rate.window_s} s; come back in {math.ceil(taken.retry_after_s)} s",
                retry_after_s=taken.retry_after_s,
            )
