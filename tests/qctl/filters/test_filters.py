"""The filter language: what matches, what is refused and where, and what it says about every match."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qctl import exit_codes
from qctl.filters import FilterError, Hints, parse
from qctl.filters.fields import FIELDS, completions

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z

TASK: dict[str, Any] = {
    "id": "1f0c-22",
    "name": "proj.mail.send",
    "state": "FAILURE",
    "queue": "mails",
    "worker": "w1@host",
    "exc": "proj.errors.Refused: the server said no",
    "args": "(1, 'two')",
    "kwargs": {"user": {"id": 12, "vip": True}, "note": "a b", "tags": ["x", "y"]},
    "runtime_s": 6.5,
    "tries": 3,
    "at": NOW - 3600,
}

MATCHES = """
mail | MAIL | 1f0c | proj.* | /^proj\\.mail/ | "mail.send" | 'mail' | name:proj.mail.send | name:proj.*
state:failed | state:FAILURE | state:retry,failed | state:done,error | queue:mails,other | queue!=other
worker:w1@* | worker~HOST | exc:Refused | exc:proj.errors.Refused | exc:Ref* | exc~"said no" | exc!=KeyError
args~two | args~"'two'" | args.1=two | args.0=1 | args.0<2 | kwargs.user.id=12 | kwargs.user.id!=13
kwargs.user.vip=true | kwargs.note="a b" | kwargs.tags.1=y | kwargs~vip | kwargs.user.id>11 | kwargs.note~B
kwargs.tags~y | runtime>5s | runtime<=6.5 | runtime!=5s | tries>=3 | tries:3 | since:2h | until:30m
since:06:30 | until:07:00 | since:2027-01-15 | until:2027-01-15T08:30:00+01:00 | -queue:slow | not queue:slow
mail -slow | mail and send | nothing or mail | (nothing or mail) tries=3 | -(a b) | -result~x
name:/send$/ | name!=other | exc!~"said yes" | NOT nothing AND mail OR nothing | --mail
"""
MISSES = """
nothing | name:proj | name:"proj.*" | state:done | state!=failed | queue:mail | queue!=mails | exc:Refuse
exc~KeyError | args~three | args.5=1 | args.0="1" | kwargs.user.id="12" | kwargs.user.vip=1
kwargs.nobody=1 | kwargs.nobody!=1 | kwargs.user.id>12 | kwargs.note>1 | runtime>7 | tries<3 | since:30m
until:2h | -mail | mail -queue:mails | (mail) (nothing) | result~x | result!~x | wait>0 | wait<1d | root:x
"""


def cells(text: str) -> list[str]:
    return [cell.strip() for line in text.strip().splitlines() for cell in line.split(" | ")]


@pytest.mark.parametrize("text", cells(MATCHES))
def test_it_matches(text: str) -> None:
    assert parse(text, NOW).matches(TASK) is True


@pytest.mark.parametrize("text", cells(MISSES))
def test_it_does_not_match(text: str) -> None:
    assert parse(text, NOW).matches(TASK) is False


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("foo:1", 0, "no field named 'foo'"),
        ("mail stat:failed", 5, "did you mean 'state'"),
        ("state:fialed", 6, "did you mean 'failed'"),
        ("state:failed,", 13, "a value is missing"),
        ("(a", 0, "not closed"),
        ("a)", 1, "closes nothing"),
        ("a or", 4, "a term is missing"),
        ("or a", 0, "a term is missing"),
        ("()", 1, "a term is missing"),
        ("- (a)", 1, "a term is missing behind the negation"),
        ("a -", 3, "a term is missing behind the negation"),
        ('a "b', 2, "not closed"),
        ('"a"b', 3, "a space is missing"),
        ("/(a+)+/", 0, "nested repetitions"),
        ("name:/((a+))+$/", 5, "nested repetitions"),
        ("/(a|aa)*b/", 0, "nested repetitions"),
        ("/[/", 0, "not a regular expression"),
        ("/a.*b.*c.*d.*e.*f/", 0, "unbounded"),
        ("runtime>soon", 8, "not a length of time"),
        ("tries>=x", 7, "not a number"),
        ("tries:1,2", 8, "takes one value"),
        ("since:yesterday", 6, "neither a length of time"),
        ("name>3", 0, "cannot be compared with >"),
        ("name.x:3", 0, "nothing inside name"),
        ("kwargs:3", 0, "where to look"),
        ("x" * 5000, 4096, "longer than"),
        ("(" * 60, 51, "nested too deeply"),
    ],
)
def test_what_is_wrong_is_shown_at_its_place(text: str, position: int, words: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text)

    error = caught.value
    assert words in error.why
    assert error.position == position
    line, caret = error.message.splitlines()[-2:]
    assert caret.endswith("^") and len(caret) <= len(line) + 1
    stop = exit_codes.explain(error)
    assert stop is not None and stop.code == exit_codes.USAGE


def test_hints_are_what_every_match_has() -> None:
    def hints(text: str) -> Hints:
        return parse(text, NOW).hints

    assert hints("state:failed,retry name:a,b") == Hints(
        states=frozenset(("failed", "retrying")), names=frozenset("ab")
    )
    assert hints("name:a name:b").names == frozenset()
    assert hints("name:a or name:b").names == frozenset("ab")
    assert hints("name:a or queue:q") == Hints()
    assert hints("-name:a name:a.*") == Hints()
    assert hints("since:2h since:1h until:10m queue:q") == Hints(
        queues=frozenset("q"), since=NOW - 3600, until=NOW - 600
    )
    assert hints("(since:2h x) or since:1h").since == NOW - 7200


def test_arguments_are_read_as_values_only_where_that_is_asked_for() -> None:
    assert parse("kwargs.a=1").needs_values and parse("x or -args.0=1").needs_values
    assert not parse("kwargs~a name:b").needs_values


def test_what_is_unknown_does_not_match_and_its_negation_does() -> None:
    for field in FIELDS.values():
        if field.kind in ("text", "exception", "state"):
            value = "failed" if field.kind == "state" else "x"
            assert not parse(f"{field.name}:{value}").matches({})
            assert not parse(f"{field.name}!={value}").matches({})
            assert parse(f"-{field.name}:{value}").matches({})


def test_field_names_are_completed() -> None:
    assert ("state:", FIELDS["state"].words) in completions("sta")
    assert [text for text, _ in completions("-que")] == ["-queue:"]
    assert [text for text, _ in completions("state:failed,re")] == [
        f"state:failed,{s}" for s in ("reserved", "retrying", "revoked", "rejected")
    ]


def test_the_examples_of_the_fields_can_be_read() -> None:
    for field in FIELDS.values():
        parse(field.example)


@given(st.text(max_size=80))
def test_any_text_is_a_filter_or_wrong_at_a_place_inside_it(text: str) -> None:
    try:
        parse(text).matches(TASK)
    except FilterError as exc:
        assert 0 <= exc.position <= len(text)


_pieces = st.sampled_from(
    ["mail", "nothing", "-", "not ", "(", ")", " ", " or ", " and ", "name:", "proj.*", "kwargs.user.id",
     "=", "12", ">", "~", '"', "'", "/", "\\", ",", "state:", "failed", "runtime>", "5s", "[", "a+", "."]
)  # fmt: skip


@given(st.lists(_pieces, max_size=14).map("".join))
@settings(max_examples=300)
def test_any_pieces_of_filters_are_a_filter_or_wrong_at_a_place_inside(text: str) -> None:
    try:
        parse(text).matches(TASK)
    except FilterError as exc:
        assert 0 <= exc.position <= len(text)


_terms = st.sampled_from(
    ["mail", "name:proj.*", "state:failed", "queue:other", "tries>=3", "kwargs.user.id=12"]
)


@given(st.lists(_terms, min_size=1, max_size=5), st.randoms())
def test_and_or_and_not_are_those_of_logic(words: list[str], rng: random.Random) -> None:
    truths = [parse(word).matches(TASK) for word in words]

    assert parse(" ".join(words)).matches(TASK) is all(truths)
    assert parse(" or ".join(words)).matches(TASK) is any(truths)
    assert parse(f"-({' '.join(words)})").matches(TASK) is not all(truths)
    rng.shuffle(words)
    assert parse(" and ".join(f"-{w}" for w in words)).matches(TASK) is not any(truths)


@given(st.sampled_from(sorted(cells(MATCHES) + cells(MISSES))), st.sampled_from(["failed", "done"]))
def test_hints_hold_for_every_match(text: str, state: str) -> None:
    found, record = parse(text, NOW), {**TASK, "state": state}
    hints = found.hints
    if found.matches(record):
        from qctl.filters.fields import state_named

        assert hints.states is None or state_named(state) in hints.states
        assert hints.names is None or record["name"] in hints.names
        assert hints.queues is None or record["queue"] in hints.queues
        assert hints.since is None or record["at"] >= hints.since
        assert hints.until is None or record["at"] <= hints.until


def test_what_leaves_a_trace_in_text() -> None:
    def traces(text: str) -> list[tuple[str, tuple[str, ...], bool]]:
        return [tuple(trace) for trace in parse(text).hints.traces]  # type: ignore[misc]

    *pieces, together = traces("kwargs.user.id=12")
    assert pieces == [("kwargs", ("user",), False), ("kwargs", ("id",), False), ("kwargs", ("12",), False)]
    assert {"'id': 12", '"id": 12', '"id":12', "'id': '12"} <= set(together[1])
    assert traces("args.0=a,b args~X%") == [("args", ("a", "b"), False), ("args", ("X%",), True)]
    assert traces("exc:KeyError") == [("exc", ("KeyError",), False)]
    # Written in several ways, or not there at all.
    for text in (
        'args.0="it\'s"',
        "args.0=1.50",
        "args.0=true",
        "args.0=null",
        "args.0=1e3",
        "args.0=9" + "9" * 20,
    ):
        assert traces(text) == [], text
    for text in ("args~/x/", "args~é", "args!~x", "-args~x", "args.0!=1", "args~x or name:a", "exc:Key*"):
        assert traces(text) == [], text


plain = st.text("aZ05.-_+é", min_size=1, max_size=4)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["a", "user", "0", "a-b", "é"]),
    st.integers() | plain | st.floats() | st.booleans() | st.none(),
    plain | st.integers().map(str) | st.sampled_from(["true", "null", "-0", "1e3", "1.0"]),
)
@example("a", -0.0, "0")
def test_a_trace_is_in_every_text_that_matches(key: str, value: Any, typed: str) -> None:
    for said in (typed, str(value)):
        wanted = parse(f"kwargs.{key}={said}")
        for text in (
            repr({key: value}),
            json.dumps({key: value}),
            json.dumps({key: value}, ensure_ascii=False),
            json.dumps({key: value}, separators=(",", ":")),
        ):
            if wanted.matches({"kwargs": text}):
                assert all(any(piece in text for piece in t.any_of) for t in wanted.hints.traces)
