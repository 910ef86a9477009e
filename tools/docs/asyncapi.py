"""The AsyncAPI document of the messages in RabbitMQ."""

from __future__ import annotations

import json

from monolith.messaging.asyncapi import asyncapi_document


def asyncapi_text() -> str:
    return json.dumps(asyncapi_document(), indent=1, ensure_ascii=False) + "\n"
