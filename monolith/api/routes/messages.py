"""What is told to RabbitMQ and taken from it, described: for programs and for people."""

from __future__ import annotations

from functools import cache

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from monolith.api.routes.web import PAGE_HEADERS
from monolith.messaging.asyncapi import asyncapi_document
from monolith.messaging.asyncapi_page import asyncapi_page

router = APIRouter(include_in_schema=False)


@router.get("/asyncapi")
async def page() -> Response:
    return Response(_page(), headers=PAGE_HEADERS, media_type="text/html")


@router.get("/asyncapi.json")
async def document() -> Response:
    return Response(_document(), media_type="application/json")


@cache
def _page() -> str:
    return asyncapi_page(asyncapi_document())


@cache
def _document() -> bytes:
    return msgspec.json.encode(asyncapi_document())
