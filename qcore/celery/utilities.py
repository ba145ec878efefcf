"""Small functions of `celery.utils` that projects import; those that kombu has are kombu's (views.py).

Source: the behaviour of Celery 5.7; a test compares each of them.
"""

from __future__ import annotations

import importlib
import inspect
import os
import random
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from datetime import timezone as FixedOffset
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from qcore.app.sources import imported
from qcore.base.times import new_id
from qcore.schedules.intervals import end_of

UTC = ZoneInfo("UTC")  # not equal to datetime.UTC, as in Celery

_AZURE_SECRET = re.compile(
    r"((?:^|;)\s*(?:AccountKey|SharedAccessSignature)\s*=)[^;]*|([?&]sig=)[^&;#]*", re.I
)


def _redact_azure_connection_string(connection_string: str, mask: str = "**") -> str:
    """A connection string of Azure Storage with its keys and signatures masked."""
    return _AZURE_SECRET.sub(lambda m: f"{m[1] or m[2]}{mask}", connection_string)


# --- names of workers


def nodename(name: str, hostname: str) -> str:
    return f"{name}@{hostname}"


def nodesplit(name: str) -> Sequence[str | None]:
    """[name, host]; (None, host) of a text without `@`."""
    first, at, host = name.partition("@")
    return [first, host] if at else (None, first)


def default_nodename(hostname: str | None, default_name: str = "celery") -> str:
    name, host = nodesplit(hostname or "")
    return nodename(name or default_name, host or socket.gethostname())


def anon_nodename(hostname: str | None = None, prefix: str = "gen") -> str:
    return nodename(f"{prefix}{os.getpid()}", hostname or socket.gethostname())


def host_format(s: str, host: str | None = None, name: str | None = None, **extra: Any) -> str:
    """`s` with %h (host), %n (name), %d (domain), %p (the whole), %i and %I (no process index: 0, empty)."""
    host = host or socket.gethostname()
    hname, _, domain = host.partition(".")
    known = {"h": host, "n": name or hname, "d": domain, "i": "0", "I": "", **extra, "%": "%"}
    return re.sub(r"%(.)", lambda m: str(known.get(m[1], m[0])), s)


def node_format(s: str, name: str, **extra: Any) -> str:
    short, host = nodesplit(name)
    return host_format(s, host, short or "celery", p=name, **extra)


def worker_direct(hostname: Any) -> Any:
    """The queue (of kombu) that only this worker consumes."""
    kombu: Any = importlib.import_module("kombu")
    if isinstance(hostname, kombu.Queue):
        return hostname
    return kombu.Queue(f"{hostname}.dq2", kombu.Exchange("C.dq2"), hostname)


# --- values and functions


def noop(*args: Any, **kwargs: Any) -> None:
    """Do nothing."""


def first(predicate: Callable[[Any], Any], it: Iterable[Any]) -> Any:
    """The first value that the predicate accepts; None without one."""
    return next((value for value in it if predicate(value)), None)


