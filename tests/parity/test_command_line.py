"""Each command of `celery` is one of `qctl`, with its options."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from celery.bin.celery import celery as their_root

from qctl.inventory_page import DIFFERENT, SAME, areas
from qctl.main import cli

ROWS = {row.name: row for area in areas() if area.area == "cli" for row in area.rows}
#: rows about other things than a command or its option
OTHERS = (
    "env_rule",
    "help_option",
    "global_options",
    "worker_extra",
    "multi",
    "exit_codes",
    "plugins",
    "app.",
)


def walk(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for word in command.list_commands(click.Context(command)):
            inner = command.get_command(click.Context(command), word)
            assert inner is not None
            yield from walk(inner, f"{name} {word}")


def ours(name: str) -> click.Command | None:
    """The command of qctl that stands for `celery …`."""
    found: click.Command | None = cli
    for word in name.split()[1:]:
        found = found.get_command(click.Context(cli), word) if isinstance(found, click.Group) else None
    return found


def flags(command: click.Command, hidden: bool = True) -> set[str]:
    options = [p for p in command.params if isinstance(p, click.Option) and (hidden or not p.hidden)]
    return {flag for option in options for flag in (*option.opts, *option.secondary_opts)}


THEIRS = dict(walk(their_root, "celery"))


def option_of(row: str) -> tuple[str, click.Option | None]:
    """The command of a row, and its option."""
    name, _, flag = row.partition(" -")
    options = [p for p in THEIRS[name].params if isinstance(p, click.Option)]
    found = (p for p in options if f"-{flag}" in (*p.opts, *p.secondary_opts))
    return name, next(found, None) if flag else None


ABOUT_COMMANDS = [name for name in ROWS if name.startswith("celery")]
DIFFERENT_OPTIONS = [
    name for name in ABOUT_COMMANDS if " -" in name and ROWS[name].status == DIFFERENT and not ROWS[name].test
]


@pytest.mark.parametrize("row", [r for r in ABOUT_COMMANDS if ROWS[r].status == SAME])
def test_an_option_of_celerys_is_one_of_qctl(row: str) -> None:
    name, option = option_of(row)
    command = ours(name)

    assert command is not None
    if " -" in row:
        assert option is not None
        assert sorted(set(option.opts) - flags(command, hidden=False)) == []


@pytest.mark.parametrize("row", DIFFERENT_OPTIONS)
def test_an_option_that_differs_is_known(row: str) -> None:
    name, option = option_of(row)
    command = ours(name)

    assert command is not None
    assert option is not None
    assert set(option.opts) & flags(command)


def test_every_command_and_option_of_celery_has_a_row() -> None:
    unknown = []
    for name, command in THEIRS.items():
        if name.startswith("celery flower"):
            continue  # of another package
        options = [p for p in command.params if isinstance(p, click.Option) and "--help" not in p.opts]
        unknown += [name] * (name not in ROWS)
        for option in options:
            names = {f"{name} {flag}" for flag in (*option.opts, *option.secondary_opts)}
            unknown += [f"{name} {option.opts[-1]}"] * (not names & ROWS.keys())

    assert unknown == []


def test_every_row_is_about_something() -> None:
    assert [row for row in ROWS if not row.startswith(("celery", *OTHERS))] == []
