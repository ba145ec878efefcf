"""Regular expressions from outside: whether matching one is safe.

In:  a pattern that a user typed or sent.  Out: nothing, or ValueError with the reason as text.
An expression that repeats a part with a repeat or an alternative in it can run for ever on a short text, and
Python cannot interrupt it. So such expressions are refused before they are matched.
"""

from __future__ import annotations

import re

from qcore.base.lazy_pattern import lazily

MAX_PATTERN = 256
#: each unbounded repeat multiplies the time by the length of the text
MAX_ENDLESS = 4
#: in so many ways may a text be tried: each repeat and each choice multiplies them
MAX_WAYS = 2**20
_ENDLESS_WAYS = 2**5  # of one endless repeat, whose number MAX_ENDLESS bounds as well

#: comments may hide the constructs that are searched for
_COMMENTS = lazily(r"\(\?(#|[a-zA-Z]*x)")
_REPEAT = lazily(r"[*+?]|\{(\d*)(,?)(\d*)\}")


def refuse_costly(pattern: str) -> None:
    """Raises ValueError for a pattern that is invalid, is too long, or could run for ever."""
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"is longer than {MAX_PATTERN} characters")
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as exc:
        raise ValueError(f"is not a regular expression: {exc}") from None
    if _COMMENTS.search(pattern):
        raise ValueError("contains comments")
    _look_for_nesting(pattern)


def _look_for_nesting(pattern: str) -> None:
    # Of each open group: whether it repeats or chooses inside, in how many ways the branches before this one
    # can match, and this one.
    open_groups: list[tuple[bool, int, int]] = [(False, 0, 1)]
    after_group, endless, at = False, 0, 0
    while at < len(pattern):
        char, repeat = pattern[at], _REPEAT.match(pattern, at)
        _, before, ways = open_groups[-1]
        if char == "\\":
            after_group, at = False, at + 2
        elif char == "[":
            after_group, at = False, _end_of_class(pattern, at)
        elif char == "(":
            open_groups.append((False, 0, 1))
            # What follows "(?" says of which kind the group is.
            after_group, at = False, at + (2 if pattern.startswith("(?", at) else 1)
        elif char == ")":
            after_group, at = open_groups.pop()[0], at + 1
            around = open_groups[-1]
            open_groups[-1] = (around[0] or after_group, around[1], around[2] * (before + ways))
        elif repeat is not None:
            if after_group and repeat[0] != "?":
                raise ValueError("contains nested repetitions")
            is_endless = repeat[0] in "*+" or (repeat[2] == "," and not repeat[3])
            endless += is_endless
            open_groups[-1] = (True, before, ways * (_ENDLESS_WAYS if is_endless else _ways(repeat)))
            after_group, at = False, repeat.end()
            at += pattern.startswith(("?", "+"), at)  # lazy or possessive
        else:
            if char == "|":
                open_groups[-1] = (True, before + ways, 1)
            after_group, at = False, at + 1
    if endless > MAX_ENDLESS:
        raise ValueError(f"has more than {MAX_ENDLESS} unbounded repetitions")
    if sum(open_groups[-1][1:]) > MAX_WAYS:
        raise ValueError("has too many optional parts or alternatives")


def _ways(repeat: re.Match[str]) -> int:
    """How many numbers of times a repeat with an end stands for: `?` or {m}, {m,n}, {,n}."""
    if repeat[0] == "?":
        return 2
    least = int(repeat[1] or 0)
    return max(int(repeat[3] or least) - least, 0) + 1


def _end_of_class(pattern: str, at: int) -> int:
    """The position after the character class that begins at `at`."""
    at += 2 if pattern.startswith("[^", at) else 1
    at += pattern.startswith("]", at)
    while at < len(pattern) and pattern[at] != "]":
        at += 2 if pattern[at] == "\\" else 1
    return at + 1
