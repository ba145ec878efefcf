"""The contract of control commands: a function, and a description of it.

The command line, completion, the man page and the dashboard's palette are made from the descriptions;
the worker calls the function. One command a file; the file name is what people type.

    @command("rate_limit", kind="control", args=(Arg("task_name", str), Arg("rate_limit", str)))
    def rate_limit(worker: WorkerView, task_name: str, rate_limit: str, **_: Any) -> Any:
        '''Set how often a task may start on this worker.'''
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from qcore.errors import UnknownName


class WorkerView(Protocol):
    """What a command may see and do of a worker. Called from the control thread."""

    node: str
    instance: str  # an id that each start of a worker makes anew
    pid: int
    started_at: float  # epoch seconds
    app: Any

    def clock(self) -> int: ...
    def active(self) -> list[dict[str, Any]]: ...
    def reserved(self) -> list[dict[str, Any]]: ...
    def scheduled(self) -> list[dict[str, Any]]: ...
    def revoked(self) -> list[str]: ...
    def stats(self) -> dict[str, Any]: ...
    def queues(self) -> list[str]: ...
    def call(self, what: str, **arguments: Any) -> Any:
        """Run one of the worker's own verbs in its loop and return what it says: revoke, terminate,
        rate_limit, time_limit, pool_grow, pool_shrink, pool_restart, add_consumer, cancel_consumer,
        shutdown, enable_events, disable_events, heartbeat. Raises ValueError with words for people."""


#: what a key may do, each with all before it: look; change what a worker does; end tasks, pools and workers
SCOPES = ("read", "operate", "admin")


class Arg(msgspec.Struct, frozen=True):
    """One positional argument of a command, as typed on the command line."""

    name: str
    type: type = str
    required: bool = True
    default: Any = None
    help: str = ""


class Command(msgspec.Struct, frozen=True):
    """One control command as everything but the worker sees it."""

    name: str
    kind: str  # "inspect": only looks; "control": changes something
    handler: Callable[..., Any]
    summary: str  # first line of the handler's docstring
    args: tuple[Arg, ...] = ()
    variadic: str | None = None  # the argument that takes all further words
    alias: str | None = None
    visible: bool = True
    signature: str = ""  # for usage lines, e.g. "<task_name> <rate_limit>"
    replies: bool = True  # False: the command ends the worker before it could answer
    scope: str = "operate"  # what a key must be allowed: one of SCOPES

    def scope_for(self, arguments: Mapping[str, Any]) -> str:
        """The scope that these arguments need: whoever also terminates needs the widest."""
        return "admin" if arguments.get("terminate") else self.scope

    def arguments(self, words: Sequence[str]) -> dict[str, Any]:
        """Words from a command line as the request's arguments; raises ValueError in words."""
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
                    f"{arg.name} of {self.name} takes {_KINDS[arg.type]}, not '{word}'"
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

_known: dict[str, Command] = {}
_builtin_loaded = False


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
    """Register the handler under `name`; the decorator behind @inspect_command and @control_command.
    scope: one of SCOPES; without it 'read' for inspect commands and 'operate' for the others."""
    needed = scope or ("read" if kind == "inspect" else "operate")

    def keep(handler: Callable[..., Any]) -> Callable[..., Any]:
        summary = (handler.__doc__ or name).strip().splitlines()[0].rstrip(".")
        _known[name] = Command(
            name, kind, handler, summary, args, variadic, alias, visible, signature, replies, needed
        )
        return handler

    return keep


def commands(kind: str | None = None) -> list[Command]:
    """Every known command, sorted by name."""
    _load_builtin()
    return sorted((c for c in _known.values() if kind in (None, c.kind)), key=lambda c: c.name)


def find(name: str) -> Command:
    """The command called `name` (or its alias); raises UnknownName with near misses."""
    _load_builtin()
    if name in _known:
        return _known[name]
    for candidate in _known.values():
        if candidate.alias == name:
            return candidate
    raise UnknownName("control command", name, list(_known))


def _load_builtin() -> None:
    global _builtin_loaded
    if _builtin_loaded:
        return
    package = importlib.import_module("qcore.control.commands")
    for module in pkgutil.iter_modules(package.__path__):
        if module.name != "base":
            importlib.import_module(f"{package.__name__}.{module.name}")
    _builtin_loaded = True
