"""Task.replace(): a signature that takes the place of a running task.

In:  a signature and the request of the task.  Out: the frozen signature, which execution/run.py publishes.
"""

from __future__ import annotations

from qcore.tasks.canvas import chain, with_one_end
from qcore.tasks.request import Request
from qcore.tasks.signature import Signature, as_list, signature


def stand_in(sig: Signature, request: Request) -> Signature:
    """`sig`, frozen, with the id, callbacks, remaining chain and chord of a running task (Task.replace)."""
    found = with_one_end(sig.clone())
    for callback in as_list(request.callbacks):
        found.link(callback)
    for errback in as_list(request.errbacks):
        found.link_error(errback)
    nesting = (request.replaced_task_nesting or 0) + 1
    rest = list(request.chain or ())
    if rest:
        for step in rest:
            step.setdefault("options", {})["replaced_task_nesting"] = nesting
        found.freeze(request.id, root_id=request.root_id)
        found = chain([found, *(signature(step) for step in reversed(rest))], app=sig._app)
        found.freeze(root_id=request.root_id)
        mine = {"chord": request.chord, "group_id": request.group, "group_index": request.group_index}
        # The last of the remaining steps may have the place in the chord, if this task was a replacement too.
        found.tail(**{key: value for key, value in mine.items() if value is not None})
        return found
    found.freeze(
        request.id,
        root_id=request.root_id,
        chord=request.chord,
        group_id=request.group,
        group_index=request.group_index,
    )
    return found
