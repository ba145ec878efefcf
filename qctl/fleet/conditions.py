"""Conditions for `qctl wait` and `qctl watch`: 'queue:mails depth=0'.

In:  text.  Out: a Condition, which queries the broker and evaluates its tests.

    queue:NAME  ready delayed in_flight depth (all three) paused oldest (seconds; not RabbitMQ)
    queues      the same, over all queues
    workers     online silent
    task:ID     state (pending, started, succeeded, failed, …), done
"""

from __future__ import annotations

import operator
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from qctl import exit_codes
from qctl.cli.types import nearest

if TYPE_CHECKING:
    from qcore.brokers.contract.administration import Depth
    from qctl.cli.session import Session

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "=": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_TEST = re.compile(r"^(?P<field>[a-z_]+)(?P<sign>>=|<=|!=|=|>|<)(?P<value>.+)$")
_QUEUE = ("ready", "delayed", "in_flight", "depth", "paused", "oldest")
FIELDS = {
    "queue": _QUEUE,
    "queues": _QUEUE,
    "workers": ("online", "silent"),
    "task": ("state", "done"),
}
#: Celery's states, and the tools' words for them
STATES = {"SUCCESS": "succeeded", "FAILURE": "failed", "RETRY": "retrying"}


class Test(NamedTuple):
    """One comparison."""

    field: str
    sign: str
    value: float | str

    def holds(self, facts: Mapping[str, Any]) -> bool:
        fact = facts.get(self.field)
        if fact is None:
            return False
        if isinstance(self.value, str):
            words = self.value.lower().split(",")
            return (str(fact).lower() in words) == (self.sign == "=")
        return _OPERATORS[self.sign](float(fact), self.value)


class Condition(NamedTuple):
    """A subject (queue, queues, workers, task) and the tests that must all hold."""

    text: str
    subject: str
    name: str
    tests: tuple[Test, ...]

    def holds(self, facts: Mapping[str, Any]) -> bool:
        return all(test.holds(facts) for test in self.tests)

    def look(self, session: Session) -> dict[str, Any]:
        """The current values of the subject's fields. Raises BrokerDown."""
        if self.subject == "workers":
            answers = session.app.control.ask("ping", timeout_s=0.5)
            return {"online": len(answers.replies), "silent": len(answers.silent)}
        if self.subject == "task":
            (meta,) = session.app.results.get([self.name])
            state = meta.status if meta is not None else "PENDING"
            return {
                "state": STATES.get(state, state.lower()),
                "done": int(meta is not None and meta.is_ready),
            }
        if self.subject == "queue":
            return _queue(session, self.name)
        every = [_queue(session, queue) for queue in session.broker.administration.queues()]
        ages = [q["oldest"] for q in every if q["oldest"] is not None]
        return {
            field: sum(q[field] or 0 for q in every) for field in ("ready", "delayed", "in_flight", "depth")
        } | {"paused": sum(q["paused"] for q in every), "oldest": max(ages, default=None)}


def _queue(session: Session, name: str) -> dict[str, Any]:
    broker = session.broker
    depth = broker.administration.depth(name)
    return {
        "ready": depth.ready,
        "delayed": depth.delayed,
        "in_flight": depth.in_flight,
        "depth": depth.ready + (depth.delayed or 0) + (depth.in_flight or 0),
        "paused": int(name in broker.administration.paused()),
        "oldest": _age(depth),
    }


def _age(depth: Depth) -> float | None:
    """Seconds for which the oldest message has been ready; None when the broker does not report it."""
    if not depth.ready:
        return 0.0
    return None if depth.oldest_at is None else max(0.0, time.time() - depth.oldest_at)


def parse(text: str, default_queue: Callable[[], str]) -> Condition:
    """Parse a condition. `default_queue` names the queue when no subject is given. Raises CommandError."""
    words = text.split()
    if not words:
        raise _refusal(text, "it is empty")
    subject, name = "queue", ""
    head, _, tail = words[0].partition(":")
    bare = re.match(r"^(workers|queues)(?=$|[<>=!])", words[0])
    if head in ("queue", "task") and tail:
        subject, name = head, tail
        words = words[1:]
    elif bare:
        subject = bare[1]
        rest = words[0][len(subject) :]
        words = ([f"online{rest}" if subject == "workers" else f"depth{rest}"] if rest else []) + words[1:]
    else:
        name = default_queue()
    if not words:
        raise _refusal(text, f"a comparison is missing for {subject}, such as 'depth=0'")
    return Condition(text, subject, name, tuple(_test(text, subject, word) for word in words))


def _test(text: str, subject: str, word: str) -> Test:
    found = _TEST.match(word)
    if found is None:
        raise _refusal(text, f"'{word}' is not FIELD=VALUE (= != < <= > >=)")
    field, sign, value = found["field"], found["sign"], found["value"]
    if field not in FIELDS[subject]:
        hint = nearest(field, FIELDS[subject]) or f"; there are {', '.join(FIELDS[subject])}"
        raise _refusal(text, f"{subject} has no '{field}'{hint}")
    if field == "state":
        if sign not in ("=", "!="):
            raise _refusal(text, "a state is compared with = or !=")
        return Test(field, sign, ",".join(STATES.get(v.upper(), v) for v in value.split(",")))
    return Test(field, sign, _number(text, value))


def _number(text: str, value: str) -> float:
    from qcore.base.times import span_s

    words = {"yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0}
    try:
        return words[value.lower()] if value.lower() in words else span_s(value)
    except ValueError:
        raise _refusal(text, f"'{value}' is neither a number nor a time such as 30s") from None


def _refusal(text: str, why: str) -> exit_codes.CommandError:
    return exit_codes.CommandError(
        exit_codes.USAGE, f"the condition '{text}' cannot be read: {why}", "see `qctl wait --help`"
    )
