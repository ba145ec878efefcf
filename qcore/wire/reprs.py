"""The short text of a value in messages, events and logs, as Celery writes it.

In:  any value.  Out: its repr, cut by length and by depth.
Used by: task.py, copies.py, and what reports of runs.
"""

from __future__ import annotations

from typing import Any

REPR_LIMIT = 1024


def short_repr(value: Any, levels: int | None = None, most: int = REPR_LIMIT) -> str:
    """repr, at most so many characters, as Celery writes it in messages and events; never raises. levels: how
    many lists, dicts, tuples and sets are shown within each other, itself included; None or 0: all."""
    try:
        text = repr(_cut(value, levels) if levels and _is_deeper(value, levels) else value)
    except Exception as exc:  # user classes: their repr may raise anything
        text = f"<unrepresentable {type(value).__name__}: {type(exc).__name__}>"
    return text if len(text) <= most else text[: most - 3] + "..."


#: what stands for one that is too deep
_SHOWN: dict[type, str] = {
    list: "[...]",
    dict: "{...}",
    tuple: "(...)",
    set: "{...}",
    frozenset: "frozenset({...})",
}


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether a list, dict, tuple or set contains others in more levels."""
    if not levels:
        return True
    items = value.values() if type(value) is dict else value if type(value) in _SHOWN else ()
    for item in items:  # noqa: SIM110 - each call comes here, and a generator takes longer
        if type(item) in _SHOWN and _is_deeper(item, levels - 1):
            return True
    return False


class _Cut(str):
    """A text that is its own repr."""

    __slots__ = ()
    __repr__ = str.__str__


def _cut(value: Any, levels: int) -> Any:
    """The same with three dots for what is in deeper levels."""
    kind = type(value)
    if kind not in _SHOWN or (not value and kind in (set, frozenset)):
        return value
    if not levels:
        return _Cut("(...,)" if kind is tuple and len(value) == 1 else _SHOWN[kind])
    if kind is dict:
        return {key: _cut(item, levels - 1) for key, item in value.items()}
    items = [_cut(item, levels - 1) for item in value]
    # A set of other items would have another order.
    return kind(items) if kind in (list, tuple) else _Cut(_SHOWN[kind].replace("...", repr(items)[1:-1]))
