"""The README: the two commands that show it work come first, the table of commands is complete."""

from __future__ import annotations

import re

import click

from qctl.main import cli
from tests.support.processes import ROOT

README = (ROOT / "README.md").read_text()


def test_demo_and_test_come_before_everything_else_that_is_typed() -> None:
    typed = re.findall(r"^    (\S.*)$", README, re.MULTILINE)

    assert [line.split("#")[0].strip() for line in typed[:2]] == ["make demo", "make test"]


def test_the_table_of_commands_has_each_command_once() -> None:
    table = README.partition("## Commands")[2].partition("\n## ")[0]
    named = re.findall(r"`qctl ([a-z]+)`", table)

    assert sorted(named) == sorted(cli.list_commands(click.Context(cli)))


def test_it_is_read_in_a_few_minutes() -> None:
    assert len(re.sub(r"^(    .*|\|.*)$|```.*?```", "", README, flags=re.M | re.S).split()) < 700
