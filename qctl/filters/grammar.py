"""The grammar of filters.

In:  text.  Out: a Filter, or a FilterError that points to a character.

    either = every ("or" every)*
    every  = one ("and"? one)*
    one    = ("-" | "not") one | "(" either ")" | term
    term   = field operator value ("," value)* | word | "quoted" | /expression/
"""

from __future__ import annotations

import re
import time

from qcore.errors import did_you_mean
from qctl.filters import terms
from qctl.filters.error import FilterError
from qctl.filters.fields import FIELDS, Value
from qctl.filters.predicate import Filter, Part, every, everything, none_of, some
from qctl.filters.terms import FilterSyntaxError

LONGEST = 4096
DEEPEST = 50

_HEAD = re.compile(r"([A-Za-z_]\w*)((?:\.[^\s.:=!~<>()\"',/]+)*)(!=|!~|>=|<=|[:=~<>])")
_BARE = re.compile(r"[^\s(),]+")
_WORD = re.compile(r"[^\s()]+")
_KEYWORD = re.compile(r"(or|and|not)(?=[\s()]|\Z)", re.I)


def parse(text: str, now: float | None = None) -> Filter:
    """The filter for `text`; empty text matches everything. now: epoch seconds from which durations count
    back. Raises FilterError."""
    if len(text) > LONGEST:
        raise FilterError(text, LONGEST, f"it is longer than {LONGEST} characters")
    reader = _Reader(text, time.time() if now is None else now)
    return Filter(text, reader.whole() if text.strip() else everything())


class _Reader:
    def __init__(self, text: str, now: float) -> None:
        self.text, self.now, self.at = text, now, 0

    def wrong(self, message: str, position: int | None = None) -> FilterError:
        at = self.at if position is None else position
        return FilterError(self.text, min(at, len(self.text)), message)

    def whole(self) -> Part:
        found = self.either(0)
        if self.at < len(self.text):
            raise self.wrong("this parenthesis closes nothing")
        return found

    def skip(self) -> str:
        """Advance to the next character that is no space; return it, or '' at the end."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.text[self.at : self.at + 1]

    def keyword(self) -> str:
        """The keyword at the current position, in lower case, or ''."""
        self.skip()
        found = _KEYWORD.match(self.text, self.at)
        return found[1].lower() if found else ""

    def either(self, depth: int) -> Part:
        parts = [self.every(depth)]
        while self.keyword() == "or":
            self.at += 2
            parts.append(self.every(depth))
        return some(parts)

    def every(self, depth: int) -> Part:
        parts: list[Part] = []
        needed = True
        while True:
            word = self.keyword()
            if word == "and" and parts and not needed:
                self.at, needed = self.at + 3, True
                continue
            if self.skip() in ("", ")") or word in ("or", "and"):
                break
            parts.append(self.one(depth))
            needed = False
        if needed:
            raise self.wrong("a term is missing here")
        return every(parts)

    def one(self, depth: int) -> Part:
        if depth > DEEPEST:
            raise self.wrong("this is nested too deeply")
        char, start = self.skip(), self.at
        if self.keyword() == "not" or char == "-":
            self.at += 1 if char == "-" else 3
            after = self.text[self.at : self.at + 1] if char == "-" else self.skip()
            if not after or after.isspace() or after == ")" or self.keyword() in ("or", "and"):
                raise self.wrong("a term is missing behind the negation")
            return none_of(self.one(depth + 1))
        if char == "(":
            self.at += 1
            found = self.either(depth + 1)
            if self.skip() != ")":
                raise self.wrong("this parenthesis is not closed", start)
            self.at += 1
            return found
        return self.term()

    def term(self) -> Part:
        start = self.at
        head = _HEAD.match(self.text, start)
        try:
            if head is None:
                return terms.word(self.value(_WORD))
            name, path, operator = head.groups()
            field = FIELDS.get(name)
            if field is None:
                near = did_you_mean(name, FIELDS) or "; put it in quotes when it is text"
                raise self.wrong(f"no field named '{name}'{near}", start)
            self.at = head.end()
            values = self.values(head[0])
            return terms.term(field, path.split(".")[1:], operator, values, self.now)
        except FilterSyntaxError as exc:
            raise self.wrong(str(exc), exc.value.position if exc.value else start) from None

    def values(self, head: str) -> list[Value]:
        found: list[Value] = []
        while True:
            if self.at >= len(self.text) or self.text[self.at].isspace() or self.text[self.at] in "(),":
                raise self.wrong(f"a value is missing behind {head if not found else ','}")
            found.append(self.value(_BARE))
            if self.text[self.at : self.at + 1] != ",":
                return found
            self.at += 1

    def value(self, bare: re.Pattern[str]) -> Value:
        start, char = self.at, self.text[self.at]
        if char in "\"'/":
            inner = self.enclosed(char)
            after = self.text[self.at : self.at + 1]
            if after and not after.isspace() and after not in "(),":
                raise self.wrong("a space is missing here; put text with such characters in quotes")
            return Value(inner, "regex" if char == "/" else "quoted", start)
        found = bare.match(self.text, start)
        if found is None:
            raise self.wrong("a value is missing here")
        self.at = found.end()
        return Value(found[0], "bare", start)

    def enclosed(self, mark: str) -> str:
        """The text up to the closing mark; a backslash escapes the next mark or backslash."""
        start, taken = self.at, list[str]()
        self.at += 1
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == mark:
                self.at += 1
                return "".join(taken)
            after = self.text[self.at + 1 : self.at + 2]
            # A regular expression keeps its backslashes, except before the closing mark.
            if char == "\\" and (after == mark or (after == "\\" and mark != "/")):
                taken.append(after)
                self.at += 2
            elif char == "\\" and mark == "/" and after:
                taken += (char, after)
                self.at += 2
            else:
                taken.append(char)
                self.at += 1
        raise self.wrong("this is not closed", start)
