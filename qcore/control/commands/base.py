"""Control commands: the interface of their functions, and their descriptions.

In:  functions with the decorator @command.  Out: Command objects.
The command line, completion, the man page and the dashboard's palette are made from the descriptions;
the worker calls the function.

    @command("rate_limit", kind="control", args=(Arg("task_name", str), Arg("rate_limit", str)))
    def rate_limit(worker: WorkerView, task_name: str, rate_limit: str, **_: Any) -> Any:
        '''Set how often a task may start on this worker.'''
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Protocol, get_type_hints

import msgspec
from msgspec import Meta

from qcore.base.lazy_pattern import lazily
from qcore.brokers.base import Broker


class WorkerView(Protocol):
    """What a command may read and call of a worker. Called from the control thread."""

    node: str
    instance: str  # a random id of each start of a worker
    pid: int
    started_at: float  # epoch seconds
    app: Any
    request_clock: int  # the logical clock of the sender of the request that is carried out

    def clock(self) -> int: ...
    def active(self) -> list[dict[str, Any]]: ...
    def reserved(self) -> list[dict[str, Any]]: ...
    def scheduled(self) -> list[dict[str, Any]]: ...
    def revoked(self) -> list[str]: ...
    def stats(self) -> dict[str, Any]: ...
    def stacks(self, ids: list[str]) -> dict[str, Any]: ...
    def queues(self) -> list[str]: ...
    # The following change the worker; their text is for the reply. They raise ValueError with a text for the
    # caller when they refuse.
    def enable_events(self) -> str: ...
    def disable_events(self) -> str: ...
    def heartbeat(self) -> None: ...
    def hold_election(self, id: str, topic: str, action: Any) -> None: ...
    def shutdown(self) -> None: ...
    def revoke(self, task_ids: list[str], store: bool = True) -> None: ...
    def unrevoke(self, task_ids: list[str]) -> None: ...
    def load_revoked(self, broker: Broker) -> None: ...
    def revoke_stamps(self, stamps: dict[str, Any], terminate: bool, signal: str | int | None) -> str: ...
    def terminate(self, task_ids: list[str], signal: str | int | None = None) -> str: ...
    def rate_limit(self, task_name: str, rate_limit: str | float | None) -> str: ...
    def time_limit(self, task_name: str, soft: float | None, hard: float | None) -> str: ...
    def start_drain(self) -> str: ...
    def resume(self) -> str: ...
    def pool_restart(self, modules: list[str] | None = None, reload: bool = False) -> None: ...
    def pool_grow(self, n: int) -> None: ...
    def pool_shrink(self, n: int) -> None: ...
    def autoscale(self, most: int, least: int) -> None: ...
    def add_consumer(self, queue: str, binding: tuple[str, str, str] | None = None) -> str: ...
    def cancel_consumer(self, queue: str) -> str: ...


MOST_IDS = 50_000
#: types of arguments, with their text in error messages; requests must fit the annotations of the handler
QueueName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        pattern=r"^[^\x00-\x1f\x7f]+\Z",
        description="the name of a queue, of 1 to 255 printable characters",
    ),
]
Name = Annotated[str, Meta(max_length=255, description="text of at most 255 characters")]
Ids = Annotated[
    list[Name] | Name,
    Meta(description=f"an id or a list of at most {MOST_IDS:,} ids"),
]
Seconds = Annotated[float, Meta(ge=0, lt=1e10, description="a number of seconds, not negative, below 1e10")]
Slots = Annotated[int, Meta(ge=1, le=1000, description="a whole number from 1 to 1000")]
SignalName = Annotated[
    int | Name | None, Meta(description="the name of a signal that ends a task, like KILL, or its number")
]

#: scopes of a key, each includes those before it: read; change a worker; end tasks, pools and workers
SCOPES = ("read", "operate", "admin")


class Arg(msgspec.Struct, frozen=True):
    """One positional argument of a command, as typed on the command line."""

    name: str
    type: type = str
    required: bool = True
    default: Any = None
    help: str = ""


class Command(msgspec.Struct, frozen=True):
    """The description of a control command, and its handler."""

    name: str
    kind: str  # "inspect": only reads; "control": changes something
    handler: Callable[..., Any]
    summary: str  # first line of the handler's docstring
    args: tuple[Arg, ...] = ()
    variadic: str | None = None  # the argument that takes all remaining words
    alias: str | None = None
    visible: bool = True
    signature: str = ""  # for usage lines, e.g. "<task_name> <rate_limit>"
    replies: bool = True  # False: the command ends the worker before it could reply
    scope: str = "operate"  # the scope that a key must have: one of SCOPES

    def scope_for(self, arguments: Mapping[str, Any]) -> str:
        """The scope that a request with these arguments needs; `terminate` needs the widest."""
        return "admin" if arguments.get("terminate") else self.scope

    def checked(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a request, converted to the types that the handler declares (numbers may be text,
        as on the command line); arguments that a built-in command does not declare are dropped. Raises
        ValueError."""
        kinds, takes_all = _declared(self)
        found = {k: v for k, v in arguments.items() if takes_all or k in kinds}
        if not takes_all:  # Celery's clients send null for an omitted argument
            found = {k: v for k, v in found.items() if v is not None or k not in _optional(self)}
        for name, value in found.items():
            kind = kinds.get(name, Any)
            try:
                _require_text_that_travels(value)
                found[name] = msgspec.convert(value, kind, strict=False)
            except (ValueError, OverflowError, RecursionError):  # ValidationError is a ValueError
                raise ValueError(f"{name} of {self.name} takes {_words(kind)}, not {_shown(value)}") from None
        missing = [a.name for a in self.args if a.required and a.name not in found]
        if missing and not takes_all:
            raise ValueError(f"{self.name} needs {missing[0]} ({self.signature or missing[0]})")
        return found

    def arguments(self, words: Sequence[str]) -> dict[str, Any]:
        """The arguments of a request, from the words of a command line. Raises ValueError."""
        found: dict[str, Any] = {}
        rest = list(words)
        for arg in self.args:
            if not rest:
                if arg.required:
                    raise ValueError(f"{self.name} needs {arg.name} ({self.signature or arg.name})")
                continue
            word = rest.pop(0)
            try:
                found[arg.name] = _BOOLS[word.lower()] if arg.type is bool else arg.type(word)
            except (ValueError, KeyError):
                raise ValueError(
                    f"{arg.name} of {self.name} takes {_KINDS.get(arg.type, 'another value')}, not '{word}'"
                ) from None
        if self.variadic is not None:
            if rest or self.required_variadic:
                if not rest:
                    raise ValueError(f"{self.name} needs {self.signature or self.variadic}")
                found[self.variadic] = rest
        elif rest:
            raise ValueError(f"{self.name} takes no further argument: '{rest[0]}'")
        return found

    @property
    def required_variadic(self) -> bool:
        return self.variadic is not None and self.signature.startswith(("<", "id"))


