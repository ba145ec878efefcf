"""How an app's results are stored: the settings result_serializer, result_compression, result_accept_content.

In:  a value (a whole meta, the entry of a chord's member) or stored bytes.  Out: the other one.
As in Celery, a stored result does not say which serializer wrote it: its readers have the same setting. Its
compression it does say.
Before this: result.py, and the stores.
"""

from __future__ import annotations

from typing import Any

import msgspec

from qcore.errors import Malformed
from qcore.wire import content
from qcore.wire.compression import compress_stored, decompress_stored


class ResultForm(msgspec.Struct, frozen=True):
    """accept: names or content types of serializers; where it lacks that of the results, none is read."""

    serializer: str = "json"
    compression: str | None = None
    accept: frozenset[str] = content.JSON_ONLY

    def dumps(self, value: Any) -> bytes:
        """Raises EncodeError."""
        return self.packed(content.dumps(value, self.serializer)[2])

    def packed(self, raw: bytes) -> bytes:
        return raw if self.compression is None else compress_stored(raw, self.compression)

    def loads(self, raw: bytes) -> Any:
        """Raises Malformed."""
        mime, encoding = content.type_of(self.serializer)
        return content.loads(
            decompress_stored(raw), mime, self.accept, encoding, setting="result_accept_content"
        )

    def own(self, raw: bytes) -> Any:
        """What dumps() has written in this process, whatever is accepted of others. Raises Malformed."""
        return msgspec.structs.replace(self, accept=frozenset((self.serializer,))).loads(raw)

    def read(self, raw: bytes, content_type: str, content_encoding: str) -> Any:
        """The same of a message, which names its type. Raises Malformed."""
        return content.loads(raw, content_type, self.accept, content_encoding, "result_accept_content")

    def exception(self, exc: BaseException, data: dict[str, Any]) -> Any:
        """What is stored of an exception: `data`, or with pickle the exception itself, if that can be read
        again. qcore's own classes are data, with Celery's names, since its processes need not have qcore."""
        if self.serializer != "pickle" or type(exc).__module__.startswith("qcore."):
            return data
        from qcore.wire import pickles

        return exc if pickles.survives(exc) else data


JSON = ResultForm()

#: what keeps a result from being read that is no damage of the result itself
NOT_HERE = frozenset(("content_disallowed", "package_missing", "not_verified", "compression_unknown"))


def is_refused(exc: Malformed) -> bool:
    """Whether a result is refused here, where another process, or other settings, may read it."""
    return exc.reason in NOT_HERE
