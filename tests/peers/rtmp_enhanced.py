"""Publishes a video file's packets by enhanced RTMP: `python -m tests.peers.rtmp_enhanced FILE URL`.

A program of its own: FFmpeg's library waits for the server while it holds Python's lock.
"""

from __future__ import annotations

import sys

import av

OPTIONS = {"rtmp_enhanced_codecs": "hvc1,av01,vp09", "flvflags": "no_duration_filesize"}


def publish(video: str, url: str) -> None:
    """The packets, as fast as the server takes them."""
    with av.open(video) as read, av.open(url, "w", format="flv", options=OPTIONS) as write:
        stream = write.add_stream_from_template(read.streams.video[0], opaque=True)
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                write.mux(packet)


if __name__ == "__main__":
    publish(*sys.argv[1:])
