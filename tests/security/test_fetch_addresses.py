"""No video is fetched from where it may not come from: a test for each way around it, with real DNS and servers."""

from __future__ import annotations

import pytest

from tests.security.network import (
    LOOPBACK,
    METADATA,
    OTHER_PUBLIC,
    PRIVATE,
    PRIVATE_6,
    PUBLIC,
    PUBLIC_6,
    Outcome,
    Scenario,
    available,
    fetch_all,
)

pytestmark = pytest.mark.skipif(not available(), reason="this machine gives users no network namespaces")

TO_PRIVATE = {
    "decimal": "http://167772165/x",
    "hexadecimal": "http://0xa000005/x",
    "octal": "http://012.0.0.5/x",
    "short": "http://10.5/x",
    "full-width digits": "http://\uff11\uff10.\uff10.\uff10.\uff15/x",
    "IPv4-mapped": "http://[::ffff:10.0.0.5]/x",
    "IPv4-mapped in hexadecimal": "http://[::ffff:a00:5]/x",
    "NAT64": "http://[64:ff9b::10.0.0.5]/x",
    "6to4": "http://[2002:a00:5::1]/x",
    "unique local": f"http://[{PRIVATE_6}]/x",
    "user information": f"http://{PUBLIC}@{PRIVATE}/x",
    "user information with a password": f"http://{PUBLIC}:80@{PRIVATE}:80/x",
    "backslash": f"http://{PUBLIC}\\@{PRIVATE}/x",
    "plain": f"http://{PRIVATE}/x",
    "loopback": f"http://{LOOPBACK}/x",
    "loopback name": "http://localhost/x",
    "loopback name in capitals, with a dot": "http://LOCALHOST./x",
    "IPv6 loopback": "http://[::1]/x",
    "unspecified": "http://0.0.0.0/x",
    "unspecified IPv6": "http://[::]/x",
    "zero": "http://0/x",
    "metadata": f"http://{METADATA}/latest/meta-data/",
    "metadata in decimal": "http://2852039166/latest/meta-data/",
    "link-local with a zone": "http://[fe80::1%25lo]/x",
}
NAMES = {
    "a private address": [[PRIVATE]],
    "a loopback address": [[LOOPBACK]],
    "the metadata service": [[METADATA]],
    "a public and a private address": [[PUBLIC, PRIVATE]],
    "a private and a public address": [[PRIVATE, PUBLIC]],
    "a public address and a private IPv6 address": [[PUBLIC, PRIVATE_6]],
    "an IPv4-mapped address": [["::ffff:10.0.0.5"]],
    "a NAT64 address": [["64:ff9b::a00:5"]],
    "a 6to4 address": [["2002:a00:5::1"]],
    "a link-local address": [["fe80::1"]],
    "another name that is private": [["=inner.test"]],
}
SCENARIOS = {
    "public": Scenario(url=f"http://{PUBLIC}/x"),
    "public IPv6": Scenario(url=f"http://[{PUBLIC_6}]/x"),
    "public name": Scenario(url="http://video.test/x", names={"video.test": [[PUBLIC, OTHER_PUBLIC]]}),
    "redirect to public": Scenario(url=f"http://{PUBLIC}/r", redirect=f"http://{OTHER_PUBLIC}/x"),
    "private user information": Scenario(url=f"http://{PRIVATE}\\@{PUBLIC}/x"),
    "rebinding": Scenario(url="http://video.test/x", names={"video.test": [[PUBLIC], [PRIVATE]]}),
    "rebinding by redirect": Scenario(
        url="http://video.test/r",
        redirect="http://video.test/x",
        names={"video.test": [[PUBLIC], [PRIVATE]]},
    ),
    "scheme": Scenario(url=f"http://{PUBLIC}/r", redirect="file:///etc/hosts"),
    "gopher": Scenario(url=f"http://{PUBLIC}/r", redirect=f"gopher://{PRIVATE}/x"),
    "endless": Scenario(url=f"http://{PUBLIC}/r", redirect="/r"),
    "named network": Scenario(url=f"http://{PRIVATE}/x", networks=["10.0.0.0/24"]),
    "beside a named network": Scenario(url="http://10.0.1.5/x", networks=["10.0.0.0/24"]),
    "loopback beside a named network": Scenario(url=f"http://{LOOPBACK}/x", networks=["10.0.0.0/8"]),
    "private while serving this machine": Scenario(url=f"http://{PRIVATE}/x", private=True),
    "metadata while serving this machine": Scenario(url=f"http://{METADATA}/x", private=True),
    "redirect to metadata while serving this machine": Scenario(
        url=f"http://{PUBLIC}/r", redirect=f"http://{METADATA}/x", private=True
    ),
    **{f"url {name}": Scenario(url=url) for name, url in TO_PRIVATE.items()},
    **{
        f"redirect {name}": Scenario(url=f"http://{PUBLIC}/r", redirect=url)
        for name, url in TO_PRIVATE.items()
    },
    **{
        f"name {name}": Scenario(
            url="http://video.test/x", names={"video.test": steps, "inner.test": [[PRIVATE]]}
        )
        for name, steps in NAMES.items()
    },
}


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    """All fetches, made in one network."""
    return dict(zip(SCENARIOS, fetch_all(list(SCENARIOS.values())), strict=True))


