"""The audit log: changes made with qctl, in a local file and at the broker.

In:  a command that has run, and its exit code.  Out: one entry, a JSON object per line, in a file of the user
and in the shared log at the broker. A failure to write either does not fail the command.
Before this: cli/command.py.  Read by: qctl/commands/audit.py.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qctl import exit_codes
from qctl.cli.session import Session
from qctl.configuration.directories import state_dir
from qctl.output.secrets import hide
from qctl.output.text import stamp
from qctl.output.writer import to_json

if TYPE_CHECKING:
    from qcore.app.app import App

MOST_BYTES = 5_000_000
#: longer words of a command line are replaced by their length
MOST_CHARACTERS = 1000
#: exit codes of commands that attempted no change
NOTHING_DONE = (exit_codes.USAGE, exit_codes.REFUSED, exit_codes.BAD_CONFIG)
_VALUES = ("-a", "--args", "-k", "--kwargs")


def record(session: Session, code: int) -> None:
    """Log the command that ran, with its exit code."""
    if code in NOTHING_DONE:
        return
    app = session.__dict__.get("app")
    context = session.context.name if session.context else None
    command = "qctl " + shlex.join(masked(session.argv))
    raw = to_json(_entry(app, context, command, code, session.options.reason))
    try:
        _append(file(), raw + "\n")
    except OSError as exc:
        session.out.warn(f"warning: the audit log {file()} cannot be written: {exc.strerror}")
    if code != exit_codes.UNAVAILABLE and app is not None:  # else the broker was not reached
        _share(app, raw)


def record_program(app: App, context: str, words: Sequence[str], code: int, reason: str | None) -> str:
    """Log a program that the user's own command ran, with its exit code. Return why the file cannot be
    written; empty: it is."""
    raw = to_json(_entry(app, context or None, shlex.join(masked(words)), code, reason))
    try:
        _append(file(), raw + "\n")
    except OSError as exc:
        return f"the audit log {file()} cannot be written: {exc.strerror}"
    finally:
        _share(app, raw)
    return ""


def _share(app: App, raw: str) -> None:
    """Add an entry to the log at the broker."""
    try:
        if app.broker.features.audits:
            app.broker.administration.audit(raw.encode("utf-8", "backslashreplace"))
    except Exception:
        return  # the change is made; a missing log entry must not turn it into a failure


def _entry(
    app: App | None, context: str | None, command: str, code: int, reason: str | None
) -> dict[str, Any]:
    from qcore.errors import mask_url

    return {
        "at": stamp(time.time()),
        "user": _user(),
        "host": os.uname().nodename,
        "pid": os.getpid(),
        "context": context,
        "broker": mask_url(str(app.broker_url())) if app is not None else None,
        "command": command,
        "code": code,
        "reason": reason,
    }


def masked(words: Sequence[str]) -> list[str]:
    """The words of a command line, with secrets masked: passwords in URLs, and values with the name of a
    secret, in KEY=VALUE and in the JSON of -a and -k."""
    from qcore.errors import mask_url

    found, before = [], ""
    for word in words:
        name, sign, value = word.partition("=")
        if len(word) > MOST_CHARACTERS:
            word = f"…({len(word)} characters)"
        elif before in _VALUES:
            word = _json(word)
        elif sign and name in _VALUES:
            word = f"{name}={_json(value)}"
        elif sign and "://" not in name:
            word = f"{name}={hide(value, name)}"
        before = word
        found.append(mask_url(word))
    return found


def _json(text: str) -> str:
    try:
        return to_json(hide(json.loads(text)))
    except (ValueError, RecursionError):
        return text


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


# --- the file


def file() -> Path:
    return state_dir() / "audit.ndjson"


def _append(path: Path, line: str) -> None:
    from qcore.base.private_files import make_folder, open_to_append

    make_folder(path.parent)
    descriptor = open_to_append(path)
    try:
        # One write per line, so that lines of two commands do not mix.
        os.write(descriptor, line.encode("utf-8", "backslashreplace"))
        full = os.fstat(descriptor).st_size > MOST_BYTES
    finally:
        os.close(descriptor)
    if full:
        path.replace(_older(path))


def _older(path: Path) -> Path:
    return path.with_suffix(".1.ndjson")


def local_lines() -> Iterator[bytes]:
    """The lines of the user's local log, newest first."""
    for path in (file(), _older(file())):
        try:
            yield from reversed(path.read_bytes().splitlines())
        except FileNotFoundError:
            continue
