from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from monolith.webhooks.retries import RetryPolicy

POLICY = RetryPolicy(
    give_up_after=1000, replay_give_up_after=100, attempts=3, first_pause=2, longest_pause=300
)


@given(attempts=st.integers(1, 10_000), wanted=st.floats(0, 1e18))
def test_pauses_grow_to_a_bound_and_are_never_shorter_than_wished(attempts: int, wanted: float) -> None:
    backoff = min(300.0, 2.0**attempts) if attempts < 20 else 300.0
    pause = POLICY.pause(attempts, 0)
    assert backoff / 2 <= pause <= backoff
    assert min(wanted, 3600) <= POLICY.pause(attempts, wanted) <= 3600


def test_it_is_given_up_after_a_time_and_a_few_attempts() -> None:
    assert not POLICY.given_up(2, 1e9, replay=False)
    assert not POLICY.given_up(99, 999, replay=False)
    assert POLICY.given_up(3, 1000, replay=False)
    assert POLICY.given_up(3, 100, replay=True)
