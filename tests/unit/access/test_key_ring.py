from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from monolith.access.key_file import KeyFile, KeyFileError
from monolith.access.key_ring import KeyRing
from monolith.access.keys import CredentialError, new_key
from monolith.access.scopes import Scope

READ = (Scope.READ,)


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "api-keys.json")


@pytest.fixture
async def ring(file: KeyFile) -> AsyncIterator[KeyRing]:
    """Watched."""
    made = KeyRing(file)
    await made.load()
    watching = asyncio.create_task(made.watch())
    yield made
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


def replace(path: Path, content: bytes) -> None:
    """At once: nobody sees half of it."""
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    beside.chmod(path.stat().st_mode)
    beside.replace(path)


def let_in(ring: KeyRing, key: str) -> bool:
    with contextlib.suppress(CredentialError):
        return bool(ring.identify(key).key_id)
    return False


async def test_a_key_says_who_it_is(file: KeyFile) -> None:
    key, record = file.add("Ada", (Scope.WRITE, Scope.READ), None)
    ring = KeyRing(file)
    await ring.load()
    found = ring.identify(key)
    assert (found.key_id, found.name, found.scopes, found.local) == (
        record.key_id,
        "Ada",
        (Scope.READ, Scope.WRITE),
        False,
    )
    assert ring.by_id(record.key_id) == found
    assert ring.valid == 1


async def test_unknown_keys_are_refused_known_ids_or_not(file: KeyFile) -> None:
    _, record = file.add("", READ, None)
    ring = KeyRing(file)
    await ring.load()
    stranger = new_key()
    with pytest.raises(CredentialError, match="not known here"):
        ring.identify(stranger)
    with pytest.raises(CredentialError, match="not known here"):
        ring.by_id(stranger[3:11])
    with pytest.raises(CredentialError, match="not known here"):
        ring.by_id("")
    assert ring.by_id(record.key_id)


async def test_a_key_ends_in_time(file: KeyFile) -> None:
    key, record = file.add("", READ, timedelta(days=1))
    now = datetime.now(UTC)
    ring = KeyRing(file, lambda: now)
    await ring.load()
    assert ring.identify(key)
    now += timedelta(days=2)
    with pytest.raises(CredentialError, match="expired on"):
        ring.identify(key)
    assert ring.valid == 0
    with pytest.raises(CredentialError, match="expired on"):
        ring.by_id(record.key_id)


async def test_keys_of_others_come_and_go_while_it_runs(ring: KeyRing, file: KeyFile) -> None:
    key, record = file.add("", READ, None)
    await until(lambda: let_in(ring, key))
    file.revoke(record.key_id)
    await until(lambda: not let_in(ring, key))
    with pytest.raises(CredentialError, match="revoked"):
        ring.identify(key)


async def test_a_removed_file_leaves_no_key(ring: KeyRing, file: KeyFile) -> None:
    key, _ = file.add("", READ, None)
    await until(lambda: let_in(ring, key))
    file.path.unlink()
    await until(lambda: not let_in(ring, key))


async def test_a_damaged_file_leaves_the_keys_and_says_so_once(
    ring: KeyRing, file: KeyFile, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    key, _ = file.add("", READ, None)
    await until(lambda: let_in(ring, key))
    sound = file.path.read_bytes()
    replace(file.path, b"{")
    await until(lambda: "the keys stay as they were" in caplog.text)
    assert let_in(ring, key)
    assert caplog.text.count("the keys stay as they were") == 1
    replace(file.path, sound.replace(b'"read"', b'"write"'))
    await until(lambda: ring.identify(key).scopes == (Scope.WRITE,))


async def test_a_damaged_file_fails_the_start(file: KeyFile) -> None:
    file.path.write_text("{")
    with pytest.raises(KeyFileError):
        await KeyRing(file).load()


async def test_the_key_of_this_machine_allows_everything_and_is_in_no_file(file: KeyFile) -> None:
    ring = KeyRing(file)
    await ring.load()
    first = ring.issue_local()
    assert (ring.identify(first).local, ring.identify(first).scopes) == (True, (Scope.ADMIN,))
    second = ring.issue_local()
    assert not let_in(ring, first)
    assert let_in(ring, second)
    assert not file.path.exists()
    assert ring.valid == 0, "it is no key that others could have"
