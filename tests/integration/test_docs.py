"""The documentation says what is true: its commands run, its generated pages are current, what it names exists."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import av
import pytest

from monolith.settings import Settings
from monolith.settings_loading import CONFIG_VARIABLE, variable
from tests.media import sample_clip
from tests.program import Server, free_port, serving
from tools.docs.__main__ import outdated

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
PAGES: Final = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
_RUN: Final = re.compile(r"^```bash run\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_CODE: Final = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)
_HEADING: Final = re.compile(r"^#+ (.*)$", re.MULTILINE)
_MACHINE: Final = re.compile(r"(?<![\w.])/(?:home|root|work|tmp|Users|mnt|var)/")
_VARIABLE: Final = re.compile(r"\bVIDEO_ANALYSIS_[A-Z_]+")
_TEST: Final = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
_SAID: Final = re.compile(r"^### `(.+)`$", re.MULTILINE)
FRAMES: Final = 40
PAGE_SECONDS: Final = 200
_SOURCE_PORT: Final = re.compile(r"\b9000\b")
"""Where pages let sources of their own listen; here they get a free port."""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def scripts() -> dict[str, str]:
    """Page → its runnable blocks, as one script."""
    found = {name_of(page): _RUN.findall(page.read_text(encoding="utf-8")) for page in PAGES}
    return {name: "\n".join(blocks) for name, blocks in found.items() if blocks}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has after cloning and the first start, its folders as links; and a short clip `street.mp4`."""
    folder = tmp_path_factory.mktemp("clone")
    for entry in ROOT.iterdir():
        if entry.is_file():
            shutil.copy2(entry, folder)  # a script that looks where it lies must find this folder
        elif entry.name not in (".git", ".venv", "data"):
            (folder / entry.name).symlink_to(entry)
    _link_environment(folder / ".venv")
    cut(sample_clip("bikes.mp4"), folder / "street.mp4", FRAMES)
    return folder


def _link_environment(target: Path) -> None:
    """The environment of this test, with the mark that it is what the lock says: nothing is installed into it."""
    target.mkdir()
    for entry in Path(sys.prefix).iterdir():
        if entry.name != ".locked":
            (target / entry.name).symlink_to(entry)
    stamp = '. tools/environment.sh && stamp_of runtime >"$stamp_file"'
    subprocess.run(["bash", "-c", stamp], cwd=target.parent, check=True)


def cut(clip: Path, target: Path, frames: int) -> None:
    """The first packets of `clip`, as they are."""
    with av.open(str(clip)) as source, av.open(str(target), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(source.streams.video[0])):
            if number == frames:
                return
            packet.stream = stream
            output.mux(packet)


@pytest.fixture(scope="module")
def server(clone: Path) -> Iterator[Server]:
    with serving(clone) as server:
        yield server


@pytest.mark.skipif(shutil.which("curl") is None, reason="the pages ask the API with curl")
@pytest.mark.parametrize("page", scripts())
def test_the_commands_of_a_page_run(page: str, clone: Path, server: Server) -> None:
    script = scripts()[page].replace("http://localhost:8000", server.url)
    if "ffmpeg" in script and shutil.which("ffmpeg") is None:
        pytest.skip("the page makes its source with ffmpeg")
    code, output = run_script(_SOURCE_PORT.sub(str(free_port()), script), clone)
    assert code == 0, output[-4000:]


def run_script(script: str, folder: Path) -> tuple[int, str]:
    """Run it as a reader would; its exit code and output. What it leaves running is ended with it."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("VIDEO_ANALYSIS_")}
    log = folder / "script.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(PAGE_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return code, log.read_text(errors="replace")


def test_the_pages_that_show_commands_have_some_that_run() -> None:
    guides = {name_of(page) for page in PAGES if page.parent.name in ("tutorial", "howto")}
    assert scripts().keys() >= {"README.md", *guides}


def test_generated_pages_are_current() -> None:
    assert [name_of(page) for page in outdated()] == [], "python -m tools.docs makes them again"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in _LINK.findall(_CODE.sub("", text)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = page if not path else (page.parent / path)
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


def anchors(page: Path) -> set[str]:
    """Of the page's headings, as they are made from their text."""
    headings = _HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_names_a_place_of_one_machine_or_an_unknown_setting(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert _MACHINE.findall(text) == []
    known = {variable(name) for name in Settings.model_fields} | {CONFIG_VARIABLE}
    assert set(_VARIABLE.findall(text)) <= known | {"VIDEO_ANALYSIS_"}


def test_every_test_that_a_page_names_is_there() -> None:
    named = {pair for page in PAGES for pair in _TEST.findall(page.read_text(encoding="utf-8"))}
    assert len(named) > 20
    missing = [pair for pair in named if not (ROOT / pair[0]).is_file() or not _defines(*pair)]
    assert missing == []


def _defines(path: str, function: str) -> bool:
    tree = ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
    names = {node.name for node in tree if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return not function or function in names


def test_every_error_text_in_the_troubleshooting_page_is_one_of_the_program() -> None:
    said = _SAID.findall((DOCS / "howto" / "troubleshoot.md").read_text(encoding="utf-8"))
    assert len(said) > 10
    texts = list(program_texts())
    for error in said:
        for piece in filter(None, (part.strip() for part in error.split("…"))):
            assert any(piece in text for text in texts), piece


def program_texts() -> Iterator[str]:
    """Every string of the program, with … in the place of values."""
    for path in [*(ROOT / "monolith").rglob("*.py"), *(ROOT / "eventsourcing").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (v.value if isinstance(v, ast.Constant) else "…" for v in node.values)
                yield "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
