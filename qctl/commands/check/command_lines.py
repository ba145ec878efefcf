"""Command lines of `celery` in Procfiles, units, Dockerfiles, scripts: options refused or without effect.

In:  a Text.  Out: Findings. Source: the rows of the command line in Celery's inventory.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import PurePath

from qctl.commands.check.findings import DIFFERENT, ERROR, LEFT_OUT, NOTE, Difference, Finding, differences
from qctl.commands.check.source import Text

PROGRAMS = ("worker", "beat", "events", "multi", "shell", "result", "flower")
#: short options of each program, and their long names in the inventory
_SHORT = {
    "worker": {"-S": "--statedb", "-O": "--optimization", "-s": "--schedule", "-B": "--beat", "-P": "--pool"},
    "beat": {"-s": "--schedule"},
    "events": {"-D": "--detach", "-l": "--loglevel", "-f": "-f"},
}
#: options of the worker that have another name in the inventory
_LONG = {"--schedule-filename": "--schedule", "--state-db": "--statedb", "--logfile": "-f"}
#: options that differ only by their value, or not in a way that needs a remark
_QUIET = frozenset(("--pool", "--disable-prefetch", "--pool-start-method", "--beat"))
_SETTING = re.compile(r"[a-z]+[._][a-z_.]+=")
_VARIABLE = re.compile(r"(?:^|[\s\"'-])(?P<name>[A-Z][A-Z_]+)\s*[=:]")


def check(text: Text) -> Iterator[Finding]:
    """The findings about the command lines and variables of a file."""
    variables = differences("settings.environment_variables")
    for number, line in _lines(text.text):
        if line.lstrip().startswith(("#", ";")):
            continue
        for found in _VARIABLE.finditer(line):
            row = variables.get(found["name"])
            if row is not None:
                level = DIFFERENT if row.status == LEFT_OUT else NOTE
                yield Finding(level, text.file, number, found["name"], row.note, "leave it out")
        if re.search(r"\bcelery\b", line):
            for words in _commands(line):
                yield from _program(text.file, number, words)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with the number of their first; one that ends with a backslash goes on."""
    whole, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        first = first if whole else number
        if line.rstrip().endswith("\\"):
            whole += line.rstrip()[:-1] + " "
            continue
        yield first, whole + line
        whole = ""
    if whole:
        yield first, whole


def _commands(line: str) -> Iterator[list[str]]:
    """The words behind `celery` in each command of a line."""
    exec_form = re.search(r"\[\s*[\"'].*\]", line)
    if exec_form is not None:
        try:
            words = [str(word) for word in json.loads(exec_form[0].replace("'", '"'))]
        except ValueError:
            words = []
        if words:
            if len(words) == 3 and words[1] in ("-c", "-lc"):
                yield from _commands(words[2])
                return
            yield from _behind(words)
            return
    for part in re.split(r"&&|\|\||;|\|", line):
        try:
            words = shlex.split(part, comments=True)
        except ValueError:
            words = part.replace('"', " ").replace("'", " ").split()
        if len(words) > 1 and any(" " in word and "celery" in word for word in words):
            words = " ".join(words).split()
        yield from _behind(words)


def _behind(words: list[str]) -> Iterator[list[str]]:
    for place, word in enumerate(words):
        if PurePath(word.rpartition("=")[2]).name == "celery":
            yield words[place + 1 :]
            return


def _program(file: str, line: int, words: list[str]) -> Iterator[Finding]:
    """The findings about one command: its words behind `celery`."""
    place = next((i for i, word in enumerate(words) if word in PROGRAMS), None)
    if place is None:
        return
    before, program, rest = words[:place], words[place], words[place + 1 :]
    for option in before:
        name = option.partition("=")[0]
        row = differences("cli").get(f"celery {name}")
        if row is not None:
            level = ERROR if row.status == LEFT_OUT else DIFFERENT
            yield Finding(level, file, line, f"celery {name}", row.note)
    kind = "worker" if program == "multi" else program
    for option, value in _options(rest):
        yield from _option(file, line, kind, option, value)
    if kind == "worker":
        for word in rest:
            if _SETTING.match(word):
                what = differences("cli")["worker_extra_words"].note
                yield Finding(
                    ERROR, file, line, word.partition("=")[0], what, "put it into the app's settings"
                )


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    """Options with the word that may be their value."""
    for place, word in enumerate(words):
        following = words[place + 1] if place + 1 < len(words) else ""
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            yield name, value if equals else following
        elif len(word) > 1 and word[0] == "-":
            yield word[:2], word[2:].removeprefix("=") or following


def _option(file: str, line: int, program: str, option: str, value: str) -> Iterator[Finding]:
    long = _SHORT.get(program, {}).get(option) or _LONG.get(option, option)
    name = f"celery {program} {option}"
    if long not in _QUIET:
        row = differences("cli").get(f"celery {program} {long}")
        if row is not None:
            yield _from_row(file, line, name, row)


def _from_row(file: str, line: int, name: str, row: Difference) -> Finding:
    refused = row.status == LEFT_OUT or row.note.startswith("refused")
    fix = "leave it out" if refused or row.note.startswith("no effect") else ""
    return Finding(ERROR if refused else DIFFERENT, file, line, name, row.note, fix)
