from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monolith.access.rates import TokenBuckets, client_of


def test_a_burst_then_the_rate() -> None:
    now = 0.0
    buckets = TokenBuckets(2.0, 3, lambda: now)
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a") == 0.5
    assert buckets.take("b") == 0, "others have a bucket of their own"
    now = 0.25
    assert buckets.take("a") == 0.25
    now = 0.5
    assert buckets.take("a") == 0
    now = 100.0
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5], "no more than a burst is saved up"


@given(steps=st.lists(st.floats(0, 2), max_size=200))
def test_never_more_than_burst_and_rate_allow(steps: list[float]) -> None:
    now, allowed = 0.0, 0
    buckets = TokenBuckets(2.0, 3, lambda: now)
    for step in steps:
        now += step
        allowed += buckets.take("a") == 0
    assert allowed <= 3 + 2.0 * now + 1e-6


def test_the_table_is_bounded() -> None:
    buckets = TokenBuckets(0.001, 1, most=10)
    for number in range(1000):
        buckets.take(str(number))
    assert len(buckets) == 10
    assert buckets.take("999") > 0
    assert buckets.take("0") == 0, "who was forgotten begins anew"


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("unknown", "unknown"),
    ],
)
def test_one_client_is_an_ipv4_address_or_an_ipv6_network(address: str, client: str) -> None:
    assert client_of(address) == client
