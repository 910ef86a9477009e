#!/usr/bin/env bash
# All checks: format, lint, types, tests. `./test.sh --full` adds the long runs (kill rounds, soaks).
#
#   ./test.sh [--full] [PYTEST ARGUMENT…]
#
# Makes or mends the environment (.venv) first; on Debian as root also the packages that tests need.
# Files of tests run side by side, two processes more than there are cores, since many tests wait for real programs;
# `-n 0` runs them one after the other, as a debugger needs it.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/tools/environment.sh"
cd "$root"

marker=(-m "not full")
case "${1:-}" in
  -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
  --full) marker=(); shift ;;
esac

ensure_debian openssl openssl
ensure_debian curl curl
PATH=$PATH:/usr/sbin ensure_debian ffmpeg ffmpeg nginx nginx-light
ensure_debian gst-launch-1.0 gstreamer1.0-tools
ensure_rabbitmq
ensure_rtsp_server
ensure_browser
ensure_networks
ensure_environment dev
ensure_samples

step() { say "== $1"; shift; "$@"; }
step "ruff check" "$python" -m ruff check .
step "ruff format" "$python" -m ruff format --check .
step "mypy" "$python" -m mypy
step "installed packages" "$python" -m tools.check_lock
processes=$(nproc)
processes=$((processes < 7 ? processes + 2 : 8))
step "pytest" "$python" -m pytest -n "$processes" --dist loadfile --no-loadscope-reorder \
  ${marker[@]+"${marker[@]}"} "$@"
