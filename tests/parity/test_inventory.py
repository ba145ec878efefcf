"""Each row of the inventory is true of the installed Celery and of qcore, and no name of Celery's is without
a row."""

from __future__ import annotations

import types
from collections import Counter
from typing import Any

import pytest

from qctl.inventory_page import LEFT_OUT, OPEN, SAME, STATUSES, Area, Row, areas
from tests.parity.comparing import differences
from tests.parity.reference import pair, public_names
from tests.support.processes import ROOT

COMPARED = [area for area in areas() if area.compare]
#: rows that are not compared yet, at most; it only goes down
OPEN_ROWS = 0
#: rows of the inventory of Celery 5.7 that this file was begun with
FIRST = 1587


def names_of(thing: Any) -> list[str]:
    if isinstance(thing, types.ModuleType):
        return public_names(thing)
    return [name for name in dir(thing) if name[0] != "_"]


def titled(area: Area) -> str:
    return area.area


@pytest.mark.parametrize("area", COMPARED, ids=titled)
def test_a_member_is_as_in_celery(area: Area) -> None:
    theirs, ours = pair(area.compare)

    wrong = {
        row.name: found
        for row in area.rows
        if row.status == SAME and not row.test and (found := differences(theirs, ours, row.name))
    }

    assert wrong == {}


@pytest.mark.parametrize("area", COMPARED, ids=titled)
def test_what_is_left_out_is_not_there(area: Area) -> None:
    _, ours = pair(area.compare)

    assert [row.name for row in area.rows if row.status == LEFT_OUT and hasattr(ours, row.name)] == []


@pytest.mark.parametrize("compared", sorted({area.compare for area in COMPARED}))
def test_no_name_of_celerys_is_without_a_row(compared: str) -> None:
    theirs, _ = pair(compared)
    named = {row.name for area in areas() for row in area.rows if _is_about(area, compared)}

    assert [name for name in names_of(theirs) if name not in named] == []


def _is_about(area: Area, compared: str) -> bool:
    return area.compare == compared or (compared == "Task" and area.area.startswith("task_options."))


def test_every_row_has_a_status_and_the_reason_of_it() -> None:
    rows = [(area.area, row) for area in areas() for row in area.rows]

    assert [(area, row) for area, row in rows if row.status not in STATUSES] == []
    assert [(area, row.name) for area, row in rows if row.status not in (SAME, OPEN) and not row.note] == []
    assert [(area, row) for area, row in rows if row.note.endswith(".")] == []


def test_every_row_is_compared_or_names_its_test() -> None:
    wrong = [
        (area.area, row.name)
        for area in areas()
        for row in area.rows
        if row.status == SAME and not (row.test or area.test or area.compare or area.area == "settings")
    ]

    assert wrong == []


def test_every_test_that_is_named_exists() -> None:
    named = {test for area in areas() for row in (area, *area.rows) if (test := row.test)}

    assert named
    assert sorted(test for test in named if not _exists(test)) == []


def _exists(test: str) -> bool:
    path, _, name = test.partition("::")
    file = ROOT / path
    return file.is_file() and (not name or f"def {name}(" in file.read_text())


def test_no_name_has_two_rows() -> None:
    for area in areas():
        assert [name for name, n in Counter(row.name for row in area.rows).items() if n > 1] == [], area.area


def test_the_inventory_is_complete() -> None:
    rows: list[Row] = [row for area in areas() for row in area.rows]

    assert len(rows) >= FIRST
    assert sum(row.status == OPEN for row in rows) <= OPEN_ROWS


def test_a_difference_is_found() -> None:
    class Theirs:
        kept = 1

        def call(self, x: int, y: int = 2, **more: int) -> None: ...

    class Ours:
        kept = 2

        def call(self, y: int = 3, *, z: int) -> None: ...

    assert differences(Theirs(), Ours(), "kept") == ["1 in Celery, 2 here"]
    assert differences(Theirs(), Ours(), "call") == [
        "has no parameter x",
        "x is not parameter 1",
        "y is 2 in Celery, 3 here",
        "y is not parameter 2",
        "needs z",
    ]
    assert differences(Theirs(), Theirs(), "call") == []
    assert differences(Theirs(), object(), "kept") == ["is not there"]
