"""Blocking connections of a decoder process: only to addresses that were checked, and never deaf.

All waits are in short steps, and between two of them the `Watch` is called: so a request is cancelled, and a sign of
life given, while a name is looked up, a connection made or a server silent.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address
from typing import Any, Final, TypeAlias, TypeVar

import httpcore

from monolith.ingest.addresses import Address, AddressPolicy

Watch: TypeAlias = Callable[[], None]
"""Called several times a second during every wait. What it raises ends the wait."""

Resolver: TypeAlias = Callable[[str, int], Sequence[Address]]
"""The addresses of a name, without repeats. Blocks. Raises socket.gaierror."""

_T = TypeVar("_T")
_STEP_SECONDS: Final = 0.2


def system_resolver(host: str, port: int) -> Sequence[Address]:
    """By the machine's resolver, in its order. Raises socket.gaierror."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that is empty, too long, or no valid IDNA
        raise socket.gaierror(socket.EAI_NONAME, f"{host!r} is not a host name") from error
    return tuple(dict.fromkeys(ip_address(entry[4][0]) for entry in found))


class CheckedNetwork:
    """Makes connections."""

    def __init__(self, policy: AddressPolicy, watch: Watch, resolver: Resolver = system_resolver) -> None:
        self._policy = policy
        self._resolver = resolver
        self.watch = watch

    def connect(self, host: str, port: int, timeout: float) -> WatchedSocket:
        """A connection to one of the addresses of `host`, all of which are allowed, within `timeout` seconds.

        Raises ForbiddenAddressError, socket.gaierror, TimeoutError, OSError.
        """
        deadline = time.monotonic() + timeout
        addresses = self._addresses(host, port, deadline)
        for address in addresses:
            self._policy.check(address, host)
        failure: OSError = OSError("the name has no address")
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            share = (deadline - time.monotonic()) / left
            try:
                return WatchedSocket.connected(address, port, share, self.watch)
            except OSError as error:
                failure = error
        raise failure

    def _addresses(self, host: str, port: int, deadline: float) -> Sequence[Address]:
        with contextlib.suppress(ValueError):
            return (ip_address(host),)
        return _in_thread(lambda: self._resolver(host, port), deadline, self.watch)


def _in_thread(call: Callable[[], _T], deadline: float, watch: Watch) -> _T:
    """What `call` gives. The thread of one that takes too long is left behind: nothing ends a name lookup."""
    results: list[_T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # raised by whoever waits
            failures.append(error)

    thread = threading.Thread(target=run, name="resolver", daemon=True)
    thread.start()
    while thread.is_alive():
        watch()
        if time.monotonic() >= deadline:
            raise TimeoutError("the name was not found in time")
        thread.join(_STEP_SECONDS)
    if failures:
        raise failures[0]
    return results[0]


class WatchedSocket:
    """A connected TCP socket, with or without TLS. `peer`: the address that was checked."""

    def __init__(self, plain: socket.socket, peer: Address, watch: Watch) -> None:
        self.socket: socket.socket | ssl.SSLSocket = plain
        self.peer = peer
        self._watch = watch

    @classmethod
    def connected(cls, address: Address, port: int, timeout: float, watch: Watch) -> WatchedSocket:
        """Raises TimeoutError, OSError."""
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            watched = cls(connection, address, watch)
            with contextlib.suppress(BlockingIOError):
                connection.connect((str(address), port))
            watched._wait(select.POLLOUT, time.monotonic() + timeout)
            if error := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(error, os.strerror(error))
        except BaseException:
            connection.close()
            raise
        return watched

    def start_tls(self, context: ssl.SSLContext, host: str, timeout: float) -> None:
        """Raises TimeoutError, OSError (ssl.SSLError)."""
        wrapped = context.wrap_socket(self.socket, server_hostname=host, do_handshake_on_connect=False)
        self.socket = wrapped
        self._until(wrapped.do_handshake, select.POLLIN, timeout)

    def read(self, size: int, timeout: float) -> bytes:
        """1…`size` bytes; b"" at the end. Raises TimeoutError, OSError."""
        return self._until(lambda: self.socket.recv(size), select.POLLIN, timeout)

    def write(self, data: bytes, timeout: float) -> None:
        """All of `data`. Raises TimeoutError, OSError."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._until(lambda: self.socket.send(rest), select.POLLOUT, timeout) :]  # noqa: B023

    def close(self) -> None:
        self.socket.close()

    def _until(self, operation: Callable[[], _T], usual: int, timeout: float) -> _T:
        """What `operation` gives once it need not wait."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                return operation()
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
                self._wait(_wanted(error, usual), deadline)

    def _wait(self, event: int, deadline: float) -> None:
        """Raises TimeoutError at the deadline, and what the watch raises."""
        poll = select.poll()
        poll.register(self.socket, event)
        while True:
            self._watch()
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            if poll.poll(min(left, _STEP_SECONDS) * 1000):
                return


def _wanted(error: OSError, usual: int) -> int:
    match error:
        case ssl.SSLWantReadError():
            return select.POLLIN
        case ssl.SSLWantWriteError():
            return select.POLLOUT
    return usual


class CheckedSyncBackend(httpcore.NetworkBackend):
    """Connections for httpcore's pool."""

    def __init__(self, network: CheckedNetwork) -> None:
        self._network = network

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Raises ForbiddenAddressError, socket.gaierror, httpcore.ConnectError, httpcore.ConnectTimeout."""
        assert timeout is not None
        try:
            return _Stream(self._network.connect(host, port, timeout))
        except socket.gaierror:
            raise
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ConnectError(error.strerror or str(error)) from error

    def sleep(self, seconds: float) -> None:
        pause(seconds, self._network.watch)


class _Stream(httpcore.NetworkStream):
    """A `WatchedSocket` as httpcore wants it."""

    def __init__(self, connection: WatchedSocket) -> None:
        self._connection = connection

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        assert timeout is not None
        try:
            return self._connection.read(max_bytes, timeout)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ReadError(error.strerror or str(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        assert timeout is not None
        try:
            self._connection.write(buffer, timeout)
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(error.strerror or str(error)) from error

    def close(self) -> None:
        self._connection.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        assert timeout is not None and server_hostname is not None
        try:
            self._connection.start_tls(ssl_context, server_hostname, timeout)
        except TimeoutError as error:
            self.close()
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            self.close()
            raise httpcore.ConnectError(error.strerror or str(error)) from error
        except BaseException:
            self.close()
            raise
        return self

    def get_extra_info(self, info: str) -> Any:
        """httpcore asks an idle connection whether the server has closed it."""
        if info == "is_readable":
            poll = select.poll()
            poll.register(self._connection.socket, select.POLLIN)
            return bool(poll.poll(0))
        if info == "ssl_object":
            sock = self._connection.socket
            return sock if isinstance(sock, ssl.SSLSocket) else None
        return None


def pause(seconds: float, watch: Watch) -> None:
    """Sleep, watched."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        watch()
        time.sleep(min(left, _STEP_SECONDS))
    watch()
