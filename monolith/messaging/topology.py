"""What is declared in RabbitMQ. Arguments of a queue never change: with other arguments it gets another name."""

from __future__ import annotations

from typing import Final

from faststream.rabbit import ExchangeType, QueueType, RabbitExchange, RabbitQueue

from monolith.messaging.names import COMMANDS_QUEUE, DEAD_COMMANDS_QUEUE, DELIVERY_LIMIT, EVENTS_EXCHANGE

EVENTS: Final = RabbitExchange(EVENTS_EXCHANGE, type=ExchangeType.TOPIC, durable=True)
DEAD_COMMANDS: Final = RabbitQueue(DEAD_COMMANDS_QUEUE, queue_type=QueueType.QUORUM, durable=True)
COMMANDS: Final = RabbitQueue(
    COMMANDS_QUEUE,
    queue_type=QueueType.QUORUM,
    durable=True,
    arguments={
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": DEAD_COMMANDS_QUEUE,
    },
)
