"""Tests of single terms.

In:  a field, an operator and its values.  Out: a Part.
Before this: grammar.py.  After this: predicate.py combines the parts.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from qcore.base.times import epoch, span_s
from qcore.errors import did_you_mean
from qcore.wire.patterns import MAX_PATTERN, refuse_costly
from qctl.filters import traces
from qctl.filters.fields import Field, Value, is_exact, spellings, state_named, state_words
from qctl.filters.predicate import Hints, Part, Record

_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
_MISSING = object()
_READ_AT_MOST = 65_536  # longest text that is parsed as a value, in characters

Fits = Callable[[str], bool]


class FilterSyntaxError(Exception):
    """The value after an operator is not valid for it."""

    def __init__(self, message: str, value: Value | None = None) -> None:
        super().__init__(message)
        self.value = value


# --- text


def _fits(value: Value, contains: bool) -> Fits:
    """A test of text: equality, a pattern or regular expression, or (contains) a substring."""
    text = value.text
    if value.kind == "regex":
        try:
            refuse_costly(text)
        except ValueError as exc:
            raise FilterSyntaxError(f"the regular expression {exc}", value) from None
        found = re.compile(text).search
        return lambda have: found(have) is not None
    if contains:
        lower = text.lower()
        return lambda have: lower in have.lower()
    if value.kind == "bare" and ("*" in text or "?" in text):
        if len(text) > MAX_PATTERN:
            raise FilterSyntaxError(f"a pattern has at most {MAX_PATTERN} characters", value)
        whole = re.compile(fnmatch.translate(text)).match
        return lambda have: whole(have) is not None
    return text.__eq__


def word(value: Value) -> Part:
    """A term without a field: it tests the name and the id."""
    exact = is_exact(value)
    fits = _fits(value, contains=exact)

    def test(record: Record) -> bool:
        name, task_id = record.get("name"), record.get("id")
        return bool((name and fits(name)) or (task_id and fits(task_id)))

    return Part(test, reads=frozenset(("name", "id")), within=value.text if exact else "")


def _text(field: Field, operator: str, values: Sequence[Value]) -> Part:
    key = field.key
    if operator in (":", "=") and all(map(is_exact, values)):
        wanted = frozenset(v.text for v in values)
        return Part(lambda record: record.get(key) in wanted, _among(key, wanted))
    any_fits = _any([_fits(v, contains=operator in ("~", "!~")) for v in values])
    negated = operator.startswith("!")
    hints = traces.within(key, values) if operator == "~" else Hints()

    def test(record: Record) -> bool:
        have = record.get(key)
        return have is not None and any_fits(str(have)) is not negated

    return Part(test, hints)


def _among(key: str, wanted: frozenset[str]) -> Hints:
    if key == "name":
        return Hints(names=wanted)
    if key == "queue":
        return Hints(queues=wanted)
    if key == "worker":
        return Hints(workers=wanted)
    if key == "root_id":
        return Hints(roots=wanted)
    return Hints(ids=wanted) if key == "id" else Hints()


def _any(tests: Sequence[Fits]) -> Fits:
    return tests[0] if len(tests) == 1 else lambda have: any(fits(have) for fits in tests)


def _exception(field: Field, operator: str, values: Sequence[Value]) -> Part:
    """`exc:` tests the type, with or without its module; `exc~` tests the whole text."""
    if operator in ("~", "!~"):
        return _text(field, operator, values)
    any_fits, negated = _any([_fits(v, contains=False) for v in values]), operator == "!="

    def test(record: Record) -> bool:
        have = record.get("exc")
        if not have:
            return False
        kind = re.split(r"[:(\s]", have, maxsplit=1)[0]
        return (any_fits(kind) or any_fits(kind.rpartition(".")[2])) is not negated

    return Part(test, Hints() if negated else traces.same("exc", (), values))


def _state(field: Field, operator: str, values: Sequence[Value]) -> Part:
    states = set()
    for value in values:
        state = state_named(value.text)
        if state is None or value.kind == "regex":
            near = did_you_mean(value.text.lower(), state_words())
            raise FilterSyntaxError(f"no state named '{value.text}'{near}", value)
        states.add(state)
    wanted = frozenset(w for state in states for w in spellings(state))
    if operator == "!=":
        return Part(lambda record: (have := record.get("state")) is not None and have not in wanted)
    return Part(lambda record: record.get("state") in wanted, Hints(states=frozenset(states)))


# --- numbers and times


def _compared(key: str, operator: str, wanted: float) -> Part:
    how = _ORDER["=" if operator == ":" else operator]

    def test(record: Record) -> bool:
        have = record.get(key)
        return have is not None and how(have, wanted)

    return Part(test)


_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
}


def _span(field: Field, operator: str, values: Sequence[Value]) -> Part:
    (value,) = _one(field, values)
    try:
        return _compared(field.key, operator, span_s(value.text))
    except ValueError as exc:
        raise FilterSyntaxError(str(exc), value) from None


def _number(field: Field, operator: str, values: Sequence[Value]) -> Part:
    (value,) = _one(field, values)
    try:
        return _compared(field.key, operator, float(value.text))
    except ValueError:
        raise FilterSyntaxError(f"'{value.text}' is not a number", value) from None


def _one(field: Field, values: Sequence[Value]) -> Sequence[Value]:
    if len(values) != 1:
        raise FilterSyntaxError(f"{field.name} takes one value", values[1])
    return values


def _moment(field: Field, operator: str, values: Sequence[Value], now: float) -> Part:
    (value,) = _one(field, values)
    at = _epoch(value, now)
    if field.name == "since":
        return Part(lambda record: (have := record.get("at")) is not None and have >= at, Hints(since=at))
    return Part(lambda record: (have := record.get("at")) is not None and have <= at, Hints(until=at))


def _epoch(value: Value, now: float) -> float:
    text = value.text
    try:
        return now - span_s(text)
    except ValueError:
        pass
    try:
        if clock := _CLOCK.fullmatch(text):
            hour, minute, second = (int(part or 0) for part in clock.groups())
            today = datetime.fromtimestamp(now, UTC)
            at = today.replace(hour=hour, minute=minute, second=second, microsecond=0)
            return (at if at.timestamp() <= now else at - timedelta(days=1)).timestamp()
        return epoch(text)
    except (ValueError, OverflowError):
        raise FilterSyntaxError(
            f"'{text}' is neither a length of time such as 2h nor a time such as 14:30 or "
            "2026-01-31T14:30:00Z",
            value,
        ) from None


# --- arguments and results


def _payload(field: Field, path: Sequence[str], operator: str, values: Sequence[Value]) -> Part:
    if not path:
        if operator not in ("~", "!~"):
            raise FilterSyntaxError(f"write {field.name}~text, or say where to look: {field.name}.NAME=value")
        return _anywhere(field.key, operator, values)
    if operator in (">", ">=", "<", "<="):
        (value,) = _one(field, values)
        try:
            limit = float(value.text)
        except ValueError:
            raise FilterSyntaxError(f"'{value.text}' is not a number", value) from None
        how = _ORDER[operator]
        return _inside(field.key, path, lambda have: _is_number(have) and how(have, limit))
    tests = [_same(v) if operator in (":", "=", "!=") else _within(v) for v in values]
    negated = operator.startswith("!")
    hints = Hints() if negated or operator == "~" else traces.same(field.key, path, values)
    return _inside(field.key, path, lambda have: any(t(have) for t in tests) is not negated, hints)


def _anywhere(key: str, operator: str, values: Sequence[Value]) -> Part:
    any_fits, negated = _any([_fits(v, contains=True) for v in values]), operator == "!~"

    def test(record: Record) -> bool:
        have = record.get(key)
        if have is None:
            return False
        if isinstance(have, str):
            return any_fits(have) is not negated
        return (any_fits(_json(have)) or any_fits(repr(have))) is not negated

    return Part(test, Hints() if negated else traces.within(key, values))


def _inside(key: str, path: Sequence[str], fits: Callable[[Any], bool], hints: Hints | None = None) -> Part:
    def test(record: Record) -> bool:
        have = _read(record.get(key))
        for step in path:
            if isinstance(have, dict):
                have = have.get(step, _MISSING)
            elif isinstance(have, list | tuple) and step.isdecimal() and int(step) < len(have):
                have = have[int(step)]
            else:
                return False
        return have is not _MISSING and fits(have)

    return Part(test, hints or Hints(), values=True)


def _read(have: Any) -> Any:
    """The value; text is parsed as JSON or a Python literal, None if that fails."""
    if not isinstance(have, str):
        return have
    if len(have) > _READ_AT_MOST:
        return None
    try:
        return json.loads(have)
    except (ValueError, RecursionError):
        pass
    import ast

    try:
        return ast.literal_eval(have)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _same(value: Value) -> Callable[[Any], bool]:
    fits, literal = _fits(value, contains=False), _MISSING
    if value.kind == "bare":
        try:
            literal = json.loads(value.text)
        except (ValueError, RecursionError):
            pass

    def test(have: Any) -> bool:
        if isinstance(have, str):
            return fits(have)
        # True does not equal 1 here.
        return (
            literal is not _MISSING
            and isinstance(have, bool) is isinstance(literal, bool)
            and have == literal
        )

    return test


def _within(value: Value) -> Callable[[Any], bool]:
    fits = _fits(value, contains=True)
    return lambda have: fits(have if isinstance(have, str) else _json(have))


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return repr(value)


def _is_number(have: Any) -> bool:
    return isinstance(have, int | float) and not isinstance(have, bool)


# --- the choice

_OPERATORS = {
    "text": (":", "=", "!=", "~", "!~"),
    "exception": (":", "=", "!=", "~", "!~"),
    "state": (":", "=", "!="),
    "span": (":", "=", "!=", ">", ">=", "<", "<="),
    "number": (":", "=", "!=", ">", ">=", "<", "<="),
    "moment": (":", "="),
    "payload": (":", "=", "!=", "~", "!~", ">", ">=", "<", "<="),
}
_SIMPLE: dict[str, Callable[[Field, str, Sequence[Value]], Part]] = {
    "text": _text,
    "exception": _exception,
    "state": _state,
    "span": _span,
    "number": _number,
}


def term(field: Field, path: Sequence[str], operator: str, values: Sequence[Value], now: float) -> Part:
    """The test of `field.path operator values`. Raises FilterSyntaxError."""
    if path and field.kind != "payload":
        raise FilterSyntaxError(
            f"there is nothing inside {field.name}; only args, kwargs and result have parts"
        )
    known = _OPERATORS[field.kind]
    if operator not in known:
        raise FilterSyntaxError(
            f"{field.name} cannot be compared with {operator}; it takes {' '.join(known)}"
        )
    if field.kind == "payload":
        part = _payload(field, path, operator, values)
    elif field.kind == "moment":
        part = _moment(field, operator, values, now)
    else:
        part = _SIMPLE[field.kind](field, operator, values)
    return part._replace(reads=frozenset((field.key,)))
