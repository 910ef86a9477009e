"""What the OpenAPI document says of access: how a key is sent, which scope each operation needs, how it is refused."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from monolith.access.scopes import Scope
from monolith.api.route_scopes import FORGOTTEN, ROUTES, Need, Special

_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key"},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "video-analysis-session",
        "description": "From `POST /session`; over HTTPS the name begins with `__Host-`",
    },
}
_PUBLISHER: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "The `token` of an endpoint for publishers",
}


_ENDPOINT: Final = "publisher"


def add_access(document: dict[str, Any], problem: dict[str, Any]) -> None:
    """Complete `document`; `problem`: the content of an answer that is a problem."""
    document["components"]["securitySchemes"] = {**_SCHEMES, _ENDPOINT: _PUBLISHER}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            need = ROUTES.get((method.upper(), path), FORGOTTEN)
            statuses = [429] if need is Special.OPEN else [401, 403, 429]
            for status in statuses:
                answer = {"description": HTTPStatus(status).phrase, "content": problem}
                operation["responses"].setdefault(str(status), answer)
            roles = [need.value] if isinstance(need, Scope) else []
            operation["security"] = _security(need, roles)


def _security(need: Need, roles: list[str]) -> list[dict[str, list[str]]]:
    """Any one of these lets a request in; none of them: anyone."""
    match need:
        case Special.OPEN:
            return []
        case Special.PUBLISHER:
            return [{_ENDPOINT: []}]
    return [{name: roles} for name in _SCHEMES]
