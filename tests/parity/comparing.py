"""What differs between an attribute of Celery's object and the one of that name here.

In:  two objects and the name of an attribute.  Out: a list of differences, each a short text; empty if a
program that uses Celery's finds the same here.

Functions: each parameter of Celery's, but those that only make a global a local name, is accepted by its
name, or among any keywords (`**`); the first two positional ones stand in the same place (further ones are
given by name); defaults are equal, where None and an empty list, mapping or text count as one. Further
parameters here have defaults. Values: equal, unless they are objects.
"""

from __future__ import annotations

import inspect
from typing import Any

_PLACES = 2
_EMPTY: tuple[Any, ...] = (None, (), [], {}, "")
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_MISSING = object()


def differences(theirs: Any, ours: Any, name: str) -> list[str]:
    """Differences of the attribute `name`."""
    mine = _read(ours, name)
    if mine is _MISSING:
        return ["is not there"]
    them = _read(theirs, name)
    if isinstance(them, type) and isinstance(mine, type) and issubclass(them, BaseException):
        return [] if issubclass(mine, BaseException) else ["is no exception"]
    if callable(them):
        return of_calls(them, mine) if callable(mine) else ["cannot be called"]
    if callable(mine):
        return ["can be called"]
    return _of_values(them, mine)


def _read(thing: Any, name: str) -> Any:
    """The attribute; the class of the exception that reading it raises."""
    try:
        return getattr(thing, name)
    except AttributeError:
        return _MISSING
    except Exception as exc:
        return type(exc).__name__


def _of_values(them: Any, mine: Any) -> list[str]:
    if them in _EMPTY and mine in _EMPTY:
        return []
    if isinstance(them, set | frozenset):
        return [] if set(them) == set(mine) else [f"{sorted(them)} in Celery, {sorted(mine)} here"]
    if isinstance(them, bool | int | float | str | list | tuple | type(None)):
        if isinstance(them, list | tuple):
            them, mine = list(map(_plain, them)), list(map(_plain, mine))
        return [] if them == mine else [f"{them!r} in Celery, {mine!r} here"]
    return []


def _plain(value: Any) -> Any:
    """A value that both sides can have: an object as its text."""
    return value if isinstance(value, bool | int | float | str | tuple | type(None)) else repr(value)


def of_calls(them: Any, mine: Any) -> list[str]:
    """Differences of two functions or classes as they are called."""
    try:
        wanted, given = (list(inspect.signature(f).parameters.values()) for f in (them, mine))
    except (TypeError, ValueError):
        return []
    by_name = {p.name: p for p in given}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in given)
    takes_more = any(p.kind is p.VAR_POSITIONAL for p in given)
    places = [p.name for p in given if p.kind in _POSITIONAL]
    found = []
    for number, parameter in enumerate(wanted):
        own = by_name.get(parameter.name)
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or _is_a_global(parameter):
            continue
        if own is None:
            if not (takes_any or (takes_more and parameter.kind is parameter.POSITIONAL_ONLY)):
                found.append(f"has no parameter {parameter.name}")
        elif own.kind is not own.VAR_POSITIONAL and not _same(parameter.default, own.default):
            found.append(f"{parameter.name} is {parameter.default!r} in Celery, {own.default!r} here")
        in_place = places[number : number + 1] == [parameter.name]
        if parameter.kind in _POSITIONAL and number < _PLACES and not in_place and not takes_more:
            found.append(f"{parameter.name} is not parameter {number + 1}")
    names = {p.name for p in wanted}
    any_theirs = any(p.kind is p.VAR_POSITIONAL for p in wanted)
    for own in given:
        needed = own.default is own.empty and own.kind in (*_POSITIONAL, own.KEYWORD_ONLY)
        if needed and own.name not in names and not any_theirs:
            found.append(f"needs {own.name}")
    return found


def _is_a_global(parameter: inspect.Parameter) -> bool:
    """Whether a parameter only makes a function or a constant a local name, for speed: `len=len`."""
    default = parameter.default
    return default is not parameter.empty and (callable(default) or parameter.name.isupper())


def _same(them: Any, mine: Any) -> bool:
    if any(them is one for one in (inspect.Parameter.empty,)):
        return True  # a default more does no harm
    if them in _EMPTY and mine in _EMPTY:
        return True
    if isinstance(them, bool | int | float | str | list | tuple | type(None) | frozenset):
        return bool(them == mine)
    return mine is not inspect.Parameter.empty
