"""`qctl upgrade settings FILE`: convert old setting names to current ones."""

from __future__ import annotations

import difflib
import re
import shutil
from pathlib import Path

import click

from qctl import exit_codes
from qctl.cli.command import CliCommand, CliGroup
from qctl.cli.session import current
from qctl.output.table import Column
from qctl.output.text import count

#: a name in capitals at the start of a line, or as an attribute or key
_NAME = re.compile(r"(?m)^(?P<before>\s*(?:\w+\.conf\.|[\w.]*conf\[['\"])?)(?P<name>[A-Z][A-Z0-9_]+)\b")

command = CliGroup(
    "upgrade",
    help="Convert old setting names to current ones.",
    examples=[("qctl upgrade settings celeryconfig.py --dry-run", "show what would change")],
    exit_codes=(exit_codes.NOT_PERMITTED,),
    subcommand_metavar="settings FILE",
    see_also=["report"],
)


def _settings(file: str, django: bool, no_backup: bool, dry_run: bool) -> None:
    from qcore.errors import UnknownName
    from qcore.settings.config import canonical
    from qcore.settings.old_names import new_name

    out = current().out
    path = Path(file)
    text = path.read_text(encoding="utf-8")
    renamed: list[dict[str, str]] = []

    def rename(found: re.Match[str]) -> str:
        old = found["name"]
        if "_" not in old:
            return found[0]
        try:
            new = canonical(old)
        except UnknownName:
            return found[0]  # not a setting
        if django:
            new = f"CELERY_{new.upper()}"
        if new == old or (not django and new != new_name(old) and new != old.lower()):
            return found[0]
        renamed.append({"old": old, "new": new})
        return f"{found['before']}{new}"

    changed = _NAME.sub(rename, text)
    if dry_run and out.for_people:
        lines = (text.splitlines(), changed.splitlines())
        for line in difflib.unified_diff(*lines, file, file, lineterm=""):
            out.text(line)
    else:
        rows = [[r["old"], r["new"]] for r in renamed]
        out.items("upgrade", renamed, [Column("OLD"), Column("NEW")], rows, "new", dry_run=dry_run)
    if renamed and not dry_run:
        if not no_backup:
            shutil.copy2(path, f"{path}.orig")
        path.write_text(changed, encoding="utf-8")
        out.note(f"{count(len(renamed), 'name')} changed" + ("" if no_backup else f"; before: {path}.orig"))
    elif not renamed:
        out.note("no old name found; nothing was changed")


command.add_command(
    CliCommand(
        "settings",
        callback=_settings,
        params=[
            click.Argument(["file"], type=click.Path(exists=True, dir_okay=False)),
            click.Option(
                ["--django"], is_flag=True, help="Write names as in Django settings: CELERY_ and capitals."
            ),
            click.Option(
                ["--compat"], is_flag=True, expose_value=False, help="No effect: old names continue to work."
            ),
            click.Option(["--no-backup"], is_flag=True, help="Keep no copy of the file (FILE.orig)."),
            click.Option(["-n", "--dry-run"], is_flag=True, help="Change nothing; print the difference."),
        ],
        help="""Convert old setting names in a Python file to current ones.

        Only names change, never values, and only those of settings that are known.""",
        examples=[
            ("qctl upgrade settings celeryconfig.py", "keeps celeryconfig.py.orig"),
            ("qctl upgrade settings proj/settings.py --django --dry-run", "only show the difference"),
        ],
        exit_codes=(exit_codes.NOT_PERMITTED,),
        see_also=["upgrade"],
    )
)
