"""The user's own commands: programs that the dashboard runs for a row.

In:  commands.toml in qctl's configuration directory, and a row.  Out: the words of a program. A field of the
row fills its place in one word and is never read again, so no text of a task can add a word or a command.
Before this: screens/power_keys.py.  After this: run_command.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qcore.events.store.table import TaskSeen
from qctl import exit_codes
from qctl.configuration import tables
from qctl.configuration.directories import config_dir
from qctl.dashboard.key_table import KeyTable, key_name, key_shown
from qctl.dashboard.row_actions import COSTLY, REVERSIBLE, RowAction
from qctl.dashboard.state.schedules import ScheduleRow
from qctl.dashboard.state.snapshot import FailureRow, QueueRow, WorkerRow
from qctl.dashboard.views.overview_lists import TypeRow

#: the fields that rows of each scope have
FIELDS = {
    "tasks": ("id", "name", "queue", "worker"),
    "workers": ("worker", "name"),
    "queues": ("queue", "name"),
    "failures": ("id", "name", "queue", "worker"),
    "schedules": ("id", "name", "queue"),
    "types": ("name",),
    "everywhere": (),
}
EVERYWHERE = "everywhere"
SHELLS = frozenset(("sh", "bash", "dash", "zsh", "ksh", "fish", "busybox"))
_PLACE = re.compile(r"\{([a-z_]+)\}")
_KEYS: dict[str, tuple[Any, str]] = {
    "argv": (list, "a list of words, such as ['less', '{name}']"),
    "scope": ((str, list), f"one or more of {', '.join(FIELDS)}"),
    "key": (str, "a key in quotes"),
    "confirm": (bool, "true or false"),
    "background": (bool, "true or false"),
    "reads_only": (bool, "true or false"),
}


class OwnCommand(NamedTuple):
    """One command. key: empty, `;` lists it only; confirm: it is asked for; background: its output is not
    shown; reads_only: it changes nothing, so read-only fleets permit it and the audit log omits it."""

    name: str
    argv: tuple[str, ...]
    scope: tuple[str, ...]
    key: str = ""
    confirm: bool = True
    background: bool = False
    reads_only: bool = False

    def fits(self, row: Any) -> bool:
        """Whether it can be run for this row."""
        return EVERYWHERE in self.scope or scope_of(row) in self.scope


class OwnCommands(NamedTuple):
    """The commands of the file, and its mistakes; a command with a mistake is left out."""

    commands: tuple[OwnCommand, ...] = ()
    problems: tuple[str, ...] = ()


def file() -> Path:
    return config_dir() / "commands.toml"


def load(keys: KeyTable, path: Path | None = None) -> OwnCommands:
    """The commands of the file. keys: those that are taken. Mistakes are in `problems`; nothing is raised."""
    path = path or file()
    try:
        found = tables.read(path)
        for name in found.keys() - {"commands"}:
            words = f"no table named '{name}'; commands are [commands.NAME]"
            raise tables.bad(path, tables.line_of(path, f"[{name}]"), words)
        every = tables.check_table(path, found.get("commands", {}), "commands")
    except exit_codes.CommandError as stop:
        return OwnCommands(problems=(stop.message,))
    made, problems, taken = [], [], keys.taken()
    for name, table in every.items():
        header = f"[commands.{name}]"
        try:
            command = _command(path, header, name, table)
        except exit_codes.CommandError as stop:
            problems.append(stop.message)
            continue
        if command.key in taken:
            words = f"{key_shown(command.key)} is the key of {taken[command.key]}; `;` lists '{name}'"
            problems.append(tables.bad(path, tables.line_of(path, header, "key"), words).message)
            command = command._replace(key="")
        elif command.key:
            taken[command.key] = f"the command '{name}'"
        made.append(command)
    return OwnCommands(tuple(made), tuple(problems))


def _command(path: Path, header: str, name: str, table: Any) -> OwnCommand:
    """One command. Raises CommandError for its first mistake."""

    def bad(key: str, words: str) -> exit_codes.CommandError:
        return tables.bad(path, tables.line_of(path, header, key), words)

    for key, value in tables.check_table(path, table, f"commands.{name}").items():
        if key not in _KEYS:
            raise bad(key, f"no key named '{key}'; there are {', '.join(_KEYS)}")
        kind, words = _KEYS[key]
        if not isinstance(value, kind) or (isinstance(value, list) and not _are_texts(value)):
            raise bad(key, f"{key} takes {words}")
    argv, scope = table.get("argv"), table.get("scope", EVERYWHERE)
    if not argv or not argv[0] or _PLACE.search(argv[0]):
        raise bad("argv", "argv begins with the name of a program")
    if Path(argv[0]).name in SHELLS and any(_PLACE.search(w) for w in _read_by_a_shell(argv)):
        words = "a shell would read the fields again; write ['sh', '-c', 'less \"$1\"', 'sh', '{name}']"
        raise bad("argv", words)
    scopes = tuple([scope] if isinstance(scope, str) else scope)
    for one in scopes:
        if one not in FIELDS:
            raise bad("scope", f"no scope named '{one}'; there are {', '.join(FIELDS)}")
        for field in (f for word in argv for f in _PLACE.findall(word)):
            if field not in FIELDS[one]:
                known = ", ".join(f"{{{f}}}" for f in FIELDS[one]) or "none"
                raise bad("argv", f"{{{field}}} is no field of the scope {one}; its fields: {known}")
    key = key_name(table["key"]) if table.get("key") else ""
    if table.get("key") and not key:
        raise bad("key", f"no key named '{table['key']}'; a character, f5, ctrl+r")
    reads_only = table.get("reads_only", False)
    confirm = table.get("confirm", not reads_only)
    return OwnCommand(name, tuple(argv), scopes, key, confirm, table.get("background", False), reads_only)


def _read_by_a_shell(argv: list[str]) -> list[str]:
    """The words that a shell runs as a script: all up to the one after its -c."""
    flags = [n for n, word in enumerate(argv) if re.fullmatch(r"-[a-z]*c[a-z]*", word)]
    return argv[: flags[0] + 2] if flags else []


def _are_texts(value: list[Any]) -> bool:
    return all(isinstance(one, str) and "\0" not in one for one in value)


def scope_of(row: Any) -> str:
    """The scope that a row belongs to; empty: none."""
    kinds: tuple[tuple[type, str], ...] = (
        (TaskSeen, "tasks"),
        (WorkerRow, "workers"),
        (QueueRow, "queues"),
        (FailureRow, "failures"),
        (ScheduleRow, "schedules"),
        (TypeRow, "types"),
    )
    return next((scope for kind, scope in kinds if isinstance(row, kind)), "")


def fields_of(row: Any) -> dict[str, str]:
    """The fields of a row; a field that is unknown is missing."""
    sample = getattr(row, "sample", None)
    found: dict[str, Any]
    if isinstance(row, TaskSeen):
        found = {"id": row.uuid, "name": row.name, "queue": row.queue, "worker": row.worker}
    elif isinstance(row, WorkerRow):
        found = {"worker": row.node, "name": row.node}
    elif isinstance(row, QueueRow):
        found = {"queue": row.name, "name": row.name}
    elif isinstance(row, FailureRow):
        newest = getattr(sample, "task_id", "") or getattr(sample, "uuid", "")
        worker = getattr(sample, "worker", "")
        found = {"id": newest, "name": row.name, "queue": row.queue, "worker": worker}
    elif isinstance(row, ScheduleRow):
        item = row.item or {}
        found = {"id": item.get("last_task_id"), "name": row.name, "queue": item.get("queue")}
    else:
        found = {"name": getattr(row, "name", "")}
    return {name: str(value) for name, value in found.items() if value}


def filled(command: OwnCommand, row: Any) -> RowAction | str:
    """The command for a row; or why it cannot be run, in words that follow 'not run: '."""
    fields = fields_of(row)
    words: list[str] = []
    for word in command.argv:
        for name in _PLACE.findall(word):
            if name not in fields:
                return f"the {name} of this row is unknown"
            if "\0" in fields[name]:
                return f"the {name} of this row has a zero byte, which no program can be given"
        text = _fill(word, fields)
        if text.startswith("-") and not word.startswith("-") and "--" not in words:
            return f"{text!r:.40} would be read as an option; write '--' before {word} in argv"
        words.append(text)
    try:
        "".join(words).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return "this row has a character that no program can be given"
    return RowAction(
        tuple(words),
        f"run '{command.name}'",
        COSTLY if command.confirm else REVERSIBLE,
        own=command.name,
        background=command.background,
        reads_only=command.reads_only,
    )


def _fill(word: str, fields: Mapping[str, str]) -> str:
    """One pass: a field that contains '{name}' stays as it is."""
    return _PLACE.sub(lambda found: fields[found[1]], word)
