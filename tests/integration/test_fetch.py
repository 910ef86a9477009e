"""The fetcher against real servers on loopback: every way in which a server can be slow, broken or hostile."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from monolith.ingest.addresses import AddressPolicy
from monolith.ingest.fetch import FetchedFile, Fetcher, FetchError, FetchLimits
from monolith.ingest.fetch_partial import PartialState
from tests.peers.scripted_http import BODY, Handler, Request, Server, answering, head, part, serving, whole

LIMITS = FetchLimits(
    max_bytes=10_000_000,
    connect_timeout=5,
    read_timeout=5,
    total_timeout=30,
    min_rate=1,
    attempts=3,
    first_pause=0.01,
)


def cut_then_resumable(cut: int, etag: str = '"1"') -> Handler:
    """The first answer ends after `cut` bytes of the body; ranges are honoured."""
    served = 0

    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        answer = part(request.start, ETag=etag) if request.start else whole(ETag=etag)
        writer.write(answer if served > 1 else answer[: cut + answer.index(b"\r\n\r\n") + 4])

    return handler


def fetcher(limits: FetchLimits = LIMITS, *, loopback_only: bool = True) -> Fetcher:
    return Fetcher(AddressPolicy(loopback_only=loopback_only), limits)


async def failing(url: str, target: Path, limits: FetchLimits = LIMITS) -> FetchError:
    """The error of a fetch that must fail, and must leave no file."""
    with pytest.raises(FetchError) as caught:
        await fetcher(limits).fetch(url, target)
    assert not target.exists()
    return caught.value


def leftovers(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "clip.mp4"


async def test_a_file_arrives_whole_with_progress(target: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    async with serving(answering(whole(Content_Type="video/mp4"))) as server:
        fetched = await fetcher().fetch(
            f"{server.base}/clip.mp4?x=1", target, progress=lambda done, total: seen.append((done, total))
        )
    assert fetched == FetchedFile(
        path=target, size=len(BODY), final_url=f"{server.base}/clip.mp4?x=1", content_type="video/mp4"
    )
    assert target.read_bytes() == BODY
    assert leftovers(target) == ["clip.mp4"]
    assert seen[-1] == (len(BODY), len(BODY))
    assert seen == sorted(seen)
    assert server.requests[0].path == "/clip.mp4?x=1"


async def test_a_body_of_unknown_length_arrives(target: Path) -> None:
    chunked = head("200 OK", Transfer_Encoding="chunked") + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    async with serving(answering(chunked)) as server:
        await fetcher().fetch(f"{server.base}/a", target)
    assert target.read_bytes() == b"abcde"


async def test_proxies_of_the_environment_are_not_used(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with serving(answering(whole(b"abc"))) as server:
        await fetcher().fetch(f"{server.base}/a", target)
    assert target.read_bytes() == b"abc"


async def test_credentials_in_the_url_become_basic_auth_and_stay_at_their_server(target: Path) -> None:
    async with serving(answering(whole(b"abc"))) as other:

        async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(head("302 Found", Location=f"{other.base}/b", Content_Length=0))

        async with serving(handler) as first:
            fetched = await fetcher().fetch(first.base.replace("//", "//ann:s%40me@") + "/a", target)
    assert first.requests[0].headers["authorization"] == "Basic YW5uOnNAbWU="
    assert "authorization" not in other.requests[0].headers
    assert fetched.final_url == f"{other.base}/b"


class TestRedirects:
    async def test_are_followed(self, target: Path) -> None:
        async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
            hop = int(request.path.removeprefix("/"))
            location = f"/{hop + 1}"
            writer.write(whole(b"abc") if hop == 5 else head("307 T", Location=location, Content_Length=0))

        async with serving(handler) as server:
            assert (await fetcher().fetch(f"{server.base}/0", target)).final_url == f"{server.base}/5"

    async def test_more_than_five_are_refused(self, target: Path) -> None:
        async with serving(answering(head("302 Found", Location="/again", Content_Length=0))) as server:
            error = await failing(f"{server.base}/a", target)
        assert (error.reason, error.permanent) == ("more than 5 redirects", True)
        assert len(server.requests) == 6

    @pytest.mark.parametrize(
        ("location", "reason"),
        [
            (
                "http://169.254.169.254/latest/meta-data",
                "169.254.169.254 is a link-local or metadata address",
            ),
            ("http://[fe80::1]/x", "fe80::1 is a link-local or metadata address"),
            ("http://[::ffff:169.254.1.1]/x", "(inside it 169.254.1.1), which is a link-local"),
            ("file:///etc/passwd", "the redirect is refused: file: is not allowed"),
            ("ftp://127.0.0.1/x", "the redirect is refused: ftp: is not allowed"),
        ],
    )
    async def test_to_forbidden_places_are_refused(self, location: str, reason: str, target: Path) -> None:
        async with serving(answering(head("302 Found", Location=location, Content_Length=0))) as server:
            error = await failing(f"{server.base}/a", target)
        assert reason in error.reason
        assert error.permanent

    async def test_without_a_place_are_refused(self, target: Path) -> None:
        async with serving(answering(head("302 Found", Content_Length=0))) as server:
            error = await failing(f"{server.base}/a", target)
        assert (error.reason, error.permanent) == ("the server answered 302 without saying where to", True)


class TestRefusals:
    async def test_loopback_while_serving_beyond_it(self, target: Path) -> None:
        async with serving(answering(whole())) as server:
            with pytest.raises(FetchError, match="is not a public address") as caught:
                await fetcher(loopback_only=False).fetch(f"{server.base}/a", target)
        assert caught.value.permanent
        assert server.requests == []

    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("file:///etc/passwd", "file: is not allowed; videos are fetched by http or https"),
            ("clip.mp4", "a URL without scheme is not allowed; videos are fetched by http or https"),
            ("http:///clip.mp4", "'http:///clip.mp4' names no host"),
            (
                "http://no-such-name.invalid/a",
                "the server's name is not known (DNS): Name or service not known",
            ),
        ],
    )
    async def test_of_wrong_urls_are_for_good(self, url: str, reason: str, target: Path) -> None:
        error = await failing(url, target)
        assert (error.reason, error.permanent) == (reason, True)

    @pytest.mark.parametrize(
        ("status", "permanent"),
        [("404 Not Found", True), ("403 Forbidden", True), ("410 Gone", True), ("304 Not Modified", True),
         ("503 Service Unavailable", False), ("429 Too Many Requests", False), ("500 Internal Server Error", False)],
    )  # fmt: skip
    async def test_by_the_server_are_told_as_they_are(
        self, status: str, permanent: bool, target: Path
    ) -> None:
        async with serving(answering(head(status, Content_Length=0))) as server:
            error = await failing(f"{server.base}/a", target)
        assert (error.reason, error.permanent) == (f"the server answered {status}", permanent)
        assert len(server.requests) == (1 if permanent else LIMITS.attempts)

    async def test_of_a_busy_server_pass(self, target: Path) -> None:
        answers = iter([head("503 Busy", Retry_After=0, Content_Length=0), whole(b"abc")])

        async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(next(answers))

        async with serving(handler) as server:
            assert (await fetcher().fetch(f"{server.base}/a", target)).size == 3

    async def test_a_closed_port_is_no_permanent_failure(self, target: Path) -> None:
        async with serving(answering(b"")) as server:
            base = server.base
        error = await failing(f"{base}/a", target)
        assert error.reason.startswith("the server cannot be reached")
        assert not error.permanent

    async def test_a_server_that_speaks_no_tls(self, target: Path) -> None:
        async def hello(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.example.org ready\r\n")
            writer.close()

        async with await asyncio.start_server(hello, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            error = await failing(f"https://127.0.0.1:{port}/a", target)
        assert error.reason.startswith("the server cannot be reached: ")
        assert not error.permanent

    async def test_nonsense_instead_of_http(self, target: Path) -> None:
        async with serving(answering(b"SSH-2.0-OpenSSH\r\n\r\n")) as server:
            error = await failing(f"{server.base}/a", target)
        assert error.reason.startswith("the connection broke: ")

    async def test_an_empty_file(self, target: Path) -> None:
        async with serving(answering(whole(b""))) as server:
            error = await failing(f"{server.base}/a", target)
        assert (error.reason, error.permanent) == ("the server sent an empty file", True)

    async def test_compression_that_was_not_asked_for(self, target: Path) -> None:
        async with serving(answering(whole(b"abc", Content_Encoding="gzip"))) as server:
            error = await failing(f"{server.base}/a", target)
        assert error.reason == "the server sent the file compressed (gzip) unasked"

    @pytest.mark.parametrize("length", ["9" * 20, "9" * 5000])
    async def test_a_length_that_cannot_be(self, target: Path, length: str) -> None:
        async with serving(answering(head("200 OK", Content_Length=length) + b"abc")) as server:
            error = await failing(f"{server.base}/a", target)
        assert "the server names a length" in error.reason or "the connection broke" in error.reason

    async def test_a_part_that_was_not_asked_for(self, target: Path) -> None:
        async with serving(answering(part(10, ETag='"1"'))) as server:
            error = await failing(f"{server.base}/a", target)
        assert error.reason == "the server sent a part of the file unasked"

    async def test_a_disk_that_would_be_full(self, target: Path) -> None:
        limits = msgspec.structs.replace(LIMITS, min_free_bytes=2**62)
        async with serving(answering(whole(b"abc"))) as server:
            error = await failing(f"{server.base}/a", target, limits)
        assert "VIDEO_ANALYSIS_MIN_FREE_BYTES" in error.reason
        assert not error.permanent


class TestLimits:
    async def test_an_announced_size_beyond_the_limit(self, target: Path) -> None:
        async with serving(answering(head("200 OK", Content_Length=10_000_001))) as server:
            error = await failing(f"{server.base}/a", target)
        assert error.reason == (
            "the file has at least 10000001 bytes, the limit is 10000000 bytes (VIDEO_ANALYSIS_MAX_SOURCE_BYTES)"
        )
        assert error.permanent

    async def test_an_endless_body_ends_at_the_limit(self, target: Path) -> None:
        async def endless(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(head("200 OK", Connection="close"))
            while True:
                writer.write(bytes(100_000))
                await writer.drain()

        async with serving(endless) as server:
            error = await failing(f"{server.base}/a", target)
        assert "VIDEO_ANALYSIS_MAX_SOURCE_BYTES" in error.reason
        assert leftovers(target) == []

    @pytest.mark.parametrize("answer", [b"", head("200 OK", Content_Length=9, ETag='"1"') + b"abc"])
    async def test_a_server_that_falls_silent(self, answer: bytes, target: Path) -> None:
        async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(answer)
            await asyncio.sleep(60)

        limits = msgspec.structs.replace(LIMITS, read_timeout=0.1, attempts=1)
        async with serving(silent) as server:
            error = await failing(f"{server.base}/a", target, limits)
        assert error.reason == "the server sent nothing for too long (VIDEO_ANALYSIS_FETCH_READ_TIMEOUT)"
        assert not error.permanent

    async def test_a_slow_drip(self, target: Path) -> None:
        async def drip(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(head("200 OK", Content_Length=1000))
            for _ in range(1000):
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)

        limits = msgspec.structs.replace(LIMITS, read_timeout=2.5, min_rate=1000, attempts=1)
        async with serving(drip) as server:
            error = await failing(f"{server.base}/a", target, limits)
        assert error.reason.endswith("less than 1000 (VIDEO_ANALYSIS_FETCH_MIN_RATE)")
        assert not error.permanent

    async def test_the_whole_time(self, target: Path) -> None:
        async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(60)

        limits = msgspec.structs.replace(LIMITS, total_timeout=0.2)
        async with serving(slow) as server:
            error = await failing(f"{server.base}/a", target, limits)
        assert error.reason == "the download took longer than 0.2 s (VIDEO_ANALYSIS_FETCH_TIMEOUT)"
        assert not error.permanent


class TestResuming:
    async def test_a_connection_cut_in_the_middle(self, target: Path) -> None:
        async with serving(cut_then_resumable(2_000_000)) as server:
            await fetcher().fetch(f"{server.base}/a", target)
        assert target.read_bytes() == BODY
        assert [request.start for request in server.requests] == [0, 2_000_000]
        assert server.requests[1].headers["if-range"] == '"1"'
        assert leftovers(target) == ["clip.mp4"]

    async def test_many_cuts_are_survived_as_long_as_it_goes_on(self, target: Path) -> None:
        async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
            answer = part(request.start, ETag='"1"') if request.start else whole(ETag='"1"')
            writer.write(answer[:400_000])

        async with serving(handler) as server:
            await fetcher().fetch(f"{server.base}/a", target)
        assert target.read_bytes() == BODY
        assert len(server.requests) > LIMITS.attempts

    async def test_a_file_that_changed_starts_anew(self, target: Path) -> None:
        changed = bytes(reversed(BODY))
        answers = iter([whole(ETag='"1"')[:1_000_000], whole(changed, ETag='"2"')])

        async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(next(answers))

        async with serving(handler) as server:
            await fetcher().fetch(f"{server.base}/a", target)
        assert target.read_bytes() == changed
        assert server.requests[1].start > 0

    @pytest.mark.parametrize(
        "wrong",
        [
            part(900_000, ETag='"2"'),
            part(17, ETag='"1"'),
            part(900_000, BODY + b"more", ETag='"1"'),
            head("206 Partial Content", Content_Length=3, ETag='"1"') + b"abc",
            head("416 Range Not Satisfiable", Content_Length=0),
        ],
        ids=["other etag", "other start", "other size", "no range", "416"],
    )
    async def test_a_part_that_does_not_fit_starts_anew(self, wrong: bytes, target: Path) -> None:
        first = whole(ETag='"1"')
        answers = iter([first[: first.index(b"\r\n\r\n") + 4 + 900_000], wrong, whole(ETag='"2"')])

        async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(next(answers))

        async with serving(handler) as server:
            await fetcher().fetch(f"{server.base}/a", target)
        assert target.read_bytes() == BODY
        assert [request.start for request in server.requests] == [0, 900_000, 0]

    async def test_a_server_that_ignores_ranges_starts_anew(self, target: Path) -> None:
        answers = iter([whole(ETag='"1"')[:1_000_000], whole(ETag='"1"')])

        async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(next(answers))

        async with serving(handler) as server:
            await fetcher().fetch(f"{server.base}/a", target)
        assert target.read_bytes() == BODY

    async def test_without_a_strong_validator_nothing_is_resumed(self, target: Path) -> None:
        answers = iter([whole(ETag='W/"1"')[:1_000_000], whole(ETag='W/"1"')])

        async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(next(answers))

        async with serving(handler) as server:
            await fetcher().fetch(f"{server.base}/a", target)
        assert target.read_bytes() == BODY
        assert "range" not in server.requests[1].headers

    async def test_the_date_of_the_last_change_will_do(self, target: Path) -> None:
        date = "Wed, 21 Oct 2015 07:28:00 GMT"
        served = 0

        async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
            nonlocal served
            served += 1
            last_modified: dict[str, object] = {"Last_Modified": date}
            answer = (
                part(request.start, BODY, **last_modified) if request.start else whole(BODY, **last_modified)
            )
            writer.write(answer if served > 1 else answer[:1_000_000])

        async with serving(handler) as server:
            await fetcher().fetch(f"{server.base}/a", target)
        assert target.read_bytes() == BODY
        assert server.requests[1].headers["if-range"] == date

    async def test_a_cancelled_fetch_is_gone_on_with(self, target: Path) -> None:
        hold = asyncio.Event()

        async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
            answer = part(request.start, ETag='"1"') if request.start else whole(ETag='"1"')
            writer.write(answer if request.start else answer[:2_500_000])
            await writer.drain()
            if not request.start:
                await hold.wait()

        reached = asyncio.Event()
        async with serving(handler) as server:
            task = asyncio.create_task(
                fetcher().fetch(f"{server.base}/a", target, progress=lambda done, total: reached.set())
            )
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert leftovers(target) == ["clip.mp4.part", "clip.mp4.part.json"]
            hold.set()
            await fetcher().fetch(f"{server.base}/a", target)
        assert target.read_bytes() == BODY
        assert server.requests[1].start > 0

    async def test_another_url_for_the_same_target_starts_anew(self, target: Path) -> None:
        async with serving(cut_then_resumable(1_000_000)) as server:
            await failing(f"{server.base}/a", target, msgspec.structs.replace(LIMITS, attempts=1))
            await fetcher().fetch(f"{server.base}/b", target)
        assert target.read_bytes() == BODY
        assert "range" not in server.requests[1].headers

    async def test_a_file_that_lacked_only_its_name_asks_for_one_byte(self, target: Path) -> None:
        """The process died between the last byte and the rename."""
        async with serving(cut_then_resumable(2**30)) as server:
            url = f"{server.base}/a"
            target.parent.mkdir()
            target.with_name("clip.mp4.part").write_bytes(BODY)
            state = PartialState(hashlib.sha256(url.encode()).hexdigest(), '"1"', len(BODY))
            target.with_name("clip.mp4.part.json").write_bytes(msgspec.json.encode(state))
            await fetcher().fetch(url, target)
        assert target.read_bytes() == BODY
        assert [request.start for request in server.requests] == [len(BODY) - 1]

    async def test_a_damaged_note_beside_the_part_starts_anew(self, target: Path) -> None:
        target.parent.mkdir()
        target.with_name("clip.mp4.part").write_bytes(b"junk")
        target.with_name("clip.mp4.part.json").write_bytes(b"{")
        async with serving(answering(whole(ETag='"1"'))) as server:
            await fetcher().fetch(f"{server.base}/a", target)
        assert target.read_bytes() == BODY


_CHILD = """
import asyncio, sys
from pathlib import Path
from monolith.ingest.addresses import AddressPolicy
from monolith.ingest.fetch import Fetcher, FetchLimits
limits = FetchLimits(max_bytes=10**8, connect_timeout=9, read_timeout=60, total_timeout=60, min_rate=0)
fetcher = Fetcher(AddressPolicy(loopback_only=True), limits)
report = lambda done, total: print(done, flush=True)
asyncio.run(fetcher.fetch(sys.argv[1], Path(sys.argv[2]), progress=report))
"""


async def test_a_killed_process_is_followed_by_one_that_goes_on(target: Path) -> None:
    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.start:
            writer.write(part(request.start, ETag='"1"'))
        else:
            writer.write(whole(ETag='"1"')[:2_500_000])
            await writer.drain()
            await asyncio.sleep(60)

    async with serving(handler) as server:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _CHILD, f"{server.base}/a", str(target),
            stdout=asyncio.subprocess.PIPE, env=dict(os.environ),
        )  # fmt: skip
        assert child.stdout is not None
        while int(await child.stdout.readline()) < 2_000_000:
            pass
        child.send_signal(signal.SIGKILL)
        await child.wait()
        assert not target.exists()
        await fetcher().fetch(f"{server.base}/a", target)
    assert target.read_bytes() == BODY
    assert server.requests[1].start >= 2_000_000


class TestTls:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> tuple[Path, Path]:
        """A certificate for `localhost` that no one has signed, and its key."""
        certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost"],
            check=True, capture_output=True,
        )  # fmt: skip
        return certificate, key

    @asynccontextmanager
    async def serving(self, certificate: tuple[Path, Path]) -> AsyncIterator[str]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server = Server(answering(whole(b"abc")))
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
        async with listener:
            yield f"https://localhost:{listener.sockets[0].getsockname()[1]}/a"
            await server.close()

    async def test_a_certificate_that_no_one_trusts(
        self, certificate: tuple[Path, Path], target: Path
    ) -> None:
        async with self.serving(certificate) as url:
            error = await failing(url, target)
        assert error.reason == "the server's certificate is not trusted (TLS): self-signed certificate"
        assert error.permanent

    async def test_the_certificate_is_checked_for_the_name_not_the_address(
        self, certificate: tuple[Path, Path], target: Path
    ) -> None:
        trusting = ssl.create_default_context(cafile=certificate[0])
        fetcher = Fetcher(AddressPolicy(loopback_only=True), LIMITS, ssl_context=trusting)
        async with self.serving(certificate) as url:
            assert (await fetcher.fetch(url, target)).size == 3
            with pytest.raises(FetchError, match="IP address mismatch"):
                await fetcher.fetch(url.replace("localhost", "127.0.0.1"), target)
