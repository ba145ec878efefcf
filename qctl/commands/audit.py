"""`qctl audit`: who changed what with qctl."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

import click

from qctl import exit_codes
from qctl.cli.audit import local_lines
from qctl.cli.command import command as page
from qctl.cli.session import current
from qctl.cli.types import Span
from qctl.output.records import text
from qctl.output.table import Cell, Column
from qctl.output.text import count, stamp

MOST = 10_000  # brokers keep no more
FIELDS = ("at", "user", "host", "pid", "context", "broker", "command", "code", "reason")
WIDE = ("host", "pid", "broker")


@page(
    "audit",
    examples=[
        ("qctl audit", "changes at this broker, newest first"),
        ("qctl audit --since 2h -o json", "changes of the last two hours, for scripts"),
        ("qctl audit --local", "your changes from this host, at any broker"),
    ],
    exit_codes={exit_codes.FAILED: "this broker keeps no audit log; --local shows your own"},
    see_also=["ctx", "help exit-codes"],
    lists=True,
)
@click.option("--local", is_flag=True, help="Read your own log on this host instead of the broker's.")
@click.option("--since", type=Span(), help="Only changes since this time.")
@click.option(
    "--limit", type=click.IntRange(1, MOST), default=100, show_default=True, help="At most this many."
)
def command(local: bool, since: float | None, limit: int) -> None:
    """Audit log of changes made with qctl.

    Every command that changes something is logged twice: in a file of your own, and at the broker, if it
    stores such a log (Redis, SQLite). Passwords are hidden. A broker keeps the last 10,000.
    """
    session = current()
    lines = local_lines() if local else session.broker.administration.audited(MOST if since else limit)
    earliest = "" if since is None else stamp(time.time() - since)
    items = _read(lines, earliest, limit)
    columns = [Column(f.upper(), f in ("pid", "code"), f, f in WIDE) for f in FIELDS]
    rows: list[list[str | Cell]] = [[text(item[f]) or "-" for f in FIELDS] for item in items]
    session.out.items("audit", items, columns, rows, "at", FIELDS)
    session.out.note(count(len(items), "change"))


def _read(lines: Iterable[bytes], earliest: str, limit: int) -> list[dict[str, Any]]:
    """The entries; malformed lines are skipped, since every client of the broker may write there."""
    items: list[dict[str, Any]] = []
    for line in lines:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(found, dict):
            continue
        if str(found.get("at") or "") < earliest:
            continue
        items.append({field: found.get(field) for field in FIELDS})
        if len(items) >= limit:
            break
    return items
