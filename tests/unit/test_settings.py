from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from monolith.setting_values import parse_size
from monolith.settings import Settings
from monolith.settings_loading import SettingsError, load_settings, right_value, variable


def _error(environment: dict[str, str], folder: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(environment=environment, folder=folder)
    return str(caught.value)


def test_defaults_say_that_they_are_defaults(tmp_path: Path) -> None:
    loaded = load_settings(environment={}, folder=tmp_path)
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.file is None


def test_later_origins_win(tmp_path: Path) -> None:
    (tmp_path / "video-analysis.toml").write_text("port = 1\njpeg_quality = 80\nworkers = 2\n")
    environment = {"VIDEO_ANALYSIS_PORT": "2", "VIDEO_ANALYSIS_JPEG_QUALITY": "85", "PATH": "/bin"}
    loaded = load_settings({"port": 3, "host": None}, environment=environment, folder=tmp_path)
    assert (loaded.settings.port, loaded.settings.jpeg_quality, loaded.settings.workers) == (3, 85, 2)
    assert (loaded.origins["port"], loaded.origins["jpeg_quality"]) == ("command line", "environment")
    assert (loaded.origins["workers"], loaded.origins["host"]) == ("file", "default")


def test_the_file_that_the_variable_names_is_read(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('allowed_networks = ["10.0.0.0/8"]\nkeep_sources = true\n')
    loaded = load_settings(environment={"VIDEO_ANALYSIS_CONFIG": str(file)}, folder=tmp_path)
    assert loaded.settings.allowed_networks == (ip_network("10.0.0.0/8"),)
    assert loaded.settings.keep_sources
    assert loaded.file == file


def test_values_are_read_as_people_write_them(tmp_path: Path) -> None:
    environment = {
        "VIDEO_ANALYSIS_MAX_SOURCE_BYTES": "1.5 GiB",
        "VIDEO_ANALYSIS_ALLOWED_NETWORKS": "192.168.1.0/24, fd00:1::/64",
        "VIDEO_ANALYSIS_PRECISION": "F32",
        "VIDEO_ANALYSIS_KEEP_SOURCES": "yes",
        "VIDEO_ANALYSIS_PUBLIC_URL": "https://video.example.org/",
        "VIDEO_ANALYSIS_PORT": "",
    }
    settings = load_settings(environment=environment, folder=tmp_path).settings
    assert settings.max_source_bytes == 3 * 2**29
    assert settings.allowed_networks == (ip_network("192.168.1.0/24"), ip_network("fd00:1::/64"))
    assert settings.precision == "f32"
    assert settings.keep_sources
    assert settings.url == "https://video.example.org"
    assert settings.port == 8000


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        (
            {"VIDEO_ANALYSIS_PORT": "eighty"},
            "VIDEO_ANALYSIS_PORT: 'eighty' is not right; it takes a whole number from 0 to 65535, such as 8000.",
        ),
        (
            {"VIDEO_ANALYSIS_RETENTION_DAYS": "-1"},
            "VIDEO_ANALYSIS_RETENTION_DAYS: '-1' is not right; it takes a number of days from 0 to 36500, such as 30.",
        ),
        (
            {"VIDEO_ANALYSIS_RETENTION_AT": "24:00"},
            "VIDEO_ANALYSIS_RETENTION_AT: '24:00' is not right; it takes a time of the day, such as 03:30.",
        ),
        (
            {"VIDEO_ANALYSIS_RETENTION_KEEP": "street"},
            "VIDEO_ANALYSIS_RETENTION_KEEP: 'street' is not right; it takes video ids separated by commas.",
        ),
        (
            {"VIDEO_ANALYSIS_PRECISION": "f16"},
            "VIDEO_ANALYSIS_PRECISION: 'f16' is not right; it takes one of auto, bf16, f32.",
        ),
        (
            {"VIDEO_ANALYSIS_MAX_SOURCE_BYTES": "20 lots"},
            "VIDEO_ANALYSIS_MAX_SOURCE_BYTES: '20 lots' is not right; "
            "it takes a number of bytes, such as 500000000 or 20 GiB.",
        ),
        (
            {"VIDEO_ANALYSIS_ALLOWED_NETWORKS": "10.0.0.1/8"},
            "VIDEO_ANALYSIS_ALLOWED_NETWORKS: '10.0.0.1/8' is not right; "
            "it takes networks separated by commas, such as 192.168.1.0/24,fd00:1::/64.",
        ),
        (
            {"VIDEO_ANALYSIS_PUBLIC_URL": "video.example.org"},
            "VIDEO_ANALYSIS_PUBLIC_URL: 'video.example.org' is not right; "
            "it takes an address such as https://video.example.org, or nothing.",
        ),
        (
            {"VIDEO_ANALYSIS_HOST": "http://0.0.0.0"},
            "VIDEO_ANALYSIS_HOST: 'http://0.0.0.0' is not right; "
            "it takes an IP address or a host name, such as 127.0.0.1.",
        ),
        (
            {"VIDEO_ANALYSIS_WORKER": "2"},
            "VIDEO_ANALYSIS_WORKER: there is no such setting; did you mean VIDEO_ANALYSIS_WORKERS.",
        ),
        (
            {"VIDEO_ANALYSIS_CONFIG": "nowhere.toml"},
            "VIDEO_ANALYSIS_CONFIG: there is no file nowhere.toml; name a TOML file, or unset the variable.",
        ),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(
    environment: dict[str, str], text: str, tmp_path: Path
) -> None:
    assert _error(environment, tmp_path) == text


@pytest.mark.parametrize(
    "url",
    [
        "mq.example.org:5672",
        "http://me:s3cret@mq.example.org/",
        "amqp://me:s3cret@mq.example.org:port/",
        "amqp://me:s3cret@mq.example.org:0/",
        "amqp://me:s3c@ret@mq.example.org/",
        "amqp://me:s3c/ret@mq.example.org/",
        "amqp://me:s3c#ret@mq.example.org/",
        "amqp://me:33/ret@mq.example.org/",
        "amqp://",
    ],
)
def test_a_wrong_address_with_a_password_is_not_shown(url: str, tmp_path: Path) -> None:
    assert _error({"VIDEO_ANALYSIS_RABBITMQ_URL": url}, tmp_path) == (
        "VIDEO_ANALYSIS_RABBITMQ_URL: its value is not right; it takes an address such as"
        " amqps://user:password@mq.example.org:5671/ (in a password, %40 for @, %2F for /), or nothing."
    )


@pytest.mark.parametrize(
    "url",
    ["", "amqp://mq/", "amqps://me:a%40b@[::1]:5671/vhost?heartbeat=5", "amqp://mq:5672/%2F", "amqp://mq//"],
)
def test_right_addresses_of_rabbitmq(url: str) -> None:
    assert Settings(rabbitmq_url=SecretStr(url)).rabbitmq_url.get_secret_value() == url


def test_copies_that_share_a_folder_share_their_keys(tmp_path: Path) -> None:
    assert Settings(data_dir=tmp_path / "own").keys_path == tmp_path / "own" / "api-keys.json"
    shared = Settings(data_dir=tmp_path / "own", shared_dir=tmp_path / "all")
    assert shared.keys_path == tmp_path / "all" / "api-keys.json"
    named = Settings(shared_dir=tmp_path / "all", api_keys_file=str(tmp_path / "keys.json"))
    assert named.keys_path == tmp_path / "keys.json"


def test_a_wrong_value_in_the_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "video-analysis.toml"
    file.write_text("jpeg_quality = 0\n")
    assert _error({}, tmp_path) == (
        f"jpeg_quality in {file}: 0 is not right; it takes a whole number from 1 to 100, such as 90."
    )
    file.write_text("jpeg = 0\n")
    assert _error({}, tmp_path) == f"{file}: there is no setting 'jpeg'."
    file.write_text("jpeg = = 0\n")
    assert _error({}, tmp_path).startswith(f"{file} cannot be read as TOML: ")


def test_a_wrong_flag_names_the_flag_and_every_error_has_a_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"port": 70000, "segment_seconds": 0}, environment={}, folder=tmp_path)
    assert sorted(str(caught.value).splitlines()) == [
        "--port: 70000 is not right; it takes a whole number from 0 to 65535, such as 8000.",
        "--segment-seconds: 0 is not right; it takes a number of seconds from 1 to 3600, such as 60.",
    ]


