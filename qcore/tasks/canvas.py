"""Workflows: chain, group and chord: signatures that contain signatures. map_calls.py has the others.

In:  signatures (signature.py).  Out: messages in Celery's format, which Celery's workers run too.
Each message of a chain carries the remaining steps. A group is many messages with one group id. A chord is
a group whose members carry the body; the result store counts them, and the worker that counts the last one
publishes the body (worker/settling/chords.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from qcore.base.times import new_id
from qcore.errors import ConfigError
from qcore.tasks.result import AsyncResult, GroupResult, Handle
from qcore.tasks.signature import Flow, SendPlan, Signature, plain, signature
from qcore.tasks.signature_members import TYPES, ChainSteps, ChordRun, as_list
from qcore.tasks.stamping import StampingVisitor, together

__all__ = [
    "SendPlan",
    "Signature",
    "chain",
    "chord",
    "group",
    "signature",
    "with_one_end",
]


def _link_error_of_chord(member: Signature, errback: dict[str, Any]) -> None:
    """As in Celery, an errback of a chord is one of the chords in its header too."""
    if isinstance(member, chord):
        member.link_error(errback)
    elif isinstance(member, chain) and _begins_with_group(member):
        for task in member.tasks[1:]:
            task.link_error(errback)


def _begins_with_group(member: chain) -> bool:
    return len(member.tasks) > 1 and isinstance(member.tasks[0], group)


def _members(tasks: Iterable[Any], app: Any) -> list[Signature]:
    return [signature(task, app=app) for task in tasks]


class chain(ChainSteps, Flow):
    """Signatures that run one after the other, each with the result of the previous one:
    `chain(add.s(2, 2), mul.s(10))`."""

    visits = ("on_chain_start", "on_chain_end")

    def __init__(self, *tasks: Any, app: Any = None, **options: Any) -> None:
        if len(tasks) == 1 and not (isinstance(tasks[0], Signature)):
            tasks = tuple(tasks[0])
        super().__init__(
            "celery.chain",
            (),
            {"tasks": _members(tasks, app)},
            options,
            subtask_type="chain",
            app=app or _app_of(tasks),
        )

    @classmethod
    def of(cls, data: dict[str, Any]) -> chain:
        return cls(list(data["kwargs"]["tasks"]), **(data.get("options") or {}))

    @property
    def tasks(self) -> list[Signature]:
        return self["kwargs"]["tasks"]  # type: ignore[no-any-return]  # set by __init__

    @property
    def id(self) -> str | None:
        """The id of the last step; None before freeze()."""
        return self._id or super().id

    def apply_async(self, args: Any = (), kwargs: dict[str, Any] | None = None, **options: Any) -> Any:
        """As of every workflow; an empty chain publishes nothing and returns None, as in Celery."""
        return super().apply_async(args, kwargs, **options) if self.tasks else None

    def clone(self, args: Any = (), kwargs: dict[str, Any] | None = None, **options: Any) -> chain:
        tasks = [t.clone(args, kwargs) if not i else t.clone() for i, t in enumerate(self.tasks)]
        return chain(tasks, app=self._app, **{**self.options, **options})

    def run(self, args: Any = (), kwargs: dict[str, Any] | None = None, **options: Any) -> Any:
        """Publish the chain, also with task_always_eager."""
        return self.publish(args, kwargs, **options) if self.tasks else None

    def inner(self) -> list[Signature]:
        return self.tasks

    def unchain_tasks(self) -> list[Signature]:
        """Copies of the steps, each with the errbacks of the chain, the last one with its callbacks."""
        tasks = [task.clone() for task in self.tasks]
        for callback in as_list(self.options.get("link")):
            tasks[-1].link(callback)
        # A group and what follows it is a chord, whose errbacks are those of its body.
        failing = tasks[1:] if _begins_with_group(self) else tasks
        for errback in as_list(self.options.get("link_error")):
            for task in failing:
                task.link_error(errback)
        return tasks

    def tail(self, **options: Any) -> None:
        if self.tasks:
            self.tasks[-1].tail(**options)

    def steps(self) -> list[Signature]:
        """The steps as they run: nested chains are inlined, a group and the step after it become a chord,
        callbacks go to the last step, and errbacks to every step."""
        steps: list[Signature] = []
        for task in self.tasks:
            led_by_group = len(steps) == 1 and steps[0] is self.tasks[0] and isinstance(steps[0], group)
            if isinstance(task, group) and len(task.tasks) == 1 and not led_by_group:
                task = task.tasks[0]  # as in Celery, a group of one task is that task, but in `group | group`
            for step in task.steps() if isinstance(task, chain) else [task]:
                if isinstance(step, group) and not step.tasks and len(self.tasks) > 1:
                    continue  # an empty group among other steps has no effect
                joined = _after_group(steps[-1], step) if steps else None
                if joined is not None:
                    steps[-1] = joined
                else:
                    steps.append(step)
        options = self.options
        if steps:
            steps[-1].tail(**{k: options.pop(k) for k in _ENDS if k in options})
            for callback in as_list(options.pop("link", None)):
                for last in steps[-1].tasks if isinstance(steps[-1], group) else steps[-1:]:
                    last.link(callback)
        for errback in as_list(options.pop("link_error", None)):
            for step in steps:
                step.link_error(errback)
        return steps

    def leaving(self) -> list[Signature]:
        # The only step of a chain has the id of the chain.
        return self.tasks[0].leaving() if len(self.tasks) > 1 else []

    def freeze(self, _id: str | None = None, group_id: str | None = None, **options: Any) -> Handle:
        options["group_id"] = group_id
        if not self.tasks:
            raise ConfigError("a chain needs at least one task")
        self["kwargs"]["tasks"] = steps = self.steps()
        root_id = options.get("root_id")
        results: list[Handle] = [step.freeze(root_id=root_id) for step in steps[:-1]]
        # The id of a chain is the id of its last step.
        last = steps[-1].freeze(_id or self.options.pop("task_id", None), **options)
        self._id = last.id
        results.append(last)
        for before, after in pairwise(results):
            _first(after).parent = before
        self._frozen = steps[::-1], list(results[::-1])
        return last

    def emit(
        self,
        plan: SendPlan,
        args: Any = (),
        kwargs: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        first, *rest = self.tasks
        given = {**{k: v for k, v in self.options.items() if k not in _OWN}, **(options or {})}
        left = [*(given.pop("chain", None) or ()), *reversed(plain(rest))]
        if left:
            given["chain"] = left
        if args and self.immutable:
            args = ()
        first.emit(plan, args, kwargs, given)

    def apply(self, args: Any = (), kwargs: dict[str, Any] | None = None, **options: Any) -> Any:
        """Run the steps in this process, one after the other, until one fails. Returns the last result."""
        steps = self.clone().steps()
        result: Any = None
        for number, step in enumerate(steps):
            # An errback applies to every step, all other options to the last.
            last = number == len(steps) - 1
            given = options if last else {k: v for k, v in options.items() if k == "link_error"}
            before, result = result, step.apply(args, kwargs, **given)
            result.parent = before
            if isinstance(result, AsyncResult) and not result.successful():
                break
            args, kwargs = (result.get(),), None
        return result

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.tasks)) or "<empty chain>"


class group(Flow):
    """Signatures that run in parallel: `group(add.s(i, i) for i in range(10))`."""

    visits = ("on_group_start", "on_group_end")

    def __init__(self, *tasks: Any, app: Any = None, **options: Any) -> None:
        if len(tasks) == 1 and not isinstance(tasks[0], Signature):
            tasks = tuple(tasks[0])
        found: list[Signature] = []
        for task in _members(tasks, app):
            found.extend(task.tasks if isinstance(task, group) else [task])
        super().__init__(
            "celery.group", (), {"tasks": found}, options, subtask_type="group", app=app or _app_of(found)
        )

    @classmethod
    def of(cls, data: dict[str, Any]) -> group:
        return cls(list(data["kwargs"]["tasks"]), **(data.get("options") or {}))

    @property
    def tasks(self) -> list[Signature]:
        return self["kwargs"]["tasks"]  # type: ignore[no-any-return]  # set by __init__

    def __len__(self) -> int:
        return len(self.tasks)

    def __bool__(self) -> bool:
        return True

    def clone(self, args: Any = (), kwargs: dict[str, Any] | None = None, **options: Any) -> group:
        tasks = [task.clone(args, kwargs) for task in self.tasks]
        return group(tasks, app=self._app, **{**self.options, **options})

    def tail(self, **options: Any) -> None:
        for task in self.tasks:
            task.tail(**{k: v for k, v in options.items() if k not in ("task_id", "group_id", "group_index")})

    def link(self, sig: dict[str, Any]) -> dict[str, Any]:
        """Call `sig`, without a result, when the first task succeeds, as in Celery."""
        return self.tasks[0].link(signature(sig).clone().set(immutable=True))

    def link_error(self, sig: dict[str, Any]) -> dict[str, Any]:
        for task in self.tasks:
            task.link_error(sig)
        return sig

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> group:
        """Give the members countdowns, in seconds: start, start + step, …, then the last one before stop."""
        countdown = start * 1.0
        for task in self.tasks:
            task.set(countdown=countdown)
            if not stop or countdown + step <= stop:
                countdown += step
        return self

    def inner(self) -> list[Signature]:
        return self.tasks

    def leaving(self) -> list[Signature]:
        return [call for task in self.tasks for call in task.leaving()]

    def freeze(self, _id: str | None = None, group_id: str | None = None, **options: Any) -> GroupResult:
        mine = self.options
        if not mine.get("task_id"):
            mine["task_id"] = _id or new_id()
        group_id = str(mine["task_id"])  # a group in a group has an id of its own
        if options.get("chord") is None:
            options.pop("chord", None)
        options.update(group_id=group_id)
        results = []
        for index, task in enumerate(self.tasks):
            results.append(task.freeze(**{**options, "group_index": index}))
        return GroupResult(group_id, results, app=self._app)

    def emit(
        self,
        plan: SendPlan,
        args: Any = (),
        kwargs: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        given = {k: v for k, v in {**self.options, **(options or {})}.items() if k not in _OWN}
        for task in self.tasks:
            task.emit(plan, args, kwargs, given)

    def apply(self, args: Any = (), kwargs: dict[str, Any] | None = None, **options: Any) -> GroupResult:
        """Run the members in this process, one after the other."""
        options = {k: v for k, v in options.items() if k not in _OWN}
        return GroupResult(
            self.options.get("task_id") or new_id(),
            [task.apply(args, kwargs, **options) for task in self.tasks],
            app=self._app,
        )

    def __repr__(self) -> str:
        return f"group({', '.join(map(repr, self.tasks))})"


class chord(ChordRun, Flow):
    """A group, the header, and a body that is called with the list of its results: `chord(header)(body)`."""

    visits = ("on_chord_header_start", "on_chord_header_end")

    def __init__(self, header: Any, body: Any = None, app: Any = None, **options: Any) -> None:
        if not isinstance(header, group):
            header = group([header] if isinstance(header, Signature) else header, app=app)
        found = signature(body, app=app) if body is not None else None
        super().__init__(
            "celery.chord",
            (),
            {"kwargs": {}, "header": header, "body": found},
            options,
            subtask_type="chord",
            app=app or header._app or (found._app if found is not None else None),
        )

    @classmethod
    def of(cls, data: dict[str, Any]) -> chord:
        header, options = data["kwargs"]["header"], dict(data.get("options") or {})
        if isinstance(header, dict):
            header = signature(header)
        return cls(header, data["kwargs"]["body"], **options)

    @property
    def header(self) -> group:
        return self["kwargs"]["header"]  # type: ignore[no-any-return]  # set by __init__

    @property
    def tasks(self) -> list[Signature]:
        return self.header.tasks

    def inner(self) -> list[Signature]:
        return self.header.tasks

    def set_immutable(self, immutable: bool) -> None:
        """Whether arguments that are given later are ignored, by the body too."""
        super().set_immutable(immutable)
        self.body.set_immutable(immutable)

    def stamp(
        self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **headers: Any
    ) -> Any:
        super().stamp(visitor, append_stamps, **headers)
        if (
            self["kwargs"]["body"] is not None and visitor is not None
        ):  # without one not the body, as in Celery
            chosen = visitor.on_chord_body(self, **headers)
            self.body.stamp(visitor, append_stamps, **together(headers, chosen, self.options, append_stamps))
        return self

    @property
    def body(self) -> Signature:
        found: Signature | None = self["kwargs"]["body"]
        if found is None:
            raise ConfigError("a chord needs a body: chord(header)(body)")
        return found

    def __call__(self, body: Any = None, **options: Any) -> Any:
        if body is not None:
            return chord(self.header, body, app=self._app, **self.options).apply_async(**options)
        return self.apply_async(**options)

    def clone(self, args: Any = (), kwargs: dict[str, Any] | None = None, **options: Any) -> chord:
        header, body = self.header.clone(args, kwargs), self["kwargs"]["body"]
        return chord(
            header, body.clone() if body is not None else None, app=self._app, **{**self.options, **options}
        )

    def tail(self, **options: Any) -> None:
        self.body.tail(**options)

    def link(self, callback: dict[str, Any]) -> dict[str, Any]:
        return self.body.link(callback)

    def link_error(self, errback: dict[str, Any]) -> dict[str, Any]:
        if self.app.conf.task_allow_error_cb_on_chord_header:
            self.header.link_error(errback)
        else:
            for member in self.tasks:
                _link_error_of_chord(member, errback)
        return self.body.link_error(errback)

    def leaving(self) -> list[Signature]:
        return self.header.leaving()

    def freeze(self, _id: str | None = None, group_id: str | None = None, **options: Any) -> Handle:
        options["group_id"] = group_id
        body, mine = self.body, self.options
        body.tail(**{k: mine.pop(k) for k in _ENDS if k in mine})
        # If the body is a chain, its first step is the body and carries the others.
        last = body.freeze(_id, **options)
        header = self.header
        header["kwargs"]["tasks"] = [with_one_end(task) for task in header.tasks]
        # As in Celery, the id of a chord is the group id of its header; its result is that of the body.
        members = header.freeze(mine.get("task_id"), root_id=options.get("root_id"))
        mine["task_id"] = members.id
        first: Signature = body
        while isinstance(first, chain):
            first = first.tasks[0]
        if not isinstance(first, Flow):
            # Options of a workflow go to its last task, whose group may be that of an outer chord.
            first.options.setdefault("group_id", members.id)
        _first(last).parent = members
        return last

    def emit(
        self,
        plan: SendPlan,
        args: Any = (),
        kwargs: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        given = {**self.options, **(options or {})}
        given.pop("task_id", None)
        header, body = self.header, self.body.clone()
        rest = list(given.pop("chain", None) or ())
        for key in ("link", "link_error"):
            for one in as_list(given.pop(key, None)):
                body.link(one) if key == "link" else body.link_error(one)
        if isinstance(body, chain):
            first, *steps = body.steps()
            rest += reversed(plain(steps))
            body = first
        if rest:
            # A chain is stored last step first: the body's own steps run before those that follow the chord.
            body.options["chain"] = [*rest, *(body.options.get("chain") or ())]
        later = {k: v for k, v in given.items() if k not in ("countdown", "eta", "parent_id", *_OWN)}
        body.options.update({k: v for k, v in later.items() if k not in body.options})
        if not header.tasks:
            body.emit(plan, ([],))
            return
        plan.add_chord(header)
        carried = plain(body)
        for task in header.tasks:
            task.tail(chord=carried)
        header.emit(plan, args, kwargs, given)

    def apply(self, args: Any = (), kwargs: dict[str, Any] | None = None, **options: Any) -> Any:
        """Run the header, then the body, in this process."""
        found = self.header.apply(args, kwargs)
        body = self.body.clone()
        for callback in as_list(self.options.get("link")):
            body.link(callback)
        result = body.apply((found.get(),), **options)
        result.parent = found
        return result

    def __repr__(self) -> str:
        return f"chord({self.header!r}, {self['kwargs']['body']!r})"


#: options of a group that its members do not inherit
_OWN = ("task_id", "group_id", "group_index", "chord")
#: options of a workflow that belong to its last task
_ENDS = ("chord", "group_id", "group_index")


def _app_of(tasks: Iterable[Any]) -> Any:
    return next((t._app for t in tasks if isinstance(t, Signature) and t._app is not None), None)


def _first(result: Handle) -> Handle:
    """The outermost parent of a result, which has no parent itself."""
    while result.parent is not None:
        result = result.parent
    return result


def _after_group(last: Signature, step: Signature) -> Signature | None:
    """`last`, which ends in a group, and then `step`: a chord. None if `last` ends in a single task."""
    if isinstance(last, group):
        return chord(last, step, app=last._app)
    if isinstance(last, chord):
        body = _after_group(last.body, step)
        return body and chord(last.header, body, app=last._app, **last.options)
    if isinstance(last, chain) and (steps := last.steps()):
        ending = _after_group(steps[-1], step)
        return ending and chain([*steps[:-1], ending], app=last._app, **last.options)
    return None


def with_one_end(sig: Signature) -> Signature:
    """The member of a chord's header with a single last task: one that ends in a group becomes a chord whose
    body collects the results, since a member counts once."""
    if isinstance(sig, chain):
        steps = sig.steps()
        ending = with_one_end(steps[-1]) if steps else None
        if ending is not None and ending is not steps[-1]:
            return chain([*steps[:-1], ending], app=sig._app, **sig.options)
    elif isinstance(sig, group):
        return chord(sig, _collect(sig), app=sig._app)
    elif isinstance(sig, chord):
        body = with_one_end(sig.body)
        if body is not sig.body:
            return chord(sig.header, body, app=sig._app, **sig.options)
    return sig


def _collect(sig: Signature) -> Signature:
    return Signature("celery.accumulate", (), {"index": 0}, app=sig._app)


TYPES.update(
    chain=chain.of,
    group=group.of,
    chord=chord.of,
)
