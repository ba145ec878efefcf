"""What a signature has besides its call: the entries of its mapping as attributes, lists among its options,
kinds that a project registers.

In:  the mapping of a signature (signature.py is built on this).  Out: attributes; kinds by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from qcore.base.times import new_id
from qcore.errors import NotRegistered

if TYPE_CHECKING:
    from qcore.tasks.interface import SendingApp

#: subtask_type -> constructor, for the signatures that contain others
TYPES: dict[str, Callable[[dict[str, Any]], Any]] = {}


def as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


class SignatureMembers(dict[str, Any]):
    """The part of a signature that reads and writes its mapping."""

    TYPES: ClassVar[dict[str, Callable[[dict[str, Any]], Any]]] = TYPES

    @property
    def app(self) -> SendingApp:
        raise NotImplementedError

    def clone(self, args: Any = (), kwargs: dict[str, Any] | None = None, **options: Any) -> Any:
        raise NotImplementedError

    @classmethod
    def register_type(cls, name: str | None = None) -> Callable[[type], type]:
        """A decorator for classes of signatures: their mappings become signatures with from_dict(d, app=)
        of the class. name: the `subtask_type`; None: that of the class."""

        def register(kind: Any) -> type:
            TYPES[name or kind.__name__] = lambda data: kind.from_dict(data, app=None)
            return kind  # type: ignore[no-any-return]

        return register

    # --- entries of the mapping

    @property
    def task(self) -> str:
        return str(self["task"])

    @task.setter
    def task(self, value: str) -> None:
        self["task"] = value

    @property
    def args(self) -> tuple[Any, ...]:
        return tuple(self.get("args") or ())

    @args.setter
    def args(self, value: Any) -> None:
        self["args"] = tuple(value or ())

    @property
    def kwargs(self) -> dict[str, Any]:
        kwargs: dict[str, Any] | None = self.get("kwargs")
        if kwargs is None:
            kwargs = self["kwargs"] = {}
        return kwargs

    @kwargs.setter
    def kwargs(self, value: dict[str, Any]) -> None:
        self["kwargs"] = value

    @property
    def options(self) -> dict[str, Any]:
        options: dict[str, Any] | None = self.get("options")
        if options is None:
            options = self["options"] = {}
        return options

    @options.setter
    def options(self, value: dict[str, Any]) -> None:
        self["options"] = value

    @property
    def immutable(self) -> bool:
        return bool(self.get("immutable"))

    @immutable.setter
    def immutable(self, value: bool) -> None:
        self["immutable"] = value

    @property
    def subtask_type(self) -> str | None:
        return self.get("subtask_type")

    @subtask_type.setter
    def subtask_type(self, value: str | None) -> None:
        self["subtask_type"] = value

    @property
    def parent_id(self) -> str | None:
        """The id of the task that sends it; None before freeze()."""
        return self.options.get("parent_id")

    @parent_id.setter
    def parent_id(self, value: str | None) -> None:
        self.options["parent_id"] = value

    @property
    def root_id(self) -> str | None:
        """The id of the first task of its workflow; None before freeze()."""
        return self.options.get("root_id")

    @root_id.setter
    def root_id(self, value: str | None) -> None:
        self.options["root_id"] = value

    @property
    def name(self) -> str:
        """The name of its task, as `task`."""
        return self.task

    @property
    def type(self) -> Any:
        """Its task, of this app. Raises NotRegistered."""
        return self.app.task_named(self.task)

    @property
    def AsyncResult(self) -> Callable[..., Any]:
        """What makes the handle of a result of an id: of its task, else of the app."""
        try:
            return self.type.AsyncResult  # type: ignore[no-any-return]
        except NotRegistered:
            return self.app.AsyncResult  # type: ignore[attr-defined, no-any-return]  # of every App

    # --- lists among the options

    def append_to_list_option(self, key: str, value: Any) -> Any:
        """Add `value` to the list of an option, unless it is there. Returns it."""
        found = as_list(self.options.get(key))
        if value not in found:
            found.append(value)
        self.options[key] = found
        return value

    def extend_list_option(self, key: str, value: Any) -> None:
        """Add one value or several to the list of an option."""
        self.options[key] = [*as_list(self.options.get(key)), *as_list(value)]

    def election(self) -> Any:
        """Have the workers elect one of them, which publishes the call; without a worker it is lost. Returns
        the handle of its result. Raises NotRegistered unless its task is registered in this app."""
        task_id = self.options.get("task_id") or new_id()
        self.type.app.control.election(task_id, "task", self.clone(task_id=task_id))
        return self.type.AsyncResult(task_id)


class ChainSteps:
    """What a chain does in parts, for subclasses and programs that call them."""

    _id: str | None = None
    _frozen: tuple[list[Any], list[Any]]

    def prepare_steps(
        self,
        args: Any,
        kwargs: Any,
        tasks: Iterable[Any],
        root_id: str | None = None,
        parent_id: str | None = None,
        link_error: Any = None,
        app: Any = None,
        last_task_id: str | None = None,
        group_id: str | None = None,
        chord_body: Any = None,
        clone: bool = True,
        from_dict: Callable[..., Any] | None = None,
        group_index: int | None = None,
    ) -> tuple[list[Any], list[Any]]:
        """The steps of a chain of `tasks` as they run, with ids, and their results, each the last one first.
        args and kwargs go to the first step, errbacks to all; what concerns a group, to the last. Only
        without `clone` are the given tasks changed. parent_id has no effect: the publishing knows it."""
        kind: Any = type(self)
        found = [t if isinstance(t, SignatureMembers) or not from_dict else from_dict(t) for t in tasks]
        if not found:
            self._id = last_task_id
            return [], []
        made = kind(found, app=app or getattr(self, "_app", None))
        if clone:
            made = made.clone()
        for errback in as_list(link_error):
            made.link_error(errback)
        first = made.tasks[0]
        if isinstance(first, ChainSteps) or not clone:
            first.args = (*args, *first.args)
            first.kwargs.update(kwargs or {})
        else:
            made.tasks[0] = first.clone(args, dict(kwargs or {}))
        made.freeze(
            last_task_id, group_id=group_id, root_id=root_id, chord=chord_body, group_index=group_index
        )
        steps, results = made._frozen
        self._id = results[0].id
        return steps, results


class ChordRun:
    """The publishing of a chord, for subclasses and programs that call it."""

    def run(
        self,
        header: Any,
        body: Any,
        partial_args: Any,
        app: Any = None,
        interval: float | None = None,
        countdown: float = 1,
        max_retries: int | None = None,
        eager: bool = False,
        task_id: str | None = None,
        kwargs: dict[str, Any] | None = None,
        header_delay: dict[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Publish a chord of this header and body, also with task_always_eager; task_id: the id of the body;
        partial_args, kwargs and header_delay (countdown, eta): those of the header. interval, countdown
        and max_retries are those of a poll, where the members of chords are not counted."""
        mine: Any = self
        body = body.clone(task_id=task_id) if task_id else body
        made = type(mine)(header, body, app=app or mine._app, **mine.options)
        return made.publish(partial_args or (), kwargs, **{**options, **(header_delay or {})})
