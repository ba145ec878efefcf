"""Signatures: calls that are not published yet; and SendPlan, which publishes several in one round trip.

In:  a task, its arguments, its options.  Out: a mapping with Celery's keys (task, args, kwargs,
options, subtask_type, immutable), which can be published, or put into another message.
After this: canvas.py, the signatures that contain others.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from qcore.base.keywords import check_call, check_call_of_many
from qcore.base.times import new_id
from qcore.brokers.contract.records import Message
from qcore.errors import ConfigError
from qcore.results.registry import celery_backend
from qcore.tasks.current_app import current_app
from qcore.tasks.result import AsyncResult, GroupResult, Handle
from qcore.tasks.signature_members import TYPES, SignatureMembers, as_list
from qcore.tasks.stamping import StampingVisitor, together
from qcore.wire import identity

if TYPE_CHECKING:
    from qcore.tasks.interface import SendingApp

#: options that belong to the last task of a signature
TAIL = ("task_id", "group_id", "group_index", "chord", "chain", "link")


#: options of a call that are about its publishing, not its message
PUBLISHING = ("retry", "retry_policy", "producer", "connection", "timeout", "confirm_timeout")


class SendPlan:
    """Messages to publish and sizes of chords to store. send() stores the sizes first, then publishes all
    messages in one round trip."""

    def __init__(self, app: SendingApp) -> None:
        self.app = app
        self.messages: list[Message] = []
        self.sizes: list[tuple[str, int]] = []
        self.headers: list[tuple[str, list[Any]]] = []

    def add_chord(self, header: Any) -> None:
        """Add the size of a chord, whose header has its ids; for backends of other packages the ids, too."""
        self.sizes.append((header.options["task_id"], len(header.tasks)))
        if celery_backend(self.app.conf.result_backend):
            self.headers.append((header.options["task_id"], header.freeze().as_tuple()[1]))

    def add(self, name: str, args: Any, kwargs: dict[str, Any], options: dict[str, Any]) -> str:
        """Add the message of a call. Returns its task id."""
        task_id: str = options.get("task_id") or identity.make()
        task = self.app.tasks.get(name)
        if self.app.overrides_sending or (task is not None and task.overrides_sending):
            self._add_as_overridden(name, task, args, kwargs, {**options, "task_id": task_id})
        else:
            self.messages.append(self.app.message(name, args, kwargs, task_id, options, task))
        return task_id

    def _add_as_overridden(
        self, name: str, task: Any, args: Any, kwargs: dict[str, Any], options: dict[str, Any]
    ) -> None:
        """Call apply_async() of the task, or send_task() of the app, which the project overrides. What they
        send is added to the plan."""
        token = collecting.set(self)
        try:
            if task is not None:
                task.apply_async(args, kwargs, **options, add_to_parent=False)
            else:
                self.app.send_task(name, args, kwargs, **options, add_to_parent=False)
        finally:
            collecting.reset(token)

    def send(self, options: Mapping[str, Any] | None = None) -> None:
        """Store and publish all; options: those of App.send_messages(). Raises BrokerDown, Unroutable,
        Unsupported (chords)."""
        if self.sizes:
            self.app.results.chord_sizes(self.sizes, self.app.chord_ttl_s())
            self.app.results.chord_headers(self.headers)
        self.app.send_messages(self.messages, options or {})


#: the plan that App.send_task() adds to instead of publishing
collecting: ContextVar[SendPlan | None] = ContextVar("collecting", default=None)


class Signature(SignatureMembers):
    """One call: `add.s(2, 2)`. Arguments given later come before its own."""

    _app: SendingApp | None = None

    def __init__(
        self,
        task: str | dict[str, Any] | Any = None,
        args: tuple[Any, ...] | list[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        type: Any = None,
        subtask_type: str | None = None,
        immutable: bool = False,
        app: SendingApp | None = None,
        **more: Any,
    ) -> None:
        """type: a task, instead of `task`; other keywords are options too."""
        task = type if task is None and type is not None else task
        if isinstance(task, dict):
            super().__init__(task)
        else:
            name = task if isinstance(task, str) else task.name
            super().__init__(
                task=name,
                args=tuple(args or ()),
                kwargs=dict(kwargs or {}),
                options={**(options or {}), **more},
                subtask_type=subtask_type,
                immutable=immutable,
            )
        self._app = app

    @property
    def id(self) -> str | None:
        """The task id; None before freeze()."""
        return self.options.get("task_id")

    @property
    def app(self) -> SendingApp:
        if self._app is None:
            self._app = current_app()
        return self._app

    # --- arguments and options

    def merged(
        self, args: Any = (), kwargs: dict[str, Any] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        """The arguments and options of a call with these additional ones. An immutable signature adds no
        arguments."""
        together = {**self.options, **(options or {})}
        if self.immutable:
            return self.args, self.kwargs, together
        return (*tuple(args or ()), *self.args), {**self.kwargs, **(kwargs or {})}, together

    def clone(self, args: Any = (), kwargs: dict[str, Any] | None = None, **options: Any) -> Signature:
        """A copy with additional arguments and options."""
        get = self.get
        if args or kwargs or options:
            a, k, o = self.merged(args, kwargs, options)
            k = dict(k)
        else:  # as often as a chain has steps, squared
            a, k, o = tuple(get("args") or ()), {**(get("kwargs") or {})}, {**(get("options") or {})}
        if o:
            for links in ("link", "link_error"):
                if isinstance(o.get(links), list):
                    o[links] = list(o[links])
        found = Signature.__new__(Signature)
        found.update(
            {
                "task": self["task"],
                "args": a,
                "kwargs": k,
                "options": o,
                "subtask_type": None,
                "immutable": bool(get("immutable")),
            }
        )
        found._app = self._app
        return found

    def partial(self, args: Any = (), kwargs: dict[str, Any] | None = None, **options: Any) -> Any:
        """As clone()."""
        return self.clone(args, kwargs, **options)

    def set(self, immutable: bool | None = None, **options: Any) -> Signature:
        """Add options (queue, countdown, …) in place."""
        if immutable is not None:
            self["immutable"] = immutable
        check_call(options)
        self.options.update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Whether arguments that are given later are ignored; of a workflow, those of its tasks."""
        for task in self.inner():
            task.set_immutable(immutable)
        self["immutable"] = immutable

    def stamp(
        self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **headers: Any
    ) -> Any:
        """Set these stamps, and those that `visitor` chooses, on this signature, its callbacks and errbacks.
        With append_stamps, stamps of one name make a list. Returns this signature."""
        self.stamp_links(visitor, append_stamps, **headers)
        chosen = visitor.on_signature(self, **headers) if visitor is not None else None
        self.options.update(together(headers, chosen, self.options, append_stamps))
        return self

    def stamp_links(
        self, visitor: StampingVisitor | None, append_stamps: bool = False, **headers: Any
    ) -> None:
        """As stamp(), for its callbacks and errbacks only."""
        for key in ("link", "link_error"):
            links = [signature(one, app=self._app) for one in as_list(self.options.get(key))]
            for link in links:
                chosen = None
                if visitor is not None:
                    choose = visitor.on_callback if key == "link" else visitor.on_errback
                    chosen = choose(link, **headers)
                link.stamp(visitor, append_stamps, **together(headers, chosen, {}, append_stamps))
            if links:
                self.options[key] = links

    def inner(self) -> list[Signature]:
        """The signatures that it contains and that run first: the members of a group or header, steps."""
        return []

    def replace(
        self, args: Any = None, kwargs: dict[str, Any] | None = None, options: dict[str, Any] | None = None
    ) -> Signature:
        """A copy whose arguments or options are these; a None keeps its own."""
        found = self.clone()
        for key, given in (("args", args), ("kwargs", kwargs), ("options", options)):
            if given is not None:
                found[key] = given
        return found

    def flatten_links(self) -> list[Signature]:
        """This signature, its callbacks, and theirs."""
        links = as_list(self.options.get("link"))
        return [self, *(one for link in links for one in signature(link, app=self._app).flatten_links())]

    def reprcall(self, *args: Any, **kwargs: Any) -> str:
        """The text of the call with additional arguments: "proj.add(2, 1, y=3)"."""
        positional, named, _ = self.merged(args, kwargs)
        return (
            f"{self.task}({', '.join([*map(repr, positional), *(f'{k}={v!r}' for k, v in named.items())])})"
        )

    @classmethod
    def from_dict(cls, d: dict[str, Any], app: SendingApp | None = None) -> Signature:
        """The signature of a mapping, of its own kind. Raises ConfigError."""
        if cls.__module__.partition(".")[0] != "qcore":  # a kind of the project's, without a from_dict()
            return Signature(dict(d), app=app)
        return signature(dict(d), app=app)

    def __deepcopy__(self, memo: dict[int, Any]) -> Signature:
        return signature(copy.deepcopy(dict(self), memo), app=self._app)

    def __reduce__(self) -> tuple[Any, ...]:
        # Without its app: where it is read the current app is used, as in Celery.
        return signature, (dict(self),)

    def tail(self, **options: Any) -> None:
        """Set options of its last task."""
        self.options.update(options)

    def link(self, callback: dict[str, Any]) -> dict[str, Any]:
        """Call `callback` with the result when the task succeeds."""
        return self._add_link("link", callback)

    def link_error(self, errback: dict[str, Any]) -> dict[str, Any]:
        """Call `errback` with the task id when the task fails."""
        return self._add_link("link_error", errback)

    def _add_link(self, kind: str, callback: dict[str, Any]) -> dict[str, Any]:
        self.append_to_list_option(kind, callback)  # the same one counts once, as in Celery
        return callback

    def on_error(self, errback: dict[str, Any]) -> Signature:
        """As link_error(), but returns this signature."""
        self.link_error(errback)
        return self

    # --- sending

    def freeze(self, _id: str | None = None, group_id: str | None = None, **options: Any) -> Handle:
        """Set the task id, unless it has one. Returns the handle of its result, before it is published.

        options: group_index, chord, root_id, parent_id; a None is ignored.
        """
        mine = self.options
        if not mine.get("task_id"):
            mine["task_id"] = _id or new_id()
        reply_to = self.app.reply_to()
        if reply_to and not mine.get("reply_to"):
            mine["reply_to"] = reply_to
        options["group_id"] = group_id
        mine.update({k: v for k, v in options.items() if v is not None})
        return AsyncResult(mine["task_id"], app=self._app, task_name=self.task)

    def leaving(self) -> list[Signature]:
        """The calls that are published at once, without those that follow them."""
        return [self]

    def emit(
        self,
        plan: SendPlan,
        args: Any = (),
        kwargs: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        """Add the messages of a frozen signature to a plan."""
        plan.add(self.task, *self.merged(args, kwargs, options))

    def apply_async(self, args: Any = (), kwargs: dict[str, Any] | None = None, **options: Any) -> Any:
        """Publish the call. Returns the handle of its result."""
        a, k, o = self.merged(args, kwargs, options)
        task = self.app.tasks.get(self.task)
        if task is not None:
            return task.apply_async(a, k, **o)
        return self.app.send_task(self.task, a, k, **o)

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        return self.apply_async(args, kwargs)

    async def aapply_async(self, args: Any = (), kwargs: dict[str, Any] | None = None, **options: Any) -> Any:
        """As apply_async(), in a coroutine: the event loop runs on."""
        from qcore.tasks.asynchronous import in_thread

        return await in_thread(self.apply_async, args, kwargs, **options)

    async def adelay(self, *args: Any, **kwargs: Any) -> Any:
        return await self.aapply_async(args, kwargs)

    def apply(self, args: Any = (), kwargs: dict[str, Any] | None = None, **options: Any) -> Any:
        """Run the task in this process; its result is ready at once."""
        a, k, o = self.merged(args, kwargs, options)
        return self.app.task_named(self.task).apply(a, k, **o)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        a, k, _ = self.merged(args, kwargs)
        return self.app.task_named(self.task)(*a, **k)

    def __or__(self, other: Any) -> Any:
        """`a | b` is a chain: b is called with the result of a."""
        if not isinstance(other, dict):
            return NotImplemented
        return _JOIN[0](self, signature(other, app=self._app))

    def __ior__(self, other: Any) -> Any:
        return self.__or__(other)  # a new chain; dict's own would merge the mappings

    def __invert__(self) -> Any:
        """`~sig` publishes the call and waits for its value."""
        return self.apply_async().get()

    def __repr__(self) -> str:
        shown = [repr(a) for a in self.args] + [f"{k}={v!r}" for k, v in self.kwargs.items()]
        return f"{self.task}({', '.join(shown)})"


class Flow(Signature):
    """A signature that contains others. It is frozen as a whole, then published as a whole."""

    #: the names of the visitor's methods for this kind of workflow
    visits = ("", "")

    def stamp(
        self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **headers: Any
    ) -> Any:
        """As of a single signature, for all that it contains."""
        chosen = getattr(visitor, self.visits[0])(self, **headers) if visitor is not None else None
        stamps = together(headers, chosen, self.options, append_stamps)
        self.stamp_links(visitor, append_stamps, **stamps)
        for task in self.inner():
            task.stamp(visitor, append_stamps, **stamps)
        if visitor is not None:
            getattr(visitor, self.visits[1])(self, **stamps)
        return self

    def apply_async(self, args: Any = (), kwargs: dict[str, Any] | None = None, **options: Any) -> Any:
        """Publish the calls that can run now, in one round trip. Returns the handle of the last result."""
        check_call_of_many(options)
        if self.app.conf.task_always_eager:
            return self.apply(args, kwargs, **options)
        return self.publish(args, kwargs, **options)

    def publish(self, args: Any = (), kwargs: dict[str, Any] | None = None, **options: Any) -> Any:
        """As apply_async(), also with task_always_eager."""
        app, mine = self.app, self.clone()
        tail = {key: options.pop(key) for key in TAIL if key in options}
        for callback in as_list(tail.pop("link", None)):
            mine.link(callback)
        for errback in as_list(options.pop("link_error", None)):
            mine.link_error(errback)
        add_to_parent = options.pop("add_to_parent", True)
        how = {key: options.pop(key) for key in PUBLISHING if key in options}
        for call in mine.leaving():
            # Only ids of calls published now may contain the current time (wire/identity.py).
            call.options.setdefault("task_id", identity.make())
        result = mine.freeze(mine.options.get("task_id"), **tail)
        plan = SendPlan(app)
        mine.emit(plan, args, kwargs, options)
        plan.send(how)
        if isinstance(result, GroupResult) and len(result) == 1 and isinstance(result[0], GroupResult):
            result = result[0]  # a group of one that is itself a group's result, as in Celery
        if add_to_parent:
            app.adopt(result)
        return result

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.apply_async(args, kwargs)


def set_join(join: Callable[[Signature, Signature], Signature]) -> None:
    """Set the function that makes `a | b`. canvas.py calls this, since it defines all kinds of signatures."""
    _JOIN.append(join)


_JOIN: list[Callable[[Signature, Signature], Signature]] = []


def plain(value: Any) -> Any:
    """Signatures as plain mappings, at every level, which are faster to serialise."""
    if isinstance(value, dict):
        return {key: one if type(one) in _ATOMS else plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


_ATOMS = frozenset((str, int, bool, type(None)))


def signature(task: Any, *args: Any, app: SendingApp | None = None, **kwargs: Any) -> Signature:
    """A signature from a task name, a task, or the mapping of a signature. `args` and `kwargs` as in Celery:
    signature('proj.add', args=(2, 2), countdown=10). Raises ConfigError for any other mapping."""
    if isinstance(task, dict):
        if isinstance(task, Signature):
            task._app = app or task._app
            return task
        found = _from_mapping(task)
        if app is not None:
            _belong(found, app)
        return found
    positional = args[0] if args else kwargs.pop("args", ())
    named = args[1] if len(args) > 1 else kwargs.pop("kwargs", None)
    immutable = bool(kwargs.pop("immutable", False))
    options = {**(kwargs.pop("options", None) or {}), **kwargs}
    check_call(options)
    return Signature(task, positional, named, options, immutable=immutable, app=app)


def _belong(sig: Signature, app: SendingApp) -> None:
    """Set the app of a signature and of those that it contains."""
    sig._app = app
    if sig.get("subtask_type") in TYPES:
        for part in (sig.get("kwargs") or {}).values():
            for inner in part if isinstance(part, list) else (part,):
                if isinstance(inner, Signature):
                    _belong(inner, app)


def _from_mapping(data: dict[str, Any]) -> Signature:
    if not isinstance(data.get("task"), str):
        raise ConfigError(f"not a signature: {data!r:.80}")
    made = TYPES.get(str(data.get("subtask_type")))
    try:
        return made(data) if made is not None else Signature(data)
    except (KeyError, TypeError) as exc:
        raise ConfigError(f"not a {data['subtask_type']}: {data!r:.80}") from exc
