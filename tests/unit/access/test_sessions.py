from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monolith.access.keys import CredentialError
from monolith.access.sessions import Sessions

KEY_ID = "abcdefgh"


def refused(sessions: Sessions, cookie: str) -> str:
    with pytest.raises(CredentialError) as caught:
        sessions.key_id(cookie)
    return str(caught.value)


def test_a_session_stands_for_a_key_until_it_expires() -> None:
    now = 1000.0
    sessions = Sessions(60, lambda: now)
    cookie = sessions.begin(KEY_ID)
    assert sessions.key_id(cookie) == KEY_ID
    now += 60
    assert refused(sessions, cookie) == "the session has ended; sign in again"


def test_an_ended_session_lets_nobody_in_and_others_go_on() -> None:
    sessions = Sessions(60)
    ours, other = sessions.begin(KEY_ID), sessions.begin(KEY_ID)
    sessions.end(ours)
    assert refused(sessions, ours) == "the session has ended; sign in again"
    assert sessions.key_id(other) == KEY_ID


@given(position=st.integers(0, 200), letter=st.characters(codec="latin-1"))
def test_a_changed_cookie_is_none(position: int, letter: str) -> None:
    sessions = Sessions(60)
    cookie = sessions.begin(KEY_ID)
    at = position % len(cookie)
    changed = cookie[:at] + letter + cookie[at + 1 :]
    if changed != cookie:
        assert "sign in again" in refused(sessions, changed)


@pytest.mark.parametrize("cookie", ["", ".", "...", "a.b.c.d", "x" * 10_000, "ä.b.1.c"])
def test_what_is_no_cookie_of_ours_is_refused(cookie: str) -> None:
    assert "sign in again" in refused(Sessions(60), cookie)
    with pytest.raises(CredentialError):
        Sessions(60).end(cookie)


def test_the_cookie_of_another_start_is_none_of_ours() -> None:
    assert "not known here" in refused(Sessions(60), Sessions(60).begin(KEY_ID))


def test_the_memory_of_ended_sessions_is_bounded() -> None:
    """Beyond it everyone signs in again: nobody who signed out comes back."""
    sessions = Sessions(60, most_ended=2)
    kept, *ended = [sessions.begin(KEY_ID) for _ in range(4)]
    for cookie in ended:
        sessions.end(cookie)
    for cookie in (kept, *ended):
        refused(sessions, cookie)
    assert sessions.key_id(sessions.begin(KEY_ID)) == KEY_ID


def test_sessions_that_have_expired_need_no_memory() -> None:
    now = 1000.0
    sessions = Sessions(60, lambda: now, most_ended=2)
    for _ in range(10):
        sessions.end(sessions.begin(KEY_ID))
        now += 61
    kept = sessions.begin(KEY_ID)
    sessions.end(sessions.begin(KEY_ID))
    assert sessions.key_id(kept) == KEY_ID
