"""Filters that select tasks. `parse(text)` returns a Filter; `qctl help filters` describes the language.

In:  the text that the user typed.  Out: a predicate over records, and hints for choosing an index.
Next: grammar.py parses the text, terms.py builds predicates, fields.py has the names.
"""

from __future__ import annotations

from qctl.filters.error import FilterError
from qctl.filters.grammar import parse
from qctl.filters.predicate import Filter, Hints

__all__ = ["Filter", "FilterError", "Hints", "parse"]
