"""Programs that tests run, and what to do where they are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

RTSP_PACKAGES = (
    "python3-gi", "gir1.2-gst-rtsp-server-1.0", "gstreamer1.0-plugins-base", "gstreamer1.0-plugins-good",
    "gstreamer1.0-plugins-bad", "gstreamer1.0-plugins-ugly", "gstreamer1.0-rtsp",
)  # fmt: skip
SYSTEM_PYTHON = Path("/usr/bin/python3")
_CHECK_RTSP = (
    "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0');"
    "from gi.repository import Gst, GstRtspServer; Gst.init(None);"
    "assert all(Gst.ElementFactory.find(n) for n in ('x264enc', 'rtph264pay', 'h264parse', 'qtdemux'))"
)


def program(name: str, package: str) -> str:
    """The path of a program. Where it is missing the test fails for root, who can install it, and is skipped for
    others."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    return path or _missing(name, package)


def ffmpeg() -> str:
    return program("ffmpeg", "ffmpeg")


def gst_launch() -> str:
    return program("gst-launch-1.0", "gstreamer1.0-tools")


def require_rtsp_server() -> None:
    """The system's Python can serve RTSP; fails or skips as `program` does."""
    if not SYSTEM_PYTHON.exists():
        _missing("GStreamer's RTSP server", *RTSP_PACKAGES)
    done = subprocess.run([SYSTEM_PYTHON, "-c", _CHECK_RTSP], capture_output=True, check=False, timeout=60)
    if done.returncode:
        _missing("GStreamer's RTSP server", *RTSP_PACKAGES)


def _missing(what: str, *packages: str) -> str:
    text = f"{what} is missing; install with: sudo apt-get install {' '.join(packages)}"
    if os.geteuid() == 0:
        pytest.fail(text)
    pytest.skip(text)
