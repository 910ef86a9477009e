"""All checks, in the order in which they are shown."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from monolith.doctor import analytics, data_directory, engines, installation, live, network, servers
from monolith.doctor.findings import Check
from monolith.settings import Settings
from monolith.settings_loading import LoadedSettings


def all_checks(loaded: LoadedSettings | None, settings_error: str | None) -> list[Check]:
    """`loaded`: None where the settings are wrong, which `settings_error` says; then the rest is looked at with the
    settings as they are by default."""
    settings = loaded.settings if loaded is not None else Settings()
    return [
        Check("settings", partial(installation.settings_found, loaded, settings_error)),
        Check("python", installation.python),
        Check("packages", installation.packages),
        Check("processor", lambda: installation.processor(Path("/proc/cpuinfo").read_text())),
        Check("cores and memory", partial(installation.resources, settings)),
        Check("open files", installation.open_files),
        Check("clock", installation.clock),
        Check("inference", partial(engines.inference, settings)),
        Check("models", installation.models),
        Check("codecs", engines.codecs),
        Check("data directory", partial(data_directory.place, settings)),
        Check("file system", partial(data_directory.file_system, settings)),
        Check("room", partial(data_directory.room, settings)),
        Check("event store", partial(data_directory.event_store, settings)),
        Check("read models", partial(data_directory.read_models, settings)),
        Check("analytics", partial(analytics.analytics_files, settings)),
        Check("KurrentDB", partial(servers.kurrentdb, settings)),
        Check("RabbitMQ", partial(servers.rabbitmq, settings)),
        Check("server", partial(network.server, settings)),
        Check("port", partial(network.port, settings)),
        Check("RTMP", partial(live.rtmp_port, settings)),
        Check("WebRTC", partial(live.webrtc_addresses, settings)),
        Check("STUN and TURN", partial(live.ice_servers, settings)),
        Check("TLS", partial(network.tls, settings)),
        Check("API keys", partial(network.keys, settings)),
    ]
