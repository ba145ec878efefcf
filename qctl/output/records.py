"""Items as lines of fields: csv, tsv, `fields=` and `template=`.

In:  items, and the fields to print.  Out: lines.  Lists and objects in a field are JSON; null is empty;
control characters are escaped, such as \\x1b.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from qctl import exit_codes
from qctl.output.formats import Format
from qctl.output.template import value_at
from qctl.output.text import shown

#: a spreadsheet evaluates a cell that begins with one of these as a formula
_FORMULA = ("=", "+", "-", "@")


def lines(
    chosen: Format, items: Sequence[Mapping[str, Any]], fields: Sequence[str], heading: bool
) -> Iterator[str]:
    """The lines of these items. fields: the fields of csv and tsv."""
    if chosen.name == "template":
        assert chosen.template is not None
        refuse_unknown(chosen.template.fields, items)
        for item in items:
            yield chosen.template.filled({f: shown(text(value_at(item, f))) for f in chosen.template.fields})
    elif chosen.name == "csv":
        if heading and fields:
            yield ",".join(_quoted(name) for name in fields)
        for item in items:
            yield ",".join(_quoted(_harmless(value_at(item, f))) for f in fields)
    else:
        if chosen.name == "fields":
            refuse_unknown(chosen.fields, items)
        for item in items:
            yield "\t".join(shown(text(value_at(item, f))) for f in chosen.fields or fields)


def all_fields(items: Iterable[Mapping[str, Any]]) -> list[str]:
    """Every field name, in the order of first occurrence."""
    return list(dict.fromkeys(str(key) for item in items for key in item))


def refuse_unknown(names: Iterable[str], items: Sequence[Mapping[str, Any]]) -> None:
    """Raise a usage error for a field that no item has; without items every name passes."""
    known = all_fields(items)
    for name in names:
        if known and name not in known and name.partition(".")[0] not in known:
            from qcore.errors import did_you_mean

            near = did_you_mean(name, known) or f"; there are {', '.join(known)}"
            raise exit_codes.CommandError(exit_codes.USAGE, f"no field named '{name}'{near}")


def text(value: Any) -> str:
    """The text of a value in a field."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    import json  # a table needs none

    return json.dumps(value, ensure_ascii=False, default=str)


def _harmless(value: Any) -> str:
    """A cell that no spreadsheet evaluates: text that begins like a formula gets a leading quote mark."""
    found = text(value)
    risky = isinstance(value, str) and found[:1] and (found[0] in _FORMULA or found[0] < " ")
    return ("'" if risky else "") + shown(found)


def _quoted(cell: str) -> str:
    return (
        '"' + cell.replace('"', '""') + '"'
        if any(c in cell for c in ',"\r\n') or cell != cell.strip()
        else cell
    )
