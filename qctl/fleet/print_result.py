"""Print the result of a task: its value, or its error.

In:  a ResultMeta.  Out: the value on stdout, an error on stderr, an exit code.
Before this: `call --wait` and `result`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qctl import exit_codes
from qctl.output.secrets import hide
from qctl.output.writer import to_json

if TYPE_CHECKING:
    from qcore.wire.result import ResultMeta
    from qctl.cli.session import Session


def print_result(session: Session, meta: ResultMeta, traceback: str = "hint") -> int:
    """Print the result; return the exit code. Raises CommandError when the task failed or has not ended.

    traceback: 'hint' names the command that prints it, 'stderr' and 'stdout' print it there.
    """
    out = session.out
    if not out.for_people:
        fields = _fields(meta)
        # The value is user data; an error text may contain a URL with a password.
        out.document("result", fields if meta.status == "SUCCESS" else hide(fields))
    if meta.status == "SUCCESS":
        if out.for_people:
            out.text(meta.result if isinstance(meta.result, str) else to_json(meta.result))
        return exit_codes.OK
    if meta.is_ready:
        return _failed(session, meta, traceback)
    raise exit_codes.CommandError(
        exit_codes.NOT_MET,
        f"task {meta.task_id} is {meta.status} and has not finished",
        "--wait waits for it",
    )


def _failed(session: Session, meta: ResultMeta, traceback: str) -> int:
    out = session.out
    if meta.traceback and traceback == "stdout" and out.for_people:
        out.text(hide(meta.traceback.rstrip()))
        return exit_codes.FAILED
    if meta.traceback and traceback == "stderr" and out.for_people:
        out.warn(meta.traceback.rstrip())
    verb = "was revoked" if meta.status == "REVOKED" else "failed"
    hint = f"see `qctl result {meta.task_id} --traceback`" if meta.traceback and traceback == "hint" else ""
    raise exit_codes.CommandError(
        exit_codes.FAILED, f"task {meta.task_id} {verb}: {_error(meta.result)}", hint
    )


def _error(data: Any) -> str:
    from qcore.wire.result import exception_from, exception_stored

    found, data = exception_from(data), exception_stored(data)
    if isinstance(data, dict) and isinstance(data.get("exc_type"), str):
        message = data.get("exc_message")
        parts = message if isinstance(message, list | tuple) else [message]
        text = ", ".join(str(p) for p in parts if p is not None)
        return f"{data['exc_type']}: {text}" if text else data["exc_type"]
    return str(found)


def _fields(meta: ResultMeta) -> dict[str, Any]:
    from qcore.wire.result import exception_stored

    return {
        "id": meta.task_id,
        "state": meta.status,
        "result": exception_stored(meta.result),
        "traceback": meta.traceback,
        "finished_at": meta.date_done,
        "name": meta.name,
        "worker": meta.worker,
        "retries": meta.retries,
        "parent_id": meta.parent_id,
        "group_id": meta.group_id,
    }
