"""docs/architecture.md names files that exist, and the path of a task as long as it says."""

from __future__ import annotations

import re

from tests.support.processes import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()


def section(heading: str) -> str:
    return PAGE.partition(f"## {heading}")[2].partition("\n## ")[0]


def test_every_file_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_0-9]+\.(?:py|md))`", PAGE))
    places = (ROOT, ROOT / "qcore", ROOT / "qctl", ROOT / "qcore" / "brokers", ROOT / "qctl" / "dashboard")

    assert named
    assert not {name for name in named if not any((place / name).exists() for place in places)}


def test_the_path_of_a_task_can_be_read_in_one_sitting() -> None:
    stops = re.findall(r"^\| `(q\w+/[\w/]+\.py)`", section("The path of a task"), re.MULTILINE)
    lines = sum(len((ROOT / stop).read_text().splitlines()) for stop in stops)

    assert len(stops) == 17
    assert lines < 5500, lines
