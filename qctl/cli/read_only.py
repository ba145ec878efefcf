"""Permission for changes: read-only fleets, and mandatory reasons.

In:  a session and the command to run.  Out: nothing if permitted; else CommandError, before the broker is
contacted.  Before this: cli/command.py.
"""

from __future__ import annotations

from qctl import exit_codes
from qctl.cli.session import Session


def permit(session: Session, what: str) -> None:
    """Raises CommandError when `what` (such as `qctl purge`) is not permitted here."""
    if session.is_read_only:
        source = session.layers.source("read_only")
        raise exit_codes.CommandError(
            exit_codes.REFUSED,
            f"`{what}` changes something, and qctl is read-only here ({source})",
            "give --read-write to allow it",
        )
    context = session.context
    if context is not None and context.is_prod and not (session.options.reason or "").strip():
        raise exit_codes.CommandError(
            exit_codes.REFUSED,
            f"a change of '{context.name}' needs a reason, since its class is prod",
            "give it with --reason TEXT",
        )
