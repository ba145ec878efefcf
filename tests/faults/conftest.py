"""Fixtures of the fault tests live in the module that owns the thing; this file only names them."""

from __future__ import annotations

from tests.faults.fleet import fleet

__all__ = ["fleet"]
