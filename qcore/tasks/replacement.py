"""A signature behind another one, `a | b`, and in the place of a running task, Task.replace().

In:  signatures, the request of the task.  Out: a workflow; a frozen one, which execution/run.py publishes.
"""

from __future__ import annotations

from qcore.tasks.canvas import chain, chord, group, with_one_end
from qcore.tasks.request import Request
from qcore.tasks.signature import Flow, Signature, set_join, signature
from qcore.tasks.signature_members import as_list


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
        # The last of the remaining steps has its own place in a chord; if this task was a replacement too, it
        # has that of this task. The group of a chord's body is no place: it has no index.
        if request.chord is not None or request.group_index is not None:
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


def _goes_on(before: chain, then: Signature) -> bool:
    """Whether `then` becomes a part of a chain's last chord; its links then hold for both, as in Celery."""
    steps = before.clone().steps()
    step = then.tasks[0] if isinstance(then, chain) and then.tasks else then
    if steps and isinstance(steps[-1], chord):
        return not isinstance(step, Flow)
    return bool(steps) and isinstance(steps[-1], group) and not isinstance(step, group)


def _joined(first: Signature, then: Signature) -> Signature:
    """`first | then`, with Celery's rules."""
    if isinstance(first, group):
        return chord(first, then, app=first._app)
    if isinstance(first, chord) and not isinstance(then, Flow):
        found = first.clone()
        found["kwargs"]["body"] = first.body | then
        return found
    joined = chain(app=first._app or then._app)
    for one in (first, then):
        if not isinstance(one, chain):
            joined.tasks.append(one.clone())
        elif one is first and one.options and _goes_on(one, then):
            joined.tasks.extend(task.clone() for task in one.tasks)
            joined.options.update(one.options)
        else:
            joined.tasks.extend(one.unchain_tasks())
            joined.options.update({k: v for k, v in one.options.items() if k not in ("link", "link_error")})
    return joined


set_join(_joined)
