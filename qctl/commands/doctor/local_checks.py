"""`qctl doctor --local`: the mistakes of qctl's own files, in the user's configuration directory, and of the
installation.

In:  the files.  Out: one sentence for each mistake; no broker is asked.  Before this: command.py. After this:
installation.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from qctl import exit_codes


class Mistake(NamedTuple):
    """One mistake: the name of its check, the file, and a sentence with the line."""

    name: str
    path: Path
    what: str


def check_files() -> tuple[int, list[Mistake]]:
    """How many files there are, and their mistakes."""
    from qctl.configuration import contexts
    from qctl.dashboard import alert_signals, key_table, own_commands
    from qctl.dashboard.views.views import VIEWS

    keys = key_table.load([(view.name, view.key) for view in VIEWS])
    checks: list[tuple[str, Path, Callable[[], Iterable[str]]]] = [
        ("contexts", contexts.file(), lambda: _raised(contexts.load)),
        ("keys", key_table.file(), lambda: keys.problems),
        ("alerts", alert_signals.file(), lambda: alert_signals.load().problems),
        ("own-commands", own_commands.file(), lambda: own_commands.load(keys).problems),
    ]
    present = [check for check in checks if check[1].exists()]
    return len(present), [
        Mistake(name, path, what) for name, path, problems in present for what in problems()
    ]


def check_installation(load_app: Callable[[], Any] | None) -> list[Mistake]:
    """The mistakes of the installation; load_app gives the app whose settings may need further packages."""
    from qctl.commands.doctor.installation import foreign_packages, missing_extras

    found = [Mistake("package", path, what) for path, what in foreign_packages()]
    if load_app is not None:
        found += [Mistake("extra", Path(name), what) for name, what in missing_extras(load_app().conf)]
    return found


def _raised(read: Callable[[], object]) -> list[str]:
    try:
        read()
    except exit_codes.CommandError as stop:
        return [stop.message]
    return []
