"""KurrentDB's client, set up."""

from __future__ import annotations

from typing import Final

from kurrentdbclient import AsyncKurrentDBClient
from kurrentdbclient.connection_spec import NODE_PREFERENCE_LEADER

_CONNECTING: Final = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
)
"""A server that is back is found within seconds, one that is silently gone is noticed, also by a subscription."""


def driver_of(uri: str, root_certificates: bytes | None) -> AsyncKurrentDBClient:
    """Not yet connected. Raises ValueError for a URI that is none, or that leads elsewhere than to the leader."""
    try:
        client = AsyncKurrentDBClient(uri, root_certificates=root_certificates)
    except (ValueError, OSError) as error:
        # The driver's words may hold the URI, and the URI a password: it is in no chained error, either.
        reason = str(error).replace(uri, "the URI") if uri else str(error)
    else:
        preference = client.connection_spec.options.node_preference
        if preference == NODE_PREFERENCE_LEADER:
            client.grpc_options = (
                *_CONNECTING,
                *client.grpc_options,
            )  # what the URI says comes later, and wins
            return client
        reason = f"nodePreference={preference}: events are read from the leader, since others may lag; leave it out"
    raise ValueError(reason)
