"""The output of a command: the answer on stdout in the chosen format, remarks on stderr.

In:  rows or a document.  Out: a table, one document of JSON or YAML, or one line for each item.
Documents carry `schema` and `version`; within a version, fields are only added.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qcore.errors import mask_url
from qctl.options import Globals
from qctl.output import formats, records, state_styles
from qctl.output.secrets import hide
from qctl.output.sort_and_columns import Shape, shaped
from qctl.output.table import Cell, Column, lines
from qctl.output.text import shown, shown_lines

VERSION = 1
_HIDDEN_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def speaks_unicode() -> bool:
    """Whether stdout can encode every character."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return encoding.lower().replace("-", "").startswith("utf")


def to_json(value: Any) -> str:
    """JSON in one line, with characters escaped that control a terminal or that stdout cannot encode."""
    import json  # here and below: a table needs none

    text = json.dumps(value, ensure_ascii=not speaks_unicode(), default=str)
    return _HIDDEN_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class Output:
    """The output of one command."""

    def __init__(self, options: Globals) -> None:
        self.options = options
        self._read: tuple[str, formats.Format] | None = None
        #: with --watch and -o ndjson: the last printed JSON, by name
        self.printed: dict[str, str] | None = None
        #: whether a document was written
        self.answered = False

    @property
    def chosen(self) -> formats.Format:
        """The format of -o or QCTL_OUTPUT. Raises CommandError for an unknown one."""
        word = self.options.output
        if self._read is None or self._read[0] != word:
            self._read = word, formats.parse(word, "-o or QCTL_OUTPUT")
        return self._read[1]

    @property
    def format(self) -> str:
        return self.chosen.name

    @property
    def for_people(self) -> bool:
        return self.format in formats.FOR_PEOPLE

    @property
    def as_objects(self) -> bool:
        """Whether errors and warnings are JSON too."""
        return self.format in formats.AS_OBJECTS

    @property
    def colour(self) -> bool:
        return state_styles.wants_colour(sys.stdout, self.options.no_color)

    def line(self, text: str) -> None:
        """Print one line of the answer, for people."""
        sys.stdout.write(f"{text}\n")

    def text(self, text: str) -> None:
        """Print several lines of the answer, for people."""
        sys.stdout.write(f"{shown_lines(text)}\n")

    def document(self, schema: str, fields: Mapping[str, Any], name: str = "id") -> None:
        """Print the answer as one document, in any format for programs (one line with ndjson, the only item
        with csv and similar formats). name: the field that -o name prints."""
        whole = {"schema": f"qctl.{schema}", "version": VERSION, **fields}
        self.answered = True
        if self.format == "yaml":
            import json

            from qctl.output import yaml

            sys.stdout.write(yaml.dump(json.loads(to_json(whole)), not speaks_unicode()))
        elif self.format == "name":
            self.line(shown(records.text(fields.get(name))))
        elif self.format in ("json", "ndjson", *formats.FOR_PEOPLE):
            sys.stdout.write(f"{to_json(whole)}\n")
        else:
            self.records([fields], ())

    def nothing(self) -> None:
        """Print the empty document of a command that failed before its answer, if the format needs one."""
        if self.format in ("json", "yaml") and not self.answered:
            self.document("error", {"items": []})

    def objects(self, items: Iterable[Any], name: str = "") -> None:
        """Print one JSON object per line, each flushed at once. With --watch only those that changed since
        the last run, identified by their field `name`; a missing one is reported as gone."""
        now: dict[str, str] = {}
        for item in items:
            text = to_json(item)
            key = str(item.get(name)) if self.printed is not None and name else ""
            if key and self.printed is not None:
                now[key] = text
                if self.printed.get(key) == text:
                    continue
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
        if self.printed is not None and name:
            for key in self.printed.keys() - now.keys():
                sys.stdout.write(f"{to_json({name: key, 'gone': True})}\n")
            self.printed = now

    def records(self, items: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> None:
        """Print lines of fields: csv, tsv, fields= and template=. fields: those to print; empty: all."""
        names = list(fields) or records.all_fields(items)
        for line in records.lines(self.chosen, items, names, self.options.listing.headers):
            self.line(line)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str | Cell]]) -> None:
        """Print aligned columns; nothing when there are no rows."""
        if not rows:
            return
        whole = self.format == "wide"
        kept = [i for i, c in enumerate(columns) if whole or not c.wide or self.options.listing.columns]
        if len(kept) < len(columns):
            columns, rows = [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]
        wide = None
        if sys.stdout.isatty() and not whole:
            import shutil  # with bz2 and lzma, for a table on a terminal only

            wide = shutil.get_terminal_size().columns
        found = lines(columns, rows, wide, self.colour, self.options.listing.headers)
        sys.stdout.write("\n".join([*found, ""]))

    def items(
        self,
        schema: str,
        items: Sequence[Mapping[str, Any]],
        columns: Sequence[Column],
        rows: Sequence[Sequence[str | Cell]],
        name: str,
        fields: Sequence[str] = (),
        **more: Any,
    ) -> None:
        """Print a list in any format. rows: the items for people; name: the field with the item's name;
        fields: the items' fields, if output/csv_fields.py does not declare them."""
        shape = shaped(self.options.listing, items, columns, rows)
        if self.format == "name":
            for item in shape.items:
                self.line(shown(str(item[name])))
        elif self.for_people:
            self.table(shape.columns, shape.rows)
        else:
            self._for_programs(schema, shape, [hide(dict(item)) for item in shape.items], name, fields, more)
        if shape.left_out:
            self.note(f"{shape.left_out} more are not shown (--limit)")

    def _for_programs(
        self,
        schema: str,
        shape: Shape,
        safe: list[dict[str, Any]],
        name: str,
        fields: Sequence[str],
        more: dict[str, Any],
    ) -> None:
        if self.format in ("json", "yaml"):
            self.document(schema, {"items": safe, **more})
        elif self.format == "ndjson":
            self.objects(safe, name)
        else:
            chosen = [column.key for column in shape.columns]
            if not self.options.listing.columns:
                from qctl.output.csv_fields import fields_of

                every = dict.fromkeys([*(fields or fields_of(schema)), *records.all_fields(safe)])
                chosen = list(every) or chosen
            self.records(safe, chosen)

    def note(self, text: str) -> None:
        """Print a remark or a count on stderr; -q and the formats for programs suppress it."""
        if not self.options.quiet and (self.for_people or self.format == "name"):
            self.warn(text)

    def warn(self, text: str) -> None:
        """Print a warning on stderr, also with -q; in the JSON formats it is an object."""
        sys.stdout.flush()
        text = mask_url(text)
        if self.as_objects:
            sys.stderr.write(to_json({"schema": "qctl.warning", "version": VERSION, "message": text}) + "\n")
            return
        for line in text.split("\n"):
            sys.stderr.write(f"{shown(line)}\n")