_BOOLS = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(("0", "false", "no", "off"), False)
_KINDS = {int: "a whole number", float: "a number", bool: "yes or no", str: "text"}


@cache
def _declared(found: Command) -> tuple[dict[str, Any], bool]:
    """The types of a command's arguments, and whether it accepts undeclared ones. For an app's own command
    only `args` counts, since its annotations may have another purpose."""
    if not _is_builtin(found):
        return {a.name: a.type | None for a in found.args}, True
    hints = get_type_hints(found.handler, include_extras=True)
    return {name: kind for name, kind in hints.items() if name not in ("worker", "_", "return")}, False


@cache
def _optional(found: Command) -> frozenset[str]:
    from inspect import signature  # which costs 5 ms to import, and only workers need it

    given = signature(found.handler).parameters.values()
    return frozenset(p.name for p in given if p.default is not p.empty)


def _require_text_that_travels(value: Any) -> None:
    """Raises UnicodeEncodeError, a ValueError, for text that is not valid UTF-8 (lone surrogates)."""
    import json  # an idle worker has no use for it

    json.dumps(value, ensure_ascii=False, default=str).encode()


def _words(kind: Any) -> str:
    for part in getattr(kind, "__metadata__", ()):
        if part.description:
            return str(part.description)
    if args := [a for a in getattr(kind, "__args__", ()) if a is not type(None)]:
        return " or ".join(dict.fromkeys(map(_words, args)))
    return _KINDS.get(kind, "text, numbers, lists and objects that JSON can represent")


def _shown(value: Any) -> str:
    import reprlib

    try:
        return reprlib.repr(value)[:60]
    except ValueError:  # an integer of more digits than Python prints
        return "a number that is too large"


_known: dict[str, Command] = {}


