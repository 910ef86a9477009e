"""Reading requests by hand where users' scripts rely on the exact answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from fastapi import Depends, Header, Path, Query, Request
from starlette.requests import ClientDisconnect

from monolith.api.problems import ApiError
from monolith.api.services import ApiServices
from monolith.domain.errors import InvalidRequestError
from monolith.domain.models import INFERENCE_MODEL_NAMES
from monolith.readmodels.schema import MAX_FRAME_NUMBER

_CLIENT_CLOSED: Final = 400
_DRAIN_SECONDS: Final = 5.0
_DRAIN_BYTES: Final = 64 << 20
_MAX_POSITION: Final = 2**63 - 1


def _services(request: Request) -> ApiServices:
    services: ApiServices = request.app.state.services
    return services


def _base_url(request: Request) -> str:
    public_url = _services(request).public_url
    return (public_url or str(request.base_url)).rstrip("/")


def _video_id(
    video_id: Annotated[
        str,
        Path(
            description="UUID of the video",
            json_schema_extra={"format": "uuid"},
            examples=["0197c0de-0000-7000-8000-000000000001"],
        ),
    ],
) -> str:
    try:
        return str(UUID(video_id))
    except ValueError as error:
        raise InvalidRequestError(f"{video_id[:100]!r} is not a UUID", field="video_id") from error


Services = Annotated[ApiServices, Depends(_services)]
BaseUrl = Annotated[str, Depends(_base_url)]
"""The server's address for links, without a slash at its end."""

VideoId = Annotated[str, Depends(_video_id)]
FrameNumber = Annotated[
    int, Path(ge=1, le=MAX_FRAME_NUMBER, description="Frames count from 1", examples=[10])
]
Position = Annotated[int | None, Query(ge=0, le=_MAX_POSITION, description="Commit position to go on after")]
RunId = Annotated[
    str | None,
    Query(
        description="UUID of one run; otherwise the newest completed of each model",
        json_schema_extra={"format": "uuid"},
    ),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="A repeat with the same key returns the first answer and starts nothing",
    ),
]


def check_run_id(run_id: str | None) -> str | None:
    if run_id is None:
        return None
    try:
        return str(UUID(run_id))
    except ValueError as error:
        raise InvalidRequestError(f"{run_id[:100]!r} is not a UUID", field="run") from error


def check_model_names(names: list[str]) -> list[str]:
    """Model keys of `names`, each a `modelsToRun` name or an `inference_model` name."""
    keys = {name: key for key, name in INFERENCE_MODEL_NAMES.items()}
    for name in names:
        if name not in keys and name not in INFERENCE_MODEL_NAMES:
            known = ", ".join(INFERENCE_MODEL_NAMES)
            raise InvalidRequestError(f"unknown model {name[:100]!r}; model takes: {known}", field="model")
    return [keys.get(name, name) for name in names]


async def body_chunks(request: Request, limit: int, stall_seconds: float) -> AsyncIterator[bytes]:
    """The body as it comes. Raises ApiError: 413 beyond `limit` bytes, 400 when the client stops sending."""
    stream = request.stream()
    if declared_bytes(request) > limit:
        await drain(request, stream)
        raise too_large(limit)
    size = 0
    while True:
        try:
            async with asyncio.timeout(stall_seconds):
                chunk = await anext(stream, None)
        except (TimeoutError, ClientDisconnect) as error:
            raise ApiError(_CLIENT_CLOSED, "the body broke off") from error
        if chunk is None:
            return
        size += len(chunk)
        if size > limit:
            await drain(request, stream)
            raise too_large(limit)
        yield chunk


def declared_bytes(request: Request) -> int:
    """The length of the body as the client says; 0 where it does not."""
    declared = request.headers.get("content-length", "")
    return int(declared) if declared.isascii() and declared.isdecimal() else 0


async def drain(request: Request, stream: AsyncIterator[bytes]) -> None:
    """Read on for a while: a client that is cut off while it sends does not see the answer."""
    if "expect" in request.headers:
        return  # it asks before it sends
    size = 0
    with contextlib.suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for chunk in stream:
                size += len(chunk)
                if size > _DRAIN_BYTES:
                    return


def too_large(limit: int) -> ApiError:
    return ApiError(
        413, f"the body is larger than {limit} bytes", kind="too-large", headers={"Connection": "close"}
    )


async def require_room(services: ApiServices) -> None:
    """For requests that make files, or cause work that does. Raises ApiError (507)."""
    reason = await services.no_room()
    if reason is not None:
        raise ApiError(507, reason, kind="no-room", headers={"Retry-After": "60"})


async def is_repeat(services: ApiServices, idempotency_key: str | None) -> bool:
    """Whether a submission with this key was taken in: a repeat starts nothing, and so needs no room."""
    return idempotency_key is not None and await services.handlers.knows(idempotency_key)


async def json_object(request: Request, services: ApiServices) -> dict[str, Any]:
    """The body, a JSON object. Raises InvalidRequestError, ApiError."""
    limits = services.limits
    chunks = body_chunks(request, limits.json_bytes, limits.upload_stall_seconds)
    body = b"".join([chunk async for chunk in chunks])
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequestError(f"the body must be JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequestError('the body must be a JSON object, as in {"videoURL": "http://…", …}')
    return value
