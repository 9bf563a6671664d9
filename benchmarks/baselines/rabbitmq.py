"""The raw limits of the broker by aio-pika alone: confirmed publishing, and consuming with an acknowledgement each.

    python benchmarks/baselines/rabbitmq.py publish|consume URL COUNT

Persistent messages of 1 KiB in a quorum queue; 100 publishes in flight, 16 messages unacknowledged. It is what a programmer would
write by hand without outbox, journal, envelope, inbox, retries or logs. ``consume`` takes what ``publish`` has left. Prints JSON.
"""

import asyncio
import json
import os
import sys
import time

import aio_pika

IN_FLIGHT, PREFETCH, BODY_BYTES = 100, 16, 1024
QUEUE, EXCHANGE, KEY = "bench.bare", "bench.events", "bench.bell.rang.v1"


async def publish(url: str, count: int) -> dict[str, float]:
    connection = await aio_pika.connect_robust(url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(EXCHANGE, aio_pika.ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        await queue.bind(exchange, KEY)
        body, numbers = os.urandom(BODY_BYTES), iter(range(count))

        async def work() -> None:
            for _ in numbers:
                message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
                await exchange.publish(message, KEY)

        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
        return rate(count, wall, cpu)


async def consume(url: str, count: int) -> dict[str, float]:
    connection = await aio_pika.connect_robust(url)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(PREFETCH)
        queue = await channel.get_queue(QUEUE)
        taken, end = 0, asyncio.Event()

        async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            nonlocal taken
            await message.ack()
            taken += 1
            if taken == count:
                end.set()

        wall, cpu = time.perf_counter(), time.process_time()
        tag = await queue.consume(take)
        await end.wait()
        found = rate(count, wall, cpu)
        await queue.cancel(tag)
        return found


def rate(count: int, wall: float, cpu: float) -> dict[str, float]:
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"per_s": count / wall, "cpu_us": cpu / count * 1e6}


if __name__ == "__main__":
    print(json.dumps(asyncio.run({"publish": publish, "consume": consume}[sys.argv[1]](sys.argv[2], int(sys.argv[3])))))
