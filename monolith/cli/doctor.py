"""The command `doctor`: what works here, what does not, and what would help."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from monolith.cli.exits import EPILOG, Exit
from monolith.cli.running import print_json
from monolith.doctor.findings import Finding, Level, examine, healthy
from monolith.settings_loading import SettingsError, load_settings

_MARKS: Final[dict[Level, str]] = {
    "ok": "[green]✔ ok[/green]",
    "warning": "[yellow]! warning[/yellow]",
    "problem": "[red]✘ problem[/red]",
}
EXAMPLES: Final = f"Examples: `video-analysis doctor`, `video-analysis doctor --json`. {EPILOG}"


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Only JSON on standard output; the rest goes to standard error.")
    ] = False,
    data_dir: Annotated[Path | None, typer.Option(help="Folder for events, frames and read models.")] = None,
) -> None:
    """Looks at the installation, the machine, folders, the network and the servers it uses, also while it serves.

    Exit code 1: something is a problem. Warnings are none.
    """
    from monolith.doctor.checks import all_checks  # late: what it looks at takes time to import

    logging.getLogger().addHandler(logging.NullHandler())  # what libraries log is found, and said below
    loaded, error = None, None
    try:
        loaded = load_settings({"data_dir": data_dir})
    except SettingsError as wrong:
        error = str(wrong)
    findings = examine(all_checks(loaded, error))
    if as_json:
        print_json({"healthy": healthy(findings), "findings": findings})
    else:
        show(findings, Console(highlight=False))
    sys.stdout.flush()
    raise typer.Exit(Exit.OK if healthy(findings) else Exit.FAILED)


def show(findings: Sequence[Finding], console: Console) -> None:
    """A table, and a line that sums it up."""
    table = Table("", "what", "found", show_lines=False)
    for finding in findings:
        text = escape(finding.found) + (f"\n→ {escape(finding.help)}" if finding.help else "")
        table.add_row(_MARKS[finding.level], finding.check, text)
    console.print(table)
    counts = {level: sum(one.level == level for one in findings) for level in _MARKS}
    problems = (
        f"[red]{_count(counts, 'problem')}[/red]" if counts["problem"] else "[green]no problems[/green]"
    )
    console.print(f"{problems}, {_count(counts, 'warning')}")


def _count(counts: Mapping[Level, int], level: Level) -> str:
    number = counts[level]
    return f"{number} {level}" if number == 1 else f"{number} {level}s"
