"""The shared audit log: what people changed with the tools, kept at the broker.

In:  lines of JSON.  Out: the newest ones.  A driver that has a place for it says so in its features.
"""

from __future__ import annotations

from typing import ClassVar

from qcore.errors import Unsupported

#: entries that are kept; the oldest go first
AUDIT_SIZE = 10_000


class Audit:
    """The part of the broker contract about the log; for drivers with features.audits."""

    name: ClassVar[str]

    def audit(self, entry: bytes) -> None:
        """Add an entry; of more than AUDIT_SIZE the oldest are forgotten."""
        raise Unsupported(self.name, "keep an audit log")

    def audited(self, limit: int = 100) -> list[bytes]:
        """The newest entries, the newest first, byte for byte."""
        raise Unsupported(self.name, "keep an audit log")
