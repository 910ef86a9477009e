"""No event is sent to where none may go: a test for each way around it, with real DNS and servers."""

from __future__ import annotations

import pytest

from tests.security.network import (
    LOOPBACK,
    METADATA,
    PRIVATE,
    PUBLIC,
    Outcome,
    Scenario,
    available,
    fetch_all,
)
from tests.security.test_fetch_addresses import NAMES, TO_PRIVATE

pytestmark = pytest.mark.skipif(not available(), reason="this machine gives users no network namespaces")

SCENARIOS = {
    "public": Scenario(url=f"http://{PUBLIC}/x", sends=1),
    "redirect": Scenario(url=f"http://{PUBLIC}/r", redirect=f"http://{PRIVATE}/x", sends=1),
    "rebinding": Scenario(url="http://hook.test/x", names={"hook.test": [[PUBLIC], [PRIVATE]]}, sends=2),
    "named network": Scenario(url=f"http://{PRIVATE}/x", networks=["10.0.0.0/24"], sends=1),
    "own": Scenario(url=f"http://{LOOPBACK}/x", private=True, sends=1),
    "metadata of one's own": Scenario(url=f"http://{METADATA}/x", private=True, sends=1),
    **{f"url {name}": Scenario(url=url, sends=1) for name, url in TO_PRIVATE.items()},
    **{
        f"name {name}": Scenario(
            url="http://hook.test/x", names={"hook.test": steps, "inner.test": [[PRIVATE]]}, sends=1
        )
        for name, steps in NAMES.items()
    },
}


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    """All deliveries, made in one network."""
    return dict(zip(SCENARIOS, fetch_all(list(SCENARIOS.values())), strict=True))


@pytest.mark.parametrize(
    ("scenario", "served"), [("public", PUBLIC), ("named network", PRIVATE), ("own", LOOPBACK)]
)
def test_what_is_allowed_is_sent_to_without_a_proxy(
    outcomes: dict[str, Outcome], scenario: str, served: str
) -> None:
    assert (outcomes[scenario].body, outcomes[scenario].hits) == ("delivered", {served: 1})


@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name.startswith(("url ", "name "))])
def test_nothing_else_is_sent_to(outcomes: dict[str, Outcome], scenario: str) -> None:
    assert outcomes[scenario].body is None
    assert outcomes[scenario].error
    assert outcomes[scenario].hits == {}


def test_metadata_services_are_never_sent_to(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["metadata of one's own"].hits == {}


def test_redirects_are_not_followed(outcomes: dict[str, Outcome]) -> None:
    assert "redirects are not followed" in str(outcomes["redirect"].error)
    assert outcomes["redirect"].hits == {PUBLIC: 1}


def test_a_dns_answer_that_changes_is_checked_again(outcomes: dict[str, Outcome]) -> None:
    assert f"hook.test is at {PRIVATE}" in str(outcomes["rebinding"].error)
    assert outcomes["rebinding"].hits == {PUBLIC: 1}