def test_every_setting_says_what_it_means_and_what_is_right() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert right_value(name), name
        assert variable(name) == "VIDEO_ANALYSIS_" + name.upper()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("127.3.2.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("192.168.1.2", False), ("example.org", False)],
)  # fmt: skip
def test_which_hosts_are_loopback(host: str, alone: bool) -> None:
    assert Settings(host=host).serves_loopback_only is alone


def test_the_url_is_one_that_a_browser_can_open() -> None:
    assert Settings(host="0.0.0.0", port=81).url == "http://127.0.0.1:81"
    assert Settings(host="::1").url == "http://[::1]:8000"
    behind = Settings(public_url="https://video.example.org")
    assert (behind.url, behind.local_url) == ("https://video.example.org", "http://127.0.0.1:8000")


@pytest.mark.parametrize(
    ("text", "size"),
    [("12", 12), ("2kB", 2000), ("2 KiB", 2048), ("x", "x"), ("1 parsec", "1 parsec"), (7, 7)],
)
def test_sizes(text: object, size: object) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "url", ["rtmp://video.example.org:11935", "rtmps://[2001:db8::1]/", "rtmp://10.0.0.1"]
)
def test_publishers_may_reach_rtmp_by_another_address(url: str) -> None:
    assert Settings(rtmp_public_url=url).rtmp_public_url == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "video.example.org",
        "http://video.example.org",
        "rtmp://",
        "rtmp://video.example.org/live",
        "rtmp://video.example.org:70000",
        "rtmp://me@video.example.org",
        "rtmp://video.example.org?a=b",
    ],
)
def test_an_address_of_rtmp_has_no_path_and_no_user(url: str, tmp_path: Path) -> None:
    assert _error({"VIDEO_ANALYSIS_RTMP_PUBLIC_URL": url}, tmp_path) == (
        f"VIDEO_ANALYSIS_RTMP_PUBLIC_URL: {url!r} is not right; it takes an address such as"
        " rtmp://video.example.org:11935, or nothing."
    )