def firstmethod(method: str, on_call: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """A function(objects, …) that calls a method of each and returns the first answer that is not None."""

    def call(it: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
        for one in it:
            found = getattr(one, method)
            answer = on_call(found, *args, **kwargs) if on_call else found(*args, **kwargs)
            if answer is not None:
                return answer
        return None

    return call


def chunks(it: Iterator[Any], n: int) -> Iterator[list[Any]]:
    """Lists of n values of an iterator; the last may be shorter."""
    while part := list(islice(it, n)):
        yield part


def padlist(container: Iterable[Any], size: int, default: Any = None) -> list[Any]:
    return [*islice(container, size), *[default] * size][:size]


def uniq(it: Iterable[Any]) -> Iterator[Any]:
    """Each value once, in order."""
    return iter(dict.fromkeys(it))


def mattrgetter(*attrs: str) -> Callable[[Any], dict[str, Any]]:
    return lambda obj: {name: getattr(obj, name, None) for name in attrs}


def maybe(typ: Callable[[Any], Any], val: Any) -> Any:
    return typ(val) if val is not None else val


def fun_accepts_kwargs(fun: Callable[..., Any]) -> bool:
    return any(p.kind == p.VAR_KEYWORD for p in inspect.signature(fun).parameters.values())


def qualname(obj: Any) -> str:
    """`module.name` of an object or of its class."""
    kind = obj if hasattr(obj, "__name__") else type(obj)
    name: str = kind.__qualname__
    return name if "." in name else f"{kind.__module__}.{name}"


def instantiate(name: Any, *args: Any, **kwargs: Any) -> Any:
    """An instance of a class, or of the class that a dotted name means."""
    return (imported(name) if isinstance(name, str) else name)(*args, **kwargs)


def gen_task_name(app: Any, name: str, module_name: str) -> str:
    return str(app.gen_task_name(name, module_name))


_TRUE, _FALSE = ("yes", "true", "1", "on"), ("no", "false", "0", "off")


def strtobool(term: Any, table: Mapping[str, bool] | None = None) -> Any:
    """A bool from text; other values as they are. Raises TypeError for other text."""
    known = {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)} if table is None else table
    if not isinstance(term, str):
        return term
    if term.lower() not in known:
        raise TypeError(f"Cannot coerce {term!r} to type bool")
    return known[term.lower()]


# --- text


def str_to_list(s: Any) -> Any:
    return s.split(",") if isinstance(s, str) else s


def truncate(s: str, maxlen: int = 128, suffix: str = "...") -> str:
    """`s`, cut at a blank where it has more than maxlen characters."""
    return s[:maxlen].rsplit(" ", 1)[0] + suffix if maxlen and len(s) >= maxlen else s


def abbr(S: str, max: int, ellipsis: Any = "...") -> str:
    if S is None:
        return "???"
    if len(S) <= max:
        return S
    return S[: max - len(ellipsis)] + ellipsis if ellipsis else S[:max]


def pluralize(n: float, text: str, suffix: str = "s") -> str:
    return text + suffix if n != 1 else text


def join(l: Iterable[str], sep: str = "\n") -> str:  # noqa: E741  # Celery's name
    return sep.join(line for line in l if line)


def indent(t: str, indent: int = 0, sep: str = "\n") -> str:
    return sep.join(" " * indent + line for line in t.split(sep))


def dedent(s: str, sep: str = "\n") -> str:
    """`s` with each line without its first four blanks."""
    return sep.join(line.removeprefix("    ") for line in s.splitlines())


# --- times


def maybe_timedelta(delta: Any) -> Any:
    return timedelta(seconds=delta) if isinstance(delta, int | float) else delta


def maybe_iso8601(dt: Any) -> datetime | None:
    """A datetime from what may be its ISO text; None stays None. Raises ValueError."""
    return datetime.fromisoformat(dt) if isinstance(dt, str) else dt


parse_iso8601 = datetime.fromisoformat


def is_naive(dt: datetime) -> bool:
    return dt.tzinfo is None or dt.tzinfo.utcoffset(dt) is None


def make_aware(dt: datetime, tz: tzinfo) -> datetime:
    return dt.replace(tzinfo=tz)


def localize(dt: datetime, tz: tzinfo) -> datetime:
    """A time of UTC, or a naive one, in `tz`; one of another zone stays as it is."""
    if is_naive(dt):
        dt = make_aware(dt, tz)
    return dt.astimezone(tz) if dt.tzinfo == UTC else dt


def to_utc(dt: datetime) -> datetime:
    return dt.replace(tzinfo=UTC)


def maybe_make_aware(dt: datetime, tz: tzinfo | None = None, naive_as_utc: bool = True) -> datetime:
    """An aware datetime stays as it is; a naive one is UTC, or of `tz`, and is given in `tz`."""
    if not is_naive(dt):
        return dt
    return localize(to_utc(dt) if naive_as_utc else dt, UTC if tz is None else tz)


def remaining(
    start: datetime, ends_in: Any, now: datetime | None = None, relative: bool = False
) -> timedelta:
    """How long until `ends_in`, an interval from an aware time on, is over; negative since when it is."""
    end: datetime = end_of(start, ends_in, relative) if isinstance(ends_in, timedelta) else start + ends_in
    return end.astimezone(UTC) - (now or datetime.now(UTC)).astimezone(UTC)


def add_seconds_to_datetime(dt: datetime, seconds: float) -> datetime:
    """The time so many elapsed seconds later; a naive one is not asked for its zone."""
    delta = timedelta(seconds=seconds)
    return dt + delta if is_naive(dt) else (dt.astimezone(UTC) + delta).astimezone(dt.tzinfo)


def subtract_datetimes(end: datetime, start: datetime) -> timedelta:
    """The elapsed time between two times; naive ones are UTC."""
    return maybe_make_aware(end).astimezone(UTC) - maybe_make_aware(start).astimezone(UTC)


class LocalTimezone(tzinfo):
    """The zone of this host, as the C library has it when the object is made."""

    def __init__(self) -> None:
        self.STDOFFSET = timedelta(seconds=-time.timezone)
        self.DSTOFFSET = timedelta(seconds=-time.altzone) if time.daylight else self.STDOFFSET
        self.DSTDIFF = self.DSTOFFSET - self.STDOFFSET

    def utcoffset(self, dt: Any) -> timedelta:
        return self.DSTOFFSET if self._is_summer(dt) else self.STDOFFSET

    def dst(self, dt: Any) -> timedelta:
        return self.DSTDIFF if self._is_summer(dt) else timedelta(0)

    def tzname(self, dt: Any) -> str:
        return time.tzname[self._is_summer(dt)]

    def fromutc(self, dt: datetime) -> datetime:
        """The local time of a time of UTC, with a fixed offset: that of the same digits as local time."""
        fixed = FixedOffset(timedelta(minutes=self.utcoffset(dt) // timedelta(minutes=1)))
        return fixed.fromutc(dt.replace(tzinfo=fixed))

    @staticmethod
    def _is_summer(dt: datetime) -> bool:
        seconds = time.mktime((dt.year, dt.month, dt.day, dt.hour, dt.minute, dt.second, 0, 0, 0))
        return time.localtime(seconds).tm_isdst > 0

    def __repr__(self) -> str:
        return f"<LocalTimezone: UTC{int(self.DSTOFFSET.total_seconds() / 3600):+03d}>"


def weekday(name: str) -> int:
    """0 for sun to 6 for sat. Raises KeyError."""
    found = dict(zip(("sun", "mon", "tue", "wed", "thu", "fri", "sat"), range(7), strict=True))
    return found[name[:3].lower()]


def rate(r: Any) -> Any:
    """Calls a second of `100/m`, `5/s`, `20/h` or a number; 0 without a limit."""
    if not r:
        return 0
    if not isinstance(r, str):
        return r  # a number
    number, _, unit = r.partition("/")
    per_minute = float(number) / (60 if unit == "h" else 1)
    return per_minute / {"s": 1, "m": 60, "h": 60}[unit or "s"]


def humanize_seconds(
    secs: float, prefix: str = "", sep: str = "", now: str = "now", microseconds: bool = False
) -> str:
    """Seconds as text in the largest unit that fits: `3.00 hours`."""
    secs = float(format(float(secs), ".2f"))
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if secs >= size:
            number = secs / size
            return f"{prefix}{sep}{number:.2f} {pluralize(number, unit)}"
    return f"{prefix}{sep}{secs:.2f} seconds" if microseconds and secs > 0 else now


def get_exponential_backoff_interval(
    factor: int, retries: int, maximum: int, full_jitter: bool = False
) -> int:
    """Seconds before the next retry: factor * 2 ** retries, at most `maximum`, or a random part of it."""
    longest = min(maximum, factor * 2**retries)
    return max(0, random.randrange(longest + 1) if full_jitter else longest)


class _Zones:
    """`celery.utils.time.timezone`: UTC, and zones by name."""

    utc = UTC

    @staticmethod
    def get_timezone(zone: Any) -> tzinfo:
        return ZoneInfo(zone) if isinstance(zone, str) else zone


timezone = _Zones()


def uuid() -> str:
    """A new id, as of a task."""
    return new_id()
