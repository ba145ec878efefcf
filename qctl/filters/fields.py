"""The names of the filter language: fields, states and their synonyms; also the help topic `filters`.

In:  nothing.  Out: tables for the grammar, for completion, and for `qctl help filters`.
"""

from __future__ import annotations

from typing import NamedTuple


class Field(NamedTuple):
    """A field: its name in filters, its key in records, its kind of comparison, its description."""

    name: str
    key: str
    kind: str  # text | exception | state | payload | span | number | moment
    words: str
    example: str


FIELDS: dict[str, Field] = {
    f.name: f
    for f in (
        Field("id", "id", "text", "the id of the task", "id:1f0c*"),
        Field("name", "name", "text", "the name of the task", "name:proj.*"),
        Field("state", "state", "state", "the state; several with commas", "state:failed,retrying"),
        Field("queue", "queue", "text", "the queue it was in", "queue:mails"),
        Field("worker", "worker", "text", "the worker that ran it", "worker:w1@*"),
        Field("root", "root_id", "text", "the id of the root task of the workflow", "root:1f0c*"),
        Field("exc", "exc", "exception", "the exception; : compares its type, ~ its text", 'exc~"timed out"'),
        Field("args", "args", "payload", "positional arguments", "args.0=17"),
        Field("kwargs", "kwargs", "payload", "arguments by name", "kwargs.user.id=12"),
        Field("result", "result", "payload", "return value", 'result~"paid"'),
        Field("runtime", "runtime_s", "span", "run time", "runtime>5s"),
        Field("wait", "wait_s", "span", "time from sent or received to started", "wait>1m"),
        Field("tries", "tries", "number", "number of attempts", "tries>=3"),
        Field("since", "at", "moment", "not before: a length of time ago, or a time", "since:2h"),
        Field("until", "at", "moment", "not after", "until:14:30"),
    )
}

STATES: dict[str, tuple[str, ...]] = {
    "queued": ("pending", "waiting", "ready", "sent"),
    "delayed": ("scheduled", "eta"),
    "reserved": ("received", "prefetched"),
    "running": ("started", "active"),
    "succeeded": ("success", "succeed", "done", "ok"),
    "failed": ("failure", "fail", "error"),
    "retrying": ("retry", "retried"),
    "revoked": ("cancelled", "canceled", "terminated", "expired"),
    "rejected": ("reject", "refused"),
    "ended": ("unheard",),
}

_WORD_OF = {word: state for state, words in STATES.items() for word in (state, *words)}


def state_named(word: str) -> str | None:
    """The state for a word or synonym, in any case; None if unknown."""
    return _WORD_OF.get(word.lower())


def spellings(state: str) -> frozenset[str]:
    """All words for a state that occur in records, Celery's included."""
    words = (state, *STATES[state])
    return frozenset((*words, *(word.upper() for word in words)))


def state_words() -> list[str]:
    return list(_WORD_OF)


def completions(incomplete: str) -> list[tuple[str, str]]:
    """Completions of the last word of a filter: (text, description)."""
    sign = "-" if incomplete.startswith("-") else ""
    word = incomplete.removeprefix("-")
    if word.startswith("state:"):
        head, _, last = word.rpartition(",") if "," in word else ("state", ":", word[len("state:") :])
        joint = "," if "," in word else ":"
        return [(f"{sign}{head}{joint}{s}", "state") for s in STATES if s.startswith(last)]
    ends = {"payload": "~", "span": ">", "number": ">="}
    return [
        (f"{sign}{f.name}{ends.get(f.kind, ':')}", f.words)
        for f in FIELDS.values()
        if f.name.startswith(word)
    ]


def explanation() -> str:
    """The help topic `filters`."""
    wide = max(len(f.example) for f in FIELDS.values())
    rows = "\n".join(f"  {f.example:<{wide}}  {f.words}" for f in FIELDS.values())
    states = "\n".join(f"  {state:<10} {', '.join(words)}" for state, words in STATES.items())
    return f"""Filters

A filter selects tasks. Terms separated by spaces must all be true.

  mail               the name or the id has `mail` in it
  proj.*             the name or the id matches the pattern
  /^proj\\.(a|b)$/    the name or the id matches the regular expression
  "two words"        literal text
  a or b             one of them; `and` binds tighter than `or`, ( ) group
  -a    not a        a is not true

{rows}

Comparing:  :  or  =  equals one of a list (a,b), or matches a pattern (*, ?).  !=  equals none of them.
~  contains this text, in any case; !~ does not. Lengths and numbers also take > >= < <=.
/…/ is a regular expression wherever text is compared. Nested repetitions are refused.
args.0, kwargs.user.id and result.total compare parts of them; a value in quotes is always text.
An unknown value does not match, not even with != and !~; but -term then does.
Lengths of time: 30s, 10m, 2h, 1d. Times: 14:30 (the most recent one, UTC) or
2026-01-31T14:30:00+01:00; without an offset they are UTC.

States and their synonyms:

{states}

Examples:

  name:proj.mail.* exc:TimeoutError since:2h
  state:failed,retrying -queue:slow (tries>=3 or runtime>5m)
  kwargs.user.id=12 until:14:30

Put the whole filter in quotes, so that the shell does not change it."""


class Value(NamedTuple):
    """A value of a term, as typed."""

    text: str
    kind: str  # bare | quoted | regex
    position: int


def is_exact(value: Value) -> bool:
    """Whether the value is literal text, not a pattern or regular expression."""
    return value.kind == "quoted" or (value.kind == "bare" and not ("*" in value.text or "?" in value.text))
