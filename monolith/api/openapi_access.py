"""What the OpenAPI document says of access: how a key is sent, which scope each operation needs, how it is refused."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from monolith.access.scopes import Scope
from monolith.api.route_scopes import FORGOTTEN, ROUTES, Special

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


def add_access(document: dict[str, Any], problem: dict[str, Any]) -> None:
    """Complete `document`; `problem`: the content of an answer that is a problem."""
    document["components"]["securitySchemes"] = _SCHEMES
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            need = ROUTES.get((method.upper(), path), FORGOTTEN)
            statuses = [429] if need is Special.OPEN else [401, 403, 429]
            for status in statuses:
                answer = {"description": HTTPStatus(status).phrase, "content": problem}
                operation["responses"].setdefault(str(status), answer)
            roles = [need.value] if isinstance(need, Scope) else []
            operation["security"] = [] if need is Special.OPEN else [{name: roles} for name in _SCHEMES]
