"""docs/tutorial.md does what it says: its lines are run in order, in a fresh directory, and compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pages import desk_at, played


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A new user's empty directory."""
    yield from desk_at(tmp_path, monkeypatch)


def test_the_tutorial_is_true(desk: Path) -> None:
    assert played("tutorial.md", desk) > 25
