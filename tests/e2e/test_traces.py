"""Traces of the real program, as a collector gets them over HTTP."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.media import sample_clip
from tests.peers.otlp import Collector, collector
from tests.peers.rabbitmq import RabbitMq, rabbitmq
from tests.program import Server, free_port, until_ended, upload

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
STEPS = {
    "POST /analysis/upload",
    "append",
    "probe",
    "probe and scan",
    "segment",
    "decode",
    "infer",
    "project",
}


async def submit(client: httpx.AsyncClient, clip: Path) -> str:
    """By a caller who is in a trace."""
    client.headers["traceparent"] = f"00-{TRACE}-{CALLER}-01"
    return await upload(client, clip, frame_step=25)


async def analyse(folder: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str, **settings: str) -> str:
    """One video, from the start of the program to its end; the log."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    async with Server(folder, WORKERS="1", **settings) as server, server.client() as client:
        video_id = await submit(client, sample_clip("bikes.mp4"))
        assert (await until_ended(client, video_id))["status"] == "Completed"
        events = (await client.get(f"/analysis/{video_id}/events")).raise_for_status().json()
        assert len(events["events"] if isinstance(events, dict) else events) > 5
    return server.output


def steps_up(told: Collector, name: str) -> list[str]:
    """The names of a span of that name and of those that it is a step of, up to the caller's."""
    by_id = {span.span_id: span for span in told.spans}
    span = told.named(name)[0]
    names = [span.name]
    while span.parent_id in by_id:
        span = by_id[span.parent_id]
        names.append(span.name)
    assert span.parent_id == CALLER
    return names


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    with rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as broker:
        yield broker


async def test_one_trace_from_the_request_to_what_is_shown_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broker: RabbitMq
) -> None:
    with collector() as told:
        output = await analyse(tmp_path, monkeypatch, told.endpoint, TRACES="otlp", RABBITMQ_URL=broker.url)
        submitted = [span for span in told.spans if span.trace_id == TRACE]
        assert {span.name for span in submitted} >= STEPS
        assert steps_up(told, "project") == ["project", "append", "POST /analysis/upload"]
        assert steps_up(told, "publish") == ["publish", "append", "POST /analysis/upload"]
        assert steps_up(told, "infer") == ["infer", "decode", "segment", "append", "POST /analysis/upload"]
        assert steps_up(told, "probe and scan") == [
            "probe and scan", "probe", "append", "POST /analysis/upload"
        ]  # fmt: skip
        request = told.named("POST /analysis/upload")[0]
        assert request.attributes["http.response.status_code"] == 201
        assert request.resource["service.name"] == "video-analysis"
        assert {span.resource["process.pid"] for span in told.named("infer")}.isdisjoint(
            {request.resource["process.pid"]}
        )
        assert all(span.trace_id == TRACE for span in told.named("infer"))
        assert not any(span.failed for span in told.spans)
        assert not any(span.name.startswith("GET /health") for span in told.spans)
    assert "Traceback" not in output


async def test_spans_are_lines_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = await analyse(tmp_path, monkeypatch, "", TRACES="console")
    lines = [line for line in output.splitlines() if "monolith.telemetry: " in line]
    for step in STEPS:
        assert any(f"monolith.telemetry: {step}: " in line and TRACE in line for line in lines), step


async def test_a_collector_that_is_away_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    output = await analyse(tmp_path, monkeypatch, endpoint, TRACES="otlp")
    assert "Traceback" not in output


def test_without_traces_nothing_of_them_is_loaded() -> None:
    """Of what costs: the SDK and its exporters."""
    script = (
        "import sys, monolith.__main__, monolith.bootstrap.program, monolith.inference.worker\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
