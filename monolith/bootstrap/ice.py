"""How WebRTC peers reach this machine, as the settings say."""

from __future__ import annotations

from monolith.live.webrtc.ice import IceOptions
from monolith.settings import Settings


def ice_options(settings: Settings) -> IceOptions:
    first, _, last = settings.ice_ports.partition("-")
    return IceOptions(
        servers=settings.ice_servers,
        username=settings.ice_username,
        credential=settings.ice_credential.get_secret_value(),
        interfaces=settings.ice_interfaces,
        ports=(int(first), int(last)) if settings.ice_ports else None,
        public=settings.ice_public_address,
    )
