"""Blocking HTTP of decoder processes: names that change their address, IPv6 forms, TLS, cancellation, limits."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest

from monolith.ingest.addresses import Address, AddressPolicy
from monolith.ingest.checked_http import CheckedHttp, HttpBody, HttpLimits, Span
from monolith.ingest.checked_network import CheckedNetwork, Resolver, Watch, system_resolver
from monolith.ingest.http_rules import FetchError, StatusError, http_url
from tests.integration.followed import access_to, refusal
from tests.peers.certificates import make_certificate
from tests.peers.scripted_http import BODY, Request, answering, head, part, serving, whole


def nothing() -> None:
    """A watch that lets every wait go on."""


def client(
    url: str,
    *,
    resolver: Resolver = system_resolver,
    watch: Watch = nothing,
    read_timeout: float = 5.0,
) -> CheckedHttp:
    limits = HttpLimits(connect_timeout=5.0, read_timeout=read_timeout, first_pause=0.01)
    return CheckedHttp(
        CheckedNetwork(AddressPolicy(loopback_only=True), watch, resolver), http_url(url), limits
    )


def read(url: str, most: int = 10**7, **options: object) -> bytes:
    """Blocks. Raises FetchError."""
    http = client(url, **options)  # type: ignore[arg-type]
    try:
        return http.read_whole(http_url(url), most)[0]
    finally:
        http.close()


class Names:
    """A resolver whose answers change: the nth call gives the nth row, the last one from then on."""

    def __init__(self, *rows: Sequence[str]) -> None:
        self._rows = [[ip_address(text) for text in row] for row in rows]
        self.calls = 0

    def __call__(self, host: str, port: int) -> Sequence[Address]:
        row = self._rows[min(self.calls, len(self._rows) - 1)]
        self.calls += 1
        return row


class TestNames:
    async def test_one_forbidden_address_among_others_is_enough(self) -> None:
        async with serving(answering(whole(b"x"))) as server:
            url = server.base.replace("127.0.0.1", "video.test")
            with pytest.raises(
                FetchError, match=r"video\.test is at 169\.254\.169\.254, which is a link-local"
            ):
                await asyncio.to_thread(read, url, resolver=Names(["127.0.0.1", "169.254.169.254"]))
            assert server.requests == []

    async def test_the_address_that_was_checked_is_the_one_connected_to(self) -> None:
        """A name that resolves to a forbidden address the second time is asked once a connection."""
        names = Names(["127.0.0.1"], ["169.254.169.254"])
        async with serving(answering(whole(b"x"))) as server:
            url = server.base.replace("127.0.0.1", "video.test")
            assert await asyncio.to_thread(read, url, resolver=names) == b"x"
            assert names.calls == 1
            with pytest.raises(FetchError, match="link-local") as caught:
                await asyncio.to_thread(read, url, resolver=names)
            assert caught.value.permanent and len(server.requests) == 1

    async def test_a_name_that_changes_between_playlist_and_segment(self) -> None:
        playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1\nhttp://other.test:1/a.ts\n#EXT-X-ENDLIST"
        names = Names(["127.0.0.1"], ["::ffff:10.0.0.1"])
        async with serving(answering(whole(playlist))) as server:
            url = server.base.replace("127.0.0.1", "video.test")
            access = access_to(url, "hls", loopback_only=False, networks=("127.0.0.0/8",))
            error = await refusal(access, names)
        assert error.permanent
        assert "(inside it 10.0.0.1), which is not a public address" in error.reason

    async def test_the_next_address_is_tried(self) -> None:
        async with serving(answering(whole(b"x"))) as server:
            url = server.base.replace("127.0.0.1", "video.test")
            assert await asyncio.to_thread(read, url, resolver=Names(["::1", "127.0.0.1"])) == b"x"

    @pytest.mark.parametrize(
        ("number", "told", "permanent"),
        [
            (socket.EAI_NONAME, "the server's name is not known (DNS)", True),
            (socket.EAI_AGAIN, "the server's name could not be looked up (DNS)", False),
        ],
    )
    async def test_names_that_are_not_found(self, number: int, told: str, permanent: bool) -> None:
        def failing(host: str, port: int) -> Sequence[Address]:
            raise socket.gaierror(number, "it failed")

        with pytest.raises(FetchError) as caught:
            await asyncio.to_thread(read, "http://video.test/a", resolver=failing)
        assert (caught.value.reason, caught.value.permanent) == (f"{told}: it failed", permanent)

    async def test_a_slow_resolver_is_not_waited_for(self) -> None:
        release = threading.Event()

        def slow(host: str, port: int) -> Sequence[Address]:
            release.wait(30)
            return ()

        network = CheckedNetwork(AddressPolicy(loopback_only=True), nothing, slow)
        with pytest.raises(TimeoutError, match="the name was not found in time"):
            await asyncio.to_thread(network.connect, "video.test", 80, 0.3)
        release.set()


class TestWaits:
    async def test_every_wait_can_be_cancelled(self) -> None:
        """While a name is looked up, an answer awaited, a body read."""

        class StopError(Exception):
            pass

        stop = threading.Event()

        def watch() -> None:
            if stop.is_set():
                raise StopError

        def slow(host: str, port: int) -> Sequence[Address]:
            stop.set()
            threading.Event().wait(1)
            return ()

        async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
            if request.path == "/body":
                writer.write(whole(BODY)[:100_000])
                await writer.drain()
            stop.set()
            await asyncio.Event().wait()

        with pytest.raises(StopError):
            await asyncio.to_thread(read, "http://video.test/a", resolver=slow, watch=watch)
        for path in ("/answer", "/body"):
            stop.clear()
            async with serving(silent) as server:
                with pytest.raises(StopError):
                    await asyncio.to_thread(read, server.base + path, watch=watch, read_timeout=60.0)

    async def test_silence_is_a_transient_failure(self) -> None:
        async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
            await asyncio.Event().wait()

        async with serving(silent) as server:
            with pytest.raises(FetchError, match="sent nothing for too long") as caught:
                await asyncio.to_thread(read, f"{server.base}/a", read_timeout=0.2)
            assert not caught.value.permanent
            async with asyncio.timeout(60):
                while len(server.requests) < 4:
                    await asyncio.sleep(0.01)
        assert len(server.requests) == 4


class TestAnswers:
    async def test_a_span_of_a_file(self) -> None:
        async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
            assert request.headers["range"] == "bytes=1000-1999"
            writer.write(
                head("206 Partial Content", Content_Length=1000, Content_Range=f"bytes 1000-1999/{len(BODY)}")
                + BODY[1000:2000]
            )

        async with serving(handler) as server:
            assert await asyncio.to_thread(span, f"{server.base}/a", 1000, 2000) == BODY[1000:2000]

    async def test_a_span_from_a_server_without_ranges(self) -> None:
        async with serving(answering(whole(BODY))) as server:
            assert await asyncio.to_thread(span, f"{server.base}/a", 1000, 2000) == BODY[1000:2000]

    @pytest.mark.parametrize(
        "answer",
        [
            part(500),
            head("206 Partial Content", Content_Length=3, Content_Range=f"bytes {'9' * 5000}-9/*") + b"abc",
        ],
        ids=["elsewhere", "a number that is too long"],
    )
    async def test_another_part_than_asked_for(self, answer: bytes) -> None:
        async with serving(answering(answer)) as server:
            with pytest.raises(FetchError, match="another part than the one asked for"):
                await asyncio.to_thread(span, f"{server.base}/a", 1000, 2000)

    async def test_connections_are_used_again(self) -> None:
        async with serving(answering(whole(b"x", Connection="keep-alive"))) as server:
            http = client(server.base)

            def twice() -> list[bytes]:
                return [http.read_whole(http_url(f"{server.base}/{n}"), 10)[0] for n in range(2)]

            assert await asyncio.to_thread(twice) == [b"x", b"x"]
            http.close()

    async def test_refusals(self) -> None:
        async with serving(answering(head("403 Forbidden", Content_Length=0))) as server:
            with pytest.raises(StatusError, match="403 Forbidden") as caught:
                await asyncio.to_thread(read, f"{server.base}/a")
        assert caught.value.permanent and caught.value.status == 403
        async with serving(answering(whole(b"x" * 11))) as server:
            with pytest.raises(FetchError, match="longer than 10 bytes"):
                await asyncio.to_thread(read, f"{server.base}/a", 10)
        async with serving(answering(whole(b"x", Content_Encoding="gzip"))) as server:
            with pytest.raises(FetchError, match="compressed"):
                await asyncio.to_thread(read, f"{server.base}/a")


def span(url: str, start: int, end: int) -> bytes:
    http = client(url)
    body = HttpBody(http, http_url(url), Span(start, end))
    try:
        return b"".join(iter(lambda: body.read(300), b""))
    finally:
        body.close()
        http.close()


class TestTls:
    async def test_certificates_are_checked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made = make_certificate(tmp_path)
        async with serving(answering(whole(b"x")), made.server()) as server:
            with pytest.raises(FetchError, match="certificate is not trusted") as caught:
                await asyncio.to_thread(read, f"{server.base}/a")
            assert caught.value.permanent and server.requests == []
            monkeypatch.setenv("SSL_CERT_FILE", str(made.certificate))
            assert await asyncio.to_thread(read, f"{server.base}/a") == b"x"
            with pytest.raises(FetchError, match="IP address mismatch"):
                await asyncio.to_thread(read, f"{server.base}/a".replace("localhost", "127.0.0.1"))
