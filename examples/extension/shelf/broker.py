"""A broker: shelf:///path/file.db is the SQLite broker, with a name of its own."""

from __future__ import annotations

from typing import Any

from qcore.brokers.sqlite.broker import SqliteBroker


class ShelfBroker(SqliteBroker):
    """The name is what `inspect stats` shows; the name of the entry point is the scheme of its URLs."""

    name = "shelf"

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        super().__init__(url.replace("shelf://", "sqlite://", 1), options)
