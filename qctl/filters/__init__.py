"""Filters: which tasks are meant. `parse(text)` gives a Filter; `qctl help filters` explains the language.

In:  what a person typed.  Out: a predicate over records, and hints for choosing an index.
Next: grammar.py reads the text, terms.py makes predicates, fields.py knows the names.
"""

from __future__ import annotations

from qctl.filters.error import FilterError
from qctl.filters.grammar import parse
from qctl.filters.predicate import Filter, Hints

__all__ = ["Filter", "FilterError", "Hints", "parse"]
