from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from monolith.access.key_file import KeyFile
from monolith.access.scopes import Scope
from monolith.access.startup import NoKeyError, check_access, open_access, open_tls
from monolith.access.tls import TlsError
from monolith.settings import Settings
from monolith.settings_loading import SettingsError, load_settings


@pytest.mark.parametrize(
    ("changes", "asks"),
    [
        ({}, False),
        ({"host": "::1"}, False),
        ({"host": "localhost", "public_url": "http://localhost:8000"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "192.168.1.2"}, True),
        ({"public_url": "https://video.example.org"}, True),
        ({"auth": "on"}, True),
        ({"host": "0.0.0.0", "auth": "off"}, False),
    ],
)
def test_keys_are_asked_for_where_others_can_ask(changes: dict[str, Any], asks: bool) -> None:
    assert Settings(**changes).asks_for_keys is asks


@pytest.mark.parametrize(
    ("changes", "limited"),
    [
        ({}, False),
        ({"auth": "on"}, True),
        ({"host": "0.0.0.0", "auth": "off"}, True),
        ({"host": "0.0.0.0"}, True),
        ({"host": "0.0.0.0", "rate_limit": 0}, False),
    ],
)
async def test_rates_are_limited_where_others_can_ask(
    tmp_path: Path, changes: dict[str, Any], limited: bool
) -> None:
    access = await open_access(Settings(data_dir=tmp_path, **changes))
    assert (access.requests is not None) is limited


async def test_browsers_are_bound_to_https_by_certificates_of_others_only(tmp_path: Path) -> None:
    own = await open_access(Settings(data_dir=tmp_path, tls_self_signed=True))
    assert (own.https, own.hsts) == (True, False)
    named = await open_access(Settings(data_dir=tmp_path, tls_certificate="c.pem", tls_key="k.pem"))
    assert (named.https, named.hsts) == (True, True)
    proxied = await open_access(Settings(data_dir=tmp_path, public_url="https://video.example.org"))
    assert (proxied.https, proxied.hsts) == (True, False)


async def test_beyond_loopback_it_does_not_start_without_a_key(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, host="0.0.0.0")
    with pytest.raises(NoKeyError, match=r"make one with `video-analysis keys create --data-dir"):
        await check_access(settings)
    KeyFile(settings.keys_path).add("", (Scope.READ,), None)
    await check_access(settings)


async def test_on_loopback_it_starts_without_a_key_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await check_access(Settings(data_dir=tmp_path))
    assert caplog.text == ""
    await check_access(Settings(data_dir=tmp_path, auth="on"))
    assert "only this machine's command line is let in" in caplog.text


async def test_no_keys_beyond_loopback_is_a_loud_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    await check_access(Settings(data_dir=tmp_path, host="0.0.0.0", auth="off"))
    assert "EVERYONE who reaches that address may see, submit and delete videos" in caplog.text


def test_certificates_as_the_settings_want_them(tmp_path: Path) -> None:
    assert open_tls(Settings(data_dir=tmp_path)) is None
    assert open_tls(Settings(data_dir=tmp_path, tls_self_signed=True)) is not None
    assert (tmp_path / "tls" / "certificate.pem").exists()
    with pytest.raises(TlsError, match="set VIDEO_ANALYSIS_TLS_KEY, too"):
        open_tls(Settings(data_dir=tmp_path, tls_certificate="c.pem"))


@pytest.mark.parametrize(
    "origins",
    ["*", "app.example.org", "https://app.example.org/", "https://App.example.org", "null", "https://a b",
     "https://app.example.org/x", "ftp://app.example.org", "https://*.example.org"],
)  # fmt: skip
def test_only_whole_origins_are_taken(tmp_path: Path, origins: str) -> None:
    with pytest.raises(
        SettingsError, match=r"VIDEO_ANALYSIS_CORS_ORIGINS: .* it takes origins separated by commas"
    ):
        load_settings(environment={"VIDEO_ANALYSIS_CORS_ORIGINS": origins}, folder=tmp_path)


def test_several_origins(tmp_path: Path) -> None:
    value = "https://app.example.org, http://localhost:3000,http://[::1]:3000"
    settings = load_settings(environment={"VIDEO_ANALYSIS_CORS_ORIGINS": value}, folder=tmp_path).settings
    assert settings.cors_origins == (
        "https://app.example.org",
        "http://localhost:3000",
        "http://[::1]:3000",
    )


def test_urls_say_how_the_server_is_spoken_to() -> None:
    assert Settings(tls_self_signed=True).url == "https://127.0.0.1:8000"
    assert Settings(tls_certificate="c", tls_key="k", host="::").local_url == "https://[::1]:8000"