def command(
    name: str,
    kind: str,
    *,
    args: tuple[Arg, ...] = (),
    variadic: str | None = None,
    alias: str | None = None,
    visible: bool = True,
    signature: str = "",
    replies: bool = True,
    scope: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: register a handler under `name`. @inspect_command and @control_command use it too.
    scope: one of SCOPES; the default is 'read' for inspect commands and 'operate' for the others."""
    needed = scope or ("read" if kind == "inspect" else "operate")

    def keep(handler: Callable[..., Any]) -> Callable[..., Any]:
        summary = (handler.__doc__ or name).strip().splitlines()[0].rstrip(".")
        _known[name] = Command(
            name, kind, handler, summary, args, variadic, alias, visible, signature, replies, needed
        )
        return handler

    return keep


def inspect_command(*words: Any, **options: Any) -> Any:
    """Decorator of an app's own command that only reads; it becomes `qctl inspect NAME`.

    The function takes the worker (WorkerView) and its arguments by name, and returns a JSON value.
    name: the default is the function's name; args: (("n", int), ...); signature, variadic, alias, help and
    visible as in Celery. Celery's default_timeout is accepted and has no effect.
    """
    return of_user("inspect", words, options)


def control_command(*words: Any, **options: Any) -> Any:
    """Decorator of an app's own command that changes something; it becomes `qctl control NAME`."""
    return of_user("control", words, options)


def of_user(kind: str, words: tuple[Any, ...], options: dict[str, Any]) -> Any:
    if words:  # written without parentheses
        return of_user(kind, (), {})(words[0])
    options.pop("default_timeout", None)
    given = tuple(options.pop("args", None) or ())
    signature = options.pop("signature", None) or ""
    name, summary = options.pop("name", None), options.pop("help", None)

    def keep(handler: Callable[..., Any]) -> Callable[..., Any]:
        args = tuple(a if isinstance(a, Arg) else _arg_of(handler, *a) for a in given)
        made = command(name or handler.__name__, kind, args=args, signature=signature, **options)(handler)
        if summary:
            known = _known[name or handler.__name__]
            _known[known.name] = msgspec.structs.replace(known, summary=str(summary))
        return made

    return keep


def _arg_of(handler: Callable[..., Any], name: str, kind: Any = str) -> Arg:
    """An argument as Celery writes it; one for which the function has a default may be left out."""
    from inspect import signature

    known = signature(handler).parameters.get(name)
    return Arg(name, kind, required=known is None or known.default is known.empty)


def of_users() -> list[Command]:
    """The visible commands that apps and installed packages define, by name."""
    return sorted((c for c in _known.values() if c.visible and not _is_builtin(c)), key=lambda c: c.name)


def _is_builtin(found: Command) -> bool:
    own = __name__.rpartition(".")[0]
    return found.handler.__module__.startswith(f"{own}.")


def described(found: Command) -> dict[str, Any]:
    """The description of a command as a JSON value; from_description() reads it."""
    fields = {k: getattr(found, k) for k in ("name", "kind", "summary", "variadic", "alias", "signature")}
    args = [
        {
            "name": a.name,
            "type": a.type.__name__,
            "required": a.required,
            "default": a.default,
            "help": a.help,
        }
        for a in found.args
    ]
    return {**fields, "args": args, "scope": found.scope}


_TYPES: dict[Any, type] = {kind.__name__: kind for kind in (str, int, float, bool)}
_NAME = lazily(r"[A-Za-z_][\w-]{0,63}")


def from_description(description: Any) -> Command | None:
    """The command that a worker described, without its handler; None for a malformed description."""
    if not isinstance(description, dict) or description.get("kind") not in ("inspect", "control"):
        return None
    listed = description.get("args")
    args = [a for a in listed if isinstance(a, dict)] if isinstance(listed, list) else []
    names = [
        description.get("name"),
        *(a.get("name") for a in args),
        description.get("variadic"),
        description.get("alias"),
    ]
    if not all(isinstance(n, str) and _NAME.fullmatch(n) for n in names if n is not None) or not names[0]:
        return None

    def not_here(*_: Any, **__: Any) -> None:
        raise NotImplementedError(description["name"])

    return Command(
        name=description["name"],
        kind=description["kind"],
        handler=not_here,
        summary=str(description.get("summary") or description["name"])[:200],
        args=tuple(
            Arg(
                a["name"],
                _TYPES.get(a.get("type"), str),
                bool(a.get("required", True)),
                a.get("default"),
                str(a.get("help") or "")[:200],
            )
            for a in args
        ),
        variadic=description.get("variadic"),
        alias=description.get("alias"),
        signature=str(description.get("signature") or "")[:200],
    )
