from __future__ import annotations

import string
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monolith.access.keys import CredentialError, KeyRecord, digest_of, new_key, parse_key
from monolith.access.scopes import Scope

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def record(**changes: datetime) -> KeyRecord:
    return KeyRecord(
        key_id="abcdefgh", name="x", scopes=(Scope.READ,), digest="0" * 64, created=NOW, **changes
    )


def test_a_key_names_itself_and_is_different_each_time() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    for key in keys:
        presented = parse_key(key)
        assert key.startswith(f"va_{presented.key_id}_")
        assert len(key) == 51
        assert presented.digest == digest_of(key)


def test_keys_may_be_written_in_capitals_and_with_spaces_around() -> None:
    key = new_key()
    assert parse_key(f"  {key.upper()}\n") == parse_key(key)


@given(position=st.integers(3, 50), letter=st.sampled_from(string.ascii_lowercase + "234567"))
def test_one_wrong_character_is_told_apart_from_an_unknown_key(position: int, letter: str) -> None:
    key = new_key()
    wrong = key[:position] + letter + key[position + 1 :]
    if wrong == key or position == key.index("_", 3):
        return
    with pytest.raises(CredentialError, match=r"mistyped or cut: its last characters"):
        parse_key(wrong)


@given(text=st.text(max_size=80))
def test_what_is_no_key_is_refused_in_words_that_do_not_repeat_it(text: str) -> None:
    with pytest.raises(CredentialError) as caught:
        parse_key(f"?{text}")
    assert str(caught.value) == "this is not an API key of this program: those are va_ and 48 more characters"


def test_only_the_whole_key_matches() -> None:
    key, other = new_key(), new_key()
    kept = KeyRecord(key_id="x", name="", scopes=(), digest=digest_of(key), created=NOW)
    assert kept.matches(parse_key(key))
    assert not kept.matches(parse_key(other))


def test_a_key_ends_when_it_expires_or_is_revoked() -> None:
    assert record().trouble(NOW) is None
    expiring = record(expires=NOW + timedelta(days=1))
    assert expiring.trouble(NOW) is None
    assert expiring.trouble(NOW + timedelta(days=1)) == "this API key expired on 2026-01-02 00:00 UTC"
    assert record(revoked=NOW).trouble(NOW) == "this API key was revoked"
