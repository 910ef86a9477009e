"""Codecs and inference in their own processes: what works, what is broken, what crashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from monolith.doctor import codecs, engines
from monolith.settings import Settings


def test_the_codecs_of_this_installation_work() -> None:
    (found,) = engines.codecs()
    assert found.level == "ok"
    assert all(name in found.found for name in ("H.264", "HEVC", "VP8", "VP9", "AV1", "MPEG-4"))
    assert "decode only" not in found.found


def test_a_codec_without_a_decoder_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(codecs.ENCODERS, "H.264", ("no_such_codec", ("libx264",), "mp4"))
    state = codecs.examine("H.264")
    assert (state.decodes, state.error) == (False, "there is no decoder")


def test_a_codec_without_an_encoder_is_decoded_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(codecs.ENCODERS, "AV1", ("av1", ("no_such_encoder",), "mp4"))
    assert codecs.examine("AV1") == codecs.CodecState(name="AV1", tried=True, decodes=True)


@pytest.fixture
def crashing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that says what it tries, as the real one does, and crashes at the second codec."""
    (tmp_path / "crashing.py").write_text(
        "import os, signal\n"
        "from monolith.doctor.codecs import CodecState, _tell\n"
        "_tell(CodecState(name='H.264'))\n"
        "_tell(CodecState(name='H.264', tried=True, decodes=True, encoder='x'))\n"
        "_tell(CodecState(name='HEVC'))\n"
        "os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[3]}")
    return "crashing"


def test_the_codec_that_crashes_is_named(crashing: str) -> None:
    works, broken = engines.codecs(crashing)
    assert works.found == "decode and encode: H.264"
    assert (broken.level, broken.found) == ("warning", "HEVC does not work: the codec crashed (signal 11)")


def test_without_codecs_nothing_works() -> None:
    (found,) = engines.codecs("no.such.module")
    assert found.level == "problem" and "No module named" in found.found


def test_the_precision_that_will_be_used() -> None:
    (found,) = engines.inference(Settings(precision="f32"))
    assert found.level == "ok" and found.found.endswith("precision f32 will be used")
    (found,) = engines.inference(Settings(), module="no.such.module")
    assert found.level == "problem"
