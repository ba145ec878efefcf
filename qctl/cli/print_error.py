"""Print an error: one sentence and a hint, or a JSON object for programs.

In:  a CommandError.  Out: text on stderr; on stdout the empty document that a program expects.
Before this: main.py; repeat.py, which then continues.
"""

from __future__ import annotations

import sys

from qctl import exit_codes
from qctl.cli.session import Session


def print_error(stop: exit_codes.CommandError, session: Session) -> None:
    from qcore.errors import mask_url
    from qctl.output.text import shown, shown_lines

    try:
        session.out.nothing()
        as_objects = session.out.as_objects
    except (exit_codes.CommandError, OSError, ValueError):  # no such format, or stdout is closed
        as_objects = False
    if as_objects:
        import json

        error = {
            "schema": "qctl.error",
            "version": 1,
            "code": stop.code,
            "message": mask_url(stop.message),
            "hint": mask_url(stop.hint) or None,
            "retryable": stop.code in exit_codes.RETRYABLE,
        }
        sys.stderr.write(json.dumps(error) + "\n")
        return
    lines = [shown(line) for line in mask_url(stop.message).split("\n")]
    sys.stderr.write(f"qctl: {lines[0]}\n" + "".join(f"{line}\n" for line in lines[1:]))
    if stop.hint:
        sys.stderr.write(f"      {shown_lines(mask_url(stop.hint))}\n")
