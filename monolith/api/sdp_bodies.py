"""What requests of WHIP and WHEP share: SDP bodies, their types, and the entity tag of an ICE session."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from monolith.api.problems import ApiError
from monolith.api.requests import body_chunks
from monolith.live.webrtc.sdp import Fragment, OfferError

SDP: Final = "application/sdp"
FRAGMENT: Final = "application/trickle-ice-sdpfrag"
FRAGMENT_BYTES: Final = 16 << 10
_BODY_SECONDS: Final = 10.0

ANSWERED: Final[dict[int | str, dict[str, Any]]] = {
    201: {
        "description": "The answer; media may come",
        "content": {SDP: {"schema": {"type": "string"}}},
        "headers": {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in {
                "Location": "The session: PATCH candidates to it, DELETE it at the end",
                "ETag": "Of the ICE session: `If-Match` of a PATCH",
                "Link": 'STUN and TURN servers, `rel="ice-server"`',
            }.items()
        },
    }
}
"""For the schema."""

OFFER_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {SDP: {"schema": {"type": "string"}, "example": "v=0\r\n…"}},
    }
}
FRAGMENT_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            FRAGMENT: {
                "schema": {"type": "string"},
                "example": "a=ice-ufrag:EsAw\r\na=ice-pwd:…\r\nm=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n…",
            }
        },
    }
}


def require_type(request: Request, media_type: str) -> None:
    """Raises ApiError (415)."""
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if sent != media_type:
        header = "Accept-Patch" if media_type == FRAGMENT else "Accept-Post"
        raise ApiError(
            415,
            f"the body must be {media_type}, not {sent[:80] or 'without a type'}",
            kind="wrong-media-type",
            headers={header: media_type},
        )


def require_accepted(request: Request) -> None:
    """Raises ApiError (406) where the client does not take SDP."""
    accepted = request.headers.get("accept", "*/*")
    types = {one.partition(";")[0].strip().lower() for one in accepted.split(",")}
    if not types & {SDP, "application/*", "*/*"}:
        raise ApiError(406, f"the answer is {SDP}, which your `Accept` does not take", kind="not-acceptable")


def check_entity_tag(request: Request, entity_tag: str) -> None:
    """Of a PATCH. Raises ApiError: 428 without one, 412 with another one, 422 for an ICE restart."""
    wanted = request.headers.get("if-match")
    if wanted is None:
        raise ApiError(428, "send the session's ETag in `If-Match`", kind="precondition-required")
    if wanted.strip() == "*":
        raise ApiError(422, "an ICE restart is not supported: make a new session", kind="no-ice-restart")
    if entity_tag not in (one.strip() for one in wanted.split(",")):
        raise ApiError(
            412, "`If-Match` is not the ETag of the session's ICE session", kind="precondition-failed"
        )


async def read_body(request: Request, limit: int) -> bytes:
    """Raises ApiError: 413 beyond `limit` bytes, 400 when the client stops sending."""
    return b"".join([chunk async for chunk in body_chunks(request, limit, _BODY_SECONDS)])


async def read_fragment(request: Request, entity_tag: str) -> Fragment:
    """Trickled candidates for the session with `entity_tag`.

    Raises ApiError as `check_entity_tag` and `read_body` do, and 400 for what is no fragment.
    """
    check_entity_tag(request, entity_tag)
    body = await read_body(request, FRAGMENT_BYTES)
    with refusing_malformed():
        return Fragment(body)


@contextmanager
def refusing_malformed() -> Iterator[None]:
    """SDP that is wrong is the client's fault. Raises ApiError (400)."""
    try:
        yield
    except OfferError as error:
        raise ApiError(400, str(error), kind="malformed-sdp") from error


def endpoint_takes(links: Iterable[str]) -> Response:
    """The answer to OPTIONS of an endpoint. No key is asked for (a browser sends none), so TURN passwords are not told
    here."""
    response = Response(status_code=200, headers={"Accept-Post": SDP, "Allow": "OPTIONS, POST"})
    for link in links:
        if "credential=" not in link:
            response.headers.append("Link", link)
    return response


def session_takes(methods: str) -> Response:
    """The answer to OPTIONS of a session."""
    return Response(status_code=200, headers={"Accept-Patch": FRAGMENT, "Allow": methods})


def session_response(answer: str, location: str, entity_tag: str, links: Iterable[str]) -> Response:
    """The answer to an offer (`ANSWERED`). `links`: of the ICE servers."""
    headers = {"Location": location, "ETag": entity_tag, "Cache-Control": "no-store"}
    response = Response(answer, 201, headers=headers, media_type=SDP)
    for link in links:
        response.headers.append("Link", link)
    return response
