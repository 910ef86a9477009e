"""Serve on 127.0.0.1; the port is said on stdout. Ends with its stdin, or by a signal. SIGUSR1 scavenges.

python -m tests.peers.kurrentdb [--port PORT] [--journal FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from pathlib import Path

from tests.peers.kurrentdb.database import Database
from tests.peers.kurrentdb.serving import server_of


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--journal", type=Path)
    arguments = parser.parse_args()
    database = Database(arguments.journal)
    server, port = server_of(database, arguments.port)
    await server.start()
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, database.scavenge)
    loop.add_reader(0, lambda: stop.set() if not os.read(0, 1024) else None)
    print(port, flush=True)
    await stop.wait()
    await server.stop(grace=0)


if __name__ == "__main__":
    asyncio.run(main())
