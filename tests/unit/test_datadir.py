from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from monolith.datadir import DataDirError, DataDirHeldError, DataDirLock, Holder, held_by

_HOLD = """
import sys, time
from pathlib import Path
from monolith.datadir import DataDirLock
lock = DataDirLock.acquire(Path(sys.argv[1]), "http://127.0.0.1:8000")
print("held", flush=True)
time.sleep(60)
"""


def test_a_new_directory_is_private_and_owned(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "data"
    with DataDirLock.acquire(path, "http://127.0.0.1:1"):
        assert path.stat().st_mode & 0o777 == 0o700
        assert held_by(path) == Holder(os.getpid(), "http://127.0.0.1:1")
    assert held_by(path) is None


def test_no_one_holds_what_is_not_there(tmp_path: Path) -> None:
    assert held_by(tmp_path) is None
    assert held_by(tmp_path / "nowhere") is None


def test_a_second_owner_is_told_who_the_first_is(tmp_path: Path) -> None:
    with DataDirLock.acquire(tmp_path, "http://127.0.0.1:1"), pytest.raises(DataDirHeldError) as caught:
        DataDirLock.acquire(tmp_path, "http://127.0.0.1:2")
    assert str(caught.value) == (
        f"the data directory {tmp_path} is in use: process {os.getpid()} holds it and serves http://127.0.0.1:1; "
        "stop that process, or use another directory (VIDEO_ANALYSIS_DATA_DIR)"
    )
    assert caught.value.holder.url == "http://127.0.0.1:1"


def test_the_url_may_be_told_later_and_may_get_shorter(tmp_path: Path) -> None:
    with DataDirLock.acquire(tmp_path, "http://a-long-name.example.org:12345") as lock:
        lock.announce("http://b:1")
        assert held_by(tmp_path) == Holder(os.getpid(), "http://b:1")


def test_releasing_twice_is_harmless(tmp_path: Path) -> None:
    lock = DataDirLock.acquire(tmp_path)
    lock.release()
    lock.release()
    DataDirLock.acquire(tmp_path).release()


def test_looking_does_not_keep_an_owner_away(tmp_path: Path) -> None:
    for _ in range(20):
        assert held_by(tmp_path) is None
        DataDirLock.acquire(tmp_path).release()


def test_a_killed_owner_holds_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        assert held_by(tmp_path) == Holder(child.pid, "http://127.0.0.1:8000")
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert held_by(tmp_path) is None
        DataDirLock.acquire(tmp_path).release()


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("")
    with pytest.raises(DataDirError, match="is not a folder; name another one"):
        DataDirLock.acquire(path)
    with pytest.raises(DataDirError, match="cannot be made: Not a directory; make it yourself"):
        DataDirLock.acquire(path / "below")


def test_a_directory_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(
        DataDirError, match=r"/proc/self cannot be used: .+; give this user the right to write"
    ):
        DataDirLock.acquire(Path("/proc/self"))
