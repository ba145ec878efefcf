"""Values as YAML blocks, written without a library.

In:  a value that JSON can represent.  Out: text that parsers of YAML 1.1 and 1.2 read as the same value.
Ambiguous text is quoted as in JSON, which is valid YAML.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./@]*(?:-[A-Za-z0-9_./@]+)*")
#: plain words that some parser does not read as text
_TAKEN = frozenset(("true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"))
_UNPRINTABLE = re.compile(
    "[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\uffff\ud800-\udfff]"
)
_BEYOND = re.compile("[^\x00-\x7f]")
#: longer keys need a question mark (YAML 1.1, "simple keys": 1024 characters)
_LONG_KEY = 1000


def dump(value: Any, ascii_only: bool = False) -> str:
    """The YAML text with a final line end. ascii_only: escape all other characters (they are in quotes)."""
    text = "\n".join(_lines(value, "")) + "\n"
    return _BEYOND.sub(_escaped, text) if ascii_only else text


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _lines(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _entry(_key(key), inner, indent)
    elif isinstance(value, list | tuple) and value:
        for inner in value:
            first, *rest = _lines(inner, indent + "  ")
            yield f"{indent}- {first.lstrip(' ')}"
            yield from rest
    else:
        yield indent + _scalar(value)


def _entry(key: str, inner: Any, indent: str) -> Iterator[str]:
    head = f"{indent}{key}:"
    if len(key) > _LONG_KEY:
        yield f"{indent}? {key}"
        head = f"{indent}:"
    if isinstance(inner, dict | list | tuple) and inner:
        yield head
        yield from _lines(inner, indent + "  ")
    else:
        yield f"{head} {_scalar(inner)}"


def _key(key: Any) -> str:
    return _text(key if isinstance(key, str) else json.dumps(key, default=str))


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    if isinstance(value, dict | list | tuple):
        return "{}" if isinstance(value, dict) else "[]"
    if value is None or isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(value, float):
        # YAML 1.1 reads '1e+20' as text: a float needs a point.
        text = repr(value)
        return text if "." in text else text.replace("e", ".0e")
    return _text(str(value))


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _TAKEN and len(text) < _LONG_KEY:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
