"""Types of option values.

In:  words from the command line.  Out: values, or a usage error with the word and a suggestion.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import click

from qctl import exit_codes
from qctl.cli.completion import live_values

if TYPE_CHECKING:
    Kind = click.ParamType[Any]
else:
    Kind = click.ParamType  # generic only in newer versions of click


def nearest(word: str, known: Iterable[str]) -> str:
    """'; did you mean 'x'?', or an empty text."""
    from qcore.errors import did_you_mean

    return did_you_mean(word, known)


LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL")


class OneOf(Kind):
    """One of a few names, in any case; another word is an error with the nearest name."""

    name = "name"

    def __init__(self, kind: str, names: Iterable[str]) -> None:
        self.kind, self.names = kind, list(names)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in self.names:
            return str(value)
        by_case = {known.lower(): known for known in self.names}
        lower = str(value).lower()
        if lower in by_case:
            return by_case[lower]
        hint = nearest(lower, by_case) or f"; there are {', '.join(self.names)}"
        raise click.BadParameter(f"no {self.kind} named '{value}'{hint}", ctx=ctx, param=param)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(n) for n in self.names if n.startswith(incomplete)]

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "|".join(self.names) if len(self.names) < 6 else self.kind.upper()


class FormatName(Kind):
    """The value of -o."""

    name = "format"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from qctl.output import formats

        try:
            formats.parse(str(value))
        except exit_codes.CommandError as stop:
            raise click.BadParameter(stop.message.removesuffix(" (-o)"), ctx=ctx, param=param) from None
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        from qctl.output import formats

        return [CompletionItem(n) for n in formats.COMPLETED if n.startswith(incomplete)]

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "FORMAT"


class Span(Kind):
    """A duration: 90, 1.5s, 10m, 2h, 1d; becomes seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        from qcore.base.times import span_s

        try:
            return span_s(value)
        except ValueError as exc:
            raise click.BadParameter(str(exc), ctx=ctx, param=param) from None


class ScreenSize(Kind):
    """Columns and lines of a screen: 120x40."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        columns, _, lines = str(value).lower().partition("x")
        if not (
            columns.isdecimal()
            and lines.isdecimal()
            and 20 <= int(columns) <= 1000
            and 5 <= int(lines) <= 1000
        ):
            raise click.BadParameter(
                f"'{value}' is not a size such as 120x40: 20 to 1000 columns, 5 to 1000 lines",
                ctx=ctx,
                param=param,
            )
        return int(columns), int(lines)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "120x40"


class ByteSize(Kind):
    """A number of bytes: 500M, 2G, 100k; becomes an int. A unit is a power of 1000, as disks are sold."""

    name = "size"
    _UNITS: ClassVar[dict[str, int]] = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip().lower().removesuffix("b")
        unit = text[-1:] if text[-1:] in self._UNITS else ""
        try:
            found = int(float(text.removesuffix(unit)) * self._UNITS[unit])
        except (ValueError, OverflowError):
            found = 0
        if found < 1:
            raise click.BadParameter(f"'{value}' is not a size such as 500M or 2G", ctx=ctx, param=param)
        return found

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "SIZE"


class Moment(Kind):
    """A point in time (ISO 8601, UTC without an offset) or a duration from now.

    Becomes an aware datetime for a point, and a timedelta for a duration.
    """

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from datetime import UTC, datetime, timedelta

        from qcore.base.times import epoch, span_s

        if not isinstance(value, str):
            return value
        try:
            return timedelta(seconds=span_s(value))
        except ValueError:
            pass
        try:
            return datetime.fromtimestamp(epoch(value), UTC)
        except (ValueError, OverflowError):
            raise click.BadParameter(
                f"'{value}' is neither a time such as 2030-01-31T12:00:00+01:00 nor a length such as 10m",
                ctx=ctx,
                param=param,
            ) from None


class Names(Kind):
    """Names separated by commas; becomes a list."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        if isinstance(value, list):
            return value
        return [part.strip() for part in value.split(",") if part.strip()]

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "NAME[,NAME…]"


