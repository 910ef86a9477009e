"""An RTSP server of GStreamer's. For the system's Python: `python3 rtsp_server.py '{"mounts": {"/path": {…}}}'`.

A mount has `launch` (a GStreamer pipeline with `pay0`), and may have `user`, `password` (digest or basic, by `basic`)
and `protocols` (a list of `tcp`, `udp`, `multicast`). Prints its port when it listens.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

PROTOCOLS = {
    "tcp": GstRtsp.RTSPLowerTrans.TCP,
    "udp": GstRtsp.RTSPLowerTrans.UDP,
    "multicast": GstRtsp.RTSPLowerTrans.UDP_MCAST,
}


def factory_of(mount: dict[str, Any]) -> Any:
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(mount["launch"])
    factory.set_shared(mount.get("shared", True))
    if "protocols" in mount:
        allowed = GstRtsp.RTSPLowerTrans(0)
        for name in mount["protocols"]:
            allowed |= PROTOCOLS[name]
        factory.set_protocols(allowed)
    return factory


def permit(factory: Any, auth: Any, mount: dict[str, Any]) -> None:
    """Only the mount's user may see it."""
    role = "viewer"
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", role)
    if mount.get("basic"):
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC)
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(mount["user"], mount["password"]), token)
    else:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(mount["user"], mount["password"], token)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role(role, "media.factory.access", True)
    permissions.add_permission_for_role(role, "media.factory.construct", True)
    factory.set_permissions(permissions)


def main() -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    options = json.loads(sys.argv[1])
    server.set_service(str(options.get("port", 0)))
    mounts = options["mounts"]
    auth = None
    for path, mount in mounts.items():
        factory = factory_of(mount)
        if "user" in mount:
            auth = auth or GstRtspServer.RTSPAuth()
            permit(factory, auth, mount)
        server.get_mount_points().add_factory(path, factory)
    if auth is not None:
        server.set_auth(auth)
    if not server.attach(None):
        sys.exit("the server cannot listen")
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
