"""Pages made from the program: what a page names is what the program has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from monolith.access.scopes import Scope
from monolith.domain.events import DOMAIN_EVENTS
from monolith.domain.webhook_events import WEBHOOK_EVENTS
from tools.docs.__main__ import BEGIN, END, with_part
from tools.docs.api import api_page, openapi, unused_app
from tools.docs.cli import _kind, cli_page
from tools.docs.events import events_page
from tools.docs.metrics import metrics_page


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        (float, "number"),
        (Path, "path"),
        (list[str], "text, repeatable"),
        (list[Scope], "one of read, write, admin, repeatable"),
    ],
)
def test_what_an_option_takes_is_said_in_words(annotation: object, said: str) -> None:
    assert _kind(annotation) == said


def test_every_command_has_a_section() -> None:
    sections = re.findall(r"^## video-analysis (.+)$", cli_page(), re.MULTILINE)
    assert {"serve", "export", "retention", "rebuild", "keys create", "doctor"} <= set(sections)


def test_every_call_has_a_section() -> None:
    paths = openapi()["paths"]
    calls = {f"## `{method.upper()} {path}`" for path, methods in paths.items() for method in methods}
    assert len(calls) > 20
    assert calls <= set(api_page().splitlines())


def test_every_event_and_every_part_of_one_has_a_section() -> None:
    sections = set(re.findall(r"^### (\w+)$", events_page(), re.MULTILINE))
    assert {kind.__name__ for kind in DOMAIN_EVENTS} <= sections
    assert {kind.__name__ for kind in WEBHOOK_EVENTS} <= sections
    assert {"ExpiredSegment", "ExpiredRun", "ExpiredModel"} <= sections


def test_metrics_of_the_api_are_listed_by_the_names_that_prometheus_sees() -> None:
    registry = CollectorRegistry()
    unused_app(registry)
    seen = set(re.findall(r"^# TYPE (\S+)", generate_latest(registry).decode(), re.MULTILINE))
    listed = set(re.findall(r"^\| `(\w+)`", metrics_page(), re.MULTILINE))
    counted = {name for name in seen if not name.endswith("_created")}
    assert len(counted) > 4
    assert counted <= listed


def test_a_part_is_put_between_its_marks() -> None:
    assert (
        with_part(f"before\n{BEGIN}\nold\n{END}\nafter", "new") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter"
    )
    with pytest.raises(ValueError, match="no marks"):
        with_part("no marks here", "new")
