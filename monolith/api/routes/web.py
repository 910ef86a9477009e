"""The landing page and the API's documentation: static files, nothing from elsewhere."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

router = APIRouter(include_in_schema=False)

_FOLDER: Final = Path(__file__).resolve().parents[2] / "web"
_TYPES: Final = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
PAGE_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


@router.get("/")
async def landing() -> Response:
    return _page("index.html")


@router.get("/docs")
async def docs() -> Response:
    return _page("docs.html")


@router.get("/live")
async def live() -> Response:
    return _page("live.html")


@router.get("/publish")
async def publish() -> Response:
    return _page("publish.html")


@router.get("/sign-in")
async def sign_in() -> Response:
    return _page("sign-in.html")


@router.get("/web/{name}")
async def asset(name: str) -> Response:
    if name not in await asyncio.to_thread(_names):
        raise HTTPException(404)
    return _page(name)


def _names() -> set[str]:
    return {path.name for path in _FOLDER.iterdir()}


def _page(name: str) -> Response:
    path = _FOLDER / name
    return FileResponse(path, headers=PAGE_HEADERS, media_type=_TYPES.get(path.suffix))
