"""The keys in effect: those of keys.py, with the user's changes from keys.toml.

In:  keys.toml in qctl's configuration directory.  Out: a KeyTable, which the screens bind and the footer, the
palette and the help page list; and one sentence for each mistake. A change with a mistake has no effect.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from qctl import exit_codes
from qctl.configuration import tables
from qctl.configuration.directories import config_dir
from qctl.dashboard.keys import DETAILS, MAIN, TABLE, Key

if TYPE_CHECKING:
    from rich.text import Text

#: keys that end the dashboard whatever keys.toml says
ALWAYS = {"quit": "ctrl+c"}
#: names of keys that are no characters
NAMED = {
    *(
        "enter",
        "escape",
        "tab",
        "space",
        "backspace",
        "delete",
        "insert",
        "home",
        "end",
        "pageup",
        "pagedown",
    ),
    *("up", "down", "left", "right"),
    *(f"f{number}" for number in range(1, 25)),
}
#: characters that Textual calls otherwise than Unicode does
_OTHER_NAMES = {
    "solidus": "slash",
    "reverse_solidus": "backslash",
    "commercial_at": "at",
    "hyphen_minus": "minus",
    "plus_sign": "plus",
    "low_line": "underscore",
}


class KeyTable(NamedTuple):
    """The keys of lists (main, rows), of pages (details) and of views; keymap: the changed ones, by the name
    of the action; problems: the mistakes of keys.toml, each a sentence."""

    main: tuple[Key, ...] = MAIN
    rows: tuple[Key, ...] = TABLE
    details: tuple[Key, ...] = DETAILS
    views: Mapping[str, str] = MappingProxyType({})
    keymap: Mapping[str, str] = MappingProxyType({})
    problems: tuple[str, ...] = ()

    def taken(self) -> dict[str, str]:
        """The keys of lists, and the action of each."""
        found = {key: k.id for k in (*self.main, *self.rows) for key in k.keys.split(",")}
        return {**found, **{key: f"view_{name}" for name, key in self.views.items()}}


def file() -> Path:
    return config_dir() / "keys.toml"


def key_name(text: str) -> str:
    """The name of a key that keys.toml calls `text`: a character, f5, ctrl+r. Empty: there is no such key."""
    *before, last = text.split("+") if text != "+" else [text]
    if len(last) == 1 and last.isprintable():
        last = _textual_name(last)
    elif last not in NAMED and not _character(last):
        return ""
    return "+".join([*before, last]) if all(b in ("ctrl", "shift", "alt") for b in before) else ""


def _textual_name(character: str) -> str:
    """What Textual calls the key of a character."""
    if character.isalnum():
        return character
    unicode = unicodedata.name(character, "").lower().replace("-", "_").replace(" ", "_")
    return _OTHER_NAMES.get(unicode, unicode)


def _character(name: str) -> str:
    """The character of ASCII that Textual calls so; empty: there is none."""
    return next((chr(code) for code in range(33, 127) if _textual_name(chr(code)) == name), "")


def key_shown(keys: str) -> str:
    """How the footer and the pages of help write keys."""
    return ", ".join(
        "-".join(
            part if len(part) == 1 else part.title() if part in NAMED else _character(part) or part
            for part in key.split("+")
        )
        for key in keys.split(",")
    )


def footer(keys: tuple[Key, ...], before: str = "", width: int = 0) -> Text:
    """The keys for the footer, on one line of so many cells (0: any number): those that fit as a whole."""
    from rich.text import Text

    text = Text(before, style="dim", no_wrap=True)
    for key in keys:
        if key.in_footer:
            words = key.words.partition(":")[0]
            if width and text.cell_len + len(f" {key.shown} {words}") > width:
                break
            text.append(f" {key.shown}", "bold")
            text.append(f" {words} ", "dim")
    text.rstrip()
    return text


def load(views: Sequence[tuple[str, str]], path: Path | None = None) -> KeyTable:
    """The keys in effect. views: name and key of each view. Mistakes are in `problems`; nothing is raised."""
    path, defaults = path or file(), dict(views)
    plain = KeyTable(views=defaults)
    try:
        found = tables.read(path)
        for name in found.keys() - {"keys"}:
            raise tables.bad(
                path, tables.line_of(path, f"[{name}]"), f"no table named '{name}'; it is [keys]"
            )
        wanted = tables.check_table(path, found.get("keys", {}), "keys")
    except exit_codes.CommandError as stop:
        return plain._replace(problems=(stop.message,))
    lists = {k.id: k.keys for k in (*MAIN, *TABLE)} | {f"view_{name}": key for name, key in views}
    pages = {k.id: k.keys for k in DETAILS}
    changed: dict[str, str] = {}
    problems = []
    for action, value in wanted.items():
        why, keys = _checked(action, value, {*lists, *pages})
        if why:
            problems.append(tables.bad(path, tables.line_of(path, "[keys]", action), why).message)
        else:
            always = ALWAYS.get(action)
            changed[action] = keys if always in (None, *keys.split(",")) else f"{keys},{always}"
    for usual in (lists, pages):
        for action, why in _clashes(usual, changed):
            problems.append(tables.bad(path, tables.line_of(path, "[keys]", action), why).message)
    return KeyTable(
        _with(MAIN, changed),
        _with(TABLE, changed),
        _with(DETAILS, changed),
        {name: changed.get(f"view_{name}", key) for name, key in defaults.items()},
        changed,
        tuple(problems),
    )


def _checked(action: str, value: Any, known: set[str]) -> tuple[str, str]:
    """The mistake of one line, or its keys."""
    from qcore.errors import did_you_mean

    if action not in known:
        near = did_you_mean(action, known) or "; `?` in the dashboard lists them"
        return f"no action named '{action}'{near}", ""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        return f"{action} takes a key in quotes, or a list of keys", ""
    names = [key_name(text) for text in texts]
    for text, name in zip(texts, names, strict=True):
        if not name:
            return f"no key named '{text}'; a character, f5, ctrl+r, enter, pagedown", ""
    return "", ",".join(names)


def _clashes(usual: dict[str, str], changed: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The changes whose key another action of the same screen has; they are taken out of `changed`."""
    while True:
        owners: dict[str, str] = {}
        clash = None
        for action in usual:
            for key in changed.get(action, usual[action]).split(","):
                other = owners.setdefault(key, action)
                if other != action and clash is None:
                    loser, winner = (action, other) if action in changed else (other, action)
                    clash = (loser, winner, key)
        if clash is None:
            return
        loser, winner, key = clash
        del changed[loser]
        words = f"{key_shown(key)} is the key of {winner}; {loser} keeps {key_shown(usual[loser])}"
        yield loser, words


def _with(keys: tuple[Key, ...], changed: dict[str, str]) -> tuple[Key, ...]:
    return tuple(
        k._replace(keys=changed[k.id], shown=key_shown(re.sub(r",ctrl\+c$", "", changed[k.id])))
        if k.id in changed
        else k
        for k in keys
    )
