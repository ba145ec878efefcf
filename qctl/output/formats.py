"""The value of -o: the output format and its argument.

In:  'json', 'template={node} {state}', 'fields=id,name'.  Out: a Format, or a usage error with the
nearest name.  After this: writer.py.
"""

from __future__ import annotations

from typing import NamedTuple

from qctl import exit_codes
from qctl.options import FORMATS
from qctl.output.template import Template

#: formats for people; the others are for programs
FOR_PEOPLE = frozenset(("table", "wide"))
#: formats in which errors and warnings are JSON objects too
AS_OBJECTS = frozenset(("json", "ndjson"))

NAMES = [name.partition("=")[0] for name in FORMATS]
COMPLETED = [f"{name.partition('=')[0]}=" if "=" in name else name for name in FORMATS]
_WITH_VALUE = {name.partition("=")[0]: name for name in FORMATS if "=" in name}


class Format(NamedTuple):
    """A format: its name; the names of `fields=`; the text of `template=`."""

    name: str
    fields: tuple[str, ...] = ()
    template: Template | None = None


def parse(word: str, where: str = "-o") -> Format:
    """The format that `word` names. where: the option or variable. Raises CommandError for an unknown one."""
    name, sign, value = word.partition("=")
    name = name.strip().lower()
    if name not in NAMES:
        from qcore.errors import did_you_mean

        near = did_you_mean(name, NAMES) or f"; there are {', '.join(FORMATS)}"
        raise exit_codes.CommandError(exit_codes.USAGE, f"no output format named '{name}'{near} ({where})")
    if bool(sign) is not (name in _WITH_VALUE) or (sign and not value.strip()):
        right = _WITH_VALUE.get(name, name)
        raise exit_codes.CommandError(exit_codes.USAGE, f"the output format is written {right} ({where})")
    if name == "template":
        return Format(name, template=Template(value))
    return Format(name, tuple(part.strip() for part in value.split(",") if part.strip()))
