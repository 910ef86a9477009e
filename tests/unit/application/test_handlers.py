"""Submissions: what is kept, what is told, and what happens when something fails around them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.errors import ProjectionStoppedError, StoreUnavailableError
from eventsourcing.events import AppendResult, NewEvent, RecordedEvent
from eventsourcing.versions import ExpectedVersion
from monolith.application.handlers import (
    FrameOptions,
    SubmissionUnknownError,
    Submitted,
    VideoHandlers,
)
from monolith.application.video_stream import VideoStreams
from monolith.domain.errors import NotPossibleError
from monolith.domain.events import DOMAIN_EVENTS
from monolith.secret_urls import SecretUrls

MODELS = ["objects_detection"]
URL = "http://h/a.mp4?token=x1"


class Gate:
    error: Exception | None = None

    async def wait_for(self, commit_position: int, timeout: float) -> None:
        if self.error is not None:
            raise self.error


class FailingStore(MemoryEventStore):
    """Fails after or before it has stored, and when read, as it is told."""

    fail_after = fail_before = fail_reads = False

    async def append(
        self, stream_name: str, events: Sequence[NewEvent], *, expected_version: ExpectedVersion
    ) -> AppendResult:
        if self.fail_before:
            self._fail()
        result = await super().append(stream_name, events, expected_version=expected_version)
        if self.fail_after:
            self._fail()
        return result

    def _fail(self) -> None:
        self.unreadable = self.fail_reads
        raise StoreUnavailableError("the disk is gone")

    unreadable = False

    async def read_stream(
        self,
        stream_name: str,
        *,
        from_position: int | None = None,
        backwards: bool = False,
        limit: int = 1000,
    ) -> list[RecordedEvent]:
        if self.unreadable:
            raise StoreUnavailableError("the disk is gone")
        return await super().read_stream(
            stream_name, from_position=from_position, backwards=backwards, limit=limit
        )


class World:
    def __init__(self, folder: Path) -> None:
        self.store = FailingStore()
        self.gate = Gate()
        self.secrets = SecretUrls(folder)
        self.streams = VideoStreams(self.store, EventCodec(DOMAIN_EVENTS))
        options = FrameOptions(max_height=720, jpeg_quality=90, infer_from="stored")
        self.handlers = VideoHandlers(self.streams, self.store, self.gate, self.secrets, options, time.time)

    async def url(self, url: str = URL, key: str | None = None) -> Submitted:
        return await self.handlers.submit_url(url=url, models=MODELS, idempotency_key=key)

    async def upload(self, digest: str, key: str | None = None) -> Submitted:
        return await self.handlers.submit_upload(
            path=Path("/uploads/x"), file_name="a.mp4", models=MODELS, idempotency_key=key, digest=digest
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_secret_of_the_url_is_kept_but_in_no_event(world: World) -> None:
    submitted = await world.url(key="k")
    assert submitted.video_url == "http://h/a.mp4?token=***"
    assert await world.secrets.url_of(submitted.video_id) == URL
    assert all(b"x1" not in event.data for event in await world.store.read_all())


async def test_a_repeat_is_told_from_another_secret(world: World) -> None:
    first = await world.url(key="k")
    assert (await world.url(key="k")).video_id == first.video_id
    with pytest.raises(NotPossibleError, match="not shown"):
        await world.url("http://h/a.mp4?token=other", key="k")
    assert await world.secrets.url_of(first.video_id) == URL


async def test_a_repeat_does_not_bring_a_forgotten_secret_back(world: World) -> None:
    first = await world.url(key="k")
    await world.secrets.forget(first.video_id)
    assert (await world.url(key="k")).repeated
    assert await world.secrets.url_of(first.video_id) is None


async def test_of_two_at_once_the_first_keeps_its_url(world: World) -> None:
    other = "http://h/a.mp4?token=other"
    answers = await asyncio.gather(world.url(key="k"), world.url(other, key="k"), return_exceptions=True)
    (stored,) = [answer for answer in answers if isinstance(answer, Submitted)]
    assert [type(answer) for answer in answers].count(NotPossibleError) == 1
    kept = await world.secrets.url_of(stored.video_id)
    assert kept == (URL if isinstance(answers[0], Submitted) else other)


async def test_a_repeated_upload_must_be_the_same_file(world: World) -> None:
    first = await world.upload("sha256:aa", "k")
    again = await world.upload("sha256:aa", "k")
    assert (again.video_id, again.repeated) == (first.video_id, True)
    with pytest.raises(NotPossibleError, match="another file"):
        await world.upload("sha256:bb", "k")


@pytest.mark.parametrize("error", [TimeoutError(), ProjectionStoppedError("stopped")])
async def test_what_is_stored_is_answered_with_yes(
    world: World, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    world.gate.error = error
    submitted = await world.url()
    assert (await world.streams.load(submitted.video_id)).exists
    assert submitted.video_id in caplog.text


async def test_an_append_that_failed_after_storing_is_found(world: World) -> None:
    world.store.fail_after = True
    submitted = await world.upload("sha256:aa")
    assert not submitted.repeated
    assert (await world.streams.load(submitted.video_id)).exists


async def test_what_was_not_stored_leaves_no_secret(world: World, tmp_path: Path) -> None:
    world.store.fail_before = True
    with pytest.raises(StoreUnavailableError, match="disk is gone") as caught:
        await world.url()
    assert not isinstance(caught.value, SubmissionUnknownError)
    assert list((tmp_path / "secrets").iterdir()) == []


async def test_where_nobody_knows_everything_stays(world: World, tmp_path: Path) -> None:
    world.store.fail_after = world.store.fail_reads = True
    with pytest.raises(SubmissionUnknownError, match="may have been taken in"):
        await world.url()
    assert len(list((tmp_path / "secrets").iterdir())) == 1
