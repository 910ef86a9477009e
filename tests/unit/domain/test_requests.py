from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monolith.domain.errors import InvalidRequestError
from monolith.domain.requests import check_frame_step, check_models, check_name, check_url, is_rtsp

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(("value", "step"), [(None, 1), ("", 1), (1, 1), (10, 10), ("10", 10), (" 7 ", 7)])
def test_frame_step(value: object, step: int) -> None:
    assert check_frame_step(value) == step


@pytest.mark.parametrize("value", [0, -1, "0", "-3", "ten", 1.5, True, [], 2**31, "9" * 30, "²"])
def test_a_wrong_frame_step_says_what_is_right(value: object) -> None:
    with pytest.raises(
        InvalidRequestError, match="frameStep must be a whole number from 1 to 2147483647"
    ) as error:
        check_frame_step(value)
    assert error.value.field == "frameStep"


def test_models_keep_their_order_without_repeats() -> None:
    asked = ["objects_detection", "color_detection", "objects_detection"]
    assert check_models(asked) == ("objects_detection", "color_detection")


@pytest.mark.parametrize("value", [None, [], "objects_detection", 3, {}, b"x"])
def test_models_must_be_a_list(value: object) -> None:
    with pytest.raises(InvalidRequestError, match="must be a list of one or more of: color_detection"):
        check_models(value)


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(InvalidRequestError, match="unknown model 'yolo'; modelsToRun takes: color_detection"):
        check_models(["yolo"])


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("", "must be the http"),
        (None, "must be the http"),
        ("example.org/a.mp4", "has no scheme"),
        ("file:///etc/passwd", "file: is not allowed"),
        ("ftp://example.org/a.mp4", "ftp: is not allowed"),
        ("http:///a.mp4", "needs a host and a path"),
        ("http://example.org", "needs a host and a path"),
        ("http://example.org/", "needs a host and a path"),
        ("http://[::1/a.mp4", "not a URL"),
        ("http://example.org:99999/a.mp4", "not a URL"),
        ("http://example.org/a b.mp4", "without blanks"),
        ("http://example.org/a\n.mp4", "without blanks"),
        ("http://example.org/" + "a" * 8000, "at most 8000"),
        ("rtsp:///stream", "needs a host, as in rtsp://"),
        ("rtsp://cam:99999/stream", "not a URL"),
        ("rtsp://me:12#34@cam/live", "%23 for #"),
        ("rtsp://me:12/@cam/live", "%2F for /"),
        ("http://me:1/3?4@cam/a.mp4", "an @ behind its host"),
    ],
)
def test_a_wrong_url_says_what_is_wrong(value: object, wrong: str) -> None:
    with pytest.raises(InvalidRequestError, match=wrong):
        check_url(value)


@pytest.mark.parametrize(
    "url", ["rtsp://me:hush/34@cam/live", "rtsp://me:hush#4@cam", "http://me:hush[@cam/a"]
)
def test_a_password_that_is_not_escaped_is_not_quoted(url: str) -> None:
    with pytest.raises(InvalidRequestError, match="in a user name or password write %2F for /") as error:
        check_url(url)
    assert "hush" not in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a.m3u8",
        "HTTPS://example.org/a",
        "rtsp://cam",
        "rtsps://me:pw@[::1]:8554/live?a=b",
        "rtsp://me:p@w@cam:554/live",
        "rtsp://cam:554/user=me&password=p@w.sdp",
        "http://example.org:8080/@me/a.mp4",
        "http://example.org/me@example.org/a.mp4",
        "http://[::1]/me@example.org/a.mp4",
    ],
)
def test_urls_of_videos_and_cameras(url: str) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize(
    ("url", "rtsp"), [("RTSP://cam", True), ("rtsps://cam", True), ("http://a/rtsp:", False)]
)
def test_rtsp_is_told_by_its_scheme(url: str, rtsp: bool) -> None:
    assert is_rtsp(url) is rtsp


def test_names() -> None:
    assert check_name(None, "clip.mp4") == "clip.mp4"
    assert check_name(" street ", "clip.mp4") == "street"
    assert check_name("", "\n\x1b[31mclip.mp4") == "[31mclip.mp4"
    assert check_name(None, "\n") == "video"
    with pytest.raises(InvalidRequestError, match="printable text"):
        check_name("a\0b", "clip.mp4")
    with pytest.raises(InvalidRequestError, match="printable text"):
        check_name(5, "clip.mp4")


@given(ANYTHING)
def test_checks_answer_or_raise_their_own_error(value: object) -> None:
    for check in (check_models, check_frame_step, check_url, lambda v: check_name(v, "x")):
        try:
            check(value)
        except InvalidRequestError as error:
            assert len(str(error)) > 20
