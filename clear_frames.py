#!/usr/bin/env python3
"""Removes frames older than a number of days from the disk, and everything about them from the databases.

    python clear_frames.py --days N [--dry-run] [--keep VIDEO]... [--yes] [--json] [--data-dir FOLDER]

Any Python 3 will do: it runs `video-analysis retention` with the same options in the project's environment (.venv),
which is made first where it is missing. The data directory is the one that run.sh uses (./data beside this file, or
what VIDEO_ANALYSIS_DATA_DIR or video-analysis.toml say); a server that runs there goes on serving and does the work.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
SCRIPT = """
. "$1/tools/environment.sh"
shift
ensure_environment runtime
cd "$root"
exec "$python" -m monolith retention "$@"
"""
FOLDER_OPTION = "--data-dir"


def absolute(options):
    """The options, with a data directory that means the same from another folder."""
    found = []
    for option in options:
        name, sign, value = option.partition("=")
        if found and found[-1] == FOLDER_OPTION:
            option = str(Path(option).absolute())
        elif name == FOLDER_OPTION and sign:
            option = name + sign + str(Path(value).absolute())
        found.append(option)
    return found


def main():
    options = absolute(sys.argv[1:])
    command = ["bash", "-euo", "pipefail", "-c", SCRIPT, "clear_frames.py", str(ROOT), *options]
    try:
        os.execvp("bash", command)  # noqa: S606
    except OSError as error:
        sys.exit("clear_frames.py: bash cannot be started: {}".format(error))  # noqa: UP032


if __name__ == "__main__":
    main()
