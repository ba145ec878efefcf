"""Regular expressions from outside: whether trying one is safe.

In:  a pattern that somebody typed or sent.  Out: nothing, or ValueError with the reason in words.
An expression that repeats what itself repeats or chooses can run for ever on a short text, and Python
cannot interrupt it. So such expressions are refused before they are tried.
"""

from __future__ import annotations

import re

MAX_PATTERN = 256
#: each endless repeat multiplies the time by the length of the text
MAX_ENDLESS = 4

#: comments may hide what is looked for
_COMMENTS = re.compile(r"\(\?(#|[a-zA-Z]*x)")
_REPEAT = re.compile(r"[*+?]|\{(\d*)(,?)(\d*)\}")


def refuse_costly(pattern: str) -> None:
    """Raises ValueError for a pattern that is none, is too long, or could run for ever."""
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"is longer than {MAX_PATTERN} characters")
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as exc:
        raise ValueError(f"is no regular expression: {exc}") from None
    if _COMMENTS.search(pattern):
        raise ValueError("has comments in it")
    _look_for_nesting(pattern)


def _look_for_nesting(pattern: str) -> None:
    open_groups = [False]  # whether each group that is open repeats or chooses inside
    after_group, endless, at = False, 0, 0
    while at < len(pattern):
        char, repeat = pattern[at], _REPEAT.match(pattern, at)
        if char == "\\":
            after_group, at = False, at + 2
        elif char == "[":
            after_group, at = False, _end_of_class(pattern, at)
        elif char == "(":
            open_groups.append(False)
            # What follows "(?" says of which kind the group is.
            after_group, at = False, at + (2 if pattern.startswith("(?", at) else 1)
        elif char == ")":
            after_group, at = open_groups.pop(), at + 1
            open_groups[-1] = open_groups[-1] or after_group
        elif repeat is not None:
            if after_group and repeat[0] != "?":
                raise ValueError("repeats a repetition")
            open_groups[-1] = True
            endless += repeat[0] in "*+" or (repeat[2] == "," and not repeat[3])
            after_group, at = False, repeat.end()
            at += pattern.startswith(("?", "+"), at)  # lazy or possessive
        else:
            open_groups[-1] = open_groups[-1] or char == "|"
            after_group, at = False, at + 1
    if endless > MAX_ENDLESS:
        raise ValueError(f"has more than {MAX_ENDLESS} endless repeats")


def _end_of_class(pattern: str, at: int) -> int:
    """Behind the set of characters that begins at `at`."""
    at += 2 if pattern.startswith("[^", at) else 1
    at += pattern.startswith("]", at)
    while at < len(pattern) and pattern[at] != "]":
        at += 2 if pattern[at] == "\\" else 1
    return at + 1
