"""Signing in to the web page: a key is changed for a cookie that pages send by themselves."""

from __future__ import annotations

import contextlib
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from monolith.access.control import AccessControl
from monolith.access.key_ring import Identity
from monolith.access.keys import CredentialError
from monolith.access.scopes import ALL_SCOPES, Scope
from monolith.api.answers import SessionAnswer
from monolith.api.auth import CALLER, cookie_name, key_in, session_cookie
from monolith.api.openapi import empty_answer, json_answer, problems, ref
from monolith.api.problems import ApiError
from monolith.api.requests import Services

router = APIRouter(tags=["access"])

_EVERYONE: Final = SessionAnswer(authentication=False, name="", scopes=list(ALL_SCOPES))


@router.get(
    "/session",
    summary="Who asks, and what they may",
    response_class=Response,
    responses={**json_answer(ref(SessionAnswer), "The key behind the request"), **problems()},
)
async def session(request: Request) -> Response:
    return _answer(_described(_caller(request)))


@router.post(
    "/session",
    summary="Sign in: the answer sets a cookie that stands for the key of this request",
    response_class=Response,
    responses={
        **json_answer(ref(SessionAnswer), "Signed in", headers={"Set-Cookie": "HttpOnly, SameSite=Strict"}),
        **problems(400, 403),
    },
)
async def sign_in(request: Request, services: Services) -> Response:
    access, caller = services.access, _caller(request)
    answer = _answer(_described(caller))
    if caller is None:
        return answer
    if key_in(request.headers) is None:
        raise ApiError(
            400, "a session begins with an API key; send it as `X-API-Key`", kind="invalid-request"
        )
    sessions = access.sessions
    answer.set_cookie(
        cookie_name(access), sessions.begin(caller.key_id), max_age=sessions.lifetime, **_attributes(access)
    )
    return answer


@router.delete(
    "/session",
    summary="Sign out",
    response_class=Response,
    status_code=204,
    responses={**empty_answer(204, "The cookie lets nobody in any more"), **problems(403)},
)
async def sign_out(request: Request, services: Services) -> Response:
    access = services.access
    cookie = session_cookie(access, request.headers)
    if cookie is not None:
        with contextlib.suppress(CredentialError):
            access.sessions.end(cookie)
    answer = Response(status_code=204)
    answer.delete_cookie(cookie_name(access), **_attributes(access))
    return answer


def _attributes(access: AccessControl) -> dict[str, Any]:
    return {"path": "/", "secure": access.https, "httponly": True, "samesite": "strict"}


def _caller(request: Request) -> Identity | None:
    caller: Identity | None = request.scope[CALLER]
    return caller


def _described(caller: Identity | None) -> SessionAnswer:
    if caller is None:
        return _EVERYONE
    held = ALL_SCOPES if Scope.ADMIN in caller.scopes else caller.scopes
    return SessionAnswer(authentication=True, name=caller.name or caller.key_id, scopes=list(held))


def _answer(answer: SessionAnswer) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")
