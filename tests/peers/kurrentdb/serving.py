"""The protocol server inside a test, over real gRPC on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc
from kurrentdbclient.protos.v1 import gossip_pb2_grpc, streams_pb2_grpc

from tests.peers.kurrentdb.database import Database
from tests.peers.kurrentdb.services import Gossip, Streams

_OPTIONS: Final = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 16 << 20))


def server_of(database: Database, port: int = 0) -> tuple[grpc.aio.Server, int]:
    """A server not yet started, and its port on 127.0.0.1."""
    server = grpc.aio.server(options=_OPTIONS)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    streams_pb2_grpc.add_StreamsServicer_to_server(Streams(database), server)  # type: ignore[no-untyped-call]
    gossip_pb2_grpc.add_GossipServicer_to_server(Gossip("127.0.0.1", port), server)  # type: ignore[no-untyped-call]
    return server, port


def uri_of(port: int) -> str:
    return f"kurrentdb://127.0.0.1:{port}?tls=false"


@asynccontextmanager
async def serving(database: Database | None = None, port: int = 0) -> AsyncIterator[str]:
    """Yields the URI."""
    server, port = server_of(database or Database(), port)
    await server.start()
    try:
        yield uri_of(port)
    finally:
        await server.stop(grace=0)
