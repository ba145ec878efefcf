"""Report silent and unknown workers on stderr, and derive the exit code.

In:  Answers of the control bus.  Out: an exit code; raises CommandError when no worker answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qctl import exit_codes
from qctl.cli.session import Session
from qctl.cli.types import nearest
from qctl.output.text import count

if TYPE_CHECKING:
    from qcore.control.client import Answers


def report_silence(session: Session, answers: Answers, destination: list[str] | None, timeout: float) -> int:
    """Name silent and unknown workers on stderr; return the exit code. CommandError when none answers."""
    warn = session.out.warn
    now = answers.now
    for name in answers.unknown:
        if (gone := answers.members.get(name)) is not None:
            warn(f"{name} is gone: last heartbeat {now - gone.seen_at:.0f} s ago")
            continue
        warn(f"no worker named '{name}'{nearest(name, answers.known) or _list(answers.known)}")
    for silent in answers.silent:
        last = "the last heartbeat of Celery's workers is unknown"
        if silent.age_s is not None:
            last = f"last heartbeat {silent.age_s:.0f} s ago"
        warn(f"{silent.node} is silent: no answer within {timeout:g} s ({last})")
    for node, places in answers.twins.items():
        where = f" ({'; '.join(places)})" if places else ""
        warn(f"more than one worker is called {node}{where}; give each a name of its own with -n")
    lost = (answers.heard or 0) - answers.count - len(answers.silent) if destination is None else 0
    if lost > 0:
        heard = f"{count(lost, 'more worker')} received the request and did not answer"
        warn(f"{heard} within {timeout:g} s{_among(answers)}")
    if answers.malformed:
        warn(f"{count(answers.malformed, 'reply', 'replies')} could not be read")
    if answers.silent or (lost > 0 and answers.replies):
        return exit_codes.PARTIAL
    if answers.unknown:
        return exit_codes.PARTIAL if answers.replies else exit_codes.NOT_FOUND
    if not answers.replies:
        from qcore.errors import mask_url

        where = mask_url(session.app.broker_url())
        if lost > 0:
            raise exit_codes.CommandError(
                exit_codes.NO_ANSWER, f"no worker answered within {timeout:g} s", "try a longer -t"
            )
        raise exit_codes.CommandError(
            exit_codes.NO_ANSWER,
            f"no worker is online at {where}",
            "the broker can be reached; start a worker with `qctl -A proj worker`",
        )
    return exit_codes.OK


def _among(answers: Answers) -> str:
    """Possible names of the silent receivers; killed workers of Celery leave their names behind."""
    names = answers.possibly_silent
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f": among {', '.join(names[:5])}{more}, of which the others are gone" if names else ""


def _list(known: Sequence[str]) -> str:
    if not known:
        return "; no worker is known at all"
    more = f" and {len(known) - 5} more" if len(known) > 5 else ""
    return f"; known: {', '.join(known[:5])}{more}"
