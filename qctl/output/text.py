"""Untrusted text, made safe and short enough to print.

In:  names, arguments and values that any client may have sent.  Out: text without control characters,
terminal escapes or direction marks, of a known width.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from qcore.base.escapes import shown as shown


def shown_lines(text: str) -> str:
    """Escape text of several lines: line ends and tabs are kept."""
    return "\n".join("\t".join(shown(part) for part in line.split("\t")) for line in text.splitlines())


def place_in(text: str, place: int) -> tuple[str, int]:
    """The part of `text` around index `place`, at most 70 characters, and the column of `place` in it."""
    start = max(0, place - 50)
    part, column = text[start : start + 70], place - start
    return shown(part), len(shown(part[:column]))


def width(text: str) -> int:
    """The number of terminal cells that `text` takes."""
    if text.isascii():
        return len(text)
    return sum(map(_cells, text))


@lru_cache(maxsize=4096)  # a screen has few different characters, and asks for each of its cells
def _cells(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def pad(text: str, cells: int, right: bool = False) -> str:
    """`text` padded with spaces to `cells`."""
    space = " " * max(0, cells - width(text))
    return space + text if right else text + space


def cut(text: str, cells: int) -> str:
    """`text` in at most `cells`, cut at the end."""
    if width(text) <= cells:
        return text
    taken, room = [], cells - 1
    for char in text:
        room -= _cells(char)
        if room < 0:
            break
        taken.append(char)
    return "".join(taken) + "…" if cells > 0 else ""


def cut_middle(text: str, cells: int) -> str:
    """An id in at most `cells`, cut in the middle."""
    if len(text) <= cells or cells < 5:
        return cut(text, cells)
    head = (cells - 1 + 1) // 2
    return f"{text[:head]}…{text[len(text) - (cells - 1 - head) :]}"


def size(count: int | None) -> str:
    """A number of bytes with a unit: 812 B, 3.4 KiB, 212 MiB, 1.5 GiB; `-` when it is unknown."""
    if count is None:
        return "-"
    amount, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1000:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.1f} {unit}" if amount < 10 and unit != "B" else f"{amount:.0f} {unit}"


def age(seconds: float | None) -> str:
    """A duration in about five characters: 0.4s, 12s, 3m20s, 5h02m, 3d04h."""
    if seconds is None:
        return "-"
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def stamp(epoch_s: float, fraction: bool = True) -> str:
    """Epoch seconds as RFC 3339 text in UTC."""
    moment = datetime.fromtimestamp(epoch_s, UTC)
    return moment.isoformat(timespec="milliseconds" if fraction else "seconds").replace("+00:00", "Z")


def count(number: int, noun: str, plural: str = "") -> str:
    """'1 worker', '3 workers'."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def software(info: Mapping[str, Any]) -> str:
    """The worker's software and version, from its announcement: 'qcore 0.1.0'."""
    if info.get("sw_ident"):
        return f"{info['sw_ident']} {info.get('sw_ver', '')}".strip()
    return f"qcore {info['version']}" if info.get("version") else ""