class Destinations(Names):
    """Node names or patterns; completes with the names of known workers."""

    name = "nodes"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "NODE[,NODE…]"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        return live_values(ctx, "nodes", incomplete)


class TaskName(Kind):
    """The name of a task; completes with the registered tasks of the fleet."""

    name = "task"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        return live_values(ctx, "tasks", incomplete)


class QueueName(Kind):
    """The name of a queue; completes with the broker's queues."""

    name = "queue"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        return live_values(ctx, "queues", incomplete)


class ScheduleName(Kind):
    """The name of a schedule entry; completes with those that exist."""

    name = "entry"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        return live_values(ctx, "schedules", incomplete)


class QueueNames(Names):
    """Names of queues separated by commas; completes with the broker's queues."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        return live_values(ctx, "queues", incomplete)


class WorkerName(Kind):
    """The name of a worker, or a pattern; completes with the names of known workers."""

    name = "worker"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        return live_values(ctx, "nodes", incomplete)


class FilterWord(Kind):
    """A word of a filter; completes with the fields of the filter language."""

    name = "filter"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        from qctl.filters.fields import completions

        return [CompletionItem(text, help=words) for text, words in completions(incomplete)]


def _text_of(value: str, ctx: click.Context | None, param: click.Parameter | None) -> str:
    """The text itself; for '-' the content of stdin, for '@name' that of the file."""
    if value != "-" and not value.startswith("@"):
        return value
    try:
        with click.open_file(value.removeprefix("@"), encoding="utf-8") as file:
            return str(file.read())
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise click.BadParameter(
            f"cannot read '{value.removeprefix('@')}': {why}", ctx=ctx, param=param
        ) from None


class ContextName(Kind):
    """The name of a context; completes with the existing ones."""

    name = "name"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        from qctl.configuration import contexts

        try:
            names = list(contexts.load())
        except exit_codes.CommandError:
            return []
        return [CompletionItem(n) for n in names if n.startswith(incomplete)]


class Json(Kind):
    """JSON of one kind (list or object), from the word, stdin or a file; an error message marks the place of
    the error."""

    name = "json"
    _KINDS: ClassVar[dict[type, str]] = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "a truth value",
        type(None): "null",
    }

    def __init__(self, kind: type, example: str) -> None:
        self.kind, self.example = kind, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        import json

        value = _text_of(value, ctx, param)
        wanted = f"takes a JSON {self._KINDS[self.kind].split()[-1]} such as {self.example}"
        try:
            found = json.loads(value)
        except ValueError as exc:
            from qctl.output.text import place_in

            place = getattr(exc, "pos", 0)
            line, column = place_in(value, place)
            words = getattr(exc, "msg", str(exc))
            raise click.BadParameter(
                f"{wanted}; this is not JSON: {words}\n  {line}\n  {' ' * column}^", ctx=ctx, param=param
            ) from None
        except RecursionError:
            raise click.BadParameter(f"{wanted}; this is nested too deeply", ctx=ctx, param=param) from None
        if not isinstance(found, self.kind):
            is_a = self._KINDS.get(type(found), "a number")
            raise click.BadParameter(f"{wanted}; this is {is_a}\n  {value:.70}\n  ^", ctx=ctx, param=param)
        return found

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "JSON"


class Header(Kind):
    """KEY=VALUE; the value is text."""

    name = "key=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value[0], value[1]
        key, sign, rest = value.partition("=")
        if not sign or not key:
            raise click.BadParameter(f"'{value}' is not KEY=VALUE", ctx=ctx, param=param)
        return key, rest


def names_on_stdin() -> list[str]:
    """The words on stdin, separated by white space or commas."""
    # Editors and other systems may add a byte order mark or NULs; neither is part of a name.
    return sys.stdin.read().translate({0xFEFF: None, 0: None, ord(","): " "}).split()
