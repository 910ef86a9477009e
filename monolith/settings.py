"""The program's settings: what there are, what they mean, which values are right. `settings_loading` reads them."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
)

from monolith.setting_values import (
    Count,
    Network,
    Seconds,
    Size,
    amqp_url,
    ice_server_address,
    is_loopback,
    lower,
    rtmp_base_url,
    split,
    url_at,
)

_SIZE_IS: Final = "a number of bytes, such as 500000000 or 20 GiB"
_SECONDS_IS: Final = "a number of seconds above 0, such as 30"
_COUNT_IS: Final = "a whole number from 0 (chosen by the program) to 1024"


def _setting(default: Any, meaning: str, right: str) -> Any:
    """A field: what it means, and what a right value looks like (both shown to users)."""
    return Field(default=default, description=meaning, json_schema_extra={"right": right})


class Settings(BaseModel):
    """All settings, checked and frozen. Times in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    host: str = _setting(
        "127.0.0.1", "address to listen on", "an IP address or a host name, such as 127.0.0.1"
    )
    port: Annotated[int, Field(ge=0, le=65535)] = _setting(
        8000, "TCP port to listen on (0: any free one)", "a whole number from 0 to 65535, such as 8000"
    )
    data_dir: Path = _setting(
        Path("data"), "folder for events, frames and read models", "a folder, such as ./data"
    )
    kurrentdb_uri: SecretStr = _setting(
        SecretStr(""),
        "KurrentDB (EventStoreDB) server that keeps the events; empty: a file in the data directory",
        "an address such as kurrentdb://db.example.org:2113, or nothing",
    )
    kurrentdb_ca: Path | None = _setting(
        None,
        "CA certificates of the KurrentDB server; empty: the system's",
        "a file in PEM format, or nothing",
    )
    rabbitmq_url: SecretStr = _setting(
        SecretStr(""),
        "RabbitMQ server that events are published to, and through which copies share work; empty: none",
        "an address such as amqps://user:password@mq.example.org:5671/ (in a password, %40 for @, %2F for /), or"
        " nothing",
    )
    shared_dir: Path | None = _setting(
        None,
        "folder for stored frames, sources, uploads and secrets that all copies of the program see, at the same path;"
        " empty: the data directory",
        "a folder, such as /srv/video-analysis, or nothing",
    )
    public_url: str = _setting(
        "",
        "address under which users reach this program; empty: as the request came",
        "an address such as https://video.example.org, or nothing",
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(lower)] = _setting(
        "info", "least severe log lines shown", "one of debug, info, warning, error"
    )
    log_format: Annotated[Literal["text", "json"], BeforeValidator(lower)] = _setting(
        "text", "log lines for people, or one JSON object a line", "one of text, json"
    )
    access_log: Annotated[Literal["auto", "on", "off"], BeforeValidator(lower)] = _setting(
        "auto", "log every request; auto: where the log is JSON", "one of auto, on, off"
    )
    traces: Annotated[Literal["off", "otlp", "console"], BeforeValidator(lower)] = _setting(
        "off",
        "where OpenTelemetry traces go: nowhere, to the collector that the variables OTEL_… name, or to the log",
        "one of off, otlp, console",
    )

    frame_max_height: Annotated[int, Field(ge=16, le=8192)] = _setting(
        720,
        "stored frames are scaled down to this height, in pixels",
        "a whole number from 16 to 8192, such as 720",
    )
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = _setting(
        90, "quality of stored frames", "a whole number from 1 to 100, such as 90"
    )
    segment_seconds: Annotated[float, Field(ge=1, le=3600)] = _setting(
        60.0, "seconds of media in one unit of work", "a number of seconds from 1 to 3600, such as 60"
    )
    infer_from: Annotated[Literal["stored", "source"], BeforeValidator(lower)] = _setting(
        "stored", "models see the stored JPEG, or the picture before it", "one of stored, source"
    )
    keep_sources: bool = _setting(
        False, "keep fetched and uploaded videos after their first run", "one of true, false"
    )

    workers: Count = _setting(0, "inference processes", _COUNT_IS)
    worker_threads: Count = _setting(0, "threads of each inference process", _COUNT_IS)
    precision: Annotated[Literal["auto", "bf16", "f32"], BeforeValidator(lower)] = _setting(
        "auto", "number format of inference; auto: bf16 where the processor has it", "one of auto, bf16, f32"
    )
    max_concurrent_segments: Count = _setting(0, "segments analysed at the same time", _COUNT_IS)
    segment_attempts: Annotated[int, Field(ge=1, le=100)] = _setting(
        3, "attempts at a segment before its run fails", "a whole number from 1 to 100, such as 3"
    )
    worker_start_deadline: Seconds = _setting(
        120.0, "an inference process must be ready by then", _SECONDS_IS
    )
    worker_batch_deadline: Seconds = _setting(
        60.0, "an inference process must answer a batch by then", _SECONDS_IS
    )
    decoder_deadline: Seconds = _setting(60.0, "a decoder must show a sign of life by then", _SECONDS_IS)
    probe_deadline: Seconds = _setting(600.0, "a video must be probed and scanned by then", _SECONDS_IS)
    shutdown_deadline: Seconds = _setting(
        20.0, "work in flight may finish until then at the end", _SECONDS_IS
    )

    allowed_networks: Annotated[tuple[Network, ...], BeforeValidator(split)] = _setting(
        (),
        "networks that videos may be fetched from besides public addresses",
        "networks separated by commas, such as 192.168.1.0/24,fd00:1::/64",
    )
    max_source_bytes: Size = _setting("20 GiB", "largest video that is fetched", _SIZE_IS)
    max_upload_bytes: Size = _setting("20 GiB", "largest video that may be uploaded", _SIZE_IS)
    min_free_bytes: Size = _setting("1 GiB", "disk space that is never used up", _SIZE_IS)
    annotated_cache_bytes: Size = _setting(
        "10 GiB", "disk space that annotated videos may take; those not used for longest go first", _SIZE_IS
    )
    annotated_jobs: Annotated[int, Field(ge=1, le=64)] = _setting(
        2, "annotated videos made at the same time", "a whole number from 1 to 64, such as 2"
    )
    retention_days: Annotated[float, Field(ge=0, le=36500, allow_inf_nan=False)] = _setting(
        0.0,
        "every day, segments older than so many days go; 0: they stay",
        "a number of days from 0 to 36500, such as 30",
    )
    retention_at: str = _setting(
        "03:30", "when, in this machine's local time", "a time of the day, such as 03:30"
    )
    retention_keep: Annotated[tuple[str, ...], BeforeValidator(split)] = _setting(
        (), "videos of which nothing goes", "video ids separated by commas"
    )
    fetch_connect_timeout: Seconds = _setting(
        10.0, "for the name, the connection and TLS of a fetch", _SECONDS_IS
    )
    fetch_read_timeout: Seconds = _setting(30.0, "longest silence of a server in a fetch", _SECONDS_IS)
    fetch_timeout: Seconds = _setting(
        6 * 3600.0, "longest time for a whole fetch, and of waiting for a source with an end", _SECONDS_IS
    )
    fetch_min_rate: Size = _setting("1 KiB", "bytes a second below which a fetch counts as stalled", _SIZE_IS)

    auth: Annotated[Literal["auto", "on", "off"], BeforeValidator(lower)] = _setting(
        "auto",
        "whether requests need an API key; auto: where others than this machine can ask",
        "one of auto, on, off",
    )
    api_keys_file: str = _setting(
        "",
        "file of the API keys; empty: api-keys.json in the folder that copies share, else in the data directory",
        "a file, or nothing",
    )
    api_key: SecretStr = _setting(
        SecretStr(""),
        "API key that the command line sends to a server; never shown",
        "an API key, or nothing",
    )
    session_lifetime: Seconds = _setting(8 * 3600.0, "a sign-in on the web page lasts so long", _SECONDS_IS)
    tls_certificate: str = _setting(
        "", "certificate (chain) to serve HTTPS with", "a PEM file, together with a tls_key, or nothing"
    )
    tls_key: str = _setting(
        "", "private key of the certificate", "a PEM file, together with a tls_certificate, or nothing"
    )
    tls_self_signed: bool = _setting(
        False, "serve HTTPS with a certificate that the program makes itself", "one of true, false"
    )
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(split)] = _setting(
        (),
        "web sites whose pages may use the API from a browser",
        "origins separated by commas, such as https://app.example.org,http://localhost:3000",
    )
    rate_limit: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] = _setting(
        50.0,
        "requests a second of one client (key or address), where others than this machine can ask",
        "a number from 0 (no limit) to 1000000, such as 50",
    )
    rate_burst: Annotated[int, Field(ge=1, le=10**6)] = _setting(
        200, "requests of one client at once before rate_limit counts", "a whole number from 1, such as 200"
    )
    max_connections_per_client: Annotated[int, Field(ge=0, le=1000)] = _setting(
        100,
        "open connections of one address beyond this machine",
        "a whole number from 0 (no limit) to 1000, such as 100",
    )

    rtsp_transport: Annotated[Literal["auto", "tcp", "udp"], BeforeValidator(lower)] = _setting(
        "auto", "how RTSP cameras send; auto: TCP, UDP where a camera takes no TCP", "one of auto, tcp, udp"
    )
    max_live_sources: Annotated[int, Field(ge=1, le=1024)] = _setting(
        32, "live sources analysed at the same time; more wait", "a whole number from 1 to 1024, such as 32"
    )
    live_silence: Seconds = _setting(
        300.0, "a live source that gives no picture for so long has ended", _SECONDS_IS
    )

    rtmp: bool = _setting(True, "take in what is published by RTMP", "one of true, false")
    rtmp_host: str = _setting(
        "", "address to take RTMP on; empty: the same as host", "an IP address or a host name, or nothing"
    )
    rtmp_port: Annotated[int, Field(ge=0, le=65535)] = _setting(
        1935, "TCP port of RTMP (0: any free one)", "a whole number from 0 to 65535, such as 1935"
    )
    rtmp_public_url: str = _setting(
        "",
        "address under which publishers reach RTMP; empty: the host that requests name, and rtmp_port",
        "an address such as rtmp://video.example.org:11935, or nothing",
    )
    rtmp_max_connections: Annotated[int, Field(ge=1, le=4096)] = _setting(
        128, "open RTMP connections; more are refused", "a whole number from 1 to 4096, such as 128"
    )
    rtmp_max_connections_per_client: Annotated[int, Field(ge=1, le=4096)] = _setting(
        32, "open RTMP connections of one address", "a whole number from 1 to 4096, such as 32"
    )
    rtmp_handshake_timeout: Seconds = _setting(
        10.0, "an RTMP connection must publish by then, with a key that is right", _SECONDS_IS
    )
    rtmp_idle_timeout: Seconds = _setting(
        30.0, "an RTMP publisher that sends nothing for so long is cut off; it may come again", _SECONDS_IS
    )
    rtmp_max_bitrate: Annotated[int, Field(ge=100, le=10**6)] = _setting(
        50_000,
        "kilobits a second that an RTMP publisher may send; one that sends more for long is cut off",
        "a whole number from 100 to 1000000, such as 50000",
    )
    publish_wait: Seconds = _setting(
        24 * 3600.0, "an endpoint that nobody has published to by then is given up", _SECONDS_IS
    )

    webrtc_publishers: Annotated[int, Field(ge=1, le=1024)] = _setting(
        32,
        "WebRTC publishers at the same time; more are refused",
        "a whole number from 1 to 1024, such as 32",
    )
    webrtc_max_bitrate: Annotated[int, Field(ge=100, le=10**6)] = _setting(
        8000,
        "kilobits a second that a WebRTC publisher may send; one that sends more for long is ended",
        "a whole number from 100 to 1000000, such as 8000",
    )
    webrtc_connect_timeout: Seconds = _setting(15.0, "a WebRTC peer must be connected by then", _SECONDS_IS)
    ice_servers: Annotated[tuple[str, ...], BeforeValidator(split)] = _setting(
        (),
        "STUN and TURN servers for WebRTC peers and this program",
        "addresses separated by commas, such as stun:stun.example.org:3478,turn:turn.example.org:3478?transport=udp",
    )
    ice_username: str = _setting("", "user name at the TURN servers", "a name, or nothing")
    ice_credential: SecretStr = _setting(
        SecretStr(""), "password at the TURN servers; told to those who publish and watch", "text, or nothing"
    )
    ice_interfaces: Annotated[tuple[str, ...], BeforeValidator(split)] = _setting(
        (),
        "network interfaces for WebRTC; empty: all, and loopback where there is no other",
        "names or addresses separated by commas, such as eth0,127.0.0.1",
    )
    ice_ports: str = _setting(
        "",
        "UDP ports for WebRTC; empty: any",
        "two port numbers and a hyphen, such as 50000-50100, or nothing",
    )
    ice_public_address: Annotated[tuple[IPv4Address | IPv6Address, ...], BeforeValidator(split)] = _setting(
        (),
        "addresses by which WebRTC peers reach this machine through NAT or out of a container",
        "IP addresses separated by commas, such as 203.0.113.7",
    )

    webhook_timeout: Seconds = _setting(
        15.0, "a webhook's receiver must have answered an attempt by then", _SECONDS_IS
    )
    webhook_retry_time: Seconds = _setting(
        86400.0, "an event that a webhook's receiver does not take is tried again for so long", _SECONDS_IS
    )

    max_viewers: Annotated[int, Field(ge=0, le=10000)] = _setting(
        100, "viewers of live video at the same time; more are refused", "a whole number from 0, such as 100"
    )
    max_viewers_per_client: Annotated[int, Field(ge=1, le=10000)] = _setting(
        50, "viewers of one address beyond this machine", "a whole number from 1, such as 50"
    )
    max_live_encoders: Annotated[int, Field(ge=0, le=1000)] = _setting(
        16, "processes that encode live video for viewers, of all videos", "a whole number from 0, such as 16"
    )
    player_delay_ms: Annotated[int, Field(ge=0, le=10000)] = _setting(
        500,
        "milliseconds by which players of live video lag behind, so that boxes come with their picture",
        "a whole number from 0 to 10000, such as 500",
    )
    pass_through_group_seconds: Annotated[float, Field(gt=0, le=12)] = _setting(
        2.0,
        "live H.264 with keyframes farther apart is encoded anew for viewers, once for all of them",
        "a number of seconds up to 12, such as 2",
    )
    playback_max_height: Annotated[int, Field(ge=16, le=8192)] = _setting(
        720,
        "live pictures that are encoded for viewers are scaled down to this height, in pixels",
        "a whole number from 16 to 8192, such as 720",
    )
    playback_small_height: Annotated[int, Field(ge=16, le=8192)] = _setting(
        360,
        "height of the smaller live pictures for viewers whose network does not carry the others, in pixels",
        "a whole number from 16 to 8192, such as 360",
    )
    playback_small_bitrate: Annotated[int, Field(ge=50_000)] = _setting(
        400_000,
        "bits a second, at most, of the smaller live pictures",
        "a whole number from 50000, such as 400000",
    )

    @field_validator("host")
    @classmethod
    def _host_is_plain(cls, host: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9.:_-]+", host):
            raise ValueError("not a host")
        return host

    @field_validator("rabbitmq_url")
    @classmethod
    def _rabbitmq_url_is_whole(cls, url: SecretStr) -> SecretStr:
        return SecretStr(amqp_url(url.get_secret_value())) if url.get_secret_value() else url

    @field_validator("rtmp_host")
    @classmethod
    def _rtmp_host_is_plain(cls, host: str) -> str:
        return cls._host_is_plain(host) if host else host

    @field_validator("public_url")
    @classmethod
    def _url_is_whole(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and (
            parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment
        ):
            raise ValueError("not an address")
        return url.rstrip("/")

    @field_validator("rtmp_public_url")
    @classmethod
    def _rtmp_url_is_whole(cls, url: str) -> str:
        return rtmp_base_url(url) if url else url

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_whole(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        """As browsers spell them: lower case, no path, no default port. No wildcard: answers carry credentials."""
        if not all(re.fullmatch(r"https?://[a-z0-9.-]+(:\d{1,5})?|https?://\[[0-9a-f:]+\](:\d{1,5})?", o)
                   for o in origins):  # fmt: skip
            raise ValueError("not origins")
        return origins

    @field_validator("ice_servers")
    @classmethod
    def _ice_servers_are_uris(cls, servers: tuple[str, ...]) -> tuple[str, ...]:
        for server in servers:
            ice_server_address(server)
        return servers

    @field_validator("ice_ports")
    @classmethod
    def _ports_are_a_range(cls, ports: str) -> str:
        first, _, last = ports.partition("-")
        if ports and not (re.fullmatch(r"\d{1,5}-\d{1,5}", ports) and 0 < int(first) <= int(last) <= 65535):
            raise ValueError("not a range of ports")
        return ports

    @field_validator("retention_at")
    @classmethod
    def _time_is_of_the_day(cls, at: str) -> str:
        if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", at):
            raise ValueError("not a time")
        return at

    @field_validator("retention_keep")
    @classmethod
    def _kept_are_ids(cls, video_ids: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(UUID(video_id)) for video_id in video_ids)

    @property
    def logs_requests(self) -> bool:
        return self.access_log == "on" or (self.access_log == "auto" and self.log_format == "json")

    @property
    def serves_loopback_only(self) -> bool:
        """Whether nothing beyond this machine can reach the server."""
        return is_loopback(self.host)

    @property
    def serves_this_machine_only(self) -> bool:
        """Whether only this machine can ask: it listens on loopback, and no proxy passes on what others ask."""
        name = urlsplit(self.public_url).hostname or "localhost"
        return self.serves_loopback_only and is_loopback(name)

    @property
    def asks_for_keys(self) -> bool:
        return self.auth == "on" or (self.auth == "auto" and not self.serves_this_machine_only)

    @property
    def shared_folder(self) -> Path:
        return (self.shared_dir or self.data_dir).absolute()

    @property
    def keys_path(self) -> Path:
        return Path(self.api_keys_file or self.shared_folder / "api-keys.json").absolute()

    @property
    def serves_tls(self) -> bool:
        return bool(self.tls_self_signed or self.tls_certificate or self.tls_key)

    @property
    def local_url(self) -> str:
        """Where programs on this machine reach the server."""
        return url_at("https" if self.serves_tls else "http", self.host, self.port)

    @property
    def url(self) -> str:
        """Where people reach the server."""
        return self.public_url or self.local_url
