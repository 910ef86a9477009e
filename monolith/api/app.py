"""The HTTP API as an ASGI application."""

from __future__ import annotations

import asyncio
from importlib import metadata
from typing import Final

from fastapi import FastAPI
from prometheus_client import Gauge
from starlette.middleware.cors import CORSMiddleware

from monolith.access.refusals import Refusals
from monolith.api.access_log import AccessLog
from monolith.api.auth import Guard
from monolith.api.ending import EndingLayer
from monolith.api.event_rendering import EventRenderer
from monolith.api.middleware import OuterLayer, RequestMetrics
from monolith.api.openapi import add_openapi
from monolith.api.origins import Gatekeeper, cors_options
from monolith.api.problems import add_problem_handlers
from monolith.api.route_scopes import Needs, methods_and_paths
from monolith.api.routes import (
    analytics,
    annotated,
    documents,
    events,
    frames,
    health,
    messages,
    rebuild,
    results,
    retention,
    rtmp,
    session,
    submissions,
    videos,
    web,
    webhooks,
    whep,
    whip,
)
from monolith.api.services import ApiServices
from monolith.api.streaming import Turns
from monolith.api.tracing import TracingLayer

_DESCRIPTION: Final = (
    "Finds objects, faces with their emotions, and colours in videos. Every error is an"
    " `application/problem+json` (RFC 9457). Query parameters that a call does not know are ignored, as scripts of the"
    " older pipeline expect: a misspelt filter filters nothing."
)


def create_app(services: ApiServices) -> FastAPI:
    """The application; it owns nothing of `services` and closes nothing."""
    app = FastAPI(
        title="Video analysis",
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    turns = Turns(services.limits.event_streams, "event streams")
    app.state.services = services
    app.state.event_stream_turns = turns
    app.state.upload_turns = Turns(services.limits.uploads, "uploads")
    app.state.export_turns = Turns(services.limits.exports, "places for exported files")
    app.state.event_renderer = EventRenderer(services.decoder, asyncio.Semaphore(1))
    app.state.frame_turns = asyncio.Semaphore(services.limits.frame_threads)
    for routes in (
        submissions,
        videos,
        results,
        frames,
        annotated,
        documents,
        events,
        health,
        rebuild,
        retention,
        analytics,
        session,
        web,
        rtmp,
        whep,
        whip,
        webhooks,
        messages,
    ):
        app.include_router(routes.router)
    add_problem_handlers(app)
    add_openapi(app, _version())
    _observe(services, turns, app.state.upload_turns, app.state.export_turns)
    access = services.access
    gatekeeper = Gatekeeper(
        services.public_url, loopback_only=services.loopback_only, cors_origins=access.cors_origins
    )
    app.state.refusals = refusals = services.refusals or Refusals(access.failures, services.registry)
    guard = Guard(access, Needs(methods_and_paths(app.routes)), refusals)
    metrics = RequestMetrics(services.registry)
    app.add_middleware(OuterLayer, metrics=metrics, gatekeeper=gatekeeper, guard=guard, hsts=access.hsts)
    if access.cors_origins:
        app.add_middleware(CORSMiddleware, **cors_options(access.cors_origins))
    app.add_middleware(EndingLayer, stopping=services.stopping)
    app.add_middleware(AccessLog, log=services.log_requests)
    if services.tracing is not None:
        app.add_middleware(TracingLayer, tracing=services.tracing)
    return app


def _observe(services: ApiServices, turns: Turns, uploads: Turns, exports: Turns) -> None:
    registry = services.registry
    taken = Gauge(
        "video_analysis_long_requests", "Requests that take long and are open", ["kind"], registry=registry
    )
    places = Gauge(
        "video_analysis_long_requests_limit", "Of them that may be open at once", ["kind"], registry=registry
    )
    gauge = Gauge("video_analysis_event_streams", "Open streams of server-sent events", registry=registry)
    gauge.set_function(lambda: turns.taken)
    for name, one in {"event_streams": turns, "uploads": uploads, "exports": exports}.items():
        taken.labels(name).set_function(lambda one=one: one.taken)  # type: ignore[misc]
        places.labels(name).set(one.places)


def _version() -> str:
    try:
        return metadata.version("video-analysis")
    except metadata.PackageNotFoundError:
        return "0"
