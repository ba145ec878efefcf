"""The global options of a run, and the output formats."""

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
    """The list options of the command line: columns, order, number of lines, headings."""

    def __init__(self) -> None:
        self.columns: list[str] | None = None
        self.sort: str = ""  # a field; with a leading '-' in descending order
        self.limit: int | None = None
        self.headers = True


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() not in ("", "0", "false", "no", "off", "n", "f")


class Globals:
    """The values of the global options: at first from the command line and the environment; after
    Session.settle() also from the project, the context and the user's defaults."""

    def __init__(self) -> None:
        env = os.environ
        #: options given on the command line, by name
        self.given: dict[str, Any] = {}
        self.context: str | None = None
        self.read_only: bool | None = None
        self.reason: str | None = None  # the reason of a change
        self.confirm: str | None = None  # the name that confirms an irreversible change
        self.app: str | None = env.get("QCTL_APP") or env.get("CELERY_APP") or None
        self.broker: str | None = None
        self.result_backend: str | None = None
        self.workdir: str | None = env.get("CELERY_WORKDIR") or None
        self.no_color = _is_set("CELERY_NO_COLOR")
        self.quiet = _is_set("CELERY_QUIET")
        self.output: str = env.get("QCTL_OUTPUT") or "table"
        self.timeout: float | None = None
        self.listing = Listing()
        self.debug = env.get("QCTL_DEBUG", "0") not in ("", "0")
