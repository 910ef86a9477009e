"""One attempt: TLS, deadlines, what a receiver may say."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from monolith.ingest.addresses import AddressPolicy
from monolith.webhooks.payload import Message
from monolith.webhooks.secrets import Target
from monolith.webhooks.sender import Sender
from monolith.webhooks.signature import new_secret, signature
from tests.peers.certificates import make_certificate
from tests.peers.receiver import Delivery, closed_url, receiver

HERE = AddressPolicy(loopback_only=True)
MESSAGE = Message("0199aaaa-0000-7000-8000-00000000000f", b'{"a": 1}')


def target(url: str) -> Target:
    return Target(url, new_secret())


def test_the_signature_is_that_of_the_standard() -> None:
    """The example of its specification."""
    made = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    with pytest.raises(ValueError, match="whsec_"):
        signature("whsec_!", "id", 1, b"")


async def test_certificates_are_verified(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=made.certificate)
    async with receiver(tls=made.server()) as there:
        async with Sender(HERE, timeout=5) as sender:
            answer = await sender.send(target(there.url), MESSAGE)
            assert "certificate is not trusted" in str(answer.failure)
            assert there.deliveries == []
        async with Sender(HERE, timeout=5, ssl_context=trusting) as sender:
            assert (await sender.send(target(there.url), MESSAGE)).delivered
            elsewhere = there.url.replace("localhost", "127.0.0.1")
            assert "certificate is not trusted" in str(
                (await sender.send(target(elsewhere), MESSAGE)).failure
            )


async def test_credentials_of_the_address_go_to_its_receiver() -> None:
    async with receiver() as there, Sender(HERE, timeout=5) as sender:
        await sender.send(target(there.url.replace("//", "//user:word@")), MESSAGE)
        assert there.taken[0].headers["authorization"] == "Basic dXNlcjp3b3Jk"
        assert "word" not in there.taken[0].path


async def test_a_receiver_is_not_waited_for_longer_than_said() -> None:
    async def hang(delivery: Delivery) -> int:
        await asyncio.Event().wait()
        return 200

    async with receiver(hang) as there, Sender(HERE, timeout=0.1) as sender:
        answer = await sender.send(target(there.url), MESSAGE)
        assert answer.failure == "the receiver did not answer within 0.1 s (VIDEO_ANALYSIS_WEBHOOK_TIMEOUT)"
        assert answer.status is None
        there.status = 200
        assert (await sender.send(target(there.url), MESSAGE)).delivered


@pytest.mark.parametrize(
    ("status", "failure", "gone"),
    [
        (200, None, False),
        (299, None, False),
        (410, "the receiver answered 410 Gone", True),
        (429, "the receiver answered 429 Too Many Requests", False),
        (599, "the receiver answered 599", False),
    ],
)
async def test_what_an_answer_means(status: int, failure: str | None, gone: bool) -> None:
    async with receiver(status, Retry_After="7") as there, Sender(HERE, timeout=5) as sender:
        answer = await sender.send(target(there.url), MESSAGE)
        assert (answer.status, answer.failure, answer.gone, answer.pause) == (status, failure, gone, 7.0)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Le",
    ],
    ids=["nothing", "garbage", "cut body", "cut head"],
)
async def test_broken_answers_are_failures(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, Sender(HERE, timeout=5) as sender:
        port = server.sockets[0].getsockname()[1]
        found = await sender.send(target(f"http://127.0.0.1:{port}/"), MESSAGE)
        assert not found.delivered
        assert str(found.failure).startswith("the connection broke")


async def test_an_endless_answer_is_cut_off() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        try:
            while True:
                writer.write(bytes(10_000))
                await writer.drain()
        except ConnectionError:
            pass

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, Sender(HERE, timeout=20) as sender:
        port = server.sockets[0].getsockname()[1]
        assert (await sender.send(target(f"http://127.0.0.1:{port}/"), MESSAGE)).delivered


async def test_nobody_there() -> None:
    async with Sender(HERE, timeout=5) as sender:
        answer = await sender.send(target(closed_url()), MESSAGE)
        assert str(answer.failure).startswith("the receiver cannot be reached")
