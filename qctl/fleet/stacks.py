"""The stacks of running tasks: asked from workers, and printed.

In:  ids of tasks, or names of workers.  Out: one item for each running task; remarks on the other workers.
Before this: the control command `stack` (qcore/pools/stacks.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from qcore.wire.event import finite_number
from qctl.output import replies
from qctl.output.text import age, stamp

if TYPE_CHECKING:
    from qcore.control.client import Answers
    from qctl.cli.session import Session

ASK_S = 1.0
FIELDS = (
    *("id", "name", "node", "pid", "started_at", "runtime_s", "doing", "waits_in", "problem", "frames"),
)
#: what Celery's workers answer to a command that they do not have
_UNKNOWN_COMMAND = "it knows no command 'stack'"
_DOING = {
    "python": "executes Python code",
    "c_wait": "waits in a call into C",
    "c_compute": "computes in a call into C",
    "await": "awaits",
    "switched": "has let other greenlets run",
}


class Stacks(NamedTuple):
    """items: one for each running task; without: workers that tell none, and why; left_out: by worker."""

    items: list[dict[str, Any]]
    without: dict[str, str]
    left_out: dict[str, int]
    answers: Answers


def ask(
    session: Session, ids: Sequence[str], destination: Sequence[str] | None, timeout_s: float = ASK_S
) -> Stacks:
    """The stacks of these tasks, or of all, at these workers, or at all. Raises BrokerDown."""
    arguments = {"ids": list(ids)} if ids else {}
    answers = session.app.control.ask("stack", arguments, destination, timeout_s)
    items: list[dict[str, Any]] = []
    left_out: dict[str, int] = {}
    refused = replies.errors(answers)
    without = {node: _refusal(node, words, answers) for node, words in refused.items()}
    for node, reply in sorted(answers.replies.items()):
        if node in refused or not isinstance(reply, Mapping):
            continue
        tasks = reply.get("tasks")
        items += [_item(node, task) for task in tasks or () if isinstance(task, Mapping)]
        if more := int(finite_number(reply.get("left_out")) or 0):
            left_out[node] = more
    return Stacks(items, without, left_out, answers)


def _refusal(node: str, words: str, answers: Answers) -> str:
    if words != _UNKNOWN_COMMAND:
        return words
    if node in answers.members:
        return "its version does not tell stacks yet"
    return "Celery's workers do not tell their stacks"


def _item(node: str, task: Mapping[str, Any]) -> dict[str, Any]:
    since = finite_number(task.get("time_start"))
    return {
        "id": task.get("id"),
        "name": task.get("name"),
        "node": node,
        "pid": task.get("worker_pid"),
        "started_at": None if since is None else stamp(since),
        "runtime_s": None if since is None else round(max(time.time() - since, 0.0), 3),
        "doing": task.get("doing"),
        "waits_in": task.get("waits_in") or None,
        "problem": task.get("problem") or None,
        "frames": [dict(f) for f in task.get("frames") or () if isinstance(f, Mapping)],
    }


def silence(answers: Answers) -> dict[str, str]:
    """What is known of the workers that did not answer, by their names."""
    held = "a call into C may keep its interpreter lock, or it is stopped; `qctl status` follows it"
    found = {}
    for one in answers.silent:
        last = "" if one.age_s is None else f", its last heartbeat was {age(one.age_s)} ago"
        found[one.node] = f"it did not answer{last}: {held}"
    return found


def doing(item: Mapping[str, Any]) -> str:
    """What a task does, in words."""
    words = _DOING.get(str(item["doing"]), "")
    if not words:
        return str(item["problem"] or "what it does is unknown")
    return f"{words} ({item['waits_in']})" if item["waits_in"] else words


def text(item: Mapping[str, Any]) -> str:
    """One task with its stack, the most recent call last."""
    since = "" if item["runtime_s"] is None else f", for {age(item['runtime_s'])}"
    lines = [f"{item['name']} {item['id']} at {item['node']}, process {item['pid']}{since}: {doing(item)}"]
    for frame in item["frames"]:
        place = f'  File "{frame.get("file")}", line {frame.get("line")}, in {frame.get("function")}'
        lines += [place, f"    {frame['code']}"] if frame.get("code") else [place]
    return "\n".join(lines)


def write(session: Session, schema: str, found: Stacks) -> None:
    """Print the stacks, and what is known of workers that told none."""
    out = session.out
    if out.for_people and found.items:
        out.text("\n\n".join(map(text, found.items)))
    elif not out.for_people:
        out.items(schema, found.items, [], [[] for _ in found.items], "id", FIELDS)
    for node, words in sorted({**found.without, **silence(found.answers)}.items()):
        out.warn(f"{node}: {words}")
    for node, more in sorted(found.left_out.items()):
        out.note(f"{node} runs {more:,} more, which began later")
