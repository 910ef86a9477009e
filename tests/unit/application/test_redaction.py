"""What of a URL is shown again."""

from __future__ import annotations

import pytest

from monolith.application.redaction import redacted


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h/a.mp4", "http://h/a.mp4"),
        ("http://h:81/a.mp4?v=2&quality=high", "http://h:81/a.mp4?v=2&quality=high"),
        ("http://me:pw@h/a.mp4", "http://***@h/a.mp4"),
        ("http://me@h/a.mp4", "http://***@h/a.mp4"),
        ("http://h/a?token=x1&b=2", "http://h/a?token=***&b=2"),
        ("http://h/a?API_Key=x1", "http://h/a?API_Key=***"),
        ("http://h/a?%74oken=x1", "http://h/a?%74oken=***"),
        ("http://h/a?b=2;password=x1", "http://h/a?b=2;password=***"),
        ("https://h/a?X-Amz-Date=1&X-Amz-Signature=x1", "https://h/a?X-Amz-Date=***&X-Amz-Signature=***"),
        ("https://h/a?sp=r&se=x&sig=x1%3D", "https://h/a?sp=***&se=***&sig=***"),
        ("https://h/a?data=eyJhbGciOi.x1", "https://h/a?data=***"),
        ("https://h/a#access_token=x1", "https://h/a#access_token=***"),
        ("https://h/a?token=", "https://h/a?token="),
        ("http://[::1", "***"),
        ("rtsp://me:pw@cam:554/live?channel=1", "rtsp://***@cam:554/live?channel=1"),
        ("rtsp://cam/user=me&password=x1&channel=1.sdp", "rtsp://cam/user=me&password=***&channel=1.sdp"),
        ("rtsp://cam/user=me_password=x1_channel=1.sdp", "rtsp://cam/user=***"),
        ("http://h/a=1/token=x1/list.m3u8", "http://h/a=1/token=***/list.m3u8"),
    ],
)
def test_what_looks_secret_is_hidden(url: str, shown: str) -> None:
    assert redacted(url) == shown
