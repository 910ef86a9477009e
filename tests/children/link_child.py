"""A child for the tests of `monolith.processes`: `python -m tests.children.link_child LINK_FD PARENT_PID BEHAVIOUR`."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time

from monolith.child import ParentGoneError, ParentLink, die_with_parent


def main() -> None:
    descriptor, parent, behaviour = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    if behaviour == "garbage":
        socket.socket(fileno=descriptor).sendall(b"GET / HTTP/1.1\r\n\r\n")
        time.sleep(30)
    if behaviour == "slow start":
        time.sleep(0.5)
    die_with_parent(parent)
    link = ParentLink(descriptor)
    if behaviour == "unasked":
        link.send(b"\xc1 is never used in msgpack")
    try:
        while True:
            _answer(link, link.receive(), behaviour)
    except ParentGoneError:
        if behaviour == "deaf":
            time.sleep(30)


def _answer(link: ParentLink, message: bytes, behaviour: str) -> None:
    match behaviour:
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "raise":
            raise RuntimeError("cannot do this")
        case "half":
            os.write(int(sys.argv[1]), b"\x00\x00\x00\x10half")
            os._exit(3)
        case "noise":
            sys.stderr.buffer.write(b"\xff" * 300_000 + b"\nlast word\n")
            sys.stderr.flush()
            sys.exit(4)
        case "environment":
            link.send("\n".join(f"{name}={value}" for name, value in sorted(os.environ.items())).encode())
        case "pid":
            link.send(str(os.getpid()).encode())
        case _:
            link.send(message)


if __name__ == "__main__":
    main()
