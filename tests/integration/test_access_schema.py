"""The OpenAPI document tells the truth about access: schemathesis asks with keys, without, and with wrong ones."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from monolith.access.rates import TokenBuckets
from monolith.access.scopes import Scope
from monolith.api.problems import MEDIA_TYPE
from tests.integration.test_access import guarded_api
from tests.unit.readmodels.story import whole_video

schemathesis.serializer.alias(["application/sdp", "application/trickle-ice-sdpfrag"], "text/plain")
EXAMPLES = 2
ENDLESS = "/analysis/{video_id}/events/stream"
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def exercise(schema: Any, headers: dict[str, str], checks: list[Any]) -> list[tuple[str, int]]:
    """Send what the document allows to every operation; `METHOD /path` and status of each answer."""
    answers: list[tuple[str, int]] = []
    for operation in schema.get_all_operations():
        found = operation.ok()
        if found.path == ENDLESS:
            continue

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=found.as_strategy(generation_mode=GenerationMode.POSITIVE))
        def send(case: Any) -> None:
            for name in ("Authorization", "X-API-Key"):
                (case.headers or {}).pop(name, None)
            case.cookies = {}
            answer = case.call_and_validate(checks=checks, headers=headers)
            answers.append((f"{case.method} {case.operation.path}", answer.status_code))
            if answer.status_code in (401, 403, 429):
                assert answer.headers["content-type"] == [MEDIA_TYPE]

        send()
    return answers


async def test_the_document_is_right_about_who_is_let_in(tmp_path: Path) -> None:
    async with guarded_api(tmp_path, failures=TokenBuckets(1e6, 1e6)) as guarded:  # it tries many wrong keys
        await guarded.api.happened(*whole_video())
        url = f"http://127.0.0.1:{guarded.api.server.port}/openapi.json"
        schema = await asyncio.to_thread(schemathesis.openapi.from_url, url)
        closed = {
            f"{method.upper()} {path}"
            for path, operations in schema.raw_schema["paths"].items()
            for method, operation in operations.items()
            if operation["security"] and path != ENDLESS
        }
        reading = {"X-API-Key": guarded.keys[Scope.READ]}
        everything = {"X-API-Key": guarded.keys[Scope.ADMIN]}
        without = await asyncio.to_thread(exercise, schema, {}, CHECKS)
        read = await asyncio.to_thread(exercise, schema, reading, CHECKS)
        all_of_it = await asyncio.to_thread(exercise, schema, everything, [*CHECKS, ignored_auth])
    assert {name for name, status in without if status == 401} == closed
    publishing = {name for name in closed if "/whip/" in name}  # by the endpoint's own token
    assert not any(status in (401, 429) for name, status in read if name not in publishing)
    assert {name for name, status in read if status == 403} == {
        name
        for name in closed
        if not (name.startswith("GET ") and " /webhooks" not in name)
        and name != "POST /session"
        and not re.search(r" /wh[ei]p/", name)
    }
    assert not any(status in (401, 403, 429) for name, status in all_of_it if name not in publishing)
