"""The global options of a run, and the output formats they can name."""

from __future__ import annotations

import os

FORMATS = {
    "table": "aligned columns for people (the default)",
    "json": "one JSON document with schema and version",
    "ndjson": "one JSON object a line",
    "name": "only the identifying name, one a line",
}


class Globals:
    """The values of the global options, from the environment until the command line says otherwise."""

    def __init__(self) -> None:
        env = os.environ
        self.app: str | None = env.get("QCTL_APP") or None
        self.broker: str | None = None
        self.result_backend: str | None = None
        self.workdir: str | None = None
        self.no_color = False
        self.quiet = False
        self.output: str = env.get("QCTL_OUTPUT") or "table"
        self.timeout: float | None = None
        self.debug = env.get("QCTL_DEBUG", "0") not in ("", "0")
