"""In which form results are sent: as the request names it (`format`), else as its Accept header prefers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

from fastapi import Query, Request

from monolith.api.rows import JSON, NDJSON, RowFormat
from monolith.domain.errors import InvalidRequestError
from monolith.readmodels.table_export import EXPORT_FORMATS, ExportFormat

ROW_FORMATS: Final[dict[str, RowFormat]] = {"json": JSON, "ndjson": NDJSON}
"""One row for each frame and model; the others have one for each detection."""

_NAMES: Final = (*ROW_FORMATS, *EXPORT_FORMATS)

FormatName = Annotated[
    str | None,
    Query(
        alias="format",
        description=(
            "`json` or `ndjson`: a row for each frame and model; `csv`, `parquet` or `arrow` (an IPC stream): a file"
            " with a line for each detection. Without it the Accept header decides, else it is `json`."
        ),
        json_schema_extra={"enum": list(_NAMES)},
    ),
]


def chosen_format(request: Request, name: str | None) -> RowFormat | ExportFormat:
    """Raises InvalidRequestError for an unknown name. An Accept header that knows none of ours gets JSON."""
    formats: dict[str, RowFormat | ExportFormat] = {**ROW_FORMATS, **EXPORT_FORMATS}
    if name is not None:
        if name not in formats:
            known = ", ".join(_NAMES)
            raise InvalidRequestError(f"unknown format {name[:100]!r}; format takes: {known}", field="format")
        return formats[name]
    by_type = {one.media_type: one for one in formats.values()}
    accepted = ",".join(request.headers.getlist("accept"))
    return next((by_type[kind] for kind in _preferred(accepted) if kind in by_type), JSON)


def _preferred(accepted: str) -> Iterator[str]:
    """Media types, the most wanted first; `*/*` and `application/*` mean JSON."""
    ranges = [_range(part) for part in accepted.split(",")]
    for kind, weight in sorted(ranges, key=lambda item: -item[1]):
        if weight > 0:
            yield JSON.media_type if kind in ("*/*", "application/*") else kind


def _range(text: str) -> tuple[str, float]:
    """A media range and its weight, 0–1."""
    kind, *parameters = (part.strip().lower() for part in text.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return kind, min(1.0, max(0.0, float(value)))
            except ValueError:
                return kind, 0.0
    return kind, 1.0
