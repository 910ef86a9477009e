"""python -m tools.docs.terminal VIDEO [ARGUMENT…]: docs/images/analyze.svg, the terminal after a real `analyze VIDEO`.

Text alone: no picture of the video is in it.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

IMAGE: Final = Path(__file__).parents[2] / "docs" / "images" / "analyze.svg"
_COLUMNS: Final = 92
_FONTS: Final = re.compile(r"@font-face \{.*?\}", re.DOTALL)


def main(video: Path, arguments: list[str]) -> None:
    command = ["analyze", video.name, *arguments]
    console = Console(record=True, width=_COLUMNS, file=io.StringIO())
    console.print(Text(f"$ video-analysis {' '.join(command)}", style="bold"))
    console.print(Text.from_ansi(_output(video, command)))
    svg = console.export_svg(title="video-analysis", unique_id="analyze")
    # Fonts come from the reader's machine, nothing from elsewhere.
    IMAGE.write_text("\n".join(line.rstrip() for line in _FONTS.sub("", svg).splitlines()) + "\n")


def _output(video: Path, command: list[str]) -> str:
    """What the program prints, with colours; its progress bar as it was at the end."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "VIDEO_ANALYSIS_DATA_DIR": folder, "COLUMNS": str(_COLUMNS), "FORCE_COLOR": "1", "TERM": "xterm-256color",
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "monolith", *command],
            cwd=video.parent,
            env=environment | {"PYTHONPATH": str(IMAGE.parents[2])},
            capture_output=True,
            text=True,
            check=True,
        )
    bars = [line for line in re.split(r"[\r\n]", done.stderr) if "frames" in line]
    return f"{bars[-1]}\n{done.stdout}" if bars else done.stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
