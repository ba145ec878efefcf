"""The pages of a task, a worker, a queue and a group of failures, as panels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from qcore.events.store.table import TaskSeen
from qctl.dashboard.state.snapshot import FailureRow
from qctl.dashboard.views.cells import CellFormatter
from qctl.dashboard.views.pages import as_text, page, took
from qctl.dashboard.views.panels import Scene
from tests.support.large_still import LargeStill
from tests.support.still import FAILURES, NOW, QUEUES, TRACE, WORKERS, Still

TASK = TaskSeen(
    "1f3d5b79-0000-4000-8000-000000000001",
    "shop.charge",
    "FAILURE",
    "pay1@fra",
    sent=NOW - 10,
    received=NOW - 9,
    started=NOW - 8,
    ended=NOW - 5,
    runtime=2.5,
    retries=2,
    args="(" + ", ".join(f"'order {number}'" for number in range(60)) + ")",
    kwargs="{'note': '\x1b[31m red', 'name': '" + "日本" * 60 + "'}",
    exception="Timeout('no answer in 30 s')",
    traceback=TRACE,
    queue="payments",
    parent_id="parent-1",
    root_id="root-1",
)


def drawn(row: Any, cells: int, rows: int, plain: bool = False) -> list[str]:
    picture, panes = Still().take(), CellFormatter(plain)
    panes.now = picture.at
    assert picture.charts is not None
    canvas = page(Scene(picture, picture.charts, panes), row, cells, rows)
    assert canvas is not None
    assert as_text(canvas).plain.split("\n") == ["".join(row) for row in canvas.chars]
    return canvas.lines()


def columns_in(lines: Iterable[str]) -> int:
    return max(line.count("╭") for line in lines)


@pytest.mark.parametrize(("cells", "columns"), [(80, 1), (120, 2), (200, 3)])
def test_panels_stand_side_by_side_where_there_is_room(cells: int, columns: int) -> None:
    for row in (TASK, WORKERS[0], QUEUES[0], FAILURES[0]):
        lines = drawn(row, cells, 20)
        assert columns_in(lines) == min(columns, 2 if row is QUEUES[0] else 3)
        assert not any(line.endswith("…") for line in lines)


@pytest.mark.parametrize("cells", [60, 80, 120, 200])
def test_nothing_of_a_task_is_cut(cells: int) -> None:
    text = "\n".join(drawn(TASK, cells, 40))
    told = "".join(char for char in text if char not in " │\n")

    assert "'order0'" in told and "'order59'" in text.replace(" ", "")
    assert text.count("日") == text.count("本") == 60
    assert "\x1b" not in text and "\\x1b[31m" in text, "what a terminal would obey is shown as text"
    assert "shop.gateway.Timeout: no answer in 30 s" in text
    assert "parent-1" in text and "qctl task tree" in text


def test_the_times_are_a_bar_and_say_how_long_each_phase_took() -> None:
    lines = drawn(TASK, 80, 60, plain=True)

    at = next(n for n, line in enumerate(lines) if line.startswith("+ Times"))
    assert "queued 1 s - reserved 1 s - ran 3 s - try 3" in lines[at]
    bar = lines[at + 1].strip("| ")
    assert (bar.count("."), bar.count(":")) == (15, 15) and bar.count("#") > 44
    assert took(TaskSeen("a", sent=NOW - 4), NOW) == "queued 4 s"
    assert took(TaskSeen("a"), NOW) == "no event with a time was seen"


def test_a_task_stands_among_the_others_of_its_name() -> None:
    lines = drawn(TASK, 120, 40)

    assert any("Run times of shop.charge" in line for line in lines)
    (own,) = [line for line in lines if "◂ this one" in line]
    assert "to 3 s" in own


def test_a_row_of_which_little_is_known_has_a_page() -> None:
    for row in (TaskSeen("a"), FailureRow("x", "Y", "", 1, NOW, NOW, None)):
        assert len(drawn(row, 120, 30)) == 30


def test_the_page_of_a_group_says_which_arguments_its_failures_share_and_what_changed_before() -> None:
    picture = LargeStill().take()
    assert picture.charts is not None
    (row,) = [one for one in picture.failures if one.name == "shop.charge"]

    canvas = page(Scene(picture, picture.charts, CellFormatter()), row, 120, 37)

    assert canvas is not None
    text = "\n".join(canvas.lines())
    assert "currency: 'EUR' 30" in text and "amount: 2099  5" in text and "17%, 6 others" in text
    assert "worker pay1@fra restarted" in text
