"""What every command needs: its settings, its log, where it writes, an event loop that ends in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.logging import RichHandler

from monolith.cli.exits import CliError, Exit
from monolith.logs import configure_logging
from monolith.settings import Settings
from monolith.settings_loading import LoadedSettings, SettingsError, load_settings

_T = TypeVar("_T")
errors: Final = Console(stderr=True, highlight=False)
output: Final = Console(highlight=False)

DataDir = Annotated[Path | None, typer.Option(help="Folder for events, frames and read models.")]
Json = Annotated[
    bool, typer.Option("--json", help="Only JSON on standard output; the rest goes to standard error.")
]


def load(**flags: object) -> LoadedSettings:
    """`flags`: options that were given win. Raises CliError."""
    try:
        return load_settings(flags)
    except SettingsError as error:
        raise CliError(str(error), Exit.ENVIRONMENT) from error


def print_json(value: object) -> None:
    """The answer of `--json`, on standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def quiet_settings(data_dir: Path | None) -> Settings:
    """The settings of a command that shows only its answer, unless the log is asked for."""
    loaded = load(data_dir=data_dir)
    quiet = loaded.origins["log_level"] == "default"
    log_to(loaded.settings, "warning" if quiet else None)
    return loaded.settings


def log_to(settings: Settings, level: str | None = None) -> None:
    """Log lines go to standard error; on a terminal above the progress bars."""
    handler = None
    if errors.is_terminal:
        handler = RichHandler(console=errors, show_path=False, rich_tracebacks=False, markup=False)
    configure_logging(level or settings.log_level, settings.log_format, handler)


def run_program(program: Coroutine[Any, Any, _T]) -> _T:
    """Run on uvloop where there is one. Ctrl-C cancels the program, which ends in order; SIGTERM and a closed terminal
    do the same (a program that serves takes its signals itself)."""
    factory = None
    with contextlib.suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        try:
            return runner.run(_interruptible(program))
        except KeyboardInterrupt:
            raise CliError("interrupted", Exit.INTERRUPTED) from None


async def _interruptible(program: Coroutine[Any, Any, _T]) -> _T:
    """SIGTERM and SIGHUP cancel the program once; a second one ends it where it is. One that the caller ignores (nohup)
    stays ignored, and Ctrl-C is the runner's. Raises CliError when interrupted."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            loop.add_signal_handler(number, interrupt)
    try:
        return await program
    except asyncio.CancelledError:
        if not interrupted:
            raise
        raise CliError("interrupted", Exit.INTERRUPTED) from None
