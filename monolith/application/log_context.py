"""What the work at hand is about, for the log. It follows a task into the tasks and threads that it starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final, TypeAlias

from monolith.domain.jobs import FollowJob, Job, LookJob, ProbeJob, PurgeJob, PurgeSegmentsJob, SegmentJob

LogFields: TypeAlias = Mapping[str, str | int]
"""Name → value, such as `video_id`, `run_id`, `segment`, `job`, `request_id`."""

_NOTHING: Final[LogFields] = MappingProxyType({})
_fields: ContextVar[LogFields] = ContextVar("log_fields", default=_NOTHING)

_KINDS: Final[Mapping[type[Job], str]] = {
    LookJob: "look",
    ProbeJob: "probe",
    SegmentJob: "segment",
    FollowJob: "follow",
    PurgeSegmentsJob: "purge_segments",
    PurgeJob: "purge",
}


@contextmanager
def log_context(**fields: str | int | None) -> Iterator[None]:
    """Log lines from inside carry `fields` besides those from outside; None: not known."""
    known = {name: value for name, value in fields.items() if value is not None}
    token = _fields.set({**_fields.get(), **known})
    try:
        yield
    finally:
        _fields.reset(token)


def logged_fields() -> LogFields:
    """The fields of a line that is logged now."""
    return _fields.get()


def name_of(kind: type[Job]) -> str:
    """A short name of the kind of work: for log lines and metrics."""
    return _KINDS[kind]


def in_words(job: Job) -> str:
    """What a job does, for people who read the log."""
    match job:
        case LookJob():
            return f"asking how video {job.video_id} comes"
        case ProbeJob():
            return f"probing video {job.video_id}"
        case SegmentJob():
            return f"analysing segment {job.segment} of video {job.video_id} in run {job.run_id}"
        case FollowJob(finish=True):
            return f"ending the source of video {job.video_id}"
        case FollowJob():
            return f"following the source of video {job.video_id}"
        case PurgeSegmentsJob():
            return f"removing expired segments of video {job.video_id}"
        case PurgeJob():
            return f"removing video {job.video_id}"


def fields_of(job: Job) -> dict[str, str | int]:
    """What a job is about."""
    fields: dict[str, str | int] = {"job": name_of(type(job)), "video_id": job.video_id}
    if isinstance(job, SegmentJob):
        fields |= {"run_id": job.run_id, "segment": job.segment}
    return fields
