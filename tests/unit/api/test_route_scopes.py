"""No route is open, or closed, by oversight."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry

from monolith.access.scopes import Scope
from monolith.api.app import create_app
from monolith.api.route_scopes import FORGOTTEN, ROUTES, Needs, Special, methods_and_paths
from tests.unit.api.harness import running_api

OPEN = {
    "/",
    "/docs",
    "/asyncapi",
    "/asyncapi.json",
    "/live",
    "/publish",
    "/sign-in",
    "/web/{name}",
    "/openapi.json",
    "/health/live",
    "/health/ready",
    "/health/startup",
}


async def test_every_route_of_the_api_says_what_it_needs(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        app = create_app(replace(api.services, registry=CollectorRegistry()))
    routes = set(methods_and_paths(app.routes))
    assert len(routes) > 20
    assert routes - ROUTES.keys() == set(), "add them to ROUTES in monolith/api/route_scopes.py"
    assert ROUTES.keys() - routes == set(), "these are no routes any more"


def test_reading_needs_read_and_changing_never_less_than_write() -> None:
    for (method, path), need in ROUTES.items():
        if path in OPEN or path == "/session" or path.startswith(("/whip/", "/whep/")):
            continue
        if path.startswith(
            "/webhooks"
        ):  # whom else the program tells of events is for its administrators alone
            assert need is Scope.ADMIN
            continue
        assert need is Scope.READ if method in ("GET", "HEAD") else need in (Scope.WRITE, Scope.ADMIN), path


def test_only_what_says_nothing_of_videos_is_open() -> None:
    options = {path for method, path in ROUTES if method == "OPTIONS"}
    assert {path for (_, path), need in ROUTES.items() if need is Special.OPEN} == OPEN | {
        "/session"
    } | options


def test_who_publishes_shows_the_token_of_its_endpoint() -> None:
    needing = {path for (_, path), need in ROUTES.items() if need is Special.PUBLISHER}
    assert needing == {"/whip/{video_id}", "/whip/{video_id}/{session_id}"}


def test_a_request_needs_what_its_route_needs() -> None:
    needs = Needs(ROUTES)
    assert needs.of("GET", "/") == {Special.OPEN}
    assert needs.of("GET", "/analysis/x/frame/7") == {Scope.READ}
    assert needs.of("GET", "/analysis/videos") == {Scope.READ}
    assert needs.of("DELETE", "/analysis/x") == {Scope.WRITE}
    assert needs.of("POST", "/analysis/x/cancel") == {Scope.WRITE}


def test_what_is_no_route_is_not_told_to_strangers() -> None:
    needs = Needs(ROUTES)
    assert needs.of("GET", "/nothing") == {Special.SIGNED_IN}
    assert needs.of("PUT", "/") == {Special.SIGNED_IN}
    assert needs.of("GET", "//") == {Special.SIGNED_IN}


def test_a_forgotten_route_is_closed() -> None:
    app, router, inner = FastAPI(), APIRouter(), APIRouter()
    router.add_api_route("/new/{name}", lambda name: name, methods=["GET"])
    inner.add_api_route("/inner", lambda: None, methods=["POST"])
    router.include_router(inner)
    app.include_router(router)
    assert {("GET", "/new/{name}"), ("POST", "/inner")} <= set(methods_and_paths(app.routes))
    needs = Needs(methods_and_paths(app.routes))
    assert needs.of("GET", "/new/x") == needs.of("POST", "/inner") == {FORGOTTEN}


def test_of_two_routes_that_fit_the_stricter_counts() -> None:
    needs = Needs([("GET", "/analysis/{video_id}/{anything:path}")])
    assert needs.of("GET", "/analysis/x/results") == {Scope.READ, FORGOTTEN}
