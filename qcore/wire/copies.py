"""Many messages of one task that differ in their ids and arguments only: what they share is encoded once.

In:  the bytes of the first message, and ids and arguments.  Out: the bytes of the others.
Before this: app/batches.py.  The format is that of task.py, which has made the first message.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from typing import Any

from qcore.base.times import new_id
from qcore.errors import MessageTooLarge
from qcore.wire import content, envelope, registered
from qcore.wire.reprs import short_repr

_BODY = b'{"body":"'
_NO_ARGUMENTS = b"[[],"


class Copies:
    """The messages of one task, from a pattern of their bytes."""

    def __init__(self, form: bytes, tail: bytes, repr_levels: int | None) -> None:
        """form: the bytes with a slot for each part that differs; tail: what follows the arguments in the
        body; repr_levels: as in build()."""
        self._form, self._tail, self._levels = form, tail, repr_levels
        # A consumer of Celery needs a tag of its own for each message: random first, then its number.
        self._tag, self._made = new_id()[:24].encode(), 0

    @classmethod
    def of(cls, first: bytes, task_id: str, argsrepr: str, repr_levels: int | None = None) -> Copies | None:
        """Those of a message without positional arguments, whose id and argsrepr are marks that occur nowhere
        else in it. If it has another argsrepr, so have all. None for a message that has to be encoded as a
        whole: compressed, or of protocol 1."""
        found = envelope.decode(first)
        body = envelope.body_bytes(found)
        is_usual = found.headers.get("id") == task_id and "compression" not in found.headers
        if not (is_usual and first.startswith(_BODY) and body.startswith(_NO_ARGUMENTS)):
            return None
        tag = found.properties.delivery_tag
        slots = {task_id: b"%(id)b", f'"{argsrepr}"': b"%(repr)b", tag: b"%(tag)b"}
        rest = first[len(_BODY) + len(found.body) :].decode()
        parts = re.split("(" + "|".join(map(re.escape, slots)) + ")", rest)
        form = b"".join(slots.get(part) or part.replace("%", "%%").encode() for part in parts)
        return cls(_BODY + b"%(body)b" + form, body[len(_NO_ARGUMENTS) - 1 :], repr_levels)

    def message(self, task_id: str, args: Sequence[Any]) -> bytes:
        """The message of a call with these arguments. Raises EncodeError, MessageTooLarge."""
        self._made += 1
        body = b"[" + content.to_json(args) + self._tail
        raw = self._form % {
            b"body": binascii.b2a_base64(body, newline=False),
            b"id": task_id.encode(),
            b"repr": content.to_json(short_repr(tuple(args), self._levels)),
            b"tag": b"%b%012x" % (self._tag, self._made),
        }
        if len(raw) > content.MAX_WIRE_BYTES:
            raise MessageTooLarge(f"the message {task_id}", len(raw), content.MAX_WIRE_BYTES)
        return raw


def can_copy(serializer: str) -> bool:
    """Whether messages with this serializer can be copied: JSON, unless the project has its own."""
    return serializer == "json" and registered.serializer(serializer, True) is None
