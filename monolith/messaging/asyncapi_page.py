"""The AsyncAPI document as a page for people: plain HTML that loads nothing but the program's own style sheet."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any, Final

from monolith.messaging.asyncapi import Document

_HEAD: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Video analysis: messages</title>
<link rel="stylesheet" href="/web/style.css">
</head>
<body>
<main class="messages">
<h1>Messages</h1>
<p><a href="/">Videos</a> · <a href="/docs">HTTP API</a> · <a href="/asyncapi.json">asyncapi.json</a></p>
"""
_END: Final = "</main>\n</body>\n</html>\n"
_REF: Final = "#/components/schemas/"
_CODE: Final = re.compile(r"`([^`]+)`")


def asyncapi_page(document: Document) -> str:
    components = document["components"]
    parts = [
        _HEAD,
        _paragraph(document["info"]["description"]),
        *(_channel(name, channel) for name, channel in document["channels"].items()),
        "<h2>Messages</h2>\n",
        *(_message(name, message) for name, message in components["messages"].items()),
        "<h2>Schemas</h2>\n",
        *(_schema(name, schema) for name, schema in components["schemas"].items()),
        _END,
    ]
    return "".join(parts)


def _channel(name: str, channel: Document) -> str:
    address = channel["address"] or "(as the command says)"
    links = ", ".join(f'<a href="#{escape(one)}">{escape(one)}</a>' for one in channel["messages"])
    return (
        f"<h2>{escape(name)}: <code>{escape(address)}</code></h2>\n"
        f"{_paragraph(channel['description'])}<p>{links}</p>\n"
    )


def _message(name: str, message: Document) -> str:
    kinds = ", ".join(_link(ref) for ref in _references(message["payload"]))
    return (
        f'<h3 id="{escape(name)}"><code>{escape(name)}</code></h3>\n{_paragraph(message["summary"])}'
        f"<p><code>{escape(message['contentType'])}</code>: {kinds}</p>\n"
        + "".join(map(_example, message.get("examples", ())))
    )


def _example(example: Document) -> str:
    shown = json.dumps(example["payload"], indent=2, ensure_ascii=False)
    return f"<pre>{escape(shown)}</pre>\n"


def _schema(name: str, schema: Document) -> str:
    text = f'<h3 id="schema-{escape(name)}">{escape(name)}</h3>\n{_paragraph(schema.get("description", ""))}'
    if "properties" in schema:
        required = set(schema.get("required", ()))
        rows = (
            (f"<code>{escape(field)}</code>", _type(kind), "" if field in required else "optional")
            for field, kind in schema["properties"].items()
        )
        return text + _table(rows)
    return f"{text}<p>{_type(schema)}</p>\n"


def _type(schema: Any) -> str:
    """A JSON Schema in few words, as HTML."""
    match schema:
        case {"$ref": str(ref)}:
            return _link(ref.removeprefix(_REF))
        case {"const": value}:
            return f"<code>{escape(str(value))}</code>"
        case {"enum": values}:
            return " or ".join(f"<code>{escape(str(value))}</code>" for value in values)
        case {"anyOf": kinds}:
            return " or ".join(map(_type, kinds))
        case {"prefixItems": kinds}:
            return f"[{', '.join(map(_type, kinds))}]"
        case {"type": "array", "items": dict(item)}:
            return f"list of {_type(item)}"
        case {"type": list(kinds)}:
            return " or ".join(map(escape, kinds))
        case {"type": str(kind)}:
            return escape(f"{kind} ({schema['format']})" if "format" in schema else kind)
    return "anything"


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"].removeprefix(_REF)
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


def _link(name: str) -> str:
    return f'<a href="#schema-{escape(name)}">{escape(name)}</a>'


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>\n" for row in rows)
    return f"<table>\n{lines}</table>\n"


def _paragraph(text: str) -> str:
    """`text`, in which names stand in backticks."""
    shown = _CODE.sub(r"<code>\1</code>", escape(text))
    return f"<p>{shown}</p>\n" if text else ""
