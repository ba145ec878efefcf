"""docs/celery.md: the commands that it names exist, the guide comes first, its links lead somewhere."""

from __future__ import annotations

import re

import click
import pytest

from qctl.main import cli
from tests.support.processes import ROOT

PAGE = (ROOT / "docs" / "celery.md").read_text()
#: what is written as `qctl …` or as a line of an example
COMMANDS = sorted({*re.findall(r"`(qctl [^`]+)`", PAGE), *re.findall(r"^    (qctl [^#\n]+)", PAGE, re.M)})
#: options that stand before the command and take a value
WITH_VALUE = ("-A", "-b")


def words_of(line: str) -> list[str]:
    """The words behind `qctl` without the global options."""
    words = line.split()[1:]
    while words and words[0] in WITH_VALUE:
        words = words[2:]
    return words


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_that_is_named_exists(line: str) -> None:
    found: click.Command | None = cli
    context = click.Context(cli)
    for word in words_of(line):
        if not isinstance(found, click.Group) or word.startswith(("-", "…")) or not word.isidentifier():
            break
        found = found.get_command(context, word)
        assert found is not None, f"there is no `{word}` in `{line}`"


def test_the_guide_stands_before_the_table() -> None:
    headings = re.findall(r"^## (.*)$", PAGE, re.M)

    assert headings[:2] == ["Going over in five steps", "How much is the same"]
    assert len(COMMANDS) > 20


def test_links_lead_to_pages_and_headings() -> None:
    anchors = {
        re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-")
        for h in re.findall(r"^#+ (.*)$", PAGE, re.M)
    }
    links = set(re.findall(r"\]\(([^)]+)\)", PAGE))

    assert [link for link in links if link[0] == "#" and link[1:] not in anchors] == []
    assert [link for link in links if link[0] != "#" and not (ROOT / "docs" / link).exists()] == []
