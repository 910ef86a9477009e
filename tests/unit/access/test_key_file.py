from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from monolith.access.key_file import KeyFile, KeyFileError
from monolith.access.keys import parse_key
from monolith.access.scopes import Scope

READ = (Scope.READ,)


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "data" / "api-keys.json")


def test_without_a_file_there_are_no_keys(file: KeyFile) -> None:
    assert file.load() == ()


def test_keys_are_kept_in_order_and_only_as_hashes(file: KeyFile) -> None:
    first, record = file.add("Ada", READ, timedelta(days=2))
    second, _ = file.add("", (Scope.ADMIN,), None)
    kept = file.load()
    assert [entry.name for entry in kept] == ["Ada", ""]
    assert kept[0] == record
    assert record.expires == record.created + timedelta(days=2)
    assert kept[1].matches(parse_key(second))
    text = file.path.read_text()
    for key in (first, second):
        assert key not in text
        assert key[12:44] not in text, "not its secret part either"


def test_only_the_user_may_read_the_file(file: KeyFile) -> None:
    file.add("", READ, None)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700


def test_a_revoked_key_stays_in_the_list(file: KeyFile) -> None:
    _, record = file.add("", READ, None)
    ended = file.revoke(record.key_id)
    assert ended.revoked is not None
    assert file.load() == (ended,)
    assert file.revoke(record.key_id) == ended


def test_an_unknown_id_is_named_but_a_key_given_by_mistake_is_not(file: KeyFile) -> None:
    with pytest.raises(KeyFileError, match=r"no key with the id 'aaaaaaaa' .*keys list"):
        file.revoke("aaaaaaaa")
    key, _ = file.add("", READ, None)
    with pytest.raises(KeyFileError) as caught:
        file.revoke(key)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "does not hold API keys"),
        ("[]", "does not hold API keys"),
        ('{"version": 2, "keys": []}', "is of version 2; this program reads version 1"),
        ('{"version": 1, "keys": [{"key_id": "a"}]}', "does not hold API keys"),
    ],
)
def test_a_damaged_file_is_refused_and_left_alone(file: KeyFile, content: str, text: str) -> None:
    file.path.parent.mkdir()
    file.path.write_text(content)
    with pytest.raises(KeyFileError, match=text):
        file.add("", READ, None)
    assert file.path.read_text() == content


def test_a_file_that_others_may_change_is_refused(file: KeyFile) -> None:
    file.add("", READ, None)
    file.path.chmod(0o620)
    with pytest.raises(KeyFileError, match=r"can be changed by other users; `chmod 600"):
        file.load()
    file.path.chmod(0o644)
    assert len(file.load()) == 1


def test_a_link_to_the_file_stays_a_link(file: KeyFile, tmp_path: Path) -> None:
    file.add("", READ, None)
    link = KeyFile(tmp_path / "link.json")
    link.path.symlink_to(file.path)
    link.add("", READ, None)
    assert link.path.is_symlink()
    assert len(file.load()) == 2


async def test_writers_at_the_same_time_lose_nothing(file: KeyFile) -> None:
    """Processes, as `keys create` is one."""
    script = (
        "import sys; from pathlib import Path; from monolith.access.key_file import KeyFile;"
        "[KeyFile(Path(sys.argv[1])).add(sys.argv[2], (), None) for _ in range(10)]"
    )
    await asyncio.gather(
        *(
            asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", script, str(file.path), name], check=True
            )
            for name in "abc"
        )
    )
    assert sorted(record.name for record in file.load()) == sorted("abc" * 10)
    assert [path.name for path in file.path.parent.iterdir()] == ["api-keys.json"]
