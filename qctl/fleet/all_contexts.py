"""`status --all-contexts`: query the fleets of all contexts at the same time.

In:  a session.  Out: the items of all fleets, each with its context, and the worst exit code.
An unreachable fleet gets an item too.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from qcore.app.app import App
from qcore.control.client import Answers
from qctl import exit_codes
from qctl.cli.session import Session
from qctl.configuration import contexts

AT_ONCE = 16
Items = Callable[[App, Answers], list[dict[str, Any]]]


def everywhere(
    session: Session, destination: list[str] | None, timeout_s: float, items: Items
) -> tuple[list[dict[str, Any]], int]:
    """The items of all contexts, in their order. `items` makes them from the answers of one fleet."""
    names = list(contexts.load(session.out.warn))
    if not names:
        raise exit_codes.CommandError(
            exit_codes.NOT_FOUND, "there is no context", "`qctl ctx add NAME -b URL` makes one"
        )

    def ask(name: str) -> tuple[list[dict[str, Any]], int]:
        try:
            other = session.in_context(name)
            try:
                answers = other.app.control.ask("stats", None, destination, timeout_s)
                found = items(other.app, answers)
            finally:
                other.close()
        except Exception as exc:
            stop = exit_codes.explain(exc)
            if stop is None:
                raise
            session.out.warn(f"{name}: {stop.message}")
            return [_empty_row(name, "unreachable")], exit_codes.PARTIAL
        if not answers.replies:
            found = found or [_empty_row(name, "no workers")]
            return [{"context": name, **item} for item in found], exit_codes.NO_ANSWER
        code = exit_codes.PARTIAL if answers.silent else exit_codes.OK
        return [{"context": name, **item} for item in found], code

    with ThreadPoolExecutor(min(AT_ONCE, len(names)), "ask") as pool:
        answered = list(pool.map(ask, names))
    return [item for found, _ in answered for item in found], max(code for _, code in answered)


def _empty_row(name: str, state: str) -> dict[str, Any]:
    """The item of a fleet without an answer."""
    empty: dict[str, Any] = {"software": None, "pid": None, "queues": None, "twins": []}
    return {"context": name, "node": None, "state": state, "age_s": None, **empty}
