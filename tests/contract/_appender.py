"""Child process of the kill test: appends as fast as it can and says on stdout what was acknowledged:
a line for each append, its stream and the ids of its events.

    python -m tests.contract._appender DATABASE ROUND
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count

from eventsourcing.adapters.sqlite import SqliteEventStore
from eventsourcing.versions import ANY
from tests.contract.helpers import new

TASKS = 24
DELETED_STREAM = "s-0"
"""The one stream that is also deleted now and then."""


def size_of(number: int) -> int:
    """Events in the append of that number."""
    return 1 + number % 3


async def main(path: str, round_number: str) -> None:
    store = await SqliteEventStore.open(path)

    async def append(task: int) -> None:
        for number in count():
            events = [new(f"{round_number}.{task}.{number}") for _ in range(size_of(number))]
            await store.append(f"s-{task}", events, expected_version=ANY)
            print(f"s-{task}", *(event.event_id.hex for event in events), flush=True)
            if task == 0 and number % 40 == 39:
                await store.delete_stream(DELETED_STREAM)

    async with asyncio.TaskGroup() as tasks:
        for task in range(TASKS):
            tasks.create_task(append(task))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
