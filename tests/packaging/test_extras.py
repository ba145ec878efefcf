"""The extras of the package: those of Celery are there by their names, or the page for those who know Celery
says that they are not supported."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import metadata
from typing import Any

import pytest

from tests.support.processes import ROOT

EXTRAS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]
CELERYS = sorted(metadata("celery").get_all("Provides-Extra") or [])
SECTION = (ROOT / "docs" / "celery.md").read_text().partition("\n## Extras\n")[2].partition("\n## ")[0]
ROWS = [tuple(row.strip("| \n").split(" | ")) for row in re.findall(r"^\|.*$", SECTION, re.MULTILINE)[2:]]
UNSUPPORTED = {
    name for names, here in ROWS if here.startswith("not supp") for name in re.findall(r"`(\w+)`", names)
}
SUPPORTED = {name for names, here in ROWS if "not supp" not in here for name in re.findall(r"`(\w+)`", names)}


@pytest.mark.parametrize("name", CELERYS)
def test_an_extra_of_celery_exists_or_the_page_says_that_it_is_not_supported(name: str) -> None:
    assert (name in EXTRAS) != (name in UNSUPPORTED)
    assert (name in EXTRAS) == (name in SUPPORTED)


def test_the_page_names_no_extra_that_celery_has_not() -> None:
    assert sorted(SUPPORTED | UNSUPPORTED) == CELERYS


def test_every_extra_is_tested_with_the_packages_that_it_installs() -> None:
    def packages(name: str) -> set[str]:
        return {re.split(r"[<>=\[]", requirement)[0].lower() for requirement in EXTRAS[name]}

    extras = EXTRAS.keys() - {"test", "docs"}

    assert set().union(*(packages(name) for name in extras)) <= packages("test")


def test_the_start_page_names_extras_that_exist() -> None:
    table = (ROOT / "docs" / "index.md").read_text().partition("| extra |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", table))

    assert named and named <= EXTRAS.keys()
