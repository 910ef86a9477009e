"""The command line, from the options that it declares."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final, get_args, get_origin

import typer.main

from monolith.cli.app import app
from monolith.cli.exits import Exit
from tools.docs.markdown import code, page, table

_KINDS: Final[dict[Any, str]] = {
    str: "text",
    int: "whole number",
    float: "number",
    Path: "path",
}
_MEANINGS: Final = {
    Exit.OK: "everything that was asked for is done",
    Exit.FAILED: "an analysis, a check or the program failed",
    Exit.USAGE: "the command line is wrong",
    Exit.BAD_SOURCE: "a file or URL cannot be read, or is no video",
    Exit.ENVIRONMENT: "the settings, the data directory, the port or the server are not right",
    Exit.INTERRUPTED: "Ctrl-C",
}


def cli_page() -> str:
    root = typer.main.get_command(app)
    commands = list(_leaves(root, "video-analysis"))
    intro = (
        "From a clone the program is `.venv/bin/python -m monolith`; installed, it is `video-analysis`. Results go to"
        " standard output; progress, log and errors to standard error. Of several videos the first failure gives the"
        " exit code."
    )
    exits = table(("exit code", "when"), [(code(int(value)), text) for value, text in _MEANINGS.items()])
    return page("Command line", "`monolith.cli.app`", [intro, exits, *(_section(*one) for one in commands)])


def _leaves(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Commands without subcommands, with their whole names."""
    subcommands = getattr(command, "commands", None)
    if not subcommands:
        yield name, command
    for key, subcommand in (subcommands or {}).items():
        yield from _leaves(subcommand, f"{name} {key}")


def _section(name: str, command: Any) -> str:
    rows = [_row(parameter) for parameter in command.params if parameter.name != "help"]
    epilog = (command.epilog or "").partition(" Exit codes: 0 ok")[0].removesuffix(".")
    parts = [f"## {name}", (command.help or "").strip()]
    if rows:
        parts.append(table(("option or argument", "takes", "default", "what it does"), rows))
    parts.append(f"{epilog}." if epilog else "")
    return "\n\n".join(part for part in parts if part)


def _row(parameter: Any) -> tuple[str, str, str, str]:
    is_argument = parameter.param_type_name == "argument"
    name = parameter.metavar if is_argument else ", ".join([*parameter.opts, *parameter.secondary_opts])
    is_flag = getattr(parameter, "is_flag", False)
    takes = "" if is_flag or is_argument else _kind(parameter.type_descriptor.annotation)
    default = parameter.default
    shown = "" if default in (None, False, ()) or callable(default) or parameter.required else code(default)
    return code(name), takes, shown, getattr(parameter, "help", None) or ""


def _kind(annotation: Any) -> str:
    """What an option of this type takes, in words. Raises KeyError for a type that has none yet."""
    if get_origin(annotation) is list:
        (of,) = get_args(annotation)
        return f"{_kind(of)}, repeatable"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "one of " + ", ".join(str(member.value) for member in annotation)
    return _KINDS[annotation]
