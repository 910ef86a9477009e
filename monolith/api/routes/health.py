"""Whether the program lives, whether it can work, and its metrics for Prometheus."""

from __future__ import annotations

import asyncio
import logging

import msgspec
from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from monolith.api.answers import HealthAnswer
from monolith.api.auth import CALLER
from monolith.api.openapi import json_answer, other_answer, problems, ref
from monolith.api.requests import Services
from monolith.api.services import ReadinessCheck

router = APIRouter(tags=["operation"])
logger = logging.getLogger(__name__)


@router.get(
    "/health/live",
    summary="The process answers",
    response_class=Response,
    responses={**json_answer(ref(HealthAnswer), "It lives"), **problems()},
)
async def live() -> Response:
    return _answer(HealthAnswer(status="live"), 200)


@router.get(
    "/health/startup",
    summary="The program has started",
    response_class=Response,
    responses={**json_answer(ref(HealthAnswer), "It has: before that nothing listens"), **problems()},
)
async def startup() -> Response:
    return _answer(HealthAnswer(status="started"), 200)


@router.get(
    "/health/ready",
    summary="The program can take and analyse videos",
    response_class=Response,
    responses={
        **problems(),
        **json_answer(ref(HealthAnswer), "It can"),
        **json_answer(ref(HealthAnswer), "It cannot, for these reasons", status=503),
    },
)
async def ready(request: Request, services: Services) -> Response:
    limit = services.limits.readiness_seconds
    names = list(services.readiness)
    answers = await asyncio.gather(*(_reason(services.readiness[name], limit) for name in names))
    reasons = {name: reason for name, reason in zip(names, answers, strict=True) if reason is not None}
    if reasons:
        if services.access.keys is not None and request.scope[CALLER] is None:
            reasons = dict.fromkeys(reasons, "an API key is needed to learn why")  # it may name paths
        return _answer(HealthAnswer(status="not ready", reasons=reasons), 503)
    return _answer(HealthAnswer(status="ready"), 200)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={**other_answer("text/plain", "Prometheus text format"), **problems()},
)
async def metrics(services: Services) -> Response:
    text = await asyncio.to_thread(generate_latest, services.registry)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _reason(check: ReadinessCheck, limit: float) -> str | None:
    try:
        async with asyncio.timeout(limit):
            return await check()
    except TimeoutError:
        return f"no answer within {limit:g} s"
    except Exception as error:
        logger.exception("a readiness check failed")
        return f"the check failed: {type(error).__name__}"


def _answer(answer: HealthAnswer, status: int) -> Response:
    return Response(msgspec.json.encode(answer), status, media_type="application/json")
