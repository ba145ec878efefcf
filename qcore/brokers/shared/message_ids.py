"""Single messages by their task id, for operators who move, drop and replay them.

In:  message bytes.  Out: the task id. Only administration reads messages here: no driver's
publish, claim or settle does.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from qcore.errors import Malformed
from qcore.wire import envelope


class _Head(msgspec.Struct):
    id: Any = None


class _Message(msgspec.Struct):
    headers: _Head


_read = msgspec.json.Decoder(_Message).decode


def id_of(raw: bytes) -> str | None:
    """The id in the headers, read without the rest; None when there is none."""
    try:
        found = _read(raw).headers.id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found if isinstance(found, str) else None


def is_one_of(raw: bytes, task_ids: Collection[str]) -> bool:
    """Whether the message has the id of one of these tasks (its header `id`)."""
    if not any(task_id.encode() in raw for task_id in task_ids):
        return False  # cheap test before the message is read
    try:
        return envelope.decode(raw).headers.get("id") in task_ids
    except Malformed:
        return False


def priority_of(raw: bytes) -> int:
    """The priority that the message itself contains; 0 when it cannot be read."""
    try:
        return envelope.decode(raw).properties.priority or 0
    except Malformed:
        return 0
