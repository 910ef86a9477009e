"""RTMP as a server sees a publisher: bytes in, events out. Begin at `session.ServerSession`."""
