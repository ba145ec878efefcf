"""`qctl check PROJECT`: read a Celery project and list what differs under qcore.

In:  a directory or a file.  Out: Findings, each with its line and what to do; 1 when one of them is an error.
Nothing is imported or run. After this: source.py, imports.py, settings_used.py, calls.py, command_lines.py.
"""

from __future__ import annotations

import difflib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qctl import exit_codes
from qctl.cli.command import command as page
from qctl.cli.session import current
from qctl.output.secrets import hide
from qctl.output.state_styles import FAILED, RETRYING, paint
from qctl.output.table import Column
from qctl.output.text import count

if TYPE_CHECKING:
    from qctl.commands.check.findings import Finding
    from qctl.commands.check.rewrite import Change
    from qctl.commands.check.settings_used import Settings
    from qctl.commands.check.source import Project

COLUMNS = [Column("LEVEL"), Column("FILE"), Column("LINE"), Column("NAME"), Column("WHAT")]


@page(
    "check",
    examples=[
        ("qctl check .", "what differs in the project of this directory"),
        ("qctl check proj/celery.py", "one file"),
        ("qctl check . -o json", "for scripts; exit code 1 when there is an error"),
        ("qctl check . --write --dry-run", "show which old names of settings would change"),
    ],
    exit_codes={
        exit_codes.OK: "nothing of level error was found",
        exit_codes.FAILED: "there are findings of level error",
        exit_codes.NOT_FOUND: "there is no such file or directory",
        exit_codes.NOT_PERMITTED: exit_codes.TABLE[exit_codes.NOT_PERMITTED],
    },
    see_also=["upgrade", "doctor", "config ls"],
    settles=False,
)
@click.argument("project", type=click.Path())
@click.option("--write", is_flag=True, help="Replace old names of settings by current ones; keeps FILE.orig.")
@click.option("-n", "--dry-run", is_flag=True, help="With --write: change nothing; print the difference.")
def command(project: str, write: bool, dry_run: bool) -> int:
    """Read a Celery project and list what differs under qcore.

    It reads Python files, and the command lines in Procfiles, units of systemd, Dockerfiles, compose files
    and scripts. Nothing is imported or run, and no broker is asked. Three levels: error, the program does not
    start or a call raises; different, it behaves in another way; note, what is good to know. What only a
    running program knows is a note: `qctl -A APP doctor` knows more.
    """
    from qctl.commands.check import settings_used
    from qctl.commands.check.source import Project

    if dry_run and not write:
        raise click.UsageError("--dry-run belongs to --write")
    root = Path(project)
    if not root.exists():
        raise exit_codes.CommandError(exit_codes.NOT_FOUND, f"no file or directory '{project}'")
    read = Project(root)
    settings = settings_used.Settings(read)
    found = findings(read, settings)
    if write:
        return _write(read, settings, dry_run)
    return _print(read, found)


def findings(project: Project, settings: Settings) -> list[Finding]:
    """All findings of a project, by file and line, each once."""
    from qctl.commands.check import calls, command_lines, imports, settings_checks

    found = list(project.found)
    for module in project.modules:
        found += imports.check(module)
        found += calls.check(module)
    for text in project.texts:
        found += command_lines.check(text)
    found += settings_checks.check(settings)
    safe = (one._replace(name=hide(one.name), what=hide(one.what)) for one in found)
    return sorted(dict.fromkeys(safe), key=lambda f: (f.file, f.line or 0, f.name))


def _print(project: Project, found: list[Finding]) -> int:
    from qctl.commands.check.findings import ERROR, LEVELS

    out = current().out
    files = len(project.modules) + len(project.texts)
    if out.for_people:
        for one in found:
            style = {"error": FAILED.ansi, "different": RETRYING.ansi}.get(one.level, "")
            level = paint(one.level, style, out.colour) if style else one.level
            out.text(f"{one.place}: {level}: {one.name}")
            out.text(f"    {one.what}" + (f"\n    → {one.fix}" if one.fix else ""))
    else:
        rows = [[f.level, f.file, str(f.line or ""), f.name, f.what] for f in found]
        out.items("check", [f._asdict() for f in found], COLUMNS, rows, "file", files=files)
    counts = [sum(f.level == level for f in found) for level in LEVELS]
    words = (
        f"{count(counts[0], 'error')}, {count(counts[1], 'difference')}, {count(counts[2], 'note')}"
        if found
        else "no differences found"
    )
    out.note(f"{words} ({count(files, 'file')} read)")
    return exit_codes.FAILED if any(f.level == ERROR for f in found) else exit_codes.OK


def _write(project: Project, settings: Settings, dry_run: bool) -> int:
    from qctl.commands.check.rewrite import changes

    out = current().out
    made, refused = changes(project, settings)
    for one in refused:
        out.warn(f"{one.file}:{one.line}: old names of settings stay in this file: {one.why}")
    if out.for_people and dry_run:
        for change in made:
            out.text("\n".join(_difference(change)))
    else:
        items = [{"file": change.module.file, "changed": change.names} for change in made]
        rows = [[change.module.file, str(change.names)] for change in made]
        columns = [Column("FILE"), Column("CHANGED", right=True)]
        out.items("check.write", items, columns, rows, "file", dry_run=dry_run)
    if not dry_run:
        for change in made:
            shutil.copy2(change.module.path, f"{change.module.path}.orig")
            change.module.path.write_bytes(change.text.encode(change.module.encoding))
    names = sum(change.names for change in made)
    verb = "would change" if dry_run else "changed"
    out.note(f"{count(names, 'name')} {verb} in {count(len(made), 'file')}")
    return exit_codes.OK


def _difference(change: Change) -> list[str]:
    file = change.module.file
    lines = (change.module.text.splitlines(), change.text.splitlines())
    return list(difflib.unified_diff(*lines, file, file, lineterm=""))
