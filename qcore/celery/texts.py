"""Functions of `celery.utils.text`, `.imports`, `.time` and `.functional` that few projects import.

In and out: as their docstrings say. Source: the behaviour of Celery 5.7; a test compares each of them.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from pprint import pformat
from typing import Any

from qcore.celery.utilities import abbr

# --- text


def dedent_initial(s: str, n: int = 4) -> str:
    """The text without its first n characters, if they are all blanks."""
    return s.removeprefix(" " * n)


def ensure_sep(sep: str, s: str, n: int = 2) -> str:
    """The text with so many separators added that it has at least n."""
    return s + sep * (n - s.count(sep))


def ensure_newlines(s: str, n: int = 2) -> str:
    """The text with so many line ends added that it has at least n."""
    return ensure_sep("\n", s, n)


def fill_paragraphs(s: str, width: int, sep: str = "\n") -> str:
    """The paragraphs of a text, each broken into lines of at most `width`."""
    return sep.join(textwrap.fill(paragraph, width) for paragraph in s.split(sep))


def abbrtask(S: str | None, max: int) -> str:
    """A task's name of at most `max` characters; its module is cut."""
    if S is None:
        return "???"
    if len(S) <= max:
        return S
    module, _, name = S.rpartition(".")
    return f"{abbr(module, max - len(name) - 3, '')}[.]{name}"


def pretty(value: Any, width: int = 80, nl_width: int = 80, sep: str = "\n", **kw: Any) -> str:
    """A value as text for people; mappings and tuples begin on a line of their own."""
    if isinstance(value, dict):
        return f"{sep} {pformat(value, 4, nl_width)[1:]}"
    if isinstance(value, tuple):
        return f"{sep}    {pformat(value, width=nl_width, **kw)}"
    return pformat(value, width=width, **kw)


def simple_format(
    s: str,
    keys: Mapping[str, Any],
    pattern: re.Pattern[str] = re.compile(r"%([%\w])"),  # constant
    expand: str = r"\1",
) -> str:
    """The text with each %x replaced by what `keys` has for x: text, or a function that returns it. Raises
    ValueError for another letter."""

    def found(match: re.Match[str]) -> str:
        key = match.expand(expand)
        if key not in keys and key != "%":
            raise ValueError(f"'%{key}' in {s!r} has no meaning; write %%{key} for the text %{key}")
        value = keys.get(key, "%")
        return str(value()) if callable(value) else value

    return pattern.sub(found, s) if s else s


# --- imports


class NotAPackage(Exception):
    """A module where a package was needed."""


@contextmanager
def cwd_in_path() -> Iterator[None]:
    """A block in which the current directory is on the path of imports."""
    here = str(Path.cwd())
    if here in sys.path:
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)


def find_module(module: str, path: Any = None, imp: Callable[[str], Any] | None = None) -> Any:
    """Import a module, also from the current directory. Raises ImportError; NotAPackage where a name before
    the last one is a module without others in it."""
    load = imp or importlib.import_module
    with cwd_in_path():
        try:
            return load(module)
        except ImportError:
            names = module.split(".")
            for end in range(1, len(names)):
                above = try_import(".".join(names[:end]))
                if above is None:
                    break
                if not hasattr(above, "__path__"):
                    raise NotAPackage(above.__name__) from None
            raise


def reload_from_cwd(module: Any, reloader: Callable[[Any], Any] | None = None) -> Any:
    """Import a module anew, also from the current directory. Returns what the reloader does: the module."""
    with cwd_in_path():
        return (reloader or importlib.reload)(module)


def module_file(module: Any) -> str:
    """The source file of a module."""
    name: str = module.__file__
    return name[:-1] if name.endswith(".pyc") else name


# --- time


def utcoffset(time: Any = time, localtime: Any = time.localtime) -> float:
    """How many hours the local time is behind UTC."""
    return float(time.altzone if localtime().tm_isdst else time.timezone) / 3600


def adjust_timestamp(ts: float, offset: float, here: Callable[[], float] = utcoffset) -> float:
    """The time of a host whose utcoffset() is `offset` as one of this host."""
    return ts - (offset - here()) * 3600


def delta_resolution(dt: datetime, delta: timedelta) -> datetime:
    """A time without what is smaller than the unit of a length of time: days, hours or minutes."""
    seconds = max(delta.total_seconds(), 0)
    if seconds < 60:
        return dt
    smaller = {"second": 0, "microsecond": 0}
    if seconds >= 3600:
        smaller["minute"] = 0
    if seconds >= 86400:
        smaller["hour"] = 0
    return dt.replace(**smaller)  # type: ignore[arg-type]  # no tzinfo among them


# --- functions and values


def head_from_fun(fun: Callable[..., Any], bound: bool = False) -> Callable[..., Any]:
    """A function that does nothing but raise TypeError for arguments that `fun` does not take. bound: it has
    a first one that is given already."""
    signature = inspect.signature(fun)
    given = (object(),) if bound else ()

    def head(*args: Any, **kwargs: Any) -> int:
        signature.bind(*given, *args, **kwargs)
        return 1

    return head


def maybe_evaluate(obj: Any) -> Any:
    """What a promise stands for; any other object itself."""
    evaluate = getattr(type(obj), "__maybe_evaluate__", None)
    return evaluate(obj) if evaluate is not None else obj


def try_import(module: str, default: Any = None) -> Any:
    """A module, or `default` if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return default


def regen(it: Iterable[Any]) -> list[Any] | tuple[Any, ...]:
    """What can be read more than once: a list of an iterator, which is read at once."""
    return it if isinstance(it, list | tuple) else list(it)


def reraise(tp: Any, value: BaseException, tb: Any = None) -> None:
    """Raise an exception with a traceback."""
    raise value if value.__traceback__ is tb else value.with_traceback(tb)
