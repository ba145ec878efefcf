"""The global options of a run, and the output formats they can name."""

from __future__ import annotations

import os
from typing import Any

FORMATS = {
    "table": "aligned columns for people (the default)",
    "wide": "the same with every column, and nothing cut",
    "json": "one JSON document with schema and version",
    "ndjson": "one JSON object a line",
    "yaml": "the same document as YAML",
    "csv": "a heading and one line for each item; safe to open in a spreadsheet",
    "tsv": "one line for each item, tabs between fields, no heading",
    "name": "only the identifying name, one a line",
    "template=TEXT": "a line for each item: text with fields in braces, as {node}",
    "fields=A,B": "only these fields, tabs between them",
}


class Listing:
    """What the command line says about a list: which items, in which order, which columns."""

    def __init__(self) -> None:
        self.columns: list[str] | None = None
        self.sort: str = ""  # a field; with '-' in front the largest first
        self.limit: int | None = None
        self.headers = True


class Globals:
    """The values of the global options. Until Session.settle() they are those of the environment and the
    command line; then also those of the project, the context and the user's defaults."""

    def __init__(self) -> None:
        env = os.environ
        #: what the command line said, by name
        self.given: dict[str, Any] = {}
        self.context: str | None = None
        self.read_only: bool | None = None
        self.reason: str | None = None  # why something is changed
        self.confirm: str | None = None  # the name of what is changed, instead of typing it
        self.app: str | None = env.get("QCTL_APP") or None
        self.broker: str | None = None
        self.result_backend: str | None = None
        self.workdir: str | None = None
        self.no_color = False
        self.quiet = False
        self.output: str = env.get("QCTL_OUTPUT") or "table"
        self.timeout: float | None = None
        self.listing = Listing()
        self.debug = env.get("QCTL_DEBUG", "0") not in ("", "0")
