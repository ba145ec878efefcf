"""The parts of a filter: tests over records, and necessary conditions of a match.

In:  tests of single terms.  Out: their combinations.
A test is a closure, so that a million records cost about a second and not a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

#: keys: id, name, state, queue, worker, exc, args, kwargs, result, runtime_s, wait_s, tries, at (epoch
#: seconds), root_id; an absent key or None is unknown
Record = Mapping[str, Any]
Test = Callable[[Record], bool]


class SubstringHint(NamedTuple):
    """A substring of every match: the value under `key` contains at least one of these. caseless: in any case
    (ASCII). It applies to records whose arguments are text, as in events."""

    key: str
    any_of: tuple[str, ...]
    caseless: bool = False


class Hints(NamedTuple):
    """Necessary conditions: the values that a match can have. None: unknown."""

    states: frozenset[str] | None = None
    names: frozenset[str] | None = None
    queues: frozenset[str] | None = None
    since: float | None = None  # epoch seconds
    until: float | None = None
    workers: frozenset[str] | None = None
    roots: frozenset[str] | None = None
    ids: frozenset[str] | None = None
    traces: tuple[SubstringHint, ...] = ()


class Part(NamedTuple):
    """A part of a filter."""

    test: Test
    hints: Hints = Hints()
    values: bool = False  # it needs arguments as values, not as truncated text
    reads: frozenset[str] = frozenset()  # the record keys that it reads
    within: str = ""  # text that the value of one of these keys contains, in any case; '': unknown
    all_of: tuple[Part, ...] = ()  # the parts that must all match, if there are several


class Filter:
    """Selects records."""

    def __init__(self, text: str, part: Part) -> None:
        self.text, self.hints, self.needs_values = text, part.hints, part.values
        #: whether a record matches; an unknown value does not match
        self.matches: Test = part.test
        #: the parts that must all match, so that a store can test the cheap ones first
        self.parts = part.all_of or (part,)

    def __str__(self) -> str:
        return self.text

    @property
    def is_all(self) -> bool:
        """Whether it matches everything."""
        return not self.text.strip()


def everything() -> Part:
    return Part(lambda record: True)


def every(parts: Sequence[Part]) -> Part:
    """All parts match."""
    if len(parts) == 1:
        return parts[0]
    tests = tuple(part.test for part in parts)
    hints = parts[0].hints
    for part in parts[1:]:
        hints = _both(hints, part.hints)
    values = any(part.values for part in parts)
    reads = frozenset[str]().union(*(part.reads for part in parts))
    all_of = tuple(inner for part in parts for inner in part.all_of or (part,))
    if len(tests) == 2:
        first, second = tests
        return Part(lambda record: first(record) and second(record), hints, values, reads, all_of=all_of)

    def test(record: Record) -> bool:
        for one in tests:  # noqa: SIM110 - twice as fast as all() over a generator
            if not one(record):
                return False
        return True

    return Part(test, hints, values, reads, all_of=all_of)


def some(parts: Sequence[Part]) -> Part:
    """At least one part matches."""
    if len(parts) == 1:
        return parts[0]
    tests = tuple(part.test for part in parts)
    hints = parts[0].hints
    for part in parts[1:]:
        hints = _either(hints, part.hints)

    def test(record: Record) -> bool:
        for one in tests:  # noqa: SIM110
            if one(record):
                return True
        return False

    reads = frozenset[str]().union(*(part.reads for part in parts))
    return Part(test, hints, any(part.values for part in parts), reads)


def none_of(part: Part) -> Part:
    """The part does not match."""
    test = part.test
    return Part(lambda record: not test(record), Hints(), part.values, part.reads)


def _both(a: Hints, b: Hints) -> Hints:
    return Hints(
        _common(a.states, b.states),
        _common(a.names, b.names),
        _common(a.queues, b.queues),
        max((s for s in (a.since, b.since) if s is not None), default=None),
        min((u for u in (a.until, b.until) if u is not None), default=None),
        _common(a.workers, b.workers),
        _common(a.roots, b.roots),
        _common(a.ids, b.ids),
        (*a.traces, *b.traces),
    )


def _either(a: Hints, b: Hints) -> Hints:
    return Hints(
        _joined(a.states, b.states),
        _joined(a.names, b.names),
        _joined(a.queues, b.queues),
        None if a.since is None or b.since is None else min(a.since, b.since),
        None if a.until is None or b.until is None else max(a.until, b.until),
        _joined(a.workers, b.workers),
        _joined(a.roots, b.roots),
        _joined(a.ids, b.ids),
    )


def _common(a: frozenset[str] | None, b: frozenset[str] | None) -> frozenset[str] | None:
    return b if a is None else a if b is None else a & b


def _joined(a: frozenset[str] | None, b: frozenset[str] | None) -> frozenset[str] | None:
    return None if a is None or b is None else a | b
