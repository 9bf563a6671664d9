"""The broker's objects as plain dictionaries: what the adapter declares and what the definitions file holds.

Only identity stands here, since a queue's arguments cannot be changed afterwards. Limits are policies of the definitions file.
"""

from typing import Any

from .port import DELAYS_S
from .topology import COMMANDS, EVENTS, dead_queue, queue, retry_exchange, retry_queue

TO_MAIN, TO_DEAD = "main", "dead"  # routing keys of a service's retry exchange; those of the tiers are their numbers


def exchanges(services: tuple[str, ...]) -> dict[str, str]:
    """Return each exchange with its type; all are durable."""
    return {EVENTS: "topic", COMMANDS: "topic", **{retry_exchange(service): "direct" for service in services}}


def queues(service: str) -> dict[str, dict[str, Any]]:
    """Return each queue of *service* with its arguments; all are durable."""
    own: dict[str, dict[str, Any]] = {queue(service): _dead_lettering(service, TO_DEAD)}
    for tier, delay_s in enumerate(DELAYS_S):
        own[retry_queue(service, tier)] = {
            **_dead_lettering(service, TO_MAIN),
            "x-message-ttl": int(delay_s * 1000),  # one delay per queue: no message waits behind one that waits longer
        }
    own[dead_queue(service)] = {"x-queue-type": "quorum"}
    return own


def retry_bindings(service: str) -> dict[str, str]:
    """Return routing key → queue for the service's retry exchange."""
    tiers = {str(tier): retry_queue(service, tier) for tier in range(len(DELAYS_S))}
    return {TO_MAIN: queue(service), **tiers, TO_DEAD: dead_queue(service)}


def _dead_lettering(service: str, routing_key: str) -> dict[str, Any]:
    return {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": retry_exchange(service),
        "x-dead-letter-routing-key": routing_key,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",  # at-least-once asks for it
    }
