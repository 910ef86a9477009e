from __future__ import annotations

import httpcore
import pytest

from monolith.ingest.http_rules import (
    FetchError,
    TryLaterError,
    content_length,
    content_range,
    refuse,
    whole_number,
)

HUGE = "9" * 5000
"""More digits than Python turns into a number."""


def answer(status: int = 200, **headers: str) -> httpcore.Response:
    return httpcore.Response(
        status, headers=[(name.replace("_", "-"), value) for name, value in headers.items()]
    )


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", " 1", "1_0", "٣", "²", "1" * 19, HUGE])
def test_what_is_no_number(text: str) -> None:
    assert whole_number(text) is None


def test_numbers() -> None:
    assert [whole_number(text) for text in ("0", "007", "9" * 18)] == [0, 7, 10**18 - 1]


def test_a_length() -> None:
    assert content_length(answer()) is None
    assert content_length(answer(Content_Length="12")) == 12


@pytest.mark.parametrize("text", ["1" * 19, HUGE, "-1", "12, 12"])
def test_a_length_that_cannot_be(text: str) -> None:
    with pytest.raises(FetchError, match="the server names a length that is no number of at most 18 digits"):
        content_length(answer(Content_Length=text))


def test_a_range() -> None:
    assert content_range(answer(Content_Range="bytes 5-9/10")) == (5, 10)
    assert content_range(answer(Content_Range="bytes 5-9/*")) == (5, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bytes",
        "bytes 5-9",
        f"bytes {HUGE}-9/10",
        f"bytes 5-{HUGE}/10",
        f"bytes 5-9/{HUGE}",
        "bytes ٣-9/10",
    ],
)
def test_a_range_that_cannot_be_understood(text: str) -> None:
    assert content_range(httpcore.Response(206, headers=[(b"Content-Range", text.encode())])) is None


@pytest.mark.parametrize(
    ("text", "pause"), [("3", 3.0), (HUGE, 0.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0), ("-3", 0.0)]
)
def test_how_long_a_server_asks_to_wait(text: str, pause: float) -> None:
    with pytest.raises(TryLaterError) as caught:
        refuse(answer(503, Retry_After=text))
    assert caught.value.pause == pause
