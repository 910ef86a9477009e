from __future__ import annotations

import stat
from pathlib import Path

from monolith.access.local import FILE, LocalAccess, find, publish, withdraw


def test_what_is_published_is_found_by_its_user_alone(tmp_path: Path) -> None:
    access = LocalAccess(token="t", certificate="c")
    publish(tmp_path, access)
    publish(tmp_path, access)
    assert find(tmp_path) == access
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_nothing_is_found_where_nothing_sound_is(tmp_path: Path) -> None:
    assert find(tmp_path) is None
    (tmp_path / FILE).write_text("{")
    assert find(tmp_path) is None
    withdraw(tmp_path)
    withdraw(tmp_path)
    assert list(tmp_path.iterdir()) == []
