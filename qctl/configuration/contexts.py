"""Contexts: named fleets, each with its broker and its safety settings.

In:  contexts.toml in the user's directory.  Out: Contexts; the chosen one and the previous one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from qcore.base.lazy_pattern import lazily
from qctl import exit_codes
from qctl.configuration import tables
from qctl.configuration.directories import config_dir, others_can_read, write_private

PROD = "prod"
COLOURS = {"red": "31", "green": "32", "yellow": "33", "blue": "94", "magenta": "35", "cyan": "36"}
_NAME = lazily(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")


class Context(NamedTuple):
    """A named fleet. values: its table in contexts.toml."""

    name: str
    values: dict[str, Any]

    @property
    def kind(self) -> str:
        """Its class: 'prod', any other word, or empty."""
        return str(self.values.get("class", ""))

    @property
    def is_prod(self) -> bool:
        return self.kind == PROD

    @property
    def read_only(self) -> bool:
        return bool(self.values.get("read_only", self.is_prod))

    @property
    def ansi(self) -> str:
        """The colour of its name; by default red for class prod."""
        return COLOURS.get(str(self.values.get("colour", "")), "1;31" if self.is_prod else "")


def file() -> Path:
    return config_dir() / "contexts.toml"


def load(warn: Callable[[str], None] = lambda words: None, path: Path | None = None) -> dict[str, Context]:
    """Every context by name. Raises CommandError for an error in the file."""
    from qcore.errors import keep_secret

    path = path or file()
    if not path.exists():
        return {}
    found = tables.read(path)
    for name in found.keys() - {"contexts"}:
        line = max(tables.line_of(path, f"[{name}]"), tables.line_of(path, "", name))
        raise tables.bad(path, line, f"no table named '{name}'; contexts are [contexts.NAME]")
    made = {}
    for name, table in tables.check_table(path, found.get("contexts", {}), "contexts").items():
        header = f"[contexts.{name}]"
        values = tables.check(path, table, tables.CONTEXT, header)
        colour = values.get("colour", "red")
        if colour not in COLOURS:
            line = tables.line_of(path, header, "colour")
            raise tables.bad(path, line, f"no colour named '{colour}'; there are {', '.join(COLOURS)}")
        for url in ("broker", "result_backend"):
            keep_secret(values.get(url) or "")
        made[name] = Context(name, values)
    _warn_of_readers(path, made, warn)
    return made


def _warn_of_readers(path: Path, found: dict[str, Context], warn: Callable[[str], None]) -> None:
    from qcore.errors import mask_url

    texts = [str(value) for context in found.values() for value in context.values.values()]
    if any(mask_url(text) != text for text in texts) and others_can_read(path):
        warn(f"warning: others can read {path}, which has a password in it; `chmod 600` it")


def save(found: dict[str, Context]) -> None:
    """Write all contexts, in one step; comments and the order of existing tables are kept."""
    path = file()
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    write_private(path, tables.changed(before, {c.name: c.values for c in found.values()}, "contexts"))


def valid_name(name: str) -> str:
    """Return the name. Raises CommandError if it is not a valid name of a context."""
    if not _NAME.fullmatch(name):
        raise exit_codes.CommandError(
            exit_codes.USAGE,
            f"'{name}' is not a valid name of a context",
            "letters, digits, '_', '-' and '.', at most 63",
        )
    return name


def named(found: dict[str, Context], name: str, where: str) -> Context:
    """The context with that name. Raises CommandError with the nearest name."""
    if name in found:
        return found[name]
    from qcore.errors import did_you_mean

    near = did_you_mean(name, found) or (f"; there are {', '.join(found)}" if found else "; there is none")
    raise exit_codes.CommandError(
        exit_codes.BAD_CONFIG, f"no context named '{name}' ({where}){near}", "see `qctl ctx ls`"
    )


# --- which one is chosen


def _chosen_file() -> Path:
    return config_dir() / "chosen.json"


def chosen() -> tuple[str, str]:
    """The names of the chosen context and the previous one; empty: none."""
    try:
        text = _chosen_file().read_text(encoding="utf-8")
        import json  # here and below: most have chosen none

        found = json.loads(text)
        return str(found.get("current") or ""), str(found.get("previous") or "")
    except (OSError, ValueError, AttributeError):
        return "", ""


def _write(current: str, previous: str) -> None:
    import json

    write_private(_chosen_file(), json.dumps({"current": current, "previous": previous}) + "\n")


def choose(name: str) -> None:
    """Set the default context; empty: none."""
    before, earlier = chosen()
    previous = before if before != name else earlier
    _write(name, previous)


def forget(name: str) -> None:
    """Remove a name from the chosen and the previous context."""
    current, previous = (n if n != name else "" for n in chosen())
    if _chosen_file().exists():
        _write(current, previous)
