"""Errors as RFC 9457 problem details: what was wrong and what would be right, never how we failed."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from eventsourcing.errors import ProjectionStoppedError, StoreUnavailableError
from monolith.domain.errors import (
    DomainError,
    FrameExpiredError,
    FrameNotSampledError,
    InvalidRequestError,
    NotPossibleError,
    RunNotFoundError,
    VideoNotFoundError,
    WebhookNotFoundError,
)
from monolith.live.webrtc.ice import NoAddressError

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER: Final = {"Retry-After": "5"}

logger = logging.getLogger(__name__)


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457. `field`: the wrong part of the request; `before`, `after`: the nearest sampled frames."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    field: str | None = None
    before: int | None = None
    after: int | None = None


class ApiError(Exception):
    """A request that ends with `status` for a reason that the domain does not know."""

    def __init__(
        self, status: int, detail: str, *, kind: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind
        self.headers = headers


def too_busy(detail: str) -> ApiError:
    return ApiError(503, detail, kind="too-busy", headers=RETRY_AFTER)


def too_often(wait: float, why: str) -> ApiError:
    """429. `wait`: seconds until it may be tried again."""
    seconds = math.ceil(wait)
    return ApiError(
        429,
        f"{why}; try again in {seconds} s",
        kind="too-many-requests",
        headers={"Retry-After": str(seconds)},
    )


def problem_response(
    instance: str,
    status: int,
    detail: str,
    *,
    kind: str | None = None,
    headers: Mapping[str, str] | None = None,
    **extra: Any,
) -> Response:
    """`kind` names the kind of problem (words joined by hyphens); None: the HTTP status says it all."""
    problem = Problem(
        type=f"urn:video-analysis:problem:{kind}" if kind else "about:blank",
        title=kind.replace("-", " ").capitalize() if kind else HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=instance,
        **extra,
    )
    body = msgspec.json.encode(problem)
    return Response(body, status, headers=dict(headers) if headers else None, media_type=MEDIA_TYPE)


def add_problem_handlers(app: FastAPI) -> None:
    for error in (
        DomainError,
        ApiError,
        StoreUnavailableError,
        ProjectionStoppedError,
        NoAddressError,
        TimeoutError,
        HTTPException,
    ):
        app.add_exception_handler(error, _answer)
    app.add_exception_handler(RequestValidationError, _answer)


async def _answer(request: Request, error: Exception) -> Response:
    return answer_to(request.url.path, error)


def answer_to(instance: str, error: Exception) -> Response:
    """The problem that `error` is to the user; anything unknown is a 500 and goes to the log."""
    match error:
        case InvalidRequestError():
            return problem_response(instance, 400, str(error), kind="invalid-request", field=error.field)
        case VideoNotFoundError():
            return problem_response(instance, 404, str(error), kind="video-not-found")
        case RunNotFoundError():
            return problem_response(instance, 404, str(error), kind="run-not-found", field="run")
        case WebhookNotFoundError():
            return problem_response(instance, 404, str(error), kind="webhook-not-found")
        case FrameNotSampledError():
            return problem_response(
                instance, 404, str(error), kind="frame-not-sampled", before=error.before, after=error.after
            )
        case FrameExpiredError():
            return problem_response(instance, 410, str(error), kind="frame-expired")
        case NotPossibleError():
            return problem_response(instance, 409, str(error), kind="not-possible")
        case ApiError():
            return problem_response(
                instance, error.status, error.detail, kind=error.kind, headers=error.headers
            )
        case RequestValidationError():
            return _invalid(instance, error)
        case HTTPException():
            return problem_response(instance, error.status_code, _http_detail(error), headers=error.headers)
        case StoreUnavailableError() | ProjectionStoppedError() | NoAddressError() | TimeoutError():
            return _unavailable(instance, error)
    logger.error("a request for %s failed", instance, exc_info=error)
    return problem_response(instance, 500, "the server failed to answer; its log says why")


def _invalid(instance: str, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    name = str(first["loc"][-1])
    return problem_response(instance, 400, f"{name}: {first['msg']}", kind="invalid-request", field=name)


def _http_detail(error: HTTPException) -> str:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return "there is nothing at this address; /docs lists what there is"
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return f"this address takes {(error.headers or {}).get('Allow', 'other methods')}"
    return str(error.detail)


def _unavailable(instance: str, error: Exception) -> Response:
    logger.warning("unavailable: %s: %s", instance, error)
    detail = str(error) or "the write was stored, but its effect is not visible yet; look again in a moment"
    return problem_response(instance, 503, detail, kind="unavailable", headers=RETRY_AFTER)