@pytest.mark.parametrize(
    ("scenario", "served"),
    [("public", PUBLIC), ("public IPv6", PUBLIC_6), ("redirect to public", OTHER_PUBLIC)],
)
def test_public_addresses_are_fetched_from(outcomes: dict[str, Outcome], scenario: str, served: str) -> None:
    assert outcomes[scenario].body == f"from {served}"


def test_names_of_public_addresses_are_fetched_from(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["public name"].body in (f"from {PUBLIC}", f"from {OTHER_PUBLIC}")


@pytest.mark.parametrize("form", TO_PRIVATE)
def test_no_spelling_of_an_address_leads_inside(outcomes: dict[str, Outcome], form: str) -> None:
    outcome = outcomes[f"url {form}"]
    assert outcome.body is None
    assert outcome.error
    assert outcome.hits == {}


def test_what_is_checked_is_what_is_connected_to_also_in_odd_urls(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["private user information"]
    assert (outcome.body, outcome.hits) == (f"from {PUBLIC}", {PUBLIC: 1})


@pytest.mark.parametrize("form", TO_PRIVATE)
def test_no_redirect_leads_inside(outcomes: dict[str, Outcome], form: str) -> None:
    outcome = outcomes[f"redirect {form}"]
    assert outcome.body is None
    assert outcome.error
    assert outcome.hits.keys() == {PUBLIC}


@pytest.mark.parametrize("what", NAMES)
def test_a_name_with_one_forbidden_address_is_not_connected_to(
    outcomes: dict[str, Outcome], what: str
) -> None:
    outcome = outcomes[f"name {what}"]
    assert outcome.error is not None
    assert "VIDEO_ANALYSIS_ALLOWED_NETWORKS" in outcome.error
    assert outcome.hits == {}


def test_a_dns_answer_that_changes_gains_nothing(outcomes: dict[str, Outcome]) -> None:
    """The address that was checked is the one that is connected to: the name is asked for once."""
    outcome = outcomes["rebinding"]
    assert (outcome.body, outcome.queries) == (f"from {PUBLIC}", 1)


def test_a_dns_answer_that_changes_before_a_redirect_is_checked_again(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["rebinding by redirect"]
    assert outcome.error is not None
    assert f"video.test is at {PRIVATE}" in outcome.error
    assert outcome.hits == {PUBLIC: 1}


@pytest.mark.parametrize("scenario", ["scheme", "gopher"])
def test_redirects_lead_to_http_only(outcomes: dict[str, Outcome], scenario: str) -> None:
    outcome = outcomes[scenario]
    assert outcome.error is not None
    assert "is not allowed; videos are fetched by http or https" in outcome.error
    assert outcome.hits == {PUBLIC: 1}


def test_redirects_end(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["endless"].error == "more than 5 redirects"
    assert outcomes["endless"].hits == {PUBLIC: 6}


def test_named_networks_are_allowed_and_nothing_beside_them(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["named network"].body == f"from {PRIVATE}"
    for scenario in ("beside a named network", "loopback beside a named network"):
        assert outcomes[scenario].error
        assert outcomes[scenario].hits == {}


def test_metadata_services_are_never_fetched_from(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["private while serving this machine"].body == f"from {PRIVATE}"
    assert outcomes["metadata while serving this machine"].hits == {}
    assert outcomes["redirect to metadata while serving this machine"].hits == {PUBLIC: 1}


def test_proxies_of_the_environment_are_not_used(outcomes: dict[str, Outcome]) -> None:
    """`http_proxy` names the private server in this network."""
    assert outcomes["public"].hits == {PUBLIC: 1}
