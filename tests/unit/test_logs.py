"""The log: one line is one record, with what it is about, without secrets, and a stalled reader holds nobody up."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monolith.application.log_context import fields_of, log_context
from monolith.domain.jobs import FollowJob, ProbeJob, SegmentJob
from monolith.logs import JsonFormatter, TextFormatter, ThreadedHandler, without_secrets

SECRET_URLS = (
    "rtsp://admin:hunter2@10.0.0.7/live",
    "https://example.org/a.mp4?token=hunter2&x=1",
    "http://hunter2@example.org/",
    "x" * 100_000 + "1http://hunter2@example.org/",
)


def record(message: str, *arguments: object, **more: Any) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": "monolith.x", "levelno": logging.WARNING, "levelname": "WARNING", "msg": message,
         "args": arguments, "created": 1_700_000_000.1234, **more}
    )  # fmt: skip


def test_a_json_line_has_everything_that_is_known() -> None:
    job = SegmentJob("v1", "r1", 3)
    with log_context(request_id="q"), log_context(**fields_of(job)):
        line = JsonFormatter().format(record("%s waits", "it", fields={"process": "decoder 2"}))
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.123Z", "level": "warning", "logger": "monolith.x", "message": "it waits",
        "process": "decoder 2", "request_id": "q", "job": "segment", "video_id": "v1", "run_id": "r1", "segment": 3,
    }  # fmt: skip


def test_a_text_line_ends_with_what_it_is_about() -> None:
    with log_context(**fields_of(ProbeJob("v1"))):
        line = TextFormatter().format(record("slow"))
    assert line == "2023-11-14T22:13:20.123Z warning monolith.x: slow [job=probe video_id=v1]"


def test_an_exception_is_one_field() -> None:
    try:
        raise ValueError(SECRET_URLS[0])
    except ValueError:
        failed = record("failed", exc_info=sys.exc_info())
    said = json.loads(JsonFormatter().format(failed))
    assert said["exception"].startswith("Traceback") and "hunter2" not in said["exception"]
    assert "rtsp://***@10.0.0.7/live" in said["exception"]


@pytest.mark.parametrize("url", SECRET_URLS)
def test_no_line_shows_a_secret(url: str) -> None:
    for formatter in (JsonFormatter(), TextFormatter()):
        assert "hunter2" not in formatter.format(record("cannot fetch %r (%s), really", url, url))
    assert without_secrets(f"key va_{'a' * 40} of it") == "key va_*** of it"


@given(st.text())
def test_one_record_is_one_line_whatever_is_in_it(text: str) -> None:
    line = JsonFormatter().format(record("%s", text, fields={"name": text}))
    assert len(line.splitlines()) == 1 or "\n" not in line
    assert json.loads(line)["level"] == "warning"
    shown = TextFormatter().format(record("%s", text))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", shown)
    assert all(line.startswith("    ") for line in shown.split("\n")[1:])


def test_a_lone_surrogate_of_a_file_name_is_shown() -> None:
    name = os.fsdecode(b"\xff.mp4")
    assert json.loads(JsonFormatter().format(record("%s", name)))["message"] == "\\udcff.mp4"


async def test_the_context_follows_into_tasks_and_threads_and_ends() -> None:
    def line() -> str:
        return TextFormatter(bare=True).format(record("x"))

    async def in_a_task() -> str:
        return await asyncio.to_thread(line)

    with log_context(**fields_of(FollowJob("v"))):
        task = asyncio.create_task(in_a_task())
    assert line() == "x"
    assert await task == "x [job=follow video_id=v]"


class Pipe:
    """A pipe whose reader may stall."""

    def __init__(self) -> None:
        self.reading, writing = os.pipe()
        self.stream = os.fdopen(writing, "w")

    def read_all(self) -> list[str]:
        self.stream.close()
        with os.fdopen(self.reading) as reader:
            return reader.read().splitlines()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.stream.close()


def test_lines_come_out_in_order(pipe: Pipe) -> None:
    handler = ThreadedHandler(pipe.stream)
    handler.setFormatter(TextFormatter(bare=True))
    for number in range(500):
        handler.handle(record(str(number)))
    handler.close()
    assert pipe.read_all() == [str(number) for number in range(500)]


def test_a_reader_that_stalls_holds_nobody_up_and_what_is_lost_is_told(pipe: Pipe) -> None:
    handler = ThreadedHandler(pipe.stream, queued_lines=10)
    handler.setFormatter(TextFormatter(bare=True))
    for _ in range(100):
        handler.handle(
            record("x" * 10_000)
        )  # the pipe holds 64 KiB: beyond it only the writer's thread waits
    lines: list[str] = []
    with os.fdopen(os.dup(pipe.reading)) as reader:
        while not lines or "were lost" not in lines[-1]:
            lines.append(reader.readline())
    handler.close()
    whole = sum(line == "x" * 10_000 + "\n" for line in lines)
    (told,) = re.findall(r"^(\d+) log lines were lost", lines[-1])
    assert whole >= 10 and whole + int(told) == 100


def test_a_reader_that_is_gone_is_no_error(pipe: Pipe) -> None:
    handler = ThreadedHandler(pipe.stream)
    handler.setFormatter(TextFormatter())
    os.close(pipe.reading)
    handler.handle(record("to nobody"))
    handler.close()
    with pytest.raises(BrokenPipeError):
        pipe.stream.close()
