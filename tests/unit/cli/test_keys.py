from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from monolith.access.key_file import KeyFile
from monolith.access.keys import parse_key
from monolith.access.scopes import Scope
from monolith.cli.app import app
from monolith.cli.exits import CliError, Exit


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments, "--data-dir", str(folder)])


def created(folder: Path, *options: str) -> str:
    """The only line on standard output."""
    (key,) = run(folder, "create", *options).stdout.splitlines()
    return key


def test_a_key_is_printed_alone_and_kept_as_a_hash(tmp_path: Path) -> None:
    key = created(tmp_path, "--name", "Ada")
    (record,) = KeyFile(tmp_path / "api-keys.json").load()
    assert record.matches(parse_key(key))
    assert (record.name, record.scopes, record.expires) == ("Ada", (Scope.READ, Scope.WRITE), None)


def test_scopes_and_an_end(tmp_path: Path) -> None:
    shown = json.loads(run(tmp_path, "create", "--scope", "admin", "--expires", "30", "--json").stdout)
    (record,) = KeyFile(tmp_path / "api-keys.json").load()
    assert record.scopes == (Scope.ADMIN,)
    assert record.expires is not None
    assert (record.expires - record.created).days == 30
    assert shown["key_id"] == record.key_id
    assert "digest" not in shown


def test_the_list_never_shows_keys(tmp_path: Path) -> None:
    keys = [created(tmp_path, "--name", name) for name in ("Ada", "Bob")]
    for options in ([], ["--json"]):
        listed = run(tmp_path, "list", *options).stdout
        for key in keys:
            assert key[3:11] in listed
            assert key not in listed
            assert key[12:44] not in listed


def test_a_revoked_key_is_shown_as_such(tmp_path: Path) -> None:
    key_id = created(tmp_path)[3:11]
    assert run(tmp_path, "revoke", key_id).exit_code == 0
    (shown,) = json.loads(run(tmp_path, "list", "--json").stdout)
    assert (shown["key_id"], shown["state"]) == (key_id, "revoked")


def test_an_unknown_id_is_wrong_usage(tmp_path: Path) -> None:
    failed = run(tmp_path, "revoke", "aaaaaaaa")
    assert isinstance(failed.exception, CliError)
    assert failed.exception.code is Exit.USAGE
    assert "`video-analysis keys list` shows the ids" in str(failed.exception)


@pytest.mark.parametrize("options", [["--scope", "root"], ["--expires", "0"]])
def test_wrong_options_are_wrong_usage(tmp_path: Path, options: list[str]) -> None:
    assert run(tmp_path, "create", *options).exit_code == Exit.USAGE
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x" * 101, "a\nb", "\x1b[31m"])
def test_names_are_short_and_printable(tmp_path: Path, name: str) -> None:
    assert isinstance(run(tmp_path, "create", "--name", name).exception, CliError)
    assert list(tmp_path.iterdir()) == []


def test_the_file_may_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEO_ANALYSIS_API_KEYS_FILE", str(tmp_path / "keys" / "all.json"))
    created(tmp_path)
    assert len(KeyFile(tmp_path / "keys" / "all.json").load()) == 1
