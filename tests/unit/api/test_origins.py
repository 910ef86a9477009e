"""Whose requests are let in."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from monolith.api.origins import Gatekeeper
from monolith.api.problems import ApiError

HOST = "127.0.0.1:8000"


def refused(gatekeeper: Gatekeeper, method: str, **headers: str) -> int | None:
    """The status of the refusal."""
    try:
        gatekeeper.check(method, Headers({name.replace("_", "-"): value for name, value in headers.items()}))
    except ApiError as error:
        return error.status
    return None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://127.0.0.1:8000"},
        {"origin": "http://127.0.0.1:8000", "sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
    ],
)
def test_scripts_and_our_own_pages_may_change_things(headers: dict[str, str]) -> None:
    assert refused(Gatekeeper(None, loopback_only=True), "POST", host=HOST, **headers) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:3000"},
        {"origin": "http://127.0.0.1:3000", "sec_fetch_site": "same-site"},
        {"origin": "http://evil.example", "sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "cross-site"},
        {"origin": "http://[::1"},
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_other_pages_may_not(headers: dict[str, str], method: str) -> None:
    gatekeeper = Gatekeeper(None, loopback_only=False)
    assert refused(gatekeeper, method, host=HOST, **headers) == 403
    assert refused(gatekeeper, "GET", host=HOST, **headers) is None


def test_behind_a_proxy_the_public_url_is_ours() -> None:
    gatekeeper = Gatekeeper("https://video.example.org/app", loopback_only=False)
    site = {"origin": "https://video.example.org", "sec_fetch_site": "same-site"}
    assert refused(gatekeeper, "POST", host="10.0.0.1:8000", **site) is None
    plain = {"origin": "http://video.example.org"}
    assert refused(gatekeeper, "POST", host="10.0.0.1:8000", **plain) == 403


def test_a_proxy_that_ends_tls_and_keeps_the_host() -> None:
    gatekeeper = Gatekeeper(None, loopback_only=False)
    assert refused(gatekeeper, "POST", host="v.example.org", origin="https://v.example.org") is None


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "a.localhost", "127.3.2.1:9", "[::1]:8000", ""]
)
def test_names_of_this_machine(host: str) -> None:
    assert refused(Gatekeeper(None, loopback_only=True), "GET", host=host) is None


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "192.168.0.1", "[::1", "localhost.evil"],
)
def test_other_names_lead_nowhere_on_loopback(host: str) -> None:
    assert refused(Gatekeeper(None, loopback_only=True), "GET", host=host) == 421
    assert refused(Gatekeeper(None, loopback_only=False), "GET", host=host) is None
