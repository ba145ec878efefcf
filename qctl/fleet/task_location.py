"""Report where the tasks of a `control revoke` were, from the workers' answers.

In:  ids and the answers of a whole fleet.  Out: a remark for each id, and the exit code.
Ids that no worker holds are looked up in the result store, and in the queues if they hold few messages. An
id is reported as unknown only when that is certain: never when the broker cannot list queued messages, or
when there are too many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from qctl import exit_codes
from qctl.output.text import count

if TYPE_CHECKING:
    from qcore.brokers.base import Broker
    from qcore.control.client import Answers
    from qctl.cli.session import Session

#: up to this number, ids are reported one by one
FEW = 20
#: queues are read only while they hold no more messages together
FEW_MESSAGES = 1000
_WORDS = {
    "active": "still runs on {}",
    "reserved": "will be refused by {}",
    "scheduled": "will be refused by {}",
}


def report_location(session: Session, ids: Sequence[str], answers: Answers) -> int:
    """Report the location of each id. Raises CommandError (NOT_FOUND) when all of them are unknown."""
    held, all_said = _held(answers)
    words = {one: _WORDS[held[one][1]].format(held[one][0]) for one in ids if one in held}
    lost = [one for one in dict.fromkeys(ids) if one not in held]
    if lost and all_said:
        words |= _elsewhere(session, lost)
    unknown = [one for one in lost if words.get(one) == "unknown"]
    if len(ids) <= FEW:
        for one, word in words.items():
            session.out.note(f"{one}: {word}")
    else:
        session.out.note(f"{count(len(held.keys() & set(ids)), 'task')} at workers, {len(unknown):,} unknown")
    if ids and len(unknown) == len(set(ids)):
        which = unknown[0] if len(unknown) == 1 else f"any of {len(unknown):,} ids"
        hint = "it is remembered all the same; `qctl task unrevoke` takes that back"
        raise exit_codes.CommandError(exit_codes.NOT_FOUND, f"no worker, queue or result knows {which}", hint)
    return exit_codes.OK


def _held(answers: Answers) -> tuple[dict[str, tuple[str, str]], bool]:
    """(worker, state) by id; and whether every worker reported what it holds (Celery's do not)."""
    found: dict[str, tuple[str, str]] = {}
    all_said = True
    for worker, reply in sorted(answers.replies.items()):
        held = reply.get("held") if isinstance(reply, Mapping) else None
        if not isinstance(held, Mapping):
            all_said = False
            continue
        found.update({str(one): (worker, state) for one, state in held.items() if state in _WORDS})
    return found, all_said


def _elsewhere(session: Session, ids: Sequence[str]) -> dict[str, str]:
    """Locations of ids that no worker holds; ids without a certain answer are left out."""
    # In the order in which tasks progress, so that one that moves meanwhile is not missed.
    waiting = waiting_ids(session.broker, set(ids))
    words = {one: f"waits in {queue} and will be refused" for one, queue in (waiting or {}).items()}
    rest, results = [one for one in ids if one not in words], session.app.results
    metas = results.get(rest) if rest and results.keeps else [None] * len(rest)
    for one, meta in zip(rest, metas, strict=True):
        if meta is not None and meta.is_ready:
            words[one] = "already finished"
        elif waiting is not None:
            words[one] = "unknown"
    return words


def waiting_ids(broker: Broker, ids: set[str]) -> dict[str, str] | None:
    """The queue of each waiting id; None: the broker cannot list messages, or there are too many."""
    from qcore.brokers.shared.message_ids import id_of

    if not broker.features.moves:
        return None
    names = sorted({*broker.administration.queues(), *broker.administration.paused()})
    depths = broker.administration.depths(names)
    if sum(depth.ready + (depth.delayed or 0) for depth in depths) > FEW_MESSAGES:
        return None
    found: dict[str, str] = {}
    for name, depth in zip(names, depths, strict=True):
        for one in broker.administration.waiting(name) if depth.ready or depth.delayed else ():
            if (task_id := id_of(one.raw)) in ids and task_id is not None:
                found[task_id] = name
    return found
