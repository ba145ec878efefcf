"""Text from elsewhere, made safe to print: a terminal acts on none of it, and no line of it looks like ours.

In:  names, arguments and messages that anybody may have sent.  Out: text without control characters,
terminal escapes or direction marks.
"""

from __future__ import annotations

import re

from qcore.base.lazy_pattern import lazily

_OTHERS = "\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufff9-\ufffb"
UNSAFE = lazily(f"[\x00-\x1f{_OTHERS}]")
_UNSAFE_IN_LINES = lazily(f"[\x00-\x08\x0b-\x1f{_OTHERS}]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _escape(found: re.Match[str]) -> str:
    char = found[0]
    code = ord(char)
    return _SHORT.get(char) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def shown(text: str) -> str:
    """One line of text in which control characters appear as \\x1b and the like."""
    return text if text.isascii() and text.isprintable() else UNSAFE.sub(_escape, text)


def in_json(text: str) -> str:
    """The same for JSON text of one line, which reads as before."""
    if text.isascii() and text.isprintable():
        return text
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def in_lines(text: str) -> str:
    """The same for a record of a log: line ends and tabs stay, but only its first line begins as one."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE_IN_LINES.sub(_escape, text).replace("\n[", "\n [")
