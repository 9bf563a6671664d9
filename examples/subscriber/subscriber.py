"""Prints what happens to deployments, as Indaco's services tell each other over RabbitMQ.

    AMQP_URL=amqp://watcher:password@broker/indaco python subscriber.py 'orchestrator.deployment.*.v1' 'sla.placement.#'

It needs aio-pika and nothing of Indaco. Messages that come while it is away wait in its queue, which it makes at the first start.
"""

import asyncio
import json
import os
import signal
import sys
from collections import OrderedDict
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

EXCHANGE = "indaco.events"
QUEUE = os.environ.get("QUEUE", "watcher.deployments")
KEYS = ("orchestrator.deployment.*.v1", "orchestrator.attempt.*.v1", "sla.placement.*.v1")
MAX_WAITING = 100_000  # messages: beyond that the oldest are dropped, so that a watcher that is away fills no disk
ARGUMENTS = {"x-queue-type": "quorum", "x-max-length": MAX_WAITING}
SHOWN = ("attempt", "node", "reason", "place")
REMEMBERED = 10_000  # ids, to pass over what comes twice


class Watcher:
    """Each event once; of one aggregate the newest wins, since events may come late and out of order."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._newest: OrderedDict[tuple[str, str], str] = OrderedDict()

    async def take(self, message: AbstractIncomingMessage) -> None:
        # Acknowledged once it is printed; else put back, once.
        async with message.process(requeue=True, reject_on_redelivered=True):
            event: dict[str, Any] = json.loads(message.body)
            if event["id"] in self._seen:
                return
            _remember(self._seen, event["id"], None)
            speaker = (event["source"], event["subject"])
            late = " (late)" if event["sequence"] < self._newest.get(speaker, "") else ""
            _remember(self._newest, speaker, max(event["sequence"], self._newest.get(speaker, "")))
            told = {name: event["data"][name] for name in SHOWN if event["data"].get(name)}
            print(f"{event['time']}  {event['correlationid']}  {event['type']}{late}  {json.dumps(told)}", flush=True)


def _remember(kept: OrderedDict[Any, Any], key: object, value: object) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > REMEMBERED:
        kept.popitem(last=False)


async def main(keys: tuple[str, ...]) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    # Robust: it comes back after an outage, and binds and listens again.
    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"])
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=50)
        # The exchange is made by `indaco topology apply`, never by a watcher.
        exchange = await channel.get_exchange(EXCHANGE, ensure=False)
        queue = await channel.declare_queue(QUEUE, durable=True, arguments=ARGUMENTS)
        for key in keys:
            await queue.bind(exchange, routing_key=key)
        await queue.consume(Watcher().take)
        print(f"listening for {', '.join(keys)}", file=sys.stderr, flush=True)
        await stopped.wait()


if __name__ == "__main__":
    if "AMQP_URL" not in os.environ:
        sys.exit("set AMQP_URL, such as amqp://watcher:password@broker/indaco")
    asyncio.run(main(tuple(sys.argv[1:]) or KEYS))
