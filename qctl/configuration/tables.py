"""qctl's TOML files: read, checked against a table of fields, and written.

In:  a path and the permitted fields.  Out: values; or an error with the file, the line and the nearest
name.  A file has at most 1 MiB; nothing in it is executed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qctl import exit_codes
from qctl.configuration.addresses import why_bad

_MOST = 1024 * 1024


class Field(NamedTuple):
    """A key of a file: its type, and its purpose."""

    kind: type
    words: str
    is_address: bool = False


COMMON = {
    "broker": Field(str, "the broker, as -b; also env:NAME, file:PATH, keyring:NAME", True),
    "result_backend": Field(str, "URL of the result store, as --result-backend", True),
    "app": Field(str, "the app, as -A"),
    "output": Field(str, "the output format, as -o"),
    "timeout": Field(str, "timeout, as -t"),
    "read_only": Field(bool, "refuse commands that change something"),
}
CONTEXT = {
    **COMMON,
    "class": Field(str, "prod: read-only by default, and changes need a reason"),
    "colour": Field(str, "colour of its name: red, yellow, green, blue, magenta, cyan"),
    "queue": Field(str, "default queue of commands"),
}
#: fields of qctl.toml, [tool.qctl] and the user's config.toml
DEFAULTS = {**COMMON, "queue": CONTEXT["queue"], "context": Field(str, "the context to use, as --context")}

_KINDS = {str: "text in quotes", bool: "true or false"}


def read(path: Path) -> dict[str, Any]:
    """The tables of a file; empty when it does not exist. Raises CommandError when it cannot be read."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST + 1)
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise exit_codes.CommandError(exit_codes.NOT_PERMITTED, f"{exc.strerror}: {path}") from None
    import tomllib  # only where there is a file: most people have none

    if len(raw) > _MOST:
        raise bad(path, 1, "the file is larger than 1 MiB")
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise bad(path, 1, "the file is not UTF-8") from None
    except tomllib.TOMLDecodeError as exc:
        found = re.search(r"\s*\(at line (\d+), column \d+\)$", str(exc))
        last = raw.count(b"\n") + 1
        words = str(exc)[: found.start()] if found else str(exc).removesuffix(" (at end of document)")
        raise bad(path, int(found[1]) if found else last, words[:1].lower() + words[1:]) from None
    except RecursionError:
        raise bad(path, 1, "the file is nested too deeply") from None


def check(path: Path, table: Any, fields: Mapping[str, Field], header: str = "") -> dict[str, Any]:
    """The values of one table of a file; header: '[contexts.prod]'. CommandError at the first error."""
    if not isinstance(table, dict):
        raise bad(path, line_of(path, header), f"{header.strip('[]')} is a table of keys, not a value")
    for name, value in table.items():
        field = fields.get(name)
        if field is None:
            from qcore.errors import did_you_mean

            near = did_you_mean(name, fields) or f"; there are {', '.join(fields)}"
            raise bad(path, line_of(path, header, name), f"no key named '{name}'{near}")
        if not isinstance(value, field.kind):
            words = f"{name} takes {_KINDS[field.kind]}, not {type(value).__name__}: {value!r:.40}"
            raise bad(path, line_of(path, header, name), words)
        if field.is_address and (why := why_bad(str(value))):
            raise bad(path, line_of(path, header, name), f"the {name.replace('_', ' ')} {why}")
    return dict(table)


def check_table(path: Path, value: Any, name: str) -> dict[str, Any]:
    """`value`, if it is a table; else raises CommandError."""
    if not isinstance(value, dict):
        raise bad(path, line_of(path, "", name), f"{name} is a table, not a value")
    return value


def bad(path: Path, line: int, words: str) -> exit_codes.CommandError:
    """The CommandError for an error in a file."""
    return exit_codes.CommandError(exit_codes.BAD_CONFIG, f"{path}:{line}: {words}")


def line_of(path: Path, header: str, key: str = "") -> int:
    """The line of a key below a header; without such a line that of the header, without either 1."""
    inside = not header
    at = 1
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        text = line.strip().replace('"', "").replace("'", "").replace(" ", "")
        if text.startswith("["):
            inside = text.partition("#")[0] == header.replace('"', "")
            at = number if inside else at
            if inside and not key:
                return number
        elif inside and key and text.partition("=")[0] == key:
            return number
    return at


def changed(text: str, wanted: Mapping[str, Mapping[str, str | bool]], head: str) -> str:
    """The TOML `text` with one table below `head` for each entry of `wanted` and no others. Unchanged parts
    keep their comments."""
    import tomlkit  # imported only for writing

    document = tomlkit.parse(text)
    if head not in document:
        document[head] = tomlkit.table(is_super_table=True)
    tables: Any = document[head]
    for name in [name for name in tables if name not in wanted]:
        del tables[name]
    for name, values in wanted.items():
        if name not in tables:
            tables[name] = tomlkit.table()
        table = tables[name]
        for key in [key for key in table if key not in values]:
            del table[key]
        for key, value in values.items():
            if key not in table or table[key] != value:
                table[key] = value
    return tomlkit.dumps(document)
