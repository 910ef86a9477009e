"""The command line of the benchmarks; what they measure is not measured here."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import NAMES, RESULTS, main


@pytest.mark.parametrize("names", [["--help"], ["-h"], ["analytics", "--help"]])
def test_help_shows_the_usage_and_runs_nothing(names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = RESULTS.read_bytes()
    main(names)
    shown = capsys.readouterr()
    assert shown.out.startswith("usage: ./bench.sh [--help] [NAME…]\n")
    assert shown.out.endswith(f"Names: {' '.join(NAMES)}\n")
    assert shown.err == ""
    assert RESULTS.read_bytes() == before


def test_an_unknown_name_is_told_the_names() -> None:
    with pytest.raises(
        SystemExit, match=r"^unknown benchmark speed; there are: event_store .*--help says more"
    ):
        main(["speed"])
