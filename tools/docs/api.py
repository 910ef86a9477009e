"""The HTTP API, from its OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from monolith.api.app import create_app
from monolith.api.services import ApiServices
from tools.docs.markdown import code, page, table

_PROBLEMS: Final = "application/problem+json"


def unused_app(registry: CollectorRegistry) -> FastAPI:
    """The API as it describes itself; nothing is started, no request can be answered."""
    nothing = cast(Any, None)
    services = ApiServices(
        handlers=nothing, read_models=nothing, store=nothing, decoder=nothing, read_frame=nothing,
        annotate=nothing, uploads=Path(), registry=registry,
    )  # fmt: skip
    return create_app(services)


def openapi() -> dict[str, Any]:
    """The document as the server gives it at /openapi.json."""
    return unused_app(CollectorRegistry()).openapi()


def api_page() -> str:
    document = openapi()
    intro = (
        "The running server has this as an OpenAPI document at `/openapi.json` and as a page at `/docs`."
        " Times in rows are seconds, `ts` and `recorded_at` are ISO 8601 in UTC, coordinates are"
        " pixels of the stored frame. Every error is a problem document ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)):"
        " see [Problem](#problem). Query parameters that a call does not know are ignored, as scripts of the older"
        " pipeline expect: a misspelt filter filters nothing. A known one with a wrong value is a 400."
    )
    operations = list(_operations(document))
    overview = table(("call", "what for"), [(_link(call), op["summary"]) for call, op in operations])
    sections = [_operation(call, op) for call, op in operations]
    schemas = [_schema(*one) for one in document["components"]["schemas"].items()]
    parts = [intro, overview, *sections, "## Bodies", *schemas]
    return page("HTTP API", "the OpenAPI document", parts)


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def _link(call: str) -> str:
    anchor = "".join(c for c in call.lower() if c.isalnum() or c in " -_").replace(" ", "-")
    return f"[{code(call)}](#{anchor})"


def _operation(call: str, operation: dict[str, Any]) -> str:
    parts = [f"## `{call}`", operation["summary"] + ".", operation.get("description", "")]
    if parameters := operation.get("parameters"):
        rows = [_parameter(parameter) for parameter in parameters]
        parts.append(table(("parameter", "in", "takes", "what for"), rows))
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"Body, `{media}`:")
        parts.append(_fields(content["schema"]))
        parts += _example(content)
    parts.append(table(("answer", "body", ""), list(_answers(operation["responses"]))))
    for answer in operation["responses"].values():
        for content in answer.get("content", {}).values():
            parts += _example(content)
    return "\n\n".join(part for part in parts if part)


def _parameter(parameter: dict[str, Any]) -> tuple[str, str, str, str]:
    name = code(parameter["name"]) + (" (needed)" if parameter.get("required") else "")
    schema = parameter["schema"]
    return name, parameter["in"], _type(schema), parameter.get("description", schema.get("description", ""))


def _answers(responses: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for status, answer in sorted(responses.items()):
        kinds = [
            code(media) if media == _PROBLEMS else f"{code(media)}: {_type(content['schema'])}"
            for media, content in answer.get("content", {}).items()
        ]
        headers = [f"{code(n)}: {h['description']}" for n, h in answer.get("headers", {}).items()]
        is_problem = _PROBLEMS in answer.get("content", {})  # its words differ between versions of Python
        told = [] if is_problem else [answer["description"].rstrip(".")]
        yield status, ", ".join(kinds), "; ".join([*told, *headers])


def _example(content: dict[str, Any]) -> list[str]:
    if "example" not in content:
        return []
    return ["```json\n" + json.dumps(content["example"], indent=1, ensure_ascii=False) + "\n```"]


def _schema(name: str, schema: dict[str, Any]) -> str:
    return "\n\n".join([f"### {name}", schema.get("description", ""), _fields(schema)])


def _fields(schema: dict[str, Any]) -> str:
    needed = schema.get("required", ())
    rows = [
        (code(name) + (" (needed)" if name in needed else ""), _type(field), field.get("description", ""))
        for name, field in schema.get("properties", {}).items()
    ]
    return table(("field", "type", ""), rows) if rows else ""


def _type(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if choices := schema.get("anyOf"):
        return " or ".join(dict.fromkeys(map(_type, choices)))
    if "enum" in schema:
        return "one of " + ", ".join(map(code, schema["enum"]))
    kinds = schema.get("type", "any")
    name = " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
    if name == "array":
        return f"array of {_type(schema.get('items') or {})}"
    return name + _bounds(schema)


def _bounds(schema: dict[str, Any]) -> str:
    words = {"format": "{}", "minimum": "≥ {}", "maximum": "≤ {}", "maxLength": "at most {} characters"}
    said = [text.format(_number(schema[key])) for key, text in words.items() if key in schema]
    return f" ({', '.join(said)})" if said else ""


def _number(value: object) -> object:
    return f"{value:.15g}" if isinstance(value, float) else value
