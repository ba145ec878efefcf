"""How an alert speaks: the bell, a notification of the terminal (OSC 9), a program of the user.

In:  alerts.toml in qctl's configuration directory.  Out: AlertSignals; one sentence for each mistake.
Before this: views/episodes.py says which alerts have begun.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qctl import exit_codes
from qctl.configuration import tables
from qctl.configuration.directories import config_dir

#: seconds after which the program is ended
LONGEST_S = 30.0
PLACES = ("what", "where", "context")
_KINDS: dict[str, tuple[type, str]] = {
    "bell": (bool, "true or false"),
    "osc9": (bool, "true or false"),
    "argv": (list, "a list of words, such as ['notify-send', '{what}']"),
}


class AlertSignals(NamedTuple):
    """What happens once an episode. argv: a program, with {what}, {where} and {context}; empty: none."""

    bell: bool = True
    osc9: bool = False
    argv: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def file() -> Path:
    return config_dir() / "alerts.toml"


def load(path: Path | None = None) -> AlertSignals:
    """The signals of the file. Mistakes are in `problems`, and a file with one has no effect."""
    path = path or file()
    try:
        found = tables.read(path)
        for key, value in found.items():
            if key not in _KINDS:
                words = f"no key named '{key}'; there are {', '.join(_KINDS)}"
                raise tables.bad(path, tables.line_of(path, "", key), words)
            kind, words = _KINDS[key]
            if not isinstance(value, kind) or (key == "argv" and not _is_argv(value)):
                raise tables.bad(path, tables.line_of(path, "", key), f"{key} takes {words}")
    except exit_codes.CommandError as stop:
        return AlertSignals(problems=(stop.message,))
    return AlertSignals(found.get("bell", True), found.get("osc9", False), tuple(found.get("argv", ())))


def _is_argv(value: Any) -> bool:
    return bool(value) and all(isinstance(word, str) and "\0" not in word for word in value)


def run(argv: tuple[str, ...], fields: Mapping[str, str]) -> str:
    """Run the user's program for an alert, without a shell; return why it failed, empty: it did not."""
    import re

    def fill(word: str) -> str:
        return re.sub(r"\{(what|where|context)\}", lambda found: fields[found[1]].replace("\0", ""), word)

    words = [argv[0], *(fill(word) for word in argv[1:])]
    quiet = subprocess.DEVNULL
    try:
        done = subprocess.run(words, stdin=quiet, stdout=quiet, stderr=quiet, timeout=LONGEST_S, check=False)
    except subprocess.TimeoutExpired:
        return f"it ran longer than {LONGEST_S:g} s and was stopped"
    except (OSError, ValueError) as exc:
        return getattr(exc, "strerror", "") or str(exc)
    return f"exit code {done.returncode}" if done.returncode else ""
