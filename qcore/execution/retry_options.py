"""The arguments and continuations of the next attempt, from the options of Task.retry().

In:  the body of a message, and what retry() was given.  Out: those of the next message.
Before this: execution/run.py, which builds that message.
"""

from __future__ import annotations

from typing import Any

from qcore.tasks.signature_members import as_list
from qcore.tasks.task import Task
from qcore.wire.task import Body


def links(embed: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """The continuations of the next attempt: those of this one, with the options of retry() replaced."""
    lists = {"callbacks": "link", "errbacks": "link_error"}
    given: dict[str, Any] = {name: as_list(options[k]) or None for name, k in lists.items() if k in options}
    return embed | given | {k: options[k] for k in ("chain", "chord") if k in options}


def arguments(
    task: Task, args: Any, kwargs: dict[str, Any] | None, body: Body
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of the next attempt: those of this one, with the parameters given to retry() replaced,
    whether they are positional or keyword arguments."""
    if (args is None) == (kwargs is None) or not (body.kwargs if kwargs is None else body.args):
        return list(body.args if args is None else args), body.kwargs if kwargs is None else kwargs
    import inspect

    try:
        signature = inspect.signature(task.run)
        either = inspect.Parameter.POSITIONAL_OR_KEYWORD
        kinds = (inspect.Parameter.POSITIONAL_ONLY, either)
        if kwargs is None:
            places = [p for p in signature.parameters.values() if p.kind in kinds][: len(args)]
            taken = {p.name for p in places if p.kind == either}
            return list(args), {k: v for k, v in body.kwargs.items() if k not in taken}
        bound = signature.bind_partial(*body.args)
    except (TypeError, ValueError):  # no signature, or arguments that do not fit: the next attempt fails
        return list(body.args if args is None else args), body.kwargs if kwargs is None else kwargs
    rest = dict(kwargs)
    for name in [k for k in rest if k in bound.arguments and signature.parameters[k].kind == either]:
        bound.arguments[name] = rest.pop(name)
    return list(bound.args), {**bound.kwargs, **rest}
