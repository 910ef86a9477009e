"""Reads the settings: from `VIDEO_ANALYSIS_*` in the environment or a TOML file, checked once, with origins.

Later wins: default, file, environment, command line. The file is the one that `VIDEO_ANALYSIS_CONFIG` names,
else `video-analysis.toml` in the current folder; its keys are the names in `settings`. Nothing else looks at the
environment.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec
from pydantic import (
    SecretStr,
    ValidationError,
)
from pydantic_core import ErrorDetails

from monolith.settings import Settings

PREFIX: Final = "VIDEO_ANALYSIS_"
CONFIG_VARIABLE: Final = f"{PREFIX}CONFIG"
CONFIG_FILE: Final = "video-analysis.toml"

Origin: TypeAlias = Literal["default", "file", "environment", "command line"]


class SettingsError(Exception):
    """Settings are wrong. Each line names one, says where it came from and what would be right."""


class LoadedSettings(msgspec.Struct, frozen=True):
    """Checked settings, and where each value came from. `file`: the TOML file that was read, if any."""

    settings: Settings
    origins: dict[str, Origin]
    file: Path | None


def load_settings(
    overrides: Mapping[str, object] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> LoadedSettings:
    """Read and check all settings. `overrides`: from the command line, None values count as not given.

    `environment` (default: the process's) and `folder` (default: the current one) are where to look.
    Raises SettingsError.
    """
    environment = os.environ if environment is None else environment
    file = _config_file(environment, folder or Path())
    layers: dict[Origin, dict[str, object]] = {
        "file": _from_file(file) if file else {},
        "environment": _from_environment(environment),
        "command line": {k: v for k, v in (overrides or {}).items() if v is not None},
    }
    values: dict[str, object] = {}
    origins: dict[str, Origin] = dict.fromkeys(Settings.model_fields, "default")
    for origin, layer in layers.items():
        values.update(layer)
        origins.update(dict.fromkeys(layer, origin))
    try:
        return LoadedSettings(Settings.model_validate(values), origins, file)
    except ValidationError as error:
        lines = dict.fromkeys(_explain(e, origins, file) for e in error.errors())
        raise SettingsError("\n".join(lines)) from error


class ServiceManagerSettings(msgspec.Struct, frozen=True):
    """What systemd wants to hear. `socket`: where it listens, "" for nowhere; `watchdog_seconds`: it wants a sign of
    life within this time, None: it does not."""

    socket: str = ""
    watchdog_seconds: float | None = None


def service_manager(environment: Mapping[str, str] | None = None) -> ServiceManagerSettings:
    """From the variables that systemd sets for a service of `Type=notify`; they concern one process alone."""
    environment = os.environ if environment is None else environment
    microseconds = environment.get("WATCHDOG_USEC", "")
    ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    watchdog = int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) and ours else None
    return ServiceManagerSettings(environment.get("NOTIFY_SOCKET", ""), watchdog)


def leave_forks_alone() -> None:
    """Children are programs of their own: gRPC, which reads this when it is loaded, need not see to forks, and else
    says at some that it does not."""
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def right_value(name: str) -> str:
    """What a right value of a setting looks like."""
    extra = Settings.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    return str(extra["right"])


def _config_file(environment: Mapping[str, str], folder: Path) -> Path | None:
    named = environment.get(CONFIG_VARIABLE, "")
    path = Path(named) if named else folder / CONFIG_FILE
    if path.is_file():
        return path
    if named:
        raise SettingsError(
            f"{CONFIG_VARIABLE}: there is no file {named}; name a TOML file, or unset the variable."
        )
    return None


def _from_file(path: Path) -> dict[str, object]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read as TOML: {error}") from error
    for name in values:
        if name not in Settings.model_fields:
            raise SettingsError(f"{path}: there is no setting {name!r}{_guess(name, str)}.")
    return values


def _from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    """Values of our variables; an empty one counts as not set."""
    values: dict[str, object] = {}
    for key, value in environment.items():
        if not key.startswith(PREFIX) or key == CONFIG_VARIABLE or not value.strip():
            continue
        name = key.removeprefix(PREFIX).lower()
        if name not in Settings.model_fields:
            raise SettingsError(f"{key}: there is no such setting{_guess(name, variable)}.")
        values[name] = value.strip()
    return values


def _guess(name: str, spell: Any) -> str:
    close = difflib.get_close_matches(name, Settings.model_fields, n=1)
    return f"; did you mean {spell(close[0])}" if close else ""


def _explain(error: ErrorDetails, origins: Mapping[str, Origin], file: Path | None) -> str:
    name = str(error["loc"][0])
    if name not in Settings.model_fields:
        return f"there is no setting {name!r}{_guess(name, str)}."
    where = {"file": f"{name} in {file}", "command line": "--" + name.replace("_", "-")}
    spelled = where.get(origins[name], variable(name))
    secret = Settings.model_fields[name].annotation is SecretStr
    value = "its value" if secret else repr(error["input"])
    return f"{spelled}: {value} is not right; it takes {right_value(name)}."
