"""The OpenAPI document tells the truth: schemathesis sends what it allows, and what it does not, to a running API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from monolith.readmodels.table_export import EXPORT_FORMATS
from tests.unit.api.harness import Api, running_api
from tests.unit.readmodels.story import COLORS, FACES, OBJECTS, VIDEO, whole_video

schemathesis.serializer.alias(["application/sdp", "application/trickle-ice-sdpfrag"], "text/plain")
EXAMPLES = 15
ENDLESS = "/analysis/{video_id}/events/stream"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path) as running:
        await running.happened(*whole_video((COLORS, FACES, OBJECTS), frames=3))
        running.pictures["000000-1.mjpeg"] = bytes(100)
        yield running


def exercise(schema: Any, mode: GenerationMode) -> int:
    """Send generated requests for every operation; how many."""
    sent = 0
    more = positive_data_acceptance if mode is GenerationMode.POSITIVE else negative_data_rejection
    for operation in schema.get_all_operations():
        found = operation.ok()
        takes_nothing = not (found.body or found.path_parameters or found.query or found.headers)
        if found.path == ENDLESS or (takes_nothing and mode is GenerationMode.NEGATIVE):
            continue

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=found.as_strategy(generation_mode=mode))
        def send(case: Any) -> None:
            nonlocal sent
            sent += 1
            if "video_id" in case.path_parameters and sent % 2:
                case.path_parameters["video_id"] = VIDEO
            if case.query.get("format") in EXPORT_FORMATS:
                for name in ("limit", "cursor"):  # said in words: files have no pages
                    case.query.pop(name, None)
            # That a name must be printable is said in words: its pattern would be longer than this test.
            named = mode is GenerationMode.POSITIVE and case.method == "POST"
            case.call_and_validate(checks=CHECKS if named else [*CHECKS, more])

        send()
    return sent


@pytest.mark.parametrize(
    "mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "forbidden"]
)
async def test_every_answer_is_documented(api: Api, mode: GenerationMode) -> None:
    url = f"http://127.0.0.1:{api.server.port}/openapi.json"
    schema = await asyncio.to_thread(schemathesis.openapi.from_url, url)
    assert await asyncio.to_thread(exercise, schema, mode) > 100
