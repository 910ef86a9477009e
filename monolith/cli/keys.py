"""The commands `keys create`, `keys list`, `keys revoke` change the file of API keys; a running server follows."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from monolith.access.key_file import KeyFile, KeyFileError
from monolith.access.keys import KeyRecord
from monolith.access.scopes import Scope
from monolith.cli.exits import EPILOG, CliError, Exit
from monolith.cli.running import print_json
from monolith.settings_loading import SettingsError, load_settings

_LONGEST_NAME: Final = 100
_errors: Final = Console(stderr=True, highlight=False)
_output: Final = Console(highlight=False)

keys_app = typer.Typer(no_args_is_help=True, help="API keys of the server.", rich_markup_mode="rich")

DataDir = Annotated[Path | None, typer.Option(help="Folder of the server whose keys these are.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


@keys_app.command(
    epilog="Examples: `video-analysis keys create --name camera --scope write`, `export VIDEO_ANALYSIS_API_KEY=$("
    f"video-analysis keys create)`. {EPILOG}"
)
def create(
    name: Annotated[str, typer.Option(help="Who uses it, for `keys list` and the log.")] = "",
    scopes: Annotated[
        list[Scope] | None,
        typer.Option("--scope", help="What it allows; may be repeated. Default: read and write."),
    ] = None,
    expires: Annotated[
        int | None, typer.Option(min=1, max=36500, metavar="DAYS", help="Days until it ends. Default: never.")
    ] = None,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Makes an API key and prints it, this once."""
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise CliError(f"--name takes printable text of at most {_LONGEST_NAME} characters", Exit.USAGE)
    file = _file(data_dir)
    held = tuple(scopes or (Scope.READ, Scope.WRITE))
    try:
        key, record = file.add(name, held, timedelta(days=expires) if expires else None)
    except KeyFileError as error:
        raise CliError(str(error), Exit.ENVIRONMENT) from error
    if as_json:
        print_json({"key": key, **_shown(record)})
        return
    _errors.print(
        f"The key {record.key_id} ({', '.join(record.scopes)}) is kept as a hash in {escape(str(file.path))}; "
        f"this is the only time that it is shown:",
        soft_wrap=True,
    )
    sys.stdout.write(f"{key}\n")


@keys_app.command("list", epilog="Example: `video-analysis keys list --json`.")
def list_keys(as_json: Json = False, data_dir: DataDir = None) -> None:
    """Shows the keys there are, by their ids."""
    file = _file(data_dir)
    try:
        records = file.load()
    except KeyFileError as error:
        raise CliError(str(error), Exit.ENVIRONMENT) from error
    if as_json:
        print_json([_shown(record) for record in records])
        return
    table = Table("id", "name", "scopes", "created", "expires", "state", title=escape(str(file.path)))
    for record in records:
        expires = f"{record.expires:%Y-%m-%d}" if record.expires else "never"
        held = ", ".join(record.scopes)
        table.add_row(
            record.key_id, escape(record.name), held, f"{record.created:%Y-%m-%d}", expires, _state(record)
        )
    _output.print(table)


@keys_app.command(epilog="Example: `video-analysis keys revoke 7k3m2qxy`.")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it.")],
    data_dir: DataDir = None,
) -> None:
    """Ends a key, at once and for good."""
    try:
        record = _file(data_dir).revoke(key_id)
    except KeyFileError as error:
        raise CliError(str(error), Exit.USAGE) from error
    _output.print(f"the key {record.key_id} lets nobody in any more", soft_wrap=True)


def _file(data_dir: Path | None) -> KeyFile:
    try:
        return KeyFile(load_settings({"data_dir": data_dir}).settings.keys_path)
    except SettingsError as error:
        raise CliError(str(error), Exit.ENVIRONMENT) from error


def _state(record: KeyRecord) -> str:
    if record.revoked is not None:
        return "revoked"
    return "valid" if record.trouble(datetime.now(UTC)) is None else "expired"


def _shown(record: KeyRecord) -> dict[str, Any]:
    """Without the hash: nobody needs it."""
    shown: dict[str, Any] = msgspec.to_builtins(record)
    return {name: value for name, value in shown.items() if name != "digest"} | {"state": _state(record)}
