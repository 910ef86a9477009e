"""Commands that need no program: help, wrong usage, settings, models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from monolith.__main__ import main
from monolith.cli.exits import Exit


class Ended(msgspec.Struct):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and a wide terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def run(*arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ended:
    monkeypatch.setattr("sys.argv", ["video-analysis", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    return Ended(int(caught.value.code or 0), out, err)


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("analyze", Exit.USAGE, "Missing argument"),
        ("analyze nowhere.mp4", Exit.BAD_SOURCE, "nowhere.mp4 is not there"),
        ("analyze x --models y", Exit.USAGE, "there is no model 'y'"),
        ("analyze x --frame-step 0", Exit.USAGE, "frame-step"),
        ("serve --port 99999", Exit.ENVIRONMENT, "--port: 99999 is not right; it takes a whole number"),
        ("serve --once", Exit.USAGE, "--once needs something to analyse"),
        ("sing", Exit.USAGE, "No such command"),
    ],
)
def test_what_is_wrong_is_said_with_its_exit_code(
    line: str, code: Exit, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run(*line.split(), monkeypatch=monkeypatch, capsys=capsys)
    assert (done.code, done.out) == (code, "")
    assert words in done.err


def test_a_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIDEO_ANALYSIS_JPEG_QUALITY", "best")
    done = run("settings", monkeypatch=monkeypatch, capsys=capsys)
    assert done.code == Exit.ENVIRONMENT
    assert (
        "VIDEO_ANALYSIS_JPEG_QUALITY: 'best' is not right; it takes a whole number from 1 to 100" in done.err
    )


@pytest.mark.parametrize(
    "command", ["", "serve", "analyze", "settings", "models list", "models verify", "endpoint rtmp"]
)
def test_every_command_has_help_with_an_example(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run(*command.split(), "--help", monkeypatch=monkeypatch, capsys=capsys)
    assert done.code == Exit.OK
    assert not command or "Example" in done.out


def test_settings_are_shown_with_their_origin(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "video-analysis.toml").write_text("port = 8123\n")
    found: dict[str, Any] = json.loads(run("settings", "--json", monkeypatch=monkeypatch, capsys=capsys).out)
    assert found["port"] == {"value": 8123, "origin": "file", "variable": "VIDEO_ANALYSIS_PORT"}
    assert found["host"]["origin"] == "default"
    shown = run("settings", monkeypatch=monkeypatch, capsys=capsys).out
    assert all(f"VIDEO_ANALYSIS_{name.upper()}" in shown for name in found)


def test_models_are_listed_and_verified(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = json.loads(run("models", "list", "--json", monkeypatch=monkeypatch, capsys=capsys).out)
    assert {model["key"] for model in listed} == {
        "color_detection",
        "emotions_detection",
        "objects_detection",
    }
    verified = run("models", "verify", monkeypatch=monkeypatch, capsys=capsys)
    assert verified.code == Exit.OK
    assert verified.out.count(": ok") == len(verified.out.splitlines()) > 0


def test_the_version_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version", monkeypatch=monkeypatch, capsys=capsys).out.startswith("video-analysis ")
