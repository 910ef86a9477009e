from __future__ import annotations

import pytest

from monolith.ingest.web_url import UrlError, WebUrl


def test_parts_of_a_url() -> None:
    url = WebUrl.parse("http://Some.One:se%3Acret@Example.ORG:8080/a b.ts?x=1&y=ü#part".replace(" ", "%20"))
    assert url[:4] == ("http", "example.org", 8080, "/a%20b.ts?x=1&y=%C3%BC")
    assert (url.username, url.password) == ("Some.One", "se:cret")
    assert str(url) == "http://example.org:8080/a%20b.ts?x=1&y=%C3%BC"
    assert url.basic_auth == "Basic U29tZS5PbmU6c2U6Y3JldA=="


@pytest.mark.parametrize(
    ("text", "authority", "port"),
    [
        ("http://a/x", "a", 80),
        ("https://a:443/x", "a", 443),
        ("rtsp://a/x", "a", 554),
        ("rtsps://a:554/x", "a:554", 554),
        ("http://[::1]/x", "[::1]", 80),
        ("http://[::1]:81/x", "[::1]:81", 81),
        ("http://bücher.example/x", "xn--bcher-kva.example", 80),
    ],
)
def test_authority_and_port(text: str, authority: str, port: int) -> None:
    url = WebUrl.parse(text)
    assert (url.authority, url.port) == (authority, port)


def test_no_path_is_the_root() -> None:
    assert WebUrl.parse("http://a").target == "/"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file:///etc/passwd", "file: is not allowed"),
        ("clip.mp4", "it has no scheme"),
        ("http:///clip.mp4", "it names no host"),
        ("http://a:99999/x", "Port out of range"),
        ("http://a:0/x", "port 0 is no port"),
        ("http://a\n.example/x", "printable characters without blanks"),
        ("http://a b/x", "printable characters without blanks"),
        ("http://[::1/x", "Invalid IPv6 URL"),
        ("http://[nonsense]/x", "'nonsense' does not appear"),
        ("http://" + "a" * 64 + ".example/x", "the host is no name that could be looked up"),
        ("http://a%2fb/x", "the host is no name that could be looked up"),
        ("http://a/" + "x" * 9000, "at most 8192"),
    ],
)
def test_what_is_no_url(text: str, told: str) -> None:
    with pytest.raises(UrlError, match=told):
        WebUrl.parse(text)


@pytest.mark.parametrize("text", ["http://user:secret@[::1/x", "http://user:secret@a:port/x"])
def test_errors_show_no_credentials(text: str) -> None:
    with pytest.raises(UrlError) as caught:
        WebUrl.parse(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("b.ts", "http://a:81/x/b.ts"),
        ("/b.ts?t=1", "http://a:81/b.ts?t=1"),
        ("//c/b.ts", "http://c/b.ts"),
        ("https://c/b.ts", "https://c/b.ts"),
        ("b c.ts", "http://a:81/x/b%20c.ts"),
        ("?q", "http://a:81/x/index.m3u8?q"),
    ],
)
def test_references(reference: str, expected: str) -> None:
    url = WebUrl.parse("http://user:secret@a:81/x/index.m3u8").joined(reference)
    assert str(url) == expected
    assert not url.has_credentials


def test_origins() -> None:
    one = WebUrl.parse("http://u:p@A/x").origin
    assert one == WebUrl.parse("http://a:80/y").origin
    assert one != WebUrl.parse("https://a:80/y").origin != WebUrl.parse("https://a:81/y").origin
