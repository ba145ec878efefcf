"""`qctl doctor`: diagnose the fleet and its broker; each finding comes with the command that fixes it."""

from __future__ import annotations

import click

from qctl import exit_codes
from qctl.cli.command import command as page
from qctl.cli.session import current
from qctl.output.state_styles import FAILED, RETRYING, paint
from qctl.output.table import Column
from qctl.output.text import count

COLUMNS = [Column("LEVEL"), Column("NAME"), Column("WHAT")]


@page(
    "doctor",
    examples=[
        ("qctl doctor", "diagnose the fleet; each finding comes with the command that fixes it"),
        ("qctl doctor -o json", "for scripts; exit code 6 when there is an error"),
        ("qctl doctor --guarantees", "the delivery guarantees of these settings"),
        ("qctl doctor --local", "qctl's own files: contexts, keys and commands of the dashboard"),
        ("qctl -A proj doctor --local", "and the packages that the settings of proj need"),
        ("qctl doctor --fix reply-queues", "delete reply queues whose client is gone"),
    ],
    exit_codes={
        exit_codes.OK: "no findings, or only warnings",
        exit_codes.NOT_FOUND: "--fix: there is no fix of that name for this broker",
        exit_codes.NOT_MET: "there are errors",
    },
    see_also=["health", "status", "queue ls"],
)
@click.option("--fix", metavar="NAME", help="Apply the built-in fix of that name.")
@click.option("--guarantees", is_flag=True, help="Print the delivery guarantees of these settings.")
@click.option(
    "--local",
    is_flag=True,
    help="Check qctl's files, the installation, and the packages that -A needs; no broker.",
)
def command(fix: str | None, guarantees: bool, local: bool) -> int:
    """Diagnose the fleet; each finding has the command that fixes it.

    It checks workers, queues, the schedule, clocks, server settings and stale keys, and changes nothing.
    Each finding comes with the command that fixes it.
    """
    from qctl.commands.doctor.checks import examine
    from qctl.fleet.facts import gather

    session = current()
    out = session.out
    if fix is not None:
        return _mend(fix)
    if guarantees:
        return _promise()
    if local:
        return _local()
    facts = gather(session.app)
    found = examine(facts)
    items = [
        {"level": s.level, "name": s.name, "about": s.about or None, "what": s.what, "fix": s.fix}
        for s in found
    ]
    errors = sum(s.level == "error" for s in found)
    if out.for_people:
        for symptom in found:
            ansi = FAILED.ansi if symptom.level == "error" else RETRYING.ansi
            out.line(f"{paint(symptom.level, ansi, out.colour)} {symptom.name}")
            out.text(f"  {symptom.what}\n  → {symptom.fix}")
    else:
        rows = [[s.level, s.name, s.what] for s in found]
        cluster = {"cluster": facts.cluster} if facts.cluster else {}
        out.items(
            "doctor", items, COLUMNS, rows, "name", round_trip_s=round(facts.round_trip_s, 6), **cluster
        )
    workers = f"{count(facts.workers, 'worker')}, {count(len(facts.depths), 'queue')}"
    words = (
        f"{count(errors, 'error')}, {count(len(found) - errors, 'warning')}" if found else "no problems found"
    )
    if facts.cluster:
        out.note(facts.cluster)
    out.note(f"{words} ({workers}; the broker answers in {facts.round_trip_s * 1000:.1f} ms)")
    return exit_codes.NOT_MET if errors else exit_codes.OK


def _promise() -> int:
    from qctl.commands.doctor.guarantees import guarantees

    session = current()
    found = guarantees(session.app)
    items = [{"name": p.name, "holds": p.holds, "what": p.what, "setting": p.setting} for p in found.promises]
    rows = [list(item.values()) for item in items]
    columns = [Column("NAME"), Column("HOLDS"), Column("WHAT"), Column("SETTING", wide=True)]
    session.out.items("doctor.guarantees", items, columns, rows, "name", workers=found.workers)
    whose = f"of {count(found.workers, 'worker')}" if found.workers else "of the app; no worker answered"
    session.out.note(f"settings {whose}; all guarantees are described in docs/guarantees.md")
    return exit_codes.OK


def _local() -> int:
    from qctl.commands.doctor.local_checks import check_files, check_installation

    session = current()
    out = session.out
    files, found = check_files()
    found += check_installation((lambda: session.app) if session.options.app else None)
    items = [{"level": "error", "name": m.name, "about": str(m.path), "what": m.what} for m in found]
    if out.for_people:
        for mistake in found:
            out.line(f"{paint('error', FAILED.ansi, out.colour)} {mistake.name}")
            out.text(f"  {mistake.what}")
    else:
        out.items("doctor.local", items, COLUMNS, [["error", m.name, m.what] for m in found], "name")
    words = count(len(found), "error") if found else "no problems found"
    out.note(f"{words} ({count(files, 'file')} checked)")
    return exit_codes.NOT_MET if found else exit_codes.OK


def _mend(name: str) -> int:
    from qcore.errors import UnknownName

    session = current()
    try:
        done = session.broker.diagnosis.mend(name)
    except UnknownName as exc:
        raise exit_codes.CommandError(exit_codes.NOT_FOUND, str(exc), "see `qctl doctor`") from None
    if not session.out.for_people:
        session.out.document("doctor.fix", {"name": name, "mended": done})
    session.out.note(f"{count(done, 'item')} fixed")
    return exit_codes.OK
