"""`revoke_by_stamped_headers`: do not run tasks that carry one of these stamps."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import Name, SignalName, WorkerView, command

Stamp = str | int | float | bool | None


@command(
    "revoke_by_stamped_headers",
    kind="control",
    variadic="headers",
    signature="<key1=value1> [key2=value2 [... [keyN=valueN]]]",
)
def revoke_by_stamped_headers(
    worker: WorkerView,
    headers: dict[Name, Stamp | list[Stamp]] | list[Name] | None = None,
    terminate: bool = False,
    signal: SignalName = None,
    **_: Any,
) -> Any:
    """Do not run tasks that carry one of these stamps."""
    if isinstance(headers, list):
        pairs = [str(h).partition("=") for h in headers]
        if not all(equals for _, equals, _ in pairs):
            raise ValueError("stamps are written key=value")
        headers = {key: value for key, _, value in pairs}
    if not isinstance(headers, dict) or not headers:
        raise ValueError("which stamps? write key=value")
    return {"ok": worker.call("revoke_stamps", stamps=headers, terminate=terminate, signal=signal)}
