"""The guarantee sheet names tests; each of them must exist."""

from __future__ import annotations

import re

from tests.support.processes import ROOT


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "guarantees.md").read_text()))
    written = {
        name
        for path in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text())
    }

    assert named
    assert not named - written
