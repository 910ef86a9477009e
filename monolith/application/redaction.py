"""URLs as users see them again: enough to recognise them, without what opens the door."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_plus, urlsplit, urlunsplit

HIDDEN: Final = "***"

_PARAMETER: Final = re.compile(r"([^&;=]+)=([^&;]+)")
_SECRET_PART: Final = re.compile(
    r"token|key|secret|passw|pwd|pass$|auth|credential|signature|session|jwt|hmac|^x-amz-|^x-goog-|^hdn"
)
_SECRET_NAMES: Final = frozenset(
    {"sig", "sign", "se", "sp", "sv", "st", "sr", "ske", "sks", "skt", "skv", "code", "sid"}
)
_JWT: Final = "eyJ"


def redacted(url: str) -> str:
    """The URL without user name and password, and with `***` for the values of parameters that look secret:
    tokens, keys, signatures (of Amazon, Google and Azure too), session ids; also where they are parts of the path, as
    with some cameras (`/user=admin&password=…`). Of what is no URL nothing is shown."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return HIDDEN
    _, at, host = parts.netloc.rpartition("@")
    return urlunsplit(
        parts._replace(
            netloc=f"{HIDDEN}@{host}" if at else host,
            path="/".join(map(_without_path_secrets, parts.path.split("/"))),
            query=_without_secrets(parts.query),
            fragment=_without_secrets(parts.fragment),
        )
    )


def _without_secrets(parameters: str) -> str:
    return _PARAMETER.sub(_shown, parameters)


def _without_path_secrets(part: str) -> str:
    """Cameras join parameters with other signs, too: then the first name counts for nothing."""
    return _PARAMETER.sub(_shown_in_path, part) if "=" in part else part


def _shown_in_path(parameter: re.Match[str]) -> str:
    name, value = parameter.groups()
    nested = "=" in value and _SECRET_PART.search(unquote_plus(value).lower()) is not None
    return f"{name}={HIDDEN}" if nested else _shown(parameter)


def _shown(parameter: re.Match[str]) -> str:
    name, value = parameter.groups()
    return f"{name}={HIDDEN}" if _is_secret(unquote_plus(name).lower(), value) else f"{name}={value}"


def _is_secret(name: str, value: str) -> bool:
    return name in _SECRET_NAMES or _SECRET_PART.search(name) is not None or value.startswith(_JWT)
