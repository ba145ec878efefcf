"""Where a command's answer goes: stdout in the chosen format; remarks go to stderr.

In:  rows or a document.  Out: a table, one JSON document, or one JSON object a line.
Documents carry `schema` and `version`; fields are only ever added within a version.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qcore.errors import mask_url
from qctl import exits, theme
from qctl.options import FORMATS, Globals
from qctl.output.secrets import hide
from qctl.output.table import Cell, Column, lines
from qctl.output.text import shown, shown_lines

VERSION = 1
_HIDDEN_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def to_json(value: Any) -> str:
    """JSON in one line, readable, without characters that a terminal would act on."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return _HIDDEN_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class Output:
    """The answer of one command."""

    def __init__(self, options: Globals) -> None:
        self.options = options

    @property
    def format(self) -> str:
        name = self.options.output.lower()
        if name not in FORMATS:
            raise exits.Stop(
                exits.USAGE, f"no output format named '{name}' (QCTL_OUTPUT)", ", ".join(FORMATS)
            )
        return name

    @property
    def for_people(self) -> bool:
        return self.format == "table"

    @property
    def colour(self) -> bool:
        return theme.wants_colour(sys.stdout, self.options.no_color)

    def line(self, text: str) -> None:
        """One line of the answer, for people."""
        sys.stdout.write(f"{text}\n")

    def text(self, text: str) -> None:
        """Several lines of the answer, for people."""
        sys.stdout.write(f"{shown_lines(text)}\n")

    def document(self, schema: str, fields: Mapping[str, Any]) -> None:
        """The answer as one JSON document (also with -o ndjson, where it is one line)."""
        sys.stdout.write(f"{to_json({'schema': f'qctl.{schema}', 'version': VERSION, **fields})}\n")

    def objects(self, items: Iterable[Any]) -> None:
        """One JSON object a line, each written at once."""
        for item in items:
            sys.stdout.write(f"{to_json(item)}\n")
            sys.stdout.flush()

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str | Cell]]) -> None:
        """Aligned columns; nothing at all when there are no rows."""
        if not rows:
            return
        wide = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        for line in lines(columns, rows, wide, self.colour):
            sys.stdout.write(f"{line}\n")

    def items(
        self,
        schema: str,
        items: Sequence[Mapping[str, Any]],
        columns: Sequence[Column],
        rows: Sequence[Sequence[str | Cell]],
        name: str,
        **more: Any,
    ) -> None:
        """A list in any format: rows are the items as people see them; name is the key of the names."""
        safe = [hide(dict(item)) for item in items]
        if self.format == "json":
            self.document(schema, {"items": safe, **more})
        elif self.format == "ndjson":
            self.objects(safe)
        elif self.format == "name":
            for item in items:
                self.line(shown(str(item[name])))
        else:
            self.table(columns, rows)

    def note(self, text: str) -> None:
        """A remark or a count for people, on stderr; silenced by -q and by the JSON formats."""
        if not self.options.quiet and self.format in ("table", "name"):
            self.warn(text)

    def warn(self, text: str) -> None:
        """Something that must be said even with -q; an object of its own in the JSON formats."""
        sys.stdout.flush()
        text = mask_url(text)
        if self.format in ("json", "ndjson"):
            sys.stderr.write(to_json({"schema": "qctl.warning", "version": VERSION, "message": text}) + "\n")
            return
        for line in text.split("\n"):
            sys.stderr.write(f"{shown(line)}\n")
