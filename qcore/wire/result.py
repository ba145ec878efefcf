"""Results as they are stored: Celery's meta object under `celery-task-meta-<id>`.

In:  an outcome.  Out: the bytes that are stored (result_form.py); and back.
The exception of a failed run is data ({exc_type, exc_message, exc_module}); reading one never imports
anything (CVE-2021-23727).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from qcore import errors
from qcore.base.times import iso
from qcore.errors import Malformed, MessageTooLarge, RemoteError, WorkerLostError
from qcore.wire import content
from qcore.wire.result_form import JSON, ResultForm

if TYPE_CHECKING:
    from qcore.wire.task import Body, TaskMessage

KEY_PREFIX = "celery-task-meta-"
GROUP_PREFIX = "celery-taskset-meta-"

PENDING, RECEIVED, STARTED = "PENDING", "RECEIVED", "STARTED"
SUCCESS, FAILURE, REVOKED = "SUCCESS", "FAILURE", "REVOKED"
REJECTED, RETRY, IGNORED = "REJECTED", "RETRY", "IGNORED"
READY_STATES = frozenset((SUCCESS, FAILURE, REVOKED))
UNREADY_STATES = frozenset((PENDING, RECEIVED, STARTED, REJECTED, RETRY))
EXCEPTION_STATES = frozenset((RETRY, FAILURE, REVOKED))
PROPAGATE_STATES = frozenset((FAILURE, REVOKED))


class ResultMeta(msgspec.Struct):
    """The stored result of a task; the `result` of a failure is the exception as data, or, where results are
    pickled, the exception."""

    task_id: str
    status: str = PENDING
    result: Any = None
    traceback: str | None = None
    children: list[Any] | None = None
    date_done: str | None = None
    group_id: str | None = None
    parent_id: str | None = None
    name: str | None = None
    args: Any = None
    kwargs: Any = None
    worker: str | None = None
    retries: int | None = None
    queue: str | None = None
    #: the run asked for a further attempt, which is published after this result is stored
    next_attempt: bool = False

    @property
    def is_ready(self) -> bool:
        return self.status in READY_STATES


def encode(
    task_id: str,
    status: str,
    result: Any,
    *,
    now: float,
    traceback: str | None = None,
    children: list[Any] | None = None,
    group_id: str | None = None,
    parent_id: str | None = None,
    extended: dict[str, Any] | None = None,
    form: ResultForm = JSON,
) -> bytes:
    """One meta as it is stored. Raises TypeError when the serializer cannot represent `result`,
    MessageTooLarge when it is too large; of an exception that is too large only this error is stored."""
    meta: dict[str, Any] = {
        "status": status,
        "result": result,
        "traceback": traceback,
        "children": children if children is not None else [],
        "date_done": iso(now) if status in READY_STATES else None,
        "task_id": task_id,
    }
    if group_id:
        meta["group_id"] = group_id
    if parent_id:
        meta["parent_id"] = parent_id
    if extended:
        meta.update(extended)
    raw = form.dumps(meta)
    if len(raw) > content.MAX_WIRE_BYTES:
        error = MessageTooLarge(f"the result of {task_id}", len(raw), content.MAX_WIRE_BYTES)
        if status not in EXCEPTION_STATES:
            raise error
        few = ("status", "date_done", "task_id", "group_id", "parent_id")
        kept = {key: value for key, value in meta.items() if key in few}
        raw = form.dumps({**kept, "result": exception_data(error), "traceback": None, "children": []})
    return raw


#: keys for backends of other packages, which store them
REQUEST_KEYS = ("argsrepr", "kwargsrepr", "periodic_task_name")


def extended(message: TaskMessage, body: Body, node: str, request: bool) -> dict[str, Any]:
    """What result_extended stores with a result; with request also REQUEST_KEYS."""
    found = {
        "name": message.task,
        "args": body.args,
        "kwargs": body.kwargs,
        "worker": node,
        "retries": message.retries,
        "queue": (message.envelope.properties.delivery_info or {}).get("routing_key"),
    }
    if request:
        found.update((key, message.headers.get(key)) for key in REQUEST_KEYS)
    return found


def with_next_attempt(meta: bytes, form: ResultForm = JSON) -> bytes:
    """The meta of a run that asked for a further attempt: if it is redelivered it must run again."""
    return form.dumps({**form.own(meta), "next_attempt": True})


def decode(raw: bytes, task_id: str, form: ResultForm = JSON) -> ResultMeta:
    """The meta in `raw`; raises Malformed."""
    return meta_of(form.loads(raw), task_id)


def meta_of(found: Any, task_id: str) -> ResultMeta:
    """The meta in a mapping; raises Malformed."""
    if not isinstance(found, dict) or not isinstance(found.get("status"), str):
        raise Malformed("bad_result", "not a result meta object", task_id)

    def text(key: str) -> str | None:
        value = found.get(key)
        return value if isinstance(value, str) else None

    children, retries = found.get("children"), found.get("retries")
    return ResultMeta(
        task_id=task_id,
        status=found["status"],
        result=found.get("result"),
        traceback=text("traceback"),
        children=children if isinstance(children, list) else None,
        date_done=text("date_done"),
        group_id=text("group_id"),
        parent_id=text("parent_id"),
        name=text("name"),
        args=found.get("args"),
        kwargs=found.get("kwargs"),
        worker=text("worker"),
        retries=retries if isinstance(retries, int) else None,
        queue=text("queue"),
        next_attempt=found.get("next_attempt") is True,
    )


def exception_data(exc: BaseException) -> dict[str, Any]:
    """An exception as data: type name, arguments (as JSON or as text), module."""
    arguments = [a if content._is_plain(a) else repr(a) for a in exc.args]
    kind = type(exc)
    module = _CELERY_MODULES.get(kind.__qualname__, "celery.exceptions")
    if kind.__module__ != errors.__name__:
        module = kind.__module__
    return {"exc_type": kind.__qualname__, "exc_message": arguments, "exc_module": module}


_BY_NAME: dict[str, type[Exception]] = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, Exception)
}
#: our errors carry Celery's names and modules on the wire, so that its clients recognise them
_CELERY_MODULES = dict.fromkeys(
    ("SoftTimeLimitExceeded", "TimeLimitExceeded", "WorkerLostError", "Terminated"), "billiard.exceptions"
)


#: a class whose attribute of this name is True says that its constructor may be called with what a message
#: holds; its subclasses say so too
ASKS = "rebuilt_from_result"


def exception_from(data: Any) -> Exception:
    """The exception in a meta's result.

    Our own errors, and exception classes that a module already imported defines, come back as themselves;
    anything else is a RemoteError that carries the names as data. The writer of the result chose the names
    and arguments, so nothing is imported, no `__getattr__` of a module is called, and no code of the app: a
    class with a constructor of its own is not called, its instance has `args` and nothing else, unless the
    class asks for the call (ASKS). What is no Exception (SystemExit, say) would end a caller that reads the
    result; it comes back as WorkerLostError.
    """
    if isinstance(data, BaseException):
        return _unpickled(data)
    if not isinstance(data, dict) or not isinstance(data.get("exc_type"), str):
        return RemoteError("Exception", [data])
    name, module = data["exc_type"], data.get("exc_module")
    message = data.get("exc_message")
    arguments = message if isinstance(message, list | tuple) else [message]
    found: Any = None
    if isinstance(module, str):
        if module.startswith(("celery.", "billiard.", "qcore.")) and name in _BY_NAME:
            found = _BY_NAME[name]
        elif "." not in name and "__" not in name and module in sys.modules:
            found = vars(sys.modules[module]).get(name)
    if type(found) is not type or BaseException not in found.__mro__:  # a metaclass would be code, too
        return RemoteError(name, arguments, module if isinstance(module, str) else "")
    if Exception not in found.__mro__:
        return WorkerLostError(f"the task ended its process: {name}({', '.join(map(repr, arguments))})")
    return _rebuilt(found, arguments)


def _unpickled(exc: BaseException) -> Exception:
    """An exception that was stored as itself, or in Celery's wrapper for those that cannot be pickled."""
    name = getattr(exc, "exc_cls_name", None)
    if isinstance(name, str):
        return RemoteError(name, list(getattr(exc, "exc_args", ())), str(getattr(exc, "exc_module", "")))
    return exc if isinstance(exc, Exception) else WorkerLostError(f"the task ended its process: {exc!r}")


def exception_stored(data: Any) -> Any:
    """The exception in a meta's result as data."""
    return exception_data(_unpickled(data)) if isinstance(data, BaseException) else data


def _rebuilt(kind: type[Exception], arguments: Sequence[Any]) -> Exception:
    """An instance of `kind` with these arguments; its constructor is called where that is harmless."""
    classes = kind.__mro__
    foreign = [c for c in classes if c.__module__ not in ("builtins", errors.__name__)]
    own = any("__init__" in vars(c) or "__new__" in vars(c) for c in foreign)
    if not own or any(vars(c).get(ASKS) is True for c in classes):
        try:
            made = kind(*arguments)
            if isinstance(made, Exception):
                return made
        except Exception:  # a constructor with other ideas: keep the facts as data
            pass
        return RemoteError(kind.__qualname__, list(arguments), kind.__module__)
    try:
        bare: Exception = Exception.__new__(kind, *arguments)
    except TypeError:  # a class of an extension module, which only its own constructor can make
        return RemoteError(kind.__qualname__, list(arguments), kind.__module__)
    return bare
