from __future__ import annotations

from pathlib import Path

import pytest

from monolith.cli.analyze import Outcome, Wishes, exit_of
from monolith.cli.analyzing import models_of, requests_of, wishes_of
from monolith.cli.exits import CliError, Exit
from monolith.domain.models import MODEL_KEYS


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (None, list(MODEL_KEYS)),
        ("objects", ["objects_detection"]),
        ("emotions, color_detection,emo", ["emotions_detection", "color_detection"]),
    ],
)
def test_models_go_by_their_beginnings(names: str | None, keys: list[str]) -> None:
    assert models_of(names) == keys


@pytest.mark.parametrize("names", ["", "faces", "objects,", "objects_detections"])
def test_an_unknown_model_is_wrong_usage(names: str) -> None:
    with pytest.raises(
        CliError, match=r"^there is no model '.*'; --models takes color_detection, "
    ) as caught:
        models_of(names)
    assert caught.value.code is Exit.USAGE


def test_files_and_urls_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    url = "https://example.org/clip.mp4"
    file, remote = requests_of(["clip.mp4", url], models="color", frame_step=2, name=None)
    assert (file.path, remote.path) == (tmp_path / "clip.mp4", None)
    assert (file.models, file.frame_step, remote.source) == (["color_detection"], 2, url)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("nowhere.mp4", "nowhere.mp4 is not there; name a video file, or an http(s) or rtsp(s) URL"),
        (".", ". is a folder, not a video; name a video file, or an http(s) or rtsp(s) URL"),
        (
            "ftp://example.org/a.mp4",
            "ftp://example.org/a.mp4 is not there; name a video file, or an http(s) or rtsp(s) URL",
        ),
    ],
)
def test_what_is_no_file_is_a_bad_source(source: str, text: str) -> None:
    with pytest.raises(CliError) as caught:
        requests_of([source], models=None, frame_step=1, name=None)
    assert (str(caught.value), caught.value.code) == (text, Exit.BAD_SOURCE)


def test_a_name_is_for_one_video() -> None:
    with pytest.raises(CliError, match="--name is for one video"):
        requests_of(["http://a/b", "http://a/c"], models=None, frame_step=1, name="x")


@pytest.mark.parametrize(
    ("out", "asked", "wishes"),
    [
        (None, None, Wishes()),
        ("a.csv", None, Wishes(out=Path("a.csv"), out_format="csv")),
        ("a.txt", "parquet", Wishes(out=Path("a.txt"), out_format="parquet")),
    ],
)
def test_the_format_comes_from_the_option_or_the_ending(
    out: str | None, asked: str | None, wishes: Wishes
) -> None:
    assert wishes_of(Path(out) if out else None, asked, None, several=False) == wishes


@pytest.mark.parametrize(
    ("out", "asked", "annotated", "text"),
    [
        (
            "a.txt",
            None,
            None,
            "the ending of a.txt names no format; --format takes json, ndjson, csv, parquet",
        ),
        ("a.csv", "xml", None, "'xml' is no format; --format takes json, ndjson, csv, parquet"),
        (None, "csv", None, "--format is the format of --out; name that file, too"),
        (None, None, "a.mp4", "--annotated takes a folder when there are several videos"),
    ],
)
def test_wishes_that_make_no_sense(
    out: str | None, asked: str | None, annotated: str | None, text: str
) -> None:
    with pytest.raises(CliError) as caught:
        wishes_of(Path(out) if out else None, asked, Path(annotated) if annotated else None, several=True)
    assert (str(caught.value), caught.value.code) == (text, Exit.USAGE)


def test_the_first_failure_is_the_exit_code() -> None:
    fine, bad, failed = (Outcome(source="a", exit=code) for code in (Exit.OK, Exit.BAD_SOURCE, Exit.FAILED))
    assert exit_of([fine, fine]) is Exit.OK
    assert exit_of([fine, bad, failed]) is Exit.BAD_SOURCE
