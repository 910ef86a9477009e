"""Names in RabbitMQ that others rely on. The version in a name changes with what it means or how it is declared."""

from __future__ import annotations

from typing import Final

EVENTS_EXCHANGE: Final = "video-analysis.events.v1"
"""A topic exchange: every domain event, with routing keys such as `video.RunCompleted`."""
COMMANDS_QUEUE: Final = "video-analysis.commands.v1"
DEAD_COMMANDS_QUEUE: Final = "video-analysis.commands.dead.v1"
"""Messages that were no commands, or could not be carried out and had nobody to tell."""
DELIVERY_LIMIT: Final = 20
"""As often a message is delivered before it counts as deadly."""
REASON_HEADER: Final = "x-reason"
"""Of a message that was set aside: why, for people."""
