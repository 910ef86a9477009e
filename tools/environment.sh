# Sourced by run.sh, test.sh and bench.sh: makes and mends the project's environment in .venv.
#
#   ensure_environment runtime|dev   the lock's packages are installed in .venv; quick when nothing changed
#   ensure_samples [PACKAGE…]        the sample clips' packages too (default: all)
#   ensure_debian COMMAND PACKAGE …  on Debian as root, installs the packages of commands that are missing
#   ensure_rtsp_server               the same for the RTSP server of the tests
#   ensure_rabbitmq                  the same for the message broker of the tests; its service is not left running
#   ensure_browser                   the same for their browser, which they can do without
#   ensure_networks                  the same for networks of their own: namespaces, NAT, a STUN and TURN server
#
# A .venv that is broken or half made is made anew. A dev environment serves as a runtime one.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
python=$venv/bin/python

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 4; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.14; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  die "Python 3.11 or newer is needed and was not found. On Debian 12 or Ubuntu 24.04 and newer:
  sudo apt-get install python3 python3-venv
Elsewhere install it from python.org or with your package manager, or name it: PYTHON=/path/to/python3 $0"
}

can_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

apt_install() {
  say "installing $* (Debian packages)"
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

ensure_debian() {
  local missing=()
  while [ $# -ge 2 ]; do
    command -v "$1" >/dev/null || missing+=("$2")
    shift 2
  done
  [ ${#missing[@]} = 0 ] && return
  can_apt || die "missing: ${missing[*]}; install with: sudo apt-get install ${missing[*]}"
  apt_install "${missing[@]}"
}

ensure_rabbitmq() { # tests start brokers of their own
  [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] && return
  can_apt || die "missing: rabbitmq-server; install with: sudo apt-get install rabbitmq-server"
  RUNLEVEL=1 apt_install rabbitmq-server
  if [ -d /run/systemd/system ]; then
    systemctl disable --now rabbitmq-server || true
  else
    service rabbitmq-server stop >/dev/null 2>&1 || true
  fi
}

ensure_rtsp_server() { # GStreamer's, through the system's Python: tests run it as a peer
  /usr/bin/python3 - 2>/dev/null <<'PYTHON' && return
import shutil
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
names = ("x264enc", "rtph264pay", "h264parse", "qtdemux", "flvmux", "rtmpsink", "rtmp2sink")
assert all(Gst.ElementFactory.find(name) for name in names) and shutil.which("gst-launch-1.0")
PYTHON
  set -- python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-tools gstreamer1.0-rtsp gstreamer1.0-plugins-base \
    gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly
  can_apt || { say "tests of RTSP and of GStreamer as a publisher are skipped without: sudo apt-get install $*"; return 0; }
  apt_install "$@"
}

ensure_browser() { # Chromium, as a peer of WebRTC tests; without it they are skipped
  command -v chromium >/dev/null || command -v chromium-browser >/dev/null && return
  can_apt || { say "tests with a browser are skipped without: sudo apt-get install chromium"; return 0; }
  apt_install chromium || say "tests with a browser are skipped: chromium could not be installed"
}

ensure_networks() { # coturn, nft and ip, for WebRTC through NAT and relays; without them those tests are skipped
  local PATH=$PATH:/usr/sbin missing=()
  command -v turnserver >/dev/null || missing+=(coturn)
  command -v nft >/dev/null || missing+=(nftables)
  command -v ip >/dev/null || missing+=(iproute2)
  [ ${#missing[@]} = 0 ] && return
  can_apt || { say "tests of NAT and TURN are skipped without: sudo apt-get install ${missing[*]}"; return 0; }
  apt_install "${missing[@]}" || { say "tests of NAT and TURN are skipped: ${missing[*]} could not be installed"; return 0; }
  # Debian starts a relay for everyone with the package; the tests start their own.
  [ ! -d /run/systemd/system ] || systemctl disable --quiet --now coturn || true
}

make_venv() {
  local base
  base=$(find_python)
  if ! "$base" -c 'import ensurepip, venv' 2>/dev/null; then
    can_apt || die "$base cannot make environments; install its venv module: sudo apt-get install python3-venv"
    apt_install python3-venv
  fi
  say "making .venv with $("$base" --version)"
  rm -rf "$venv"
  "$base" -m venv "$venv"
}

lock_of() { [ "$1" = dev ] && echo "$root/requirements-dev.lock" || echo "$root/requirements.lock"; }
stamp_of() { echo "$1 $(cat "$(lock_of "$1")" | sha256sum | cut -d' ' -f1)"; }
stamp_file=$venv/.locked

works() { # Python starts, and the packages that the program imports are there
  "$python" - "$1" 2>/dev/null <<'PYTHON'
import sys
from importlib.util import find_spec
wanted = "pip apsw av cv2 fastapi httpx msgspec numpy openvino polars pydantic simplejpeg typer uvicorn uvloop".split()
if sys.argv[1] == "dev":
    wanted += ["pytest", "mypy", "ruff", "hypothesis"]
sys.exit(sys.version_info < (3, 11) or not all(find_spec(name) for name in wanted))
PYTHON
}

fresh() { # fresh KIND: what is installed is what the lock says
  local stamp
  stamp=$(cat "$stamp_file" 2>/dev/null || true)
  [ "$stamp" = "$(stamp_of "$1")" ] || { [ "$1" = runtime ] && [ "$stamp" = "$(stamp_of dev)" ]; } || return 1
  works "$1"
}

install_locked() {
  "$python" -m pip install -qq --disable-pip-version-check --require-hashes --no-deps \
    --only-binary :all: -r "$1"
}

ensure_environment() {
  local kind=$1
  exec 9<"$root/tools/environment.sh"
  ! command -v flock >/dev/null || flock 9 # two scripts at once: one makes it, the other waits
  if ! fresh "$kind"; then
    # A dev environment stays one.
    case $(cat "$stamp_file" 2>/dev/null || true) in dev*) kind=dev ;; esac
    rm -f "$stamp_file"
    "$python" -m pip --version >/dev/null 2>&1 || make_venv
    say "installing packages of $(basename "$(lock_of "$kind")") into .venv"
    if ! install_locked "$(lock_of "$kind")" || ! works "$kind"; then
      say "that did not work in the .venv that is there: making it anew"
      make_venv
      install_locked "$(lock_of "$kind")"
      works "$kind" || die "the packages were installed and cannot be found; please report this"
    fi
    stamp_of "$kind" >"$stamp_file"
  fi
  exec 9<&-
  export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
}

ensure_samples() {
  local lock=$root/requirements-samples.lock only name
  [ $# -gt 0 ] || set -- $(sed -n 's/^\([a-z-]*\)==.*/\1/p' "$lock")
  for name in "$@"; do
    "$python" -c "import importlib.metadata as m; m.version('$name')" 2>/dev/null && continue
    only=$(mktemp)
    awk -v name="$name" '/^[a-z]/ { on = index($0, name "==") == 1 } on' "$lock" >"$only"
    install_locked "$only" || { rm -f "$only"; return 1; }
    rm -f "$only"
  done
}
